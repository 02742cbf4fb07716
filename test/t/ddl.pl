# DDL in the stream, and values that do not stand in the tuple: each row is read with the layout of its own time.
use strict;
use warnings;
use Test::More;
use SbTest;

my $node = new_node('ddl', conf => "stream_beam.ring_size = '1MB'\n");
my $late = q{allowed_lateness => '10000 days'};

sub run
{
	return $node->safe_psql('postgres', $_[0]);
}

# Columns that the query does not use stand before, between and behind those it does
sub make
{
	my ($t) = @_;

	run(qq{CREATE TABLE $t (a int, id int, b text DEFAULT 'b', ts timestamptz, k int, c varchar(10), v text); ALTER TABLE $t REPLICA IDENTITY FULL});
	create_pipeline($node, "of_$t", qq{SELECT w.window_start, w.window_end, e.k, count(*) AS n, sum(e.id) AS s, max(e.v) AS v
		FROM $t e, beam.tumble(e.ts, '1 hour') w GROUP BY 1, 2, 3});
}

sub rows
{
	my ($t, $from, $to) = @_;

	return qq{INSERT INTO $t (id, ts, k, v) SELECT i, '2026-01-01'::timestamptz + i * interval '1 min', i % 7, 'v' || i FROM generate_series($from, $to) i};
}

# Rows and changes of rows of every age
sub churn
{
	my ($t, $n) = @_;

	return rows($t, $n, $n + 99) . qq{; UPDATE $t SET v = v || '.', id = id + 1 WHERE id % 9 = $n % 9; DELETE FROM $t WHERE id % 50 = $n % 50};
}

# each: what is done to table X
my @ddl = (
	[ 'add a column' => q{ALTER TABLE X ADD d1 int} ],
	[ 'add a column with a constant default' => q{ALTER TABLE X ADD d2 text DEFAULT repeat('d', 50)} ],
	[ 'add a column with a volatile default, which rewrites' => q{ALTER TABLE X ADD d3 float8 DEFAULT random()} ],
	[ 'add a generated column' => q{ALTER TABLE X ADD d4 int GENERATED ALWAYS AS (id * 2) STORED} ],
	[ 'drop a column before those used' => q{ALTER TABLE X DROP a} ],
	[ 'drop a column between them' => q{ALTER TABLE X DROP b} ],
	[ 'drop the one just added' => q{ALTER TABLE X DROP d2} ],
	[ 'rename a column that is used' => q{ALTER TABLE X RENAME v TO renamed; ALTER TABLE X RENAME renamed TO v} ],
	[ 'swap the names of used and unused columns' => q{ALTER TABLE X RENAME c TO cc} ],
	[ 'change defaults' => q{ALTER TABLE X ALTER k SET DEFAULT 3; ALTER TABLE X ALTER d1 SET DEFAULT 1} ],
	[ 'change the type of an unused column, without a rewrite' => q{ALTER TABLE X ALTER cc TYPE varchar(200)} ],
	[ 'change the type of an unused column, with a rewrite' => q{ALTER TABLE X ALTER d1 TYPE text USING 'number ' || d1} ],
	[ 'change the storage' => q{ALTER TABLE X ALTER v SET STORAGE EXTERNAL} ],
	[ 'vacuum full' => q{VACUUM FULL X} ],
	[ 'cluster' => q{CREATE INDEX X_id ON X (id); CLUSTER X USING X_id} ],
	[ 'not null, check, unique' => q{ALTER TABLE X ALTER ts SET NOT NULL; ALTER TABLE X ADD CHECK (id IS NOT NULL)} ],
	[ 'vacuum, analyze' => q{VACUUM ANALYZE X} ],
	[ 'another tablespace' => q{SET allow_in_place_tablespaces = on; CREATE TABLESPACE X_ts LOCATION ''; ALTER TABLE X SET TABLESPACE X_ts} ],
	[ 'rename the table' => q{ALTER TABLE X RENAME TO X_new; ALTER TABLE X_new RENAME TO X} ],
	[ 'another schema' => q{CREATE SCHEMA X_s; ALTER TABLE X SET SCHEMA X_s; ALTER TABLE X_s.X SET SCHEMA public} ]);

# Statement by statement, in one session: some cannot be in a transaction
sub alter
{
	my ($sql, $t) = @_;

	$sql =~ s/\bX/$t/g;
	my ($rc, $out, $err) = $node->psql('postgres', join(";\n", split /; /, $sql));
	is($rc, 0, $sql) or diag($err);
}

promise 'each_kind_of_ddl_by_itself' => sub {
	make('live');
	my $n = 0;
	for my $step (@ddl)
	{
		my ($what, $sql) = @$step;

		run(churn('live', $n += 100));
		alter($sql, 'live');
		run(churn('live', $n += 100));
		equal_to_batch($node, 'of_live', $what);
	}
};

promise 'all_of_it_in_one_bundle' => sub {
	make('late');
	run(churn('late', 1000));
	equal_to_batch($node, 'of_late', 'before');
	run("SELECT beam.pause_pipeline('of_late')");
	my $n = 0;
	for my $step (@ddl)
	{
		my $sql = $step->[1];

		run(churn('late', $n += 100));
		alter($sql, 'late');
	}
	run(churn('late', $n += 100));
	run("SELECT beam.resume_pipeline('of_late')");
	equal_to_batch($node, 'of_late', 'after');
	is(run("SELECT state FROM beam.pipelines WHERE name = 'of_late'"), 'running', 'it runs');
};

promise 'ddl_and_rows_of_one_transaction' => sub {
	make('mixed');
	run('BEGIN; ' . churn('mixed', 100) . '; ALTER TABLE mixed ADD x int DEFAULT 5; ' . churn('mixed', 200) . '; ALTER TABLE mixed DROP a; '
		. churn('mixed', 300) . '; SAVEPOINT s; ALTER TABLE mixed DROP c; ' . churn('mixed', 400) . '; ROLLBACK TO s; ' . churn('mixed', 500)
		. q{; ALTER TABLE mixed ALTER x TYPE text; } . churn('mixed', 600) . '; COMMIT');
	equal_to_batch($node, 'of_mixed');
};

promise 'identity_that_is_taken_away_stops_the_pipeline' => sub {
	make('taken');
	run(churn('taken', 100));
	equal_to_batch($node, 'of_taken');
	run("ALTER TABLE taken REPLICA IDENTITY DEFAULT; " . rows('taken', 300, 310));
	equal_to_batch($node, 'of_taken', 'rows can still come');
	run('DELETE FROM taken WHERE id = 300');
	state_is($node, 'of_taken', 'failed', qr/old values of a changed row of table "taken" are not in the WAL/);
};

promise 'what_was_written_while_unlogged_is_noticed' => sub {
	make('un');
	make('un2');
	run(churn('un', 100));
	equal_to_batch($node, 'of_un');
	run("SELECT beam.pause_pipeline('of_un')");
	run('ALTER TABLE un SET UNLOGGED');
	run(rows('un', 500, 510));
	run('ALTER TABLE un SET LOGGED');
	run("SELECT beam.resume_pipeline('of_un')");
	equal_to_batch($node, 'of_un', 'rebuilt');
	like(run("SELECT reason FROM beam.pipeline_versions WHERE name = 'of_un'"), qr/table "un" was unlogged for some time/, 'and it is said why');
	run('ALTER TABLE un2 SET UNLOGGED');
	state_is($node, 'of_un2', 'failed', qr/is an unlogged table/);
	run('ALTER TABLE un2 SET LOGGED');
	run("SELECT beam.resume_pipeline('of_un2')");
	equal_to_batch($node, 'of_un2', 'resumed and rebuilt');
};

# ---- toasted values ----

my $big = q{string_agg(md5((i * 1000 + j)::text), '')};

sub make_toasted
{
	my ($t, $more, $query) = @_;

	run(qq{CREATE TABLE $t (id int NOT NULL, k int NOT NULL, v text, w text, note text)});
	run($_) for split /; /, $more;
	run(qq{INSERT INTO $t SELECT i, i % 3, NULL, NULL, '' FROM generate_series(1, 0) i});
	create_pipeline($node, "of_$t", $query // qq{SELECT k, count(*) AS n, sum(length(v)) AS s, min(md5(v)) AS m, max(v) AS v, string_agg(left(w, 50), ',' ORDER BY w) AS w FROM $t GROUP BY k});
}

sub toasted_rows
{
	my ($t) = @_;

	return qq{INSERT INTO $t SELECT i, i % 3, $big, $big, '' FROM generate_series(1, 20) i, generate_series(1, 300) j GROUP BY i};
}

promise 'unchanged_toasted_values_are_right' => sub {
	for my $storage (qw(EXTENDED EXTERNAL))
	{
		my $t = 'toast_' . lc($storage);

		make_toasted($t, "ALTER TABLE $t REPLICA IDENTITY FULL; ALTER TABLE $t ALTER v SET STORAGE $storage; ALTER TABLE $t ALTER w SET STORAGE $storage");
		run(toasted_rows($t));
		equal_to_batch($node, "of_$t", "$storage: inserted");
		run("UPDATE $t SET note = 'other' WHERE id % 2 = 0");
		equal_to_batch($node, "of_$t", "$storage: neither changed");
		run("UPDATE $t SET v = v || 'x', k = k + 1 WHERE id % 3 = 0");
		equal_to_batch($node, "of_$t", "$storage: one of two changed");
		run("UPDATE $t SET v = w, w = NULL WHERE id = 5");
		run("UPDATE $t SET v = 'short' WHERE id = 6; UPDATE $t SET note = 'again' WHERE id IN (5, 6)");
		equal_to_batch($node, "of_$t", "$storage: moved to another column, made short");
		run("BEGIN; UPDATE $t SET note = 'a'; UPDATE $t SET note = 'b'; DELETE FROM $t WHERE id % 4 = 0; COMMIT");
		equal_to_batch($node, "of_$t", "$storage: twice in one transaction, and deleted");
	}
};

promise 'toasted_values_of_an_identity_by_index' => sub {
	make_toasted('toast_key', 'ALTER TABLE toast_key ALTER v SET STORAGE EXTERNAL; ALTER TABLE toast_key ALTER v SET NOT NULL; ALTER TABLE toast_key ADD UNIQUE (id, k, v); '
		. 'ALTER TABLE toast_key REPLICA IDENTITY USING INDEX toast_key_id_k_v_key', 'SELECT k, count(*) AS n, sum(length(v)) AS s, max(v) AS v FROM toast_key GROUP BY k');
	# too long for a page and short enough for the index
	run(q{INSERT INTO toast_key SELECT i, i % 3, string_agg(md5((i * 1000 + j)::text), ''), string_agg(md5((i * 1000 + j)::text), ''), ''
		FROM generate_series(1, 20) i, generate_series(1, 70) j GROUP BY i});
	run("UPDATE toast_key SET note = 'x'; UPDATE toast_key SET k = k + 1 WHERE id % 2 = 0; UPDATE toast_key SET w = 'y', v = v || 'z' WHERE id % 3 = 0; DELETE FROM toast_key WHERE id = 7");
	equal_to_batch($node, 'of_toast_key');
};

promise 'toasted_values_that_are_not_known_do_no_harm' => sub {
	run(q{CREATE TABLE toast_app (id int PRIMARY KEY, k int, v text, w text, note text)});
	create_pipeline($node, 'of_toast_app', 'SELECT k, count(*) AS n, sum(length(v)) AS s, max(v) AS v FROM toast_app GROUP BY k', qq{$late, source_mode => 'append_only'});
	create_pipeline($node, 'of_toast_ids', 'SELECT count(*) AS n, sum(id) AS s FROM toast_app');
	run(toasted_rows('toast_app'));
	run(q{UPDATE toast_app SET note = 'x'; UPDATE toast_app SET id = id + 100 WHERE id % 2 = 0; DELETE FROM toast_app WHERE id % 5 = 0});
	equal_to_batch($node, 'of_toast_ids', 'a query that does not use them');
	wait_for($node, 'of_toast_app');
	is(run('SELECT sum(n) FROM of_toast_app'), 20, 'append-only: inserted rows count');
	is(run(q{SELECT string_agg(op || ':' || n, ' ' ORDER BY op) FROM (SELECT op, count(*) AS n FROM beam.dead_letters WHERE pipeline = 'of_toast_app' GROUP BY 1) x}),
		'delete:4 update:30', 'changes are dead letters');
	is(run(q{SELECT count(*) FROM beam.dead_letters WHERE pipeline = 'of_toast_app' AND op = 'update' AND data->>'v' IS NULL AND data->>'k' IS NOT NULL}), 30,
		'with what is known of the row');
};

# seen in what is told of an append-only table's changes: the row is older than the column, the change younger
promise 'old_rows_have_the_columns_added_since' => sub {
	run(q{CREATE TABLE grown (id int, k int) PARTITION BY LIST (k); CREATE TABLE grown_1 (k int, lost int, id int); ALTER TABLE grown_1 DROP lost;
		ALTER TABLE grown ATTACH PARTITION grown_1 FOR VALUES IN (1); CREATE TABLE grown_2 PARTITION OF grown DEFAULT;
		ALTER TABLE grown_1 REPLICA IDENTITY FULL; ALTER TABLE grown_2 REPLICA IDENTITY FULL});
	create_pipeline($node, 'of_kept', 'SELECT k, count(*) AS n, sum(id) AS s FROM grown GROUP BY k');
	run(q{INSERT INTO grown SELECT i, i % 3 FROM generate_series(1, 9) i; ALTER TABLE grown ADD late text DEFAULT 'late', ADD num numeric DEFAULT 1.5});
	create_pipeline($node, 'of_grown', 'SELECT k, count(id) AS n, min(late) AS late, max(num) AS num FROM grown GROUP BY k', qq{$late, source_mode => 'append_only'});
	run(q{DELETE FROM grown WHERE id IN (3, 4)});
	equal_to_batch($node, 'of_kept');
	wait_for($node, 'of_grown');
	is(run(q{SELECT string_agg(data::text, ' ' ORDER BY data::text) FROM beam.dead_letters WHERE pipeline = 'of_grown'}),
		'{"k": 0, "id": 3, "num": 1.5, "late": "late"} {"k": 1, "id": 4, "num": 1.5, "late": "late"}');
};

promise 'table_that_a_crash_has_emptied_needs_a_resync' => sub {
	my @all = qw(of_below of_logged of_state of_unlogged);

	run('CREATE TABLE emptied (k int, v int); ALTER TABLE emptied REPLICA IDENTITY FULL');
	create_pipeline($node, $_, 'SELECT k, count(*) AS n, sum(v) AS s FROM emptied GROUP BY k') for qw(of_logged of_unlogged of_state);
	create_pipeline($node, 'of_below', 'SELECT sum(n) AS n FROM of_logged');
	run('INSERT INTO emptied SELECT i % 3, i FROM generate_series(1, 30) i');
	equal_to_batch($node, $_) for @all;
	run('ALTER TABLE of_unlogged SET UNLOGGED');
	run(q{DO $$ BEGIN EXECUTE format('ALTER TABLE %s SET UNLOGGED', (SELECT state_table::regclass FROM beam.pipeline WHERE name = 'of_state')); END $$});
	run(q{DO $$ BEGIN EXECUTE format('ALTER TABLE beam_state.queue_%s SET UNLOGGED', (SELECT id FROM beam.pipeline WHERE name = 'of_below')); END $$});
	run('INSERT INTO emptied VALUES (1, 100)');
	equal_to_batch($node, $_, "$_, unlogged") for @all;
	$node->restart;
	run('INSERT INTO emptied VALUES (2, 100)');
	equal_to_batch($node, $_, "$_, after a restart") for @all;
	crash_and_start($node);
	run('INSERT INTO emptied VALUES (2, 200)');
	wait_for($node, 'of_logged');
	is(run(q{SELECT string_agg(name || ' ' || state, ', ' ORDER BY name) FROM beam.pipelines WHERE source IN ('emptied'::regclass, 'of_logged'::regclass)}),
		'of_below needs_resync, of_logged running, of_state needs_resync, of_unlogged needs_resync', 'after a crash those are marked that have lost something');
	is(run(q{SELECT error_message FROM beam.pipelines WHERE name = 'of_unlogged'}), 'its table "of_unlogged" is UNLOGGED: a crash of the server has emptied it', 'with the reason');
	run("SELECT beam.resync_pipeline('$_')") for qw(of_below of_state of_unlogged);
	equal_to_batch($node, $_, "$_, made anew") for @all;
};

$node->stop;
done_testing();
