# Partitioned tables as sources: a row of a partition is a row of every table above it, however it came there and however it leaves.
use strict;
use warnings;
use Test::More;
use SbTest;

my $node = new_node('partitions', conf => "stream_beam.ring_size = '1MB'\n");
my $late = q{allowed_lateness => '10000 days'};

sub run
{
	return $node->safe_psql('postgres', $_[0]);
}

# A table of two months, the second partitioned further; the first has its columns in another order and has lost one
sub make_partitioned
{
	my ($t) = @_;

	run(qq{CREATE TABLE $t (id int, ts timestamptz, k int, v text) PARTITION BY RANGE (ts);
		CREATE TABLE ${t}_1 (v text, lost int, k int, ts timestamptz, id int);
		ALTER TABLE ${t}_1 DROP lost;
		ALTER TABLE $t ATTACH PARTITION ${t}_1 FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
		CREATE TABLE ${t}_2 PARTITION OF $t FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') PARTITION BY LIST (k);
		CREATE TABLE ${t}_2a PARTITION OF ${t}_2 FOR VALUES IN (0, 1, 2);
		CREATE TABLE ${t}_2b PARTITION OF ${t}_2 DEFAULT});
	run("ALTER TABLE ${t}_$_ REPLICA IDENTITY FULL") for qw(1 2a 2b);
}

sub rows
{
	my ($t, $from, $to) = @_;

	return qq{INSERT INTO $t SELECT i, '2026-01-01'::timestamptz + i % 58 * interval '1 day', i % 7, 'v' || i FROM generate_series($from, $to) i};
}

sub per_day
{
	my ($t) = @_;

	return qq{SELECT w.window_start, w.window_end, e.k, count(*) AS n, sum(e.id) AS s, min(e.v) AS v
		FROM $t e, beam.tumble(e.ts, '1 day') w GROUP BY 1, 2, 3};
}

promise 'changes_of_partitions_are_changes_of_all_tables_above' => sub {
	make_partitioned('ev');
	create_pipeline($node, 'of_all', per_day('ev'));
	create_pipeline($node, 'of_part', per_day('ev_2'));
	create_pipeline($node, 'of_leaf', per_day('ev_2a'));
	my $all = sub {
		equal_to_batch($node, $_, "$_[0]: $_") for qw(of_all of_part of_leaf);
	};
	run(rows('ev', 1, 2000));
	run(rows('ev_2a', 35, 37));
	$all->('inserted');
	run(q{UPDATE ev SET v = v || '!', id = id + 1 WHERE id % 5 = 0});
	run(q{DELETE FROM ev WHERE id % 7 = 0; DELETE FROM ev_2a WHERE id % 13 = 0; DELETE FROM ev_1 WHERE id % 13 = 0});
	$all->('updated and deleted');
	run(q{UPDATE ev SET ts = ts + interval '1 month' WHERE ts < '2026-01-20' AND id % 3 = 0});
	run(q{UPDATE ev_2 SET k = (k + 3) % 7 WHERE id % 2 = 0});
	$all->('moved from partition to partition');
	run(q{ALTER TABLE ev ADD extra int DEFAULT 7});
	run(q{INSERT INTO ev (id, ts, k, v) VALUES (1, '2026-01-05', 1, 'a'), (2, '2026-02-05', 1, 'a'); UPDATE ev SET v = 'b' WHERE id < 100; DELETE FROM ev WHERE id < 20});
	$all->('after a column was added to rows that exist');
	run(q{ALTER TABLE ev RENAME v TO vv; ALTER TABLE ev_2a RENAME TO ev_2aa});
	run(q{INSERT INTO ev (id, ts, k, vv) VALUES (1, '2026-01-05', 1, 'a'), (2, '2026-02-05', 1, 'a')});
	$all->('after renames');
	run('TRUNCATE ev_2');
	is(run('SELECT count(*) FROM ev_2'), 0, 'a whole table in the middle is truncated');
	equal_to_batch($node, $_, "truncated: $_") for qw(of_part of_leaf);
};

promise 'truncate_of_the_whole_table_empties' => sub {
	make_partitioned('tr');
	create_pipeline($node, 'of_tr', per_day('tr'));
	run(rows('tr', 1, 500));
	run('BEGIN; ' . rows('tr', 1, 100) . '; TRUNCATE tr; ' . rows('tr', 1, 50) . '; COMMIT');
	equal_to_batch($node, 'of_tr');
	is(run('SELECT sum(n) FROM of_tr'), 50, 'what came after it is there');
	# the truncated partition is empty: nothing to do
	run("DELETE FROM tr_1; TRUNCATE tr_1");
	equal_to_batch($node, 'of_tr', 'an empty partition may be truncated');
};

promise 'empty_partitions_come_and_go' => sub {
	make_partitioned('em');
	create_pipeline($node, 'of_em', per_day('em'));
	run(rows('em', 1, 200));
	run(q{CREATE TABLE em_3 PARTITION OF em FOR VALUES FROM ('2026-03-01') TO ('2026-04-01'); ALTER TABLE em_3 REPLICA IDENTITY FULL});
	run(q{CREATE TABLE em_4 (v text, k int, id int, ts timestamptz); ALTER TABLE em_4 REPLICA IDENTITY FULL;
		ALTER TABLE em ATTACH PARTITION em_4 FOR VALUES FROM ('2026-04-01') TO ('2026-05-01')});
	run(q{INSERT INTO em VALUES (1, '2026-03-02', 1, 'three'), (2, '2026-04-02', 1, 'four')});
	equal_to_batch($node, 'of_em', 'new partitions');
	# in one transaction: the rows leave as changes, then the partition does
	run(q{BEGIN; DELETE FROM em_3; ALTER TABLE em DETACH PARTITION em_3; INSERT INTO em_3 VALUES (5, '2026-03-05', 1, 'not any more'); COMMIT});
	run(q{DELETE FROM em_4});
	run(q{ALTER TABLE em DETACH PARTITION em_4 CONCURRENTLY});
	run(q{INSERT INTO em_4 VALUES ('not any more', 1, 5, '2026-04-05')});
	run(q{CREATE TABLE em_5 PARTITION OF em FOR VALUES FROM ('2026-05-01') TO ('2026-06-01'); DROP TABLE em_5});
	# a whole branch, with rows that come only after it is there
	run(q{CREATE TABLE em_6 (LIKE em) PARTITION BY LIST (k); CREATE TABLE em_6a PARTITION OF em_6 DEFAULT; ALTER TABLE em_6a REPLICA IDENTITY FULL;
		INSERT INTO em_6 VALUES (6, '2026-06-05', 1, 'before'); DELETE FROM em_6});
	run(q{BEGIN; ALTER TABLE em ATTACH PARTITION em_6 FOR VALUES FROM ('2026-06-01') TO ('2026-07-01'); INSERT INTO em_6a VALUES (6, '2026-06-05', 1, 'after'); COMMIT});
	equal_to_batch($node, 'of_em', 'gone again');
	is(run(q{SELECT min(v) FROM of_em WHERE window_start >= '2026-03-01'}), 'after', 'the branch counts');
};

# What a command says, beside what it does
sub said
{
	my ($rc, $out, $err) = $node->psql('postgres', $_[0], on_error_stop => 1);

	die $err if $rc;
	return $err;
}

promise 'new_partition_without_old_values_is_warned_of' => sub {
	make_partitioned('wa');
	create_pipeline($node, 'of_wa', per_day('wa'));
	create_pipeline($node, 'of_keys', 'SELECT k, count(*) AS n FROM wa GROUP BY k');
	create_pipeline($node, 'of_inserts', per_day('wa'), qq{$late, source_mode => 'append_only'});
	my $said = said(q{CREATE TABLE wa_3 PARTITION OF wa FOR VALUES FROM ('2026-03-01') TO ('2026-04-01')});
	like($said, qr/WARNING:  an UPDATE or DELETE in partition "wa_3" would stop pipeline "of_keys"\nDETAIL:  The query uses column "k", .*\nHINT:  ALTER TABLE public.wa_3 REPLICA IDENTITY FULL;/, 'CREATE TABLE');
	like($said, qr/would stop pipeline "of_wa"/, 'each pipeline is named');
	unlike($said, qr/of_inserts/, 'but for those that take nothing back');
	like(said(q{CREATE TABLE wa_4 (LIKE wa) PARTITION BY LIST (k); CREATE TABLE wa_4a PARTITION OF wa_4 DEFAULT;
		ALTER TABLE wa ATTACH PARTITION wa_4 FOR VALUES FROM ('2026-04-01') TO ('2026-05-01')}), qr/in partition "wa_4a" would stop pipeline "of_wa"/, 'ATTACH of a branch');
	like(said(q{CREATE TABLE wa_2c PARTITION OF wa_2 FOR VALUES IN (20)}), qr/in partition "wa_2c" would/, 'below a branch');
	run(q{CREATE ROLE maker; GRANT ALL ON SCHEMA public TO maker; ALTER TABLE wa OWNER TO maker; REVOKE ALL ON SCHEMA beam FROM maker});
	like(said(q{SET ROLE maker; BEGIN; CREATE TABLE wa_5 PARTITION OF wa FOR VALUES FROM ('2026-05-01') TO ('2026-06-01'); ROLLBACK}), qr/"wa_5" would/, 'for any role');
	# nothing to say
	is(said(q{CREATE TABLE wa_6 (LIKE wa); ALTER TABLE wa_6 REPLICA IDENTITY FULL; ALTER TABLE wa ATTACH PARTITION wa_6 FOR VALUES FROM ('2026-06-01') TO ('2026-07-01');
		ALTER TABLE wa DETACH PARTITION wa_6; DROP TABLE wa_6}), '', 'one that has them, and one that goes');
	is(said(q{CREATE TABLE other (k int) PARTITION BY LIST (k); CREATE TABLE other_1 PARTITION OF other DEFAULT}), '', 'a table that no pipeline reads');
	# a statement that fails after the partition was noted
	run(q{CREATE TABLE wa_9 (LIKE wa); INSERT INTO wa_9 VALUES (1, '2027-01-01', 1, 'elsewhere')});
	my $attach = q{ALTER TABLE wa ATTACH PARTITION wa_9 FOR VALUES FROM ('2026-09-01') TO ('2026-10-01')};
	unlike(($node->psql('postgres', "BEGIN; $_", on_error_stop => 0))[2], qr/WARNING|terminated|closed/, 'one that fails')
	  for "$attach; ROLLBACK", "SAVEPOINT a;\n$attach;\nROLLBACK TO a;\nCOMMIT",
	  "DO \$\$ BEGIN $attach; EXCEPTION WHEN OTHERS THEN NULL; END \$\$;\nCOMMIT";
	# what it says is so, and what it says helps
	run(q{ALTER TABLE wa_3 REPLICA IDENTITY FULL; INSERT INTO wa VALUES (1, '2026-03-02', 1, 'three'); UPDATE wa SET k = 2 WHERE id = 1; DELETE FROM wa_3});
	equal_to_batch($node, $_) for qw(of_wa of_keys);
	run(q{INSERT INTO wa VALUES (1, '2026-04-02', 1, 'four')});
	run(q{DELETE FROM wa_4});
	state_is($node, $_, 'failed', qr/old values of a changed row of table "wa_4a" are not in the WAL/) for qw(of_wa of_keys);
};

# After each of these the rows of the source are others, and no change says so
my %moves = (
	attach => [ q{CREATE TABLE X_3 (LIKE X); INSERT INTO X_3 VALUES (1, '2026-03-05', 1, 'x'); ALTER TABLE X ATTACH PARTITION X_3 DEFAULT}, qr/table "x_attach_3" was attached/ ],
	attach_branch => [ q{CREATE TABLE X_3 (LIKE X) PARTITION BY LIST (k); CREATE TABLE X_3a PARTITION OF X_3 DEFAULT; INSERT INTO X_3 VALUES (1, '2026-03-05', 1, 'x');
		ALTER TABLE X ATTACH PARTITION X_3 FOR VALUES FROM ('2026-03-01') TO ('2026-04-01')}, qr/"x_attach_branch_3" was attached/ ],
	detach => [ q{ALTER TABLE X DETACH PARTITION X_1}, qr/"x_detach_1" was detached/ ],
	detach_branch => [ q{ALTER TABLE X DETACH PARTITION X_2}, qr/"x_detach_branch_2" was detached/ ],
	detach_concurrently => [ q{ALTER TABLE X DETACH PARTITION X_1 CONCURRENTLY}, qr/"x_detach_concurrently_1" was detached/ ],
	drop => [ q{DROP TABLE X_1}, qr/"x_drop_1" was dropped/ ],
	drop_branch => [ q{DROP TABLE X_2}, qr/"x_drop_branch_2[ab]" was dropped/ ],
	truncate => [ q{TRUNCATE X_2a}, qr/"x_truncate_2a" was truncated/ ],
	unlogged => [ q{ALTER TABLE X_2a SET UNLOGGED; ALTER TABLE X_2a SET LOGGED}, qr/"x_unlogged_2a" was unlogged/ ]);

for my $move (sort keys %moves)
{
	promise "${move}_with_rows_has_the_pipeline_rebuilt" => sub {
		my ($sql, $why) = @{ $moves{$move} };

		make_partitioned("x_$move");
		create_pipeline($node, "of_$move", per_day("x_$move"));
		create_pipeline($node, "append_$move", per_day("x_$move"), qq{$late, source_mode => 'append_only'});
		run(rows("x_$move", 1, 100));
		run("SELECT beam.pause_pipeline('of_$move')") if $move eq 'unlogged';
		run("SELECT beam.pause_pipeline('append_$move')") if $move eq 'unlogged';
		$sql =~ s/\bX/x_$move/g;
		run($sql) for $move =~ /concurrently/ ? $sql : "BEGIN; $sql; COMMIT";
		run("SELECT beam.resume_pipeline('of_$move')") if $move eq 'unlogged';
		run("SELECT beam.resume_pipeline('append_$move')") if $move eq 'unlogged';
		equal_to_batch($node, "of_$move", 'rebuilt');
		like(run("SELECT reason FROM beam.pipeline_versions WHERE name = 'of_$move'"), $why, 'and it is said why');
		if ($move =~ /attach|unlogged/ && $move !~ /detach/)
		{
			equal_to_batch($node, "append_$move", 'append-only, rebuilt');
		}
		else
		{
			wait_for($node, "append_$move");
			is(run("SELECT sum(n) FROM append_$move"), 100, 'append-only: what has left stays counted');
			like(run("SELECT string_agg(DISTINCT op || ' ' || message, '') FROM beam.dead_letters WHERE pipeline = 'append_$move'"), qr/^truncate .*$why/,
				'and a dead letter says so');
		}
		run("SELECT beam.drop_pipeline('of_$move'); SELECT beam.drop_pipeline('append_$move')");
	};
}

promise 'history_of_partitions' => sub {
	make_partitioned('hi');
	run(q{ALTER TABLE hi_2b REPLICA IDENTITY DEFAULT; CREATE INDEX ON hi (ts)});
	run(rows('hi', 1, 3000) . q{; ALTER TABLE hi_2b REPLICA IDENTITY FULL; ALTER TABLE hi ADD extra text DEFAULT 'e'; DELETE FROM hi WHERE id % 10 = 0});
	create_pipeline($node, 'of_hi', per_day('hi'));
	run(q{INSERT INTO hi (id, ts, k, v) SELECT id, ts, k, v FROM hi WHERE id < 500; UPDATE hi SET ts = ts + interval '1 month' WHERE ts < '2026-01-20' AND id % 3 = 0; DELETE FROM hi WHERE id % 7 = 0});
	equal_to_batch($node, 'of_hi');
	is(run('SELECT count(*) > 100 FROM of_hi'), 't', 'there is something');
};

promise 'partition_that_comes_during_the_history_starts_it_again' => sub {
	make_partitioned('hr');
	run('CREATE INDEX ON hr (ts); CREATE TABLE hr_3 (LIKE hr); ALTER TABLE hr_3 REPLICA IDENTITY FULL');
	run(rows('hr', 1, 5000) . q{; INSERT INTO hr_3 SELECT id, ts + interval '2 months', k, v FROM hr});
	run('ALTER SYSTEM SET stream_beam.history_rate = 500; ALTER SYSTEM SET stream_beam.history_chunk_time = 1; SELECT pg_reload_conf()');
	create_pipeline($node, 'of_hr', per_day('hr'));
	wait_until($node, 'SELECT count(*) > 0 FROM of_hr');
	run(q{ALTER TABLE hr ATTACH PARTITION hr_3 FOR VALUES FROM ('2026-03-01') TO ('2026-05-01')});
	run(q{DROP TABLE hr_1});
	run('ALTER SYSTEM RESET stream_beam.history_rate; ALTER SYSTEM RESET stream_beam.history_chunk_time; SELECT pg_reload_conf()');
	equal_to_batch($node, 'of_hr');
	is(run(q{SELECT state FROM beam.pipelines WHERE name = 'of_hr'}), 'running', 'and nothing has failed');
};

# A transaction that is visible may not yet have told others of the partition it made. It has its lock until then
promise 'no_history_or_backfill_is_read_while_a_partition_comes' => sub {
	my $session = $node->background_psql('postgres');

	run('CREATE TABLE clock (n int); ALTER TABLE clock REPLICA IDENTITY FULL');
	create_pipeline($node, 'of_clock', 'SELECT count(*) AS n FROM clock');
	# no default partition, which would be locked by who attaches another
	run(q{CREATE TABLE at (id int, ts timestamptz, k int, v text) PARTITION BY RANGE (ts);
		CREATE TABLE at_1 PARTITION OF at FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
		CREATE TABLE at_2 PARTITION OF at FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') PARTITION BY LIST (k);
		CREATE TABLE at_2a PARTITION OF at_2 FOR VALUES IN (0, 1, 2, 3, 4, 5, 6);
		ALTER TABLE at_1 REPLICA IDENTITY FULL; ALTER TABLE at_2a REPLICA IDENTITY FULL});
	run(rows('at', 1, 300));
	for my $new ([ 'at', q{FROM ('2026-03-01') TO ('2026-04-01')}, q{'2026-03-02', 1} ], [ 'at_2', 'IN (30)', q{'2026-02-02', 30} ])
	{
		my ($above, $values, $row) = @$new;

		run("CREATE TABLE ${above}_new (LIKE at); ALTER TABLE ${above}_new REPLICA IDENTITY FULL; INSERT INTO ${above}_new VALUES (1, $row, 'old')");
		$session->query_safe("BEGIN; ALTER TABLE $above ATTACH PARTITION ${above}_new FOR VALUES $values; INSERT INTO at VALUES (1, $row, 'new')");
		create_pipeline($node, "of_$above", per_day('at'));
		# the runner has turns, and a chunk would have been one of them
		for (1 .. 3)
		{
			run('INSERT INTO clock VALUES (1)');
			wait_for($node, 'of_clock');
		}
		is(run("SELECT count(*) FROM of_$above"), 0, "$above: the history waits");
		$session->query_safe('COMMIT');
		equal_to_batch($node, "of_$above", "$above: and has the rows of the new partition");
	}
	# a backfill is tried again
	run('CREATE TABLE at_3 (LIKE at); ALTER TABLE at_3 REPLICA IDENTITY FULL');
	$session->query_safe(q{BEGIN; ALTER TABLE at ATTACH PARTITION at_3 FOR VALUES FROM ('2026-04-01') TO ('2026-05-01')});
	my $caller = $node->background_psql('postgres');
	my $before = run(q{UPDATE of_at SET n = n + 1; SELECT sum(n) FROM of_at});
	$caller->query_until(qr/called/, "\\echo called\nCALL beam.backfill('of_at');\n");
	wait_until($node, q{SELECT count(*) = 1 FROM beam.command});
	for (1 .. 3)
	{
		run('INSERT INTO clock VALUES (1)');
		wait_for($node, 'of_clock');
	}
	is(run(q{SELECT sum(n) FROM of_at}), $before, 'a backfill waits');
	$session->query_safe('COMMIT');
	$caller->query_safe('SELECT 1');
	equal_to_batch($node, 'of_at', 'and mends the result');
	$_->quit for $session, $caller;
};

promise 'what_is_rolled_back_asks_for_nothing' => sub {
	make_partitioned('rb');
	create_pipeline($node, 'of_rb', per_day('rb'));
	run(rows('rb', 1, 100));
	run('BEGIN; ALTER TABLE rb DETACH PARTITION rb_1; ROLLBACK');
	run('BEGIN; SAVEPOINT a; DROP TABLE rb_1; ROLLBACK TO a; ' . rows('rb', 101, 110) . '; COMMIT');
	run('BEGIN; SAVEPOINT a; TRUNCATE rb_1; ROLLBACK TO a; COMMIT');
	equal_to_batch($node, 'of_rb');
};

promise 'forged_notes_do_nothing' => sub {
	make_partitioned('fg');
	create_pipeline($node, 'of_fg', per_day('fg'));
	run(rows('fg', 1, 100));
	my $oid = run(q{SELECT 'fg'::regclass::oid});
	# as long as a real one, and others
	run(qq{SELECT pg_logical_emit_message(true, 'stream_beam rebuild', repeat('x', n)) FROM generate_series(0, 120, 4) n});
	run(qq{SELECT pg_logical_emit_message(true, 'stream_beam rebuild', decode(repeat('00', 32) || '02000000' || string_agg(reverse_bytes, ''), 'hex'))
		FROM (SELECT encode(substr(int4send(x), 4, 1) || substr(int4send(x), 3, 1) || substr(int4send(x), 2, 1) || substr(int4send(x), 1, 1), 'hex') AS reverse_bytes
			FROM unnest(ARRAY[(SELECT oid::int FROM pg_database WHERE datname = current_database()), pg_current_xact_id()::text::int, pg_current_xact_id()::text::int, $oid, 1, $oid]) x) s});
	equal_to_batch($node, 'of_fg', 'made up');
	# a real one, as whoever may decode can read it, in another transaction
	make_partitioned('fg2');
	run(q{INSERT INTO fg2 VALUES (1, '2026-01-05', 1, 'x')});
	run(q{CREATE PUBLICATION peek});
	run(q{SELECT pg_create_logical_replication_slot('peek', 'pgoutput')});
	run('DROP TABLE fg2_1');
	create_pipeline($node, 'of_fg2', per_day('fg2'));
	# behind the prefix there are a zero byte and four bytes for the length
	is(run(q{SELECT count(pg_logical_emit_message(true, 'stream_beam rebuild', substring(data FROM position('stream_beam rebuild'::bytea IN data) + 24)))
		FROM pg_logical_slot_peek_binary_changes('peek', NULL, NULL, 'proto_version', '1', 'publication_names', 'peek', 'messages', 'true')
		WHERE position('stream_beam rebuild'::bytea IN data) > 0}),
		1, 'one was there to be copied');
	run(q{SELECT pg_drop_replication_slot('peek')});
	run(q{DROP PUBLICATION peek});
	run(q{INSERT INTO fg2 VALUES (1, '2026-02-05', 1, 'x')});
	equal_to_batch($node, 'of_fg2', 'copied');
};

promise 'each_partition_needs_its_own_old_values' => sub {
	make_partitioned('ri');
	run('ALTER TABLE ri_2b REPLICA IDENTITY DEFAULT');
	refuses($node, "SELECT beam.create_pipeline('of_ri', \$q\$@{[per_day('ri')]}\$q\$, $late)", qr/old values of changed rows of table "ri_2b"/, 'a partition without');
	run('ALTER TABLE ri_2b REPLICA IDENTITY FULL');
	create_pipeline($node, 'of_ri', per_day('ri'));
	run(q{CREATE TABLE ri_3 PARTITION OF ri DEFAULT; INSERT INTO ri VALUES (1, '2026-05-05', 1, 'x'), (1, '2026-01-05', 1, 'x')});
	equal_to_batch($node, 'of_ri', 'inserts need none');
	run(q{UPDATE ri SET v = 'y' WHERE ts < '2026-05-01'});
	equal_to_batch($node, 'of_ri', 'others have theirs');
	run(q{UPDATE ri SET v = 'y' WHERE ts > '2026-05-01'});
	state_is($node, 'of_ri', 'failed', qr/old values of a changed row of table "ri_3" are not in the WAL/);
};

promise 'identity_by_index_of_partitions_with_other_orders' => sub {
	run(q{CREATE TABLE ix (id int, ts timestamptz, k int NOT NULL, v text, PRIMARY KEY (ts, id)) PARTITION BY RANGE (ts);
		CREATE TABLE ix_1 (v text, k int NOT NULL, id int NOT NULL, ts timestamptz NOT NULL, PRIMARY KEY (ts, id));
		ALTER TABLE ix ATTACH PARTITION ix_1 FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
		CREATE TABLE ix_2 PARTITION OF ix DEFAULT});
	refuses($node, "SELECT beam.create_pipeline('of_ix', \$q\$@{[per_day('ix')]}\$q\$, $late)", qr/The query uses column "k"/, 'a column beside the index');
	create_pipeline($node, 'of_ix', q{SELECT w.window_start, w.window_end, count(*) AS n, sum(e.id) AS s FROM ix e, beam.tumble(e.ts, '1 day') w GROUP BY 1, 2});
	run(rows('ix', 1, 300));
	run(q{UPDATE ix SET v = repeat('long', 2000); UPDATE ix SET id = -id WHERE id % 3 = 0; UPDATE ix SET v = NULL WHERE id % 2 = 0; DELETE FROM ix WHERE id % 5 = 0;
		UPDATE ix SET ts = ts + interval '1 month' WHERE ts < '2026-01-15'});
	equal_to_batch($node, 'of_ix');
};

promise 'partitions_that_cannot_be_followed_are_refused' => sub {
	make_partitioned('nf');
	run('CREATE UNLOGGED TABLE nf_3 PARTITION OF nf DEFAULT');
	refuses($node, "SELECT beam.create_pipeline('of_nf', \$q\$@{[per_day('nf')]}\$q\$, $late)", qr/"nf_3" is an unlogged table/, 'unlogged');
	run('DROP TABLE nf_3; CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE nf_3 PARTITION OF nf DEFAULT SERVER s');
	refuses($node, "SELECT beam.create_pipeline('of_nf', \$q\$@{[per_day('nf')]}\$q\$, $late)", qr/"nf_3" is a foreign table/, 'foreign');
	run('DROP FOREIGN TABLE nf_3');
	refuses($node, q{SELECT beam.create_pipeline('of_nf', 'SELECT count(*) FROM ONLY nf')}, qr/"nf" is read with ONLY/, 'ONLY');
	create_pipeline($node, 'of_nf', per_day('nf'));
	run('CREATE UNLOGGED TABLE nf_3 PARTITION OF nf DEFAULT');
	state_is($node, 'of_nf', 'failed', qr/"nf_3" is an unlogged table/);
};

promise 'sessions_over_partitions' => sub {
	make_partitioned('se');
	create_pipeline($node, 'of_se', q{SELECT w.window_start, w.window_end, e.k, count(*) AS n FROM se e, beam.session(e.ts, '2 days') w GROUP BY 1, 2, 3},
		qq{$late, source_mode => 'append_only'});
	run(rows('se', 1, 300));
	equal_to_batch($node, 'of_se');
};

promise 'subscription_truncates_a_partition' => sub {
	make_partitioned('sb');
	run('CREATE DATABASE origin');
	$node->safe_psql('origin', 'CREATE TABLE sb_2a (id int, ts timestamptz, k int, v text); CREATE PUBLICATION pub FOR TABLE sb_2a');
	$node->safe_psql('origin', q{SELECT pg_create_logical_replication_slot('sub', 'pgoutput')});
	create_pipeline($node, 'of_sb', per_day('sb'));
	run(qq{CREATE SUBSCRIPTION sub CONNECTION '@{[$node->connstr]} dbname=origin' PUBLICATION pub WITH (create_slot = false, copy_data = false)});
	$node->safe_psql('origin', q{INSERT INTO sb_2a SELECT i, '2026-02-05', i % 3, 'from afar' FROM generate_series(1, 100) i});
	wait_until($node, 'SELECT count(*) = 100 FROM sb');
	equal_to_batch($node, 'of_sb', 'applied by a subscription');
	$node->safe_psql('origin', q{TRUNCATE sb_2a});
	wait_until($node, 'SELECT count(*) = 0 FROM sb');
	equal_to_batch($node, 'of_sb', 'truncated by a subscription: rebuilt');
	run('ALTER SUBSCRIPTION sub DISABLE; ALTER SUBSCRIPTION sub SET (slot_name = NONE); DROP SUBSCRIPTION sub');
	$node->safe_psql('origin', q{SELECT pg_drop_replication_slot('sub')});
};

$node->stop;
done_testing();
