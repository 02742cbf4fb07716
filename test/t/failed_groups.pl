# Groups whose row cannot be computed, or is refused by the result: their source rows stay counted, whatever happens meanwhile, and they come back by themselves.
use strict;
use warnings;
use Test::More;
use PostgreSQL::Test::Utils;
use SbTest;

my $node = new_node('failed_groups', conf => "stream_beam.bundle_time = '20ms'\nlog_min_messages = debug1\n");

sub run { return $node->safe_psql('postgres', $_[0]) }

sub source
{
	my ($name) = @_;

	run("CREATE TABLE $name (id int PRIMARY KEY, at timestamptz DEFAULT '2026-03-01', k int, a int, b int); ALTER TABLE $name REPLICA IDENTITY FULL");
}

# The keys of its failed groups
sub failed
{
	my ($name) = @_;

	return run("SELECT coalesce(string_agg(key ->> 'k', ' ' ORDER BY (key ->> 'k')::int), '') FROM beam.failed_groups f JOIN beam.pipelines p ON p.name = f.pipeline AND p.version = f.version WHERE p.name = '$name'");
}

# As the batch view, without the groups that it cannot compute
sub right
{
	my ($name, $query, $what) = @_;

	is(run("SELECT count(*) FROM ((TABLE $name EXCEPT ALL ($query)) UNION ALL (($query) EXCEPT ALL TABLE $name)) x"), 0, "$name $what");
}

promise 'group_that_fails_is_the_same_however_bundles_are_cut' => sub {
	my $late = q{allowed_lateness => '10000 days', trigger => beam.after_watermark(early => beam.repeatedly(beam.after_count(1)), late => beam.repeatedly(beam.after_count(1)))};
	my %query = (
		whole => [ 'SELECT k, sum(a) / sum(b) AS q, count(*) AS n FROM SOURCE GROUP BY k', undef, 'HAVING sum(b) <> 0' ],
		tumble => [ q{SELECT w.window_start, w.window_end, k, sum(a) / sum(b) AS q, count(*) AS n FROM SOURCE s, beam.tumble(s.at, '1 minute') w GROUP BY 1, 2, 3}, undef, 'HAVING sum(b) <> 0' ],
		session => [ q{SELECT w.window_start, w.window_end, k, sum(a) / sum(b) AS q, count(*) AS n FROM SOURCE s, beam.session(s.at, '10 s') w GROUP BY 1, 2, 3}, q{allowed_lateness => '10000 days'}, 'HAVING sum(b) <> 0' ],
		retracting => [ q{SELECT w.window_start, w.window_end, k, sum(a) / sum(b) AS q, count(*) AS n FROM SOURCE s, beam.tumble(s.at, '1 minute') w GROUP BY 1, 2, 3},
			"accumulation => 'retracting', $late", 'HAVING sum(b) <> 0' ],
		discarding => [ q{SELECT w.window_start, w.window_end, k, 6 / (count(*) - 2) AS q, sum(a) AS s, count(*) AS n FROM SOURCE s, beam.tumble(s.at, '1 minute') w GROUP BY 1, 2, 3},
			"source_mode => 'append_only', accumulation => 'discarding', $late" ]);
	my $rows = q{SELECT i, '2026-03-01'::timestamptz + (i * 37 % 300) * interval '1 s' AS at, i % 5 AS k, i * 7 % 11 AS a, i * 3 % 5 - 2 AS b FROM generate_series(1, 300) i};

	for my $table (qw(cut_one cut_many))
	{
		source($table);
		for my $kind (sort keys %query)
		{
			my ($query, $arguments) = @{ $query{$kind} };

			create_pipeline($node, "${table}_$kind", $query =~ s/SOURCE/$table/r, $arguments);
		}
	}
	run("INSERT INTO cut_one (id, at, k, a, b) $rows");
	run("DO \$\$ DECLARE r record; BEGIN FOR r IN $rows LOOP INSERT INTO cut_many VALUES (r.i, r.at, r.k, r.a, r.b); COMMIT; END LOOP; END \$\$");
	for my $table (qw(cut_one cut_many))
	{
		run("UPDATE $table SET b = b + 1 WHERE id % 3 = 0; DELETE FROM $table WHERE id % 7 = 0");
		for my $kind (qw(whole tumble session))
		{
			my ($query, undef, $having) = @{ $query{$kind} };

			wait_for($node, "${table}_$kind");
			right("${table}_$kind", ($query =~ s/SOURCE/$table/r) . " $having", 'is right');
			is(run("SELECT count(*) FROM beam.failed_groups WHERE pipeline = '${table}_$kind'"),
				run("SELECT count(*) FROM (" . ($query =~ s/SOURCE/$table/r =~ s/sum\(a\) \/ sum\(b\) AS q, //r) . " HAVING sum(b) = 0) x"), "$table: those that fail are shown");
		}
		wait_for($node, "${table}_$_") for qw(retracting discarding);
		is(run("SELECT count(*) FROM (SELECT window_start, window_end, k, q, n FROM ${table}_retracting GROUP BY 1, 2, 3, 4, 5 HAVING sum(op) <> 0
				EXCEPT ALL (" . ($query{tumble}[0] =~ s/SOURCE/$table/r) . ' HAVING sum(b) <> 0)) x'), 0, "$table: what is not retracted is right");
		is(run("SELECT count(*) FROM (SELECT window_start, k, sum(op) FROM ${table}_retracting GROUP BY 1, 2 HAVING sum(op) NOT IN (0, 1)) x"), 0, "$table: nothing is retracted twice");
		is(run("SELECT sum(n) + (SELECT coalesce(sum(2), 0) FROM beam.failed_groups WHERE pipeline = '${table}_discarding') FROM ${table}_discarding"), 300, "$table: the panes have all rows once");
	}
	is(run("SELECT count(*) FROM beam.dead_letters WHERE pipeline NOT LIKE '%discarding'"), 0, 'no row is a dead letter');
};

promise 'failed_groups_outlive_a_crash' => sub {
	source('hit');
	create_pipeline($node, 'hit_sum', 'SELECT k, sum(a) / sum(b) AS q, count(*) AS n FROM hit GROUP BY k');
	create_pipeline($node, 'hit_log', 'SELECT k, sum(a) / sum(b) AS q, count(*) AS n FROM hit GROUP BY k', q{accumulation => 'retracting'});
	run('INSERT INTO hit (id, k, a, b) VALUES (1, 1, 8, 2), (2, 2, 8, 0), (3, 3, 1, 1)');
	wait_for($node, $_) for qw(hit_sum hit_log);
	run('INSERT INTO hit (id, k, a, b) VALUES (4, 1, 8, -2)');
	wait_for($node, $_) for qw(hit_sum hit_log);
	is(failed('hit_sum'), '1 2', 'two fail');
	crash_and_start($node);
	is(failed('hit_sum'), '1 2', 'that is known after a crash');
	run('INSERT INTO hit (id, k, a, b) VALUES (5, 1, 0, 4), (6, 2, 0, 4)');
	wait_for($node, $_) for qw(hit_sum hit_log);
	is(run('SELECT * FROM hit_sum ORDER BY k'), "1|4|3\n2|2|2\n3|1|1", 'all rows are counted');
	is(run('SELECT k, q, n, sum(op) FROM hit_log GROUP BY 1, 2, 3 ORDER BY 1, 2, 3'), "1|4|1|0\n1|4|3|1\n2|2|2|1\n3|1|1|1", 'and what was said is retracted once');
	is(failed($_), '', 'none fails') for qw(hit_sum hit_log);
};

promise 'failed_group_of_an_expired_window_comes_back' => sub {
	source('past');
	create_pipeline($node, 'past_sum', q{SELECT w.window_start, w.window_end, k, sum(a) AS s FROM past p, beam.tumble(p.at, '1 minute') w GROUP BY 1, 2, 3},
		q{source_mode => 'append_only', allowed_lateness => '0', watermark => '0', trigger => beam.after_watermark()});
	run('ALTER TABLE past_sum ADD CONSTRAINT small CHECK (s < 100)');
	run(q{INSERT INTO past VALUES (1, '2026-03-01 10:00:10', 1, 500), (2, '2026-03-01 10:00:20', 2, 5)});
	run(q{INSERT INTO past VALUES (3, '2026-03-01 12:00:00', 1, 1)});
	wait_for($node, 'past_sum');
	is(run('SELECT k, s FROM past_sum'), '2|5', 'one is refused when the window ends');
	is(failed('past_sum'), '1', 'which is shown');
	run(q{INSERT INTO past VALUES (4, '2026-03-01 10:00:30', 1, 1), (5, '2026-03-01 13:00:00', 1, 1)});
	wait_for($node, 'past_sum');
	is(run("SELECT count(*) FROM beam.late_events WHERE pipeline = 'past_sum'"), 1, 'the window takes nothing more');
	crash_and_start($node);
	is(failed('past_sum'), '1', 'it is not forgotten');
	run('ALTER TABLE past_sum DROP CONSTRAINT small');
	wait_until($node, "SELECT count(*) FROM beam.failed_groups WHERE pipeline = 'past_sum'", 0);
	is(run('SELECT k, s FROM past_sum WHERE window_start < $$2026-03-01 11:00$$ ORDER BY k'), "1|500\n2|5", 'it comes when the table takes it');
};

promise 'row_that_a_foreign_key_waits_for_lets_the_group_come' => sub {
	source('child');
	create_pipeline($node, 'child_sum', 'SELECT k, sum(a) AS s FROM child GROUP BY k');
	run('CREATE TABLE parent (s bigint PRIMARY KEY); ALTER TABLE child_sum ADD FOREIGN KEY (s) REFERENCES parent');
	run('INSERT INTO child (id, k, a) VALUES (1, 1, 10)');
	wait_for($node, 'child_sum');
	is(failed('child_sum'), '1', 'it is refused');
	run('INSERT INTO parent VALUES (10)');
	wait_until($node, "SELECT count(*) FROM beam.failed_groups WHERE pipeline = 'child_sum'", 0);
	is(run('TABLE child_sum'), '1|10', 'it is tried again though nothing else happens');
};

promise 'many_failing_groups_run_no_bundle_twice' => sub {
	source('many');
	create_pipeline($node, 'many_sum', 'SELECT k, sum(a) / sum(b) AS q, count(*) AS n FROM many GROUP BY k');
	create_pipeline($node, 'many_small', 'SELECT k, count(*) AS n FROM many GROUP BY k');
	run('ALTER TABLE many_small ADD CHECK (k % 2 = 0)');
	run('INSERT INTO many (id, k, a, b) SELECT i, i, 1, 0 FROM generate_series(1, 2000) i');
	wait_for($node, $_) for qw(many_sum many_small);
	is(run("SELECT pipeline, count(*) FROM beam.failed_groups WHERE pipeline LIKE 'many%' GROUP BY 1 ORDER BY 1"), "many_small|1000\nmany_sum|2000", 'they fail');
	my $from = -s $node->logfile;
	for my $i (1 .. 5)
	{
		run("INSERT INTO many (id, k, a, b) SELECT $i * 10000 + j, j, 1, 0 FROM generate_series(1, 2000) j");
		wait_for($node, $_) for qw(many_sum many_small);
	}
	unlike(slurp_file($node->logfile, $from), qr/a bundle is run again/, 'no bundle is run again');
	run('UPDATE many SET b = 1 WHERE id < 10000');
	wait_for($node, 'many_sum');
	is(run('SELECT count(*), min(q), max(q), min(n), max(n) FROM many_sum'), '2000|6|6|6|6', 'they come back');
};

promise 'one_bad_row_of_many_costs_few_writes' => sub {
	source('seldom');
	create_pipeline($node, 'seldom_sum', 'SELECT k, sum(a) AS s FROM seldom GROUP BY k');
	run(q{CREATE SEQUENCE writes; CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('public.writes'); RETURN NULL; END $$;
		CREATE TRIGGER counted BEFORE INSERT ON seldom_sum FOR EACH STATEMENT EXECUTE FUNCTION counted();
		ALTER TABLE seldom_sum ADD CHECK (s <> 7)});
	run('INSERT INTO seldom (id, k, a) SELECT i, i, CASE WHEN i = 777 THEN 7 ELSE 1 END FROM generate_series(1, 10000) i');
	wait_for($node, 'seldom_sum');
	is(run('SELECT count(*) FROM seldom_sum'), 9999, 'the others are there');
	is(failed('seldom_sum'), '777', 'the one is known');
	cmp_ok(run('SELECT last_value FROM writes'), '<', 60, 'by halves');
};

promise 'versions_and_backfills_have_failed_groups_too' => sub {
	source('redo');
	create_pipeline($node, 'redo_sum', 'SELECT k, sum(a) / sum(b) AS q FROM redo GROUP BY k');
	run('INSERT INTO redo (id, k, a, b) VALUES (1, 1, 8, 2), (2, 2, 8, 0)');
	wait_for($node, 'redo_sum');
	is(failed('redo_sum'), '2', 'it fails');
	for my $how (q{CALL beam.backfill('redo_sum')}, q{SELECT beam.resync_pipeline('redo_sum'); CALL beam.wait_for_alter('redo_sum')},
		q{SELECT beam.alter_pipeline('redo_sum', 'SELECT k, sum(a) / sum(b) AS q, count(*) AS n FROM redo GROUP BY k'); CALL beam.wait_for_alter('redo_sum')})
	{
		run($_) for split /; /, $how;
		wait_for($node, 'redo_sum');
		is(failed('redo_sum'), '2', "it still does: $how");
		is(run('SELECT k, q FROM redo_sum'), '1|4', 'and the other is there');
	}
	run('INSERT INTO redo (id, k, a, b) VALUES (3, 2, 0, 4)');
	wait_for($node, 'redo_sum');
	is(run('SELECT * FROM redo_sum ORDER BY k'), "1|4|1\n2|2|2", 'its rows were counted each time');
	is(failed('redo_sum'), '', 'none fails');
};

promise 'versions_refuse_what_the_result_refuses' => sub {
	source('keep');
	create_pipeline($node, 'keep_sum', 'SELECT k, sum(a) AS s FROM keep GROUP BY k');
	create_pipeline($node, 'keep_all', 'SELECT sum(s) AS s, count(*) AS n FROM keep_sum');
	run('ALTER TABLE keep_sum ADD CHECK (s < 100), ALTER s SET NOT NULL, ADD UNIQUE (s)');
	run('INSERT INTO keep (id, k, a) VALUES (1, 1, 8), (2, 2, 800), (3, 3, NULL)');
	wait_for($node, 'keep_all');
	is(failed('keep_sum'), '2 3', 'two are refused');
	for my $how (q{SELECT beam.resync_pipeline('keep_sum'); CALL beam.wait_for_alter('keep_sum')}, q{CALL beam.backfill('keep_sum')},
		q{SELECT beam.alter_pipeline('keep_sum', 'SELECT k, sum(a) AS s, count(*) AS n FROM keep GROUP BY k'); CALL beam.wait_for_alter('keep_sum')})
	{
		run($_) for split /; /, $how;
		wait_for($node, 'keep_all');
		is(failed('keep_sum'), '2 3', "they still are: $how");
		is(run('SELECT k, s FROM keep_sum') . ' ' . run('TABLE keep_all'), '1|8 8|1', 'and those downstream know');
	}
	run('UPDATE keep SET a = k');
	wait_for($node, 'keep_all');
	is(run('SELECT k, s FROM keep_sum ORDER BY k'), "1|1\n2|2\n3|3", 'they come');
	is(run('TABLE keep_all'), '6|3', 'downstream too');
};

promise 'constraint_that_comes_while_a_version_is_built' => sub {
	my $session = $node->background_psql('postgres');

	source('meet');
	create_pipeline($node, 'meet_sum', 'SELECT k, sum(a) AS s FROM meet GROUP BY k');
	run('INSERT INTO meet (id, k, a) VALUES (1, 1, 8), (2, 2, 800)');
	wait_for($node, 'meet_sum');
	# the exchange is what has to wait for this
	$session->query_safe(q{SET deadlock_timeout = '1min'});
	$session->query_safe('BEGIN; LOCK meet_sum IN ROW EXCLUSIVE MODE');
	run(q{SELECT beam.alter_pipeline('meet_sum', 'SELECT k, sum(a) * 2 AS s FROM meet GROUP BY k')});
	my $side = run(q{SELECT result::regclass FROM beam.pipeline WHERE name = 'meet_sum' AND stage = 'building'});
	wait_until($node, "SELECT count(*) = 2 FROM $side");
	$session->query_safe('ALTER TABLE meet_sum ADD CONSTRAINT few CHECK (s < 100) NOT VALID; COMMIT');
	$session->quit;
	run(q{CALL beam.wait_for_alter('meet_sum')});
	wait_for($node, 'meet_sum');
	is(failed('meet_sum'), '2', 'the group that is refused has failed');
	is(run('SELECT k, s FROM meet_sum'), '1|16', 'the others are there');
	run('ALTER TABLE meet_sum DROP CONSTRAINT few');
	wait_until($node, 'SELECT count(*) = 2 FROM meet_sum');
	is(failed('meet_sum'), '', 'it comes back');
};

done_testing;
