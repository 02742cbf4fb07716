# Rows that fail, changes that cannot be applied, objects that go away: the pipeline concerned says so and keeps its position, the
# others never notice.
use strict;
use warnings;
use Test::More;
use SbTest;

my $node = new_node('failures', conf => "stream_beam.max_dead_letters = 50\nstream_beam.bundle_time = '50ms'\n");
my $late = q{allowed_lateness => '10000 days'};

sub run
{
	return $node->safe_psql('postgres', $_[0]);
}

# A source `e_NAME`, and on it the pipeline `f_NAME` under test and a plain one `o_NAME` that must never notice
sub setup
{
	my ($name, $query, $arguments) = @_;

	make_source($node, "e_$name");
	create_pipeline($node, "o_$name", tumble("e_$name"));
	$query =~ s/SOURCE/e_$name/g;
	create_pipeline($node, "f_$name", $query, $arguments);
}

sub letters
{
	my ($name) = @_;

	return run("SELECT count(*) FROM beam.dead_letters WHERE pipeline = 'f_$name'");
}

# Rows `ids` fail in the pipeline, and it alone; $good restricts the batch view's source to the others
sub row_fails
{
	my ($name, $insert, $sqlstate, $ids, $batch) = @_;

	run($insert);
	wait_for($node, "f_$name");
	is( run("SELECT string_agg(data->>'id', ',' ORDER BY (data->>'id')::int), min(sqlstate), max(sqlstate), bool_and(message <> ''), bool_and(position IS NOT NULL)
			FROM beam.dead_letters WHERE pipeline = 'f_$name'"),
		"$ids|$sqlstate|$sqlstate|t|t", 'the failing rows are dead letters');
	is(run("SELECT count(*) FROM beam.dead_letters WHERE pipeline = 'o_$name'"), 0, 'of this pipeline only');
	equal_to_batch($node, "o_$name", 'the other one has all');
	is(run("SELECT count(*) FROM (($batch) EXCEPT ALL TABLE f_$name) x"), 0, 'the rest is applied');
	is(run("SELECT count(*) FROM (TABLE f_$name EXCEPT ALL ($batch)) x"), 0, 'and nothing else');
	is(run("SELECT state FROM beam.pipelines WHERE name = 'f_$name'"), 'running', 'it goes on');
	is(run("SELECT dead_letters FROM beam.stat_pipelines WHERE name = 'f_$name'"), scalar(split /,/, $ids), 'and they are counted');
}

promise 'row_that_fails_in_an_argument_is_a_dead_letter' => sub {
	setup('arg', 'SELECT e.k, sum(e.v::int) AS s, count(*) AS n, max(e.id) AS top FROM SOURCE e GROUP BY e.k');
	row_fails('arg', q{INSERT INTO e_arg SELECT i, now(), i % 5, CASE WHEN i IN (7, 512, 999) THEN 'not a number' ELSE i::text END FROM generate_series(1, 1000) i},
		'22P02', '7,512,999', q{SELECT k, sum(v::int), count(*), max(id) FROM (SELECT * FROM e_arg WHERE v ~ '^\d+$' OFFSET 0) x GROUP BY k});
};

promise 'long_text_of_an_error_is_cut' => sub {
	run(q{CREATE FUNCTION loud(t text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RAISE EXCEPTION '%', repeat(t, 100000); END$$});
	setup('loud', 'SELECT e.k, sum(loud(e.v)) AS s, count(*) AS n FROM SOURCE e GROUP BY e.k');
	run(q{INSERT INTO e_loud VALUES (1, '2026-01-01', 1, 'ÄÖ')});
	wait_for($node, 'f_loud');
	is(run(q{SELECT octet_length(message), message ~ '^(ÄÖ)+ [.]{3}$', octet_length(context) < 9000 FROM beam.dead_letters WHERE pipeline = 'f_loud'}), '8196|t|t', 'of a dead letter');
	run(q{ALTER SYSTEM SET stream_beam.max_dead_letters = 0; SELECT pg_reload_conf()});
	run(q{INSERT INTO e_loud VALUES (1, '2026-01-01', 1, 'x')});
	state_is($node, 'f_loud', 'failed', qr/^more than 0 rows of a bundle fail, the last with: x{8000,} \.\.\.$/);
	run(q{ALTER SYSTEM RESET stream_beam.max_dead_letters; SELECT pg_reload_conf()});
};

promise 'row_that_fails_in_a_filter_is_a_dead_letter' => sub {
	setup('filter', 'SELECT e.k, count(*) AS n FROM SOURCE e WHERE 100 / e.id > 0 GROUP BY e.k');
	row_fails('filter', q{INSERT INTO e_filter SELECT i, now(), i % 5, '' FROM generate_series(-50, 50) i},
		'22012', '0', q{SELECT k, count(*) FROM (SELECT * FROM e_filter WHERE id <> 0 OFFSET 0) x WHERE 100 / id > 0 GROUP BY k});
};

promise 'row_that_fails_in_a_key_is_a_dead_letter' => sub {
	setup('key', 'SELECT 100 / e.id AS q, count(*) AS n FROM SOURCE e GROUP BY 1');
	row_fails('key', q{INSERT INTO e_key SELECT i, now(), i % 5, '' FROM generate_series(-50, 50) i},
		'22012', '0', q{SELECT 100 / id, count(*) FROM (SELECT * FROM e_key WHERE id <> 0 OFFSET 0) x GROUP BY 1});
};

promise 'what_was_left_out_is_remembered_whatever_dies' => sub {
	# the change can be made twice; it is in when the runner has had two turns without dying
	my $settle = sub {
		my ($sql) = @_;

		for (my $turns = 0; $turns < 2;)
		{
			wait_until($node, 'SELECT NOT pg_is_in_recovery()');
			$turns = eval { $node->psql('postgres', "$sql; CALL beam.wait_for('f_left', '60 s')") == 0 } ? $turns + 1 : 0;
		}
	};

	# it fails when it comes, and could be computed when it goes
	run(q{CREATE TABLE room (most int); INSERT INTO room VALUES (100); CREATE FUNCTION fits(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
			$$BEGIN IF x > (SELECT most FROM public.room) THEN RAISE 'no room for %', x USING ERRCODE = '22003'; END IF; RETURN x; END$$});
	make_source($node, 'e_left');
	create_pipeline($node, 'f_left', 'SELECT sum(fits(e.v::int)) AS s, count(*) AS n FROM e_left e');
	run(q{INSERT INTO e_left VALUES (1, now(), 1, '60')});
	wait_for($node, 'f_left');
	for my $point (qw(before_letters after_letters before_state after_state before_dead_letter before_careful_commit before_commit after_commit))
	{
		for my $change (q{DELETE FROM e_left WHERE id = 2}, q{UPDATE e_left SET v = '-1' WHERE id = 2})
		{
			kill_at($node, $point);
			$settle->('UPDATE room SET most = 65');
			$settle->(q{INSERT INTO e_left SELECT 2, now(), 1, '70' WHERE NOT EXISTS (SELECT FROM e_left WHERE id = 2)});
			$settle->('UPDATE room SET most = 100');
			kill_at($node, $point);
			$settle->($change);
			kill_at($node, undef);
			$settle->('SELECT');
			is(run('SELECT n, s FROM f_left'), run('SELECT count(*), sum(v::int) FROM e_left'), "$point: $change");
			is(run(q{SELECT count(*) FROM beam.left_out l JOIN beam.pipeline p ON p.id = l.pipeline WHERE p.name = 'f_left'}), 0, 'and it has been forgotten');
			$settle->('DELETE FROM e_left WHERE id = 2');
		}
	}
	run('SELECT beam.drop_pipeline($$f_left$$)');
};

promise 'row_that_makes_a_function_overflow_is_a_dead_letter' => sub {
	setup('avg', 'SELECT e.k, sum(exp(e.id::float8)) AS s FROM SOURCE e GROUP BY e.k');
	row_fails('avg', q{INSERT INTO e_avg SELECT i, now(), i % 5, '' FROM unnest(ARRAY[1, 2, 3, 710, 5]) i},
		'22003', '710', q{SELECT k, sum(exp(id::float8)) FROM (SELECT * FROM e_avg WHERE id < 700 OFFSET 0) x GROUP BY k});
};

promise 'row_that_a_constraint_of_a_result_without_groups_refuses_is_a_dead_letter' => sub {
	setup('check', 'SELECT e.id, e.k * 2 AS k FROM SOURCE e');
	run('ALTER TABLE f_check ADD CHECK (k < 1000)');
	row_fails('check', q{INSERT INTO e_check VALUES (1, now(), 1, ''), (2, now(), 700, ''), (3, now(), 2, ''), (4, now(), 600, '')},
		'23514', '2,4', q{SELECT id, k * 2 FROM e_check WHERE k < 500});
};

promise 'failing_rows_in_sessions_and_bags' => sub {
	setup('session', q{SELECT w.window_start, w.window_end, e.k, count(*) AS n, string_agg(DISTINCT (100 / e.id)::text, ',' ORDER BY (100 / e.id)::text) AS q
		FROM SOURCE e, beam.session(e.ts, '10 s') w GROUP BY 1, 2, 3}, $late);
	row_fails('session', q{INSERT INTO e_session SELECT i, '2026-01-01'::timestamptz + i * interval '3 s', i % 2, '' FROM generate_series(-20, 20) i},
		'22012', '0', q{SELECT w.window_start, w.window_end, e.k, count(*) AS n, string_agg(DISTINCT (100 / e.id)::text, ',' ORDER BY (100 / e.id)::text) AS q
		FROM (SELECT * FROM e_session WHERE id <> 0 OFFSET 0) e, beam.session(e.ts, '10 s') w GROUP BY 1, 2, 3});
};

promise 'failing_row_in_a_transaction_larger_than_the_ring' => sub {
	run("ALTER SYSTEM SET stream_beam.ring_size = '1MB'");
	$node->restart;
	setup('large', 'SELECT e.k, sum(100 / e.id) AS s, count(*) AS n FROM SOURCE e GROUP BY e.k');
	row_fails('large', q{INSERT INTO e_large SELECT i - 20000, now(), i % 5, 'some text to make it longer' FROM generate_series(1, 60000) i},
		'22012', '0', q{SELECT k, sum(100 / id), count(*) FROM (SELECT * FROM e_large WHERE id <> 0 OFFSET 0) x GROUP BY k});
};

# Cells leave memory changed and come back in one transaction, which is then undone: what came back is undone too
promise 'failing_row_after_cells_have_left_and_come_back' => sub {
	my $rows = q{SELECT i, '2026-01-01'::timestamptz, i, '1' FROM generate_series(1, 6000) i};

	run(q{ALTER SYSTEM SET stream_beam.state_memory = '1MB'; SELECT pg_reload_conf()});
	setup('back', 'SELECT e.k, count(*) AS n, sum(e.v::int) AS s FROM SOURCE e GROUP BY e.k');
	create_pipeline($node, 'f_back_in_sessions', q{SELECT e.k, w.window_start, w.window_end, count(*) AS n, sum(e.v::int) AS s FROM e_back e, beam.session(e.ts, '1 minute') w GROUP BY 1, 2, 3}, $late);
	run("INSERT INTO e_back $rows");
	equal_to_batch($node, $_) for qw(f_back f_back_in_sessions);
	run("INSERT INTO e_back SELECT * FROM ($rows) r UNION ALL SELECT * FROM ($rows) s UNION ALL SELECT 6001, '2026-01-01', 1, 'x' UNION ALL SELECT * FROM ($rows) t");
	for my $name (qw(f_back f_back_in_sessions))
	{
		wait_for($node, $name);
		is(run("SELECT count(*), sum(n), sum(s), min(n), max(n) FROM $name"), '6000|24000|24000|4|4', "$name: each key has its four rows");
		is(run("SELECT count(*) FROM beam.dead_letters WHERE pipeline = '$name'"), 1, "$name: the failing row is a dead letter");
	}
	run(q{ALTER SYSTEM RESET stream_beam.state_memory; SELECT pg_reload_conf()});
};

promise 'too_many_failing_rows_stop_the_pipeline_and_it_can_go_on' => sub {
	setup('many', 'SELECT e.k, sum(100 / e.id) AS s FROM SOURCE e GROUP BY e.k');
	run(q{INSERT INTO e_many VALUES (1, now(), 1, '')});
	equal_to_batch($node, 'f_many');
	my $position = run("SELECT position FROM beam.pipelines WHERE name = 'f_many'");
	run(q{INSERT INTO e_many SELECT 0, now(), 1, '' FROM generate_series(1, 60) i});
	state_is($node, 'f_many', 'failed', qr/more than 50 rows of a bundle fail, the last with: division by zero/);
	is(letters('many'), 0, 'its bundle is undone as a whole');
	refuses($node, "CALL beam.wait_for('f_many')", qr/is failed.*division by zero/s, 'wait_for says why');
	run(q{INSERT INTO e_many VALUES (2, now(), 1, '')});
	equal_to_batch($node, 'o_many', 'the other one goes on');
	run(q{ALTER SYSTEM SET stream_beam.max_dead_letters = 100; SELECT pg_reload_conf()});
	run(q{SELECT beam.resume_pipeline('f_many')});
	wait_for($node, 'f_many');
	is(letters('many'), 60, 'with a larger limit they are dead letters');
	is(run('SELECT s FROM f_many'), 150, 'and the rest is applied, once');
};

promise 'failing_rows_while_a_command_waits' => sub {
	my $locker = $node->background_psql('postgres');

	run(q{ALTER SYSTEM SET stream_beam.max_dead_letters = 1000; SELECT pg_reload_conf()});
	setup('waits', 'SELECT e.k, sum(100 / e.id) AS s FROM SOURCE e GROUP BY e.k');
	setup('locked', tumble('SOURCE'));
	equal_to_batch($node, 'f_locked');
	$locker->query_safe('BEGIN; LOCK TABLE e_locked IN ACCESS EXCLUSIVE MODE');
	my $backfill = start_load($node, "CALL beam.backfill('f_locked');\n", 'postgres', qw(-c 1 -t 1));
	wait_until($node, 'SELECT count(*) = 1 FROM beam.command');
	my $pid = pid_of($node, 'runner');
	# so that there are bundles in the very turns in which the command is looked at
	finish_load(start_load($node, "INSERT INTO e_waits VALUES (0, now(), 1, ''), (1, now(), 1, '');\n", 'postgres', qw(-c 2 -t 300)), 0);
	wait_for($node, 'f_waits');
	is(pid_of($node, 'runner'), $pid, 'the runner has not ended');
	is(letters('waits'), 600, 'the failing rows are dead letters');
	is(run('SELECT s FROM f_waits'), 60000, 'the others are applied');
	$locker->query_safe('COMMIT');
	$locker->quit;
	finish_load($backfill, 0);
	run(q{ALTER SYSTEM RESET stream_beam.max_dead_letters; SELECT pg_reload_conf()});
};

promise 'command_that_is_broken_off_leaves_nothing' => sub {
	setup('broken', tumble('SOURCE'), $late);
	create_pipeline($node, 'r_broken', 'SELECT f.k, sum(f.s) AS s, count(*) AS n FROM f_broken f GROUP BY f.k');
	run(q{INSERT INTO e_broken SELECT i, '2026-01-01'::timestamptz + i * interval '20 s', i % 3, '' FROM generate_series(1, 30) i});
	equal_to_batch($node, 'r_broken');
	# the first run fails as a row does; the second, row by row, comes as far as to its end
	run(q{CREATE SEQUENCE calls;
		CREATE FUNCTION breaks() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF nextval('public.calls') = 1 THEN RAISE EXCEPTION 'no' USING ERRCODE = '22012'; END IF;
			RETURN NULL; END $$;
		GRANT ALL ON SEQUENCE calls TO PUBLIC;
		UPDATE f_broken SET s = 0 WHERE k = 1;
		CREATE TRIGGER breaks AFTER INSERT ON f_broken FOR EACH STATEMENT EXECUTE FUNCTION breaks();
		ALTER SYSTEM SET stream_beam.kill_at = '!before_careful_commit'; SELECT pg_reload_conf()});
	refuses($node, "CALL beam.backfill('f_broken')", qr/planted at "before_careful_commit"/, 'the caller is told');
	run('ALTER SYSTEM RESET stream_beam.kill_at; SELECT pg_reload_conf()');
	is(run('SELECT last_value > 1 FROM calls'), 't', 'it was run again');
	run('DROP FUNCTION breaks CASCADE');
	run("CALL beam.backfill('f_broken'); CALL beam.backfill('r_broken')");
	run(q{INSERT INTO e_broken SELECT i, '2026-01-01'::timestamptz + i * interval '20 s', i % 3, '' FROM generate_series(31, 60) i});
	equal_to_batch($node, 'f_broken');
	equal_to_batch($node, 'r_broken', 'what reads it goes on');
};

promise 'letters_that_are_rows_no_more_stay' => sub {
	setup('norow', 'SELECT e.k, sum(100 / e.id) AS s FROM SOURCE e GROUP BY e.k');
	run(q{INSERT INTO e_norow SELECT 0, now(), i, '' FROM generate_series(1, 3) i});
	wait_for($node, 'f_norow');
	is(letters('norow'), 3, 'they are there');
	run(q{UPDATE beam.dead_letter SET data = data || '{"id": "x"}' WHERE (data ->> 'k')::int < 3 AND pipeline = (SELECT id FROM beam.pipeline WHERE name = 'f_norow')});
	run("CALL beam.replay_dead_letters('f_norow')");
	is(run(q{SELECT string_agg(data ->> 'k', ',' ORDER BY data ->> 'k') FROM beam.dead_letters WHERE pipeline = 'f_norow'}), '1,2,3', 'all of them are there still');
};

promise 'failed_pipeline_keeps_its_position_however_far_the_others_are' => sub {
	setup('far', 'SELECT e.k, sum(100 / e.id) AS s FROM SOURCE e GROUP BY e.k');
	run(q{ALTER SYSTEM SET stream_beam.max_dead_letters = 2; SELECT pg_reload_conf()});
	run(q{INSERT INTO e_far SELECT i, now(), 1, '' FROM generate_series(1, 4) i});
	equal_to_batch($node, 'f_far');
	# so much WAL that positions would be written without rows
	run(q{BEGIN; INSERT INTO e_far SELECT 0, now(), 1, '' FROM generate_series(1, 5) i; SELECT pg_logical_emit_message(true, 'far', repeat('x', 20000000)) > '0/0'; COMMIT});
	state_is($node, 'f_far', 'failed', qr/more than 2 rows/);
	equal_to_batch($node, 'o_far', 'the other one goes on');
	run(q{ALTER SYSTEM SET stream_beam.max_dead_letters = 100; SELECT pg_reload_conf()});
	run(q{SELECT beam.resume_pipeline('f_far')});
	wait_for($node, 'f_far');
	is(letters('far'), 5, 'it has seen them');
};

my @changes = (['update', 'UPDATE %s SET id = 5 WHERE id = 1'], ['delete', 'DELETE FROM %s WHERE id = 1'], ['truncate', 'TRUNCATE %s']);

promise 'changes_retract' => sub {
	setup('changes', tumble('SOURCE'), $late);
	run(q{INSERT INTO e_changes SELECT i, '2026-01-01'::timestamptz + i * interval '20 s', i % 3, '' FROM generate_series(1, 30) i});
	run('UPDATE e_changes SET id = id + 100 WHERE k = 1');
	equal_to_batch($node, 'f_changes', 'values changed');
	run(q{UPDATE e_changes SET ts = ts + interval '1 hour', k = 7 WHERE id < 10});
	equal_to_batch($node, 'f_changes', 'rows moved to other windows and groups');
	my $panes = run(q{SELECT panes FROM beam.stat_pipelines WHERE name = 'f_changes'});
	run(q{UPDATE e_changes SET v = 'not used'});
	wait_for($node, 'f_changes');
	is(run(q{SELECT panes FROM beam.stat_pipelines WHERE name = 'f_changes'}), $panes, 'an UPDATE of other columns is none');
	run('DELETE FROM e_changes WHERE k <> 2');
	equal_to_batch($node, 'f_changes', 'rows gone, and groups with them');
	run(q{BEGIN; INSERT INTO e_changes VALUES (1, '2026-01-01', 1, ''); TRUNCATE e_changes; INSERT INTO e_changes VALUES (2, '2026-01-01', 1, ''); COMMIT});
	equal_to_batch($node, 'f_changes', 'truncated in between');
	is(run('SELECT sum(n) FROM f_changes'), 1, 'one row is left');
};

promise 'row_over_nothing_after_truncate_is_taken_back' => sub {
	setup('nothing', 'SELECT count(*) AS n, sum(e.id) AS s FROM SOURCE e', "$late, accumulation => 'retracting'");
	for my $round (1 .. 3)
	{
		run(q{INSERT INTO e_nothing VALUES (1, '2026-01-01', 1, '')});
		wait_for($node, 'f_nothing');
		is(run('SELECT n, s FROM f_nothing GROUP BY n, s HAVING sum(op) <> 0'), '1|1', 'the row');
		run('TRUNCATE e_nothing');
		wait_for($node, 'f_nothing');
		is(run('SELECT n, s, sum(op) FROM f_nothing GROUP BY n, s HAVING sum(op) <> 0'), '0||1', 'nothing, once');
	}
};

# a value that cannot be computed counts neither as new nor as old
promise 'update_of_a_failing_row' => sub {
	setup('failing', q{SELECT w.window_start, w.window_end, sum(100 / s.id) AS s, count(*) AS n, sum(s.k) AS k FROM SOURCE s, beam.tumble(s.ts, '1 minute') w GROUP BY 1, 2}, $late);
	run(q{INSERT INTO e_failing VALUES (1, '2026-01-01', 1, ''), (0, '2026-01-01', 2, ''), (5, '2026-01-01', 3, '')});
	run('UPDATE e_failing SET id = 0 WHERE k = 1');
	run('UPDATE e_failing SET id = 10 WHERE k = 2');
	wait_for($node, 'f_failing');
	is(run('SELECT s, n FROM f_failing'), '30|2', 'only what can be computed counts');
	is(run(q{SELECT string_agg(op || ' ' || (data->>'k'), ',' ORDER BY id) FROM beam.dead_letters WHERE pipeline = 'f_failing'}),
		'insert 2,insert 1', 'each row that could not be added is a letter');
	run('UPDATE e_failing SET id = 2 WHERE k = 1');
	equal_to_batch($node, 'f_failing', 'in the end all can be computed');
};

for my $change (@changes)
{
	my ($name, $sql) = @$change;

	promise "${name}_of_an_append_only_source_is_a_dead_letter" => sub {
		make_source($node, "a_$name");
		create_pipeline($node, "p_$name", tumble("a_$name"), "$late, source_mode => 'append_only'");
		run("INSERT INTO a_$name SELECT i, '2026-01-01', 1, '' FROM generate_series(1, 10) i");
		run(sprintf $sql, "a_$name");
		run("INSERT INTO a_$name VALUES (11, '2026-01-01', 1, '')");
		wait_for($node, "p_$name");
		is(run("SELECT sum(n) FROM p_$name"), 11, 'only the rows that were inserted count');
		is(run("SELECT op, sqlstate, data->>'id' FROM beam.dead_letters WHERE pipeline = 'p_$name'"),
			{ update => 'update|0A000|5', delete => 'delete|0A000|1', truncate => 'truncate|0A000|' }->{$name}, 'the change is kept');
		is(run("SELECT dead_letters FROM beam.stat_pipelines WHERE name = 'p_$name'"), 1, 'and counted');
		run("SELECT beam.drop_pipeline('p_$name')");
	};
}

promise 'change_without_old_values_stops_its_pipelines_only' => sub {
	setup('blind', tumble('SOURCE'), $late);
	run(q{INSERT INTO e_blind SELECT i, '2026-01-01', 1, '' FROM generate_series(1, 10) i});
	equal_to_batch($node, 'f_blind');
	my $was = run('TABLE f_blind');
	run('ALTER TABLE e_blind REPLICA IDENTITY NOTHING');
	run(q{INSERT INTO e_blind VALUES (11, '2026-01-01', 2, '')});
	equal_to_batch($node, 'f_blind', 'inserts go on');
	$was = run('SELECT * FROM f_blind ORDER BY k');
	run('UPDATE e_blind SET id = 5 WHERE id = 1');
	state_is($node, 'f_blind', 'failed', qr/old values of a changed row of table "e_blind" are not in the WAL/);
	run(q{INSERT INTO e_blind VALUES (12, '2026-01-01', 1, '')});
	is(run('SELECT * FROM f_blind ORDER BY k'), $was, 'its result is as of before');
	run("SELECT beam.resume_pipeline('f_blind')");
	state_is($node, 'f_blind', 'failed', qr/old values/);
	is(run('SELECT * FROM f_blind ORDER BY k'), $was, 'resumed, it stops at the same place');
	run("SELECT beam.drop_pipeline('f_blind')");
};

# of an identity index the WAL has the old values when they change, and that is enough for a query that uses nothing else
promise 'identity_index_that_covers_the_query' => sub {
	run(q{CREATE TABLE keyed (id int, k int, note text, PRIMARY KEY (k, id)); SELECT beam.create_pipeline('by_key', 'SELECT k, count(*) AS n, sum(id) AS s FROM keyed GROUP BY k')});
	run(q{INSERT INTO keyed SELECT i, i % 3, 'x' FROM generate_series(1, 30) i; UPDATE keyed SET note = 'y'; UPDATE keyed SET id = id + 100 WHERE k = 1; DELETE FROM keyed WHERE k = 2; UPDATE keyed SET k = 5, note = 'z' WHERE id < 10});
	equal_to_batch($node, 'by_key');
	refuses($node, q{SELECT beam.create_pipeline('by_note', 'SELECT note, count(*) FROM keyed GROUP BY note')}, qr/does not have the old values of changed rows of table "keyed".*REPLICA IDENTITY FULL/s, 'a column that it does not cover is refused');
};

# by an ALTER TABLE that takes hours, or by a prepared transaction that nobody ends
promise 'locked_source_holds_up_no_other_pipeline' => sub {
	setup('held', tumble('SOURCE'), $late);
	make_source($node, 'e_free');
	create_pipeline($node, 'f_free', tumble('e_free'));
	run(q{INSERT INTO e_held VALUES (1, '2026-01-01', 1, '')});
	equal_to_batch($node, 'f_held');
	$node->append_conf('postgresql.conf', 'max_prepared_transactions = 5');
	$node->restart;
	wait_for($node, $_) for qw(f_held f_free);
	run(q{BEGIN; ALTER TABLE e_held ADD note text; INSERT INTO e_held VALUES (2, '2026-01-01', 1, ''); PREPARE TRANSACTION 'forgotten'});
	run(q{INSERT INTO e_free VALUES (1, '2026-01-01', 1, '')});
	wait_for($node, 'f_free');
	kill9($node, 'runner');
	run(q{INSERT INTO e_free VALUES (2, '2026-01-01', 1, '')});
	equal_to_batch($node, 'f_free', 'the others go on with a new runner');
	create_pipeline($node, 'f_new', tumble('e_free'));
	equal_to_batch($node, 'f_new', 'and new ones are made');
	refuses($node, q{CALL beam.wait_for('f_held', '1 s')}, qr/has not come to the place waited for/, 'who waits for the locked one is not told that it is there');
	run(q{COMMIT PREPARED 'forgotten'; INSERT INTO e_held VALUES (3, '2026-01-01', 1, '')});
	equal_to_batch($node, 'f_held', 'it goes on where it was');
	is(run('SELECT sum(n) FROM f_held'), 3, 'with all its rows');
};

promise 'update_rolled_back_is_none' => sub {
	setup('rollback', tumble('SOURCE'), $late);
	run("INSERT INTO e_rollback SELECT i, '2026-01-01', 1, '' FROM generate_series(1, 10) i");
	run('BEGIN; UPDATE e_rollback SET id = 5; ROLLBACK; BEGIN; TRUNCATE e_rollback; ROLLBACK; BEGIN; SAVEPOINT a; DELETE FROM e_rollback; ROLLBACK TO a; COMMIT');
	run("UPDATE e_rollback SET id = 5 WHERE false");
	equal_to_batch($node, 'f_rollback');
};

promise 'paused_pipeline_goes_on_exactly_where_it_was' => sub {
	setup('pause', tumble('SOURCE'), $late);
	for my $round (1 .. 5)
	{
		run("INSERT INTO e_pause SELECT i, '2026-01-01', i % 3, '' FROM generate_series(1, 100) i");
		run("SELECT beam.pause_pipeline('f_pause')");
		run("INSERT INTO e_pause SELECT i, '2026-01-01', i % 3, '' FROM generate_series(1, 100) i");
		equal_to_batch($node, 'o_pause', "the other one in round $round");
		$node->restart if $round == 3;
		run("SELECT beam.resume_pipeline('f_pause')");
		run("INSERT INTO e_pause SELECT i, '2026-01-01', i % 3, '' FROM generate_series(1, 100) i");
		equal_to_batch($node, 'f_pause', "round $round");
	}
};

promise 'paused_pipeline_holds_the_slot_back' => sub {
	# in a database of its own: there no resting pipeline holds it back
	my $db = 'held';
	my $rows = "INSERT INTO e SELECT i, '2026-01-01', i % 3, '' FROM generate_series(1, 100) i";

	run("CREATE DATABASE $db");
	create_extension($node, $db);
	make_source($node, 'e', $db);
	create_pipeline($node, $_, tumble('e'), $late, $db) for qw(paused other);
	$node->safe_psql($db, "SELECT beam.pause_pipeline('paused')");
	$node->safe_psql($db, $rows);
	wait_for($node, 'other', $db);
	# a reader that ends makes the next one confirm all that it may
	my $pid = wait_for_worker($node, 'reader', $db);
	run("SELECT pg_terminate_backend($pid)");
	wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'stream_beam reader' AND datname = '$db' AND pid <> $pid");
	equal_to_batch($node, 'other', 'the other one', $db);
	is( $node->safe_psql($db, "SELECT confirmed_flush_lsn <= (SELECT position FROM beam.pipelines WHERE name = 'paused') FROM pg_replication_slots WHERE database = '$db'"),
		't', 'what it has not seen stays in the slot');
	$node->safe_psql($db, "SELECT beam.resume_pipeline('paused')");
	equal_to_batch($node, 'paused', 'it gets that', $db);
	run("DROP DATABASE $db");
};

# in a database of its own: the runner has none open before
promise 'pipeline_that_cannot_be_opened_spares_those_after_it' => sub {
	my $db = 'opened';
	my $rows = "INSERT INTO e SELECT i, '2026-01-01', i % 3, '' FROM generate_series(1, 100) i";

	run("CREATE DATABASE $db");
	create_extension($node, $db);
	make_source($node, 'e', $db);
	create_pipeline($node, $_, tumble('e'), $late, $db) for qw(broken whole);
	wait_for($node, 'whole', $db);
	$node->safe_psql($db, "SELECT beam.pause_pipeline('broken'), beam.pause_pipeline('whole')");
	$node->safe_psql($db, 'DROP TABLE broken');
	my $pid = wait_for_worker($node, 'runner', $db);
	$node->safe_psql($db, "SELECT beam.resume_pipeline('broken'), beam.resume_pipeline('whole')");
	state_is($node, 'broken', 'failed', qr/result table of pipeline "broken" is gone/, $db);
	for my $round (1 .. 3)
	{
		$node->safe_psql($db, $rows);
		equal_to_batch($node, 'whole', "the other one in round $round", $db);
	}
	is(pid_of($node, 'runner', $db), $pid, 'the runner is still the same');
	run("DROP DATABASE $db");
};

promise 'pause_and_resume_under_load' => sub {
	my $load = start_load($node, q{INSERT INTO e_pause SELECT i, '2026-01-01', i % 3, '' FROM generate_series(1, 10) i});
	for (1 .. 10)
	{
		run("SELECT beam.pause_pipeline('f_pause')");
		my $before = run('SELECT count(*) FROM e_pause');
		wait_until($node, "SELECT count(*) > $before + 300 FROM e_pause");
		run("SELECT beam.resume_pipeline('f_pause')");
		run("SELECT beam.pause_pipeline('f_pause'); SELECT beam.resume_pipeline('f_pause')");
	}
	finish_load($load);
	equal_to_batch($node, 'f_pause');
	equal_to_batch($node, 'o_pause');
};

promise 'result_table_cannot_vanish_unnoticed' => sub {
	setup('result', tumble('SOURCE'), $late);
	run("INSERT INTO e_result VALUES (1, '2026-01-01', 1, '')");
	equal_to_batch($node, 'f_result');
	my ($rc) = $node->psql('postgres', 'DROP TABLE f_result');
	is($rc, 0, 'it can be dropped');
	run("INSERT INTO e_result VALUES (2, '2026-01-01', 1, '')");
	state_is($node, 'f_result', 'failed', qr/result table of pipeline "f_result" is gone|relation .*f_result.* does not exist/);
	equal_to_batch($node, 'o_result', 'the other one');
	run("SELECT beam.drop_pipeline('f_result')");
	is(run("SELECT count(*) FROM pg_class WHERE relname LIKE 'f\\_result%'"), 0, 'and the rest of it can be dropped');
};

promise 'replaced_view_stops_the_pipeline' => sub {
	setup('view', tumble('SOURCE'), $late);
	run("INSERT INTO e_view VALUES (1, '2026-01-01', 1, '')");
	equal_to_batch($node, 'f_view');
	run('CREATE OR REPLACE VIEW f_view_batch AS ' . (tumble('e_view') =~ s/count\(\*\)/count(e.v)/r));
	run("INSERT INTO e_view VALUES (2, '2026-01-01', 1, '')");
	$node->restart;
	state_is($node, 'f_view', 'failed', qr/batch view of pipeline "f_view" has been replaced/);
	run("INSERT INTO e_view VALUES (2, '2026-01-01', 1, '')");
	equal_to_batch($node, 'o_view', 'the other one');
};

promise 'dropped_view_stops_the_pipeline' => sub {
	setup('gone', tumble('SOURCE'), $late);
	run("INSERT INTO e_gone VALUES (1, '2026-01-01', 1, '')");
	equal_to_batch($node, 'f_gone');
	run('DROP VIEW f_gone_batch');
	$node->restart;
	state_is($node, 'f_gone', 'failed', qr/batch view of pipeline "f_gone" is gone/);
	run("INSERT INTO e_gone VALUES (2, '2026-01-01', 1, '')");
	equal_to_batch($node, 'o_gone', 'the other one');
	run("SELECT beam.drop_pipeline('f_gone')");
};

promise 'source_cannot_be_dropped_without_cascade' => sub {
	setup('source', tumble('SOURCE'), $late);
	run("INSERT INTO e_source VALUES (1, '2026-01-01', 1, '')");
	equal_to_batch($node, 'f_source');
	refuses($node, 'DROP TABLE e_source', qr/view [fo]_source_batch depends on table e_source/, 'DROP TABLE');
	run("INSERT INTO e_source VALUES (2, '2026-01-01', 1, ''); DROP TABLE e_source CASCADE");
	state_is($node, 'f_source', 'failed', qr/batch view of pipeline "f_source" is gone/);
	run("INSERT INTO e_pause VALUES (1, '2026-01-01', 1, '')");
	equal_to_batch($node, 'f_pause', 'others go on');
	run("SELECT beam.drop_pipeline('f_source'), beam.drop_pipeline('o_source')");
};

promise 'renamed_and_altered_sources_go_on' => sub {
	setup('alter', tumble('SOURCE'), $late);
	my $i = 0;
	for my $ddl ('ALTER TABLE e_alter RENAME COLUMN k TO kk', 'ALTER TABLE e_alter ADD extra int DEFAULT 7', 'ALTER TABLE e_alter DROP v',
		'CREATE SCHEMA IF NOT EXISTS elsewhere; ALTER TABLE e_alter SET SCHEMA elsewhere; ALTER TABLE elsewhere.e_alter RENAME TO renamed; SET search_path = elsewhere',
		'CREATE INDEX ON elsewhere.renamed (ts)', 'VACUUM FULL elsewhere.renamed', 'ALTER TABLE elsewhere.renamed ADD e2 text')
	{
		my $table = run(q{SELECT oid::regclass FROM pg_class WHERE relname IN ('e_alter', 'renamed') AND relkind = 'r'});
		my $columns = $i++ < 1 ? 'id, ts, k' : 'id, ts, kk';
		run("INSERT INTO $table ($columns) SELECT i, '2026-01-01', i % 3 FROM generate_series(1, 10) i");
		run($ddl);
		$table = run(q{SELECT oid::regclass FROM pg_class WHERE relname IN ('e_alter', 'renamed') AND relkind = 'r'});
		run("INSERT INTO $table (id, ts, kk) SELECT i, '2026-01-01', i % 3 FROM generate_series(1, 10) i");
		equal_to_batch($node, 'f_alter', "after $ddl");
	}
};

promise 'renamed_result_is_followed' => sub {
	setup('rename', tumble('SOURCE'), $late);
	run("INSERT INTO e_rename VALUES (1, '2026-01-01', 1, '')");
	equal_to_batch($node, 'f_rename');
	run('ALTER TABLE f_rename RENAME TO fr; CREATE SCHEMA moved; ALTER TABLE fr SET SCHEMA moved');
	run("INSERT INTO e_rename VALUES (2, '2026-01-01', 1, '')");
	wait_for($node, 'f_rename');
	is(run('SELECT n FROM moved.fr'), 2, 'under its new name');
	# in the middle of the work, again and again
	my $load = start_load($node, "INSERT INTO e_rename VALUES (3, '2026-01-01', 1, '');\n");
	run("ALTER TABLE moved.fr RENAME TO fr2; ALTER TABLE moved.fr2 RENAME TO fr") for 1 .. 20;
	finish_load($load);
	wait_for($node, 'f_rename');
	is(run('SELECT n = (SELECT count(*) FROM e_rename) FROM moved.fr'), 't', 'nothing is lost and nothing twice');
};

promise 'new_owner_of_the_result_has_to_ask_for_the_pipeline' => sub {
	run('CREATE ROLE first_owner; CREATE ROLE next_owner; GRANT CREATE ON SCHEMA public TO first_owner, next_owner');
	run('GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA beam TO first_owner');
	run('SET ROLE first_owner; CREATE TABLE e_owner (n int); ALTER TABLE e_owner REPLICA IDENTITY FULL; SELECT beam.create_pipeline(\'f_owner\', \'SELECT sum(n) AS s FROM e_owner\')');
	run('INSERT INTO e_owner VALUES (1)');
	equal_to_batch($node, 'f_owner');
	run('REASSIGN OWNED BY first_owner TO next_owner; DROP OWNED BY first_owner; DROP ROLE first_owner');
	run('INSERT INTO e_owner VALUES (2)');
	is(run("SELECT owner, state, error_message FROM beam.pipelines WHERE name = 'f_owner'"),
		'next_owner|paused|it was given by role first_owner to role next_owner, and waits for the new owner, or a superuser, to call beam.resume_pipeline()', 'it waits');
	run('SET ROLE next_owner; SELECT beam.resume_pipeline(\'f_owner\')');
	equal_to_batch($node, 'f_owner', 'it runs as its new owner');
	run('ALTER VIEW f_owner_batch OWNER TO postgres; INSERT INTO e_owner VALUES (3)');
	state_is($node, 'f_owner', 'failed', qr/do not belong to one role/);
	refuses($node, "SELECT beam.resume_pipeline('f_owner')", qr/do not belong to one role.*The pipeline belongs to next_owner, the table to next_owner, the view to postgres/s, 'nor can it be resumed');
	run('ALTER VIEW f_owner_batch OWNER TO next_owner; SELECT beam.resume_pipeline(\'f_owner\')');
	equal_to_batch($node, 'f_owner', 'all of it is of one role again');
	is(run("SET ROLE next_owner; SELECT beam.pause_pipeline('f_owner'); SELECT state FROM beam.pipelines"), "\npaused", 'and obeys');
};

promise 'column_that_the_user_adds_to_the_result_stays' => sub {
	setup('column', tumble('SOURCE'), $late);
	run("INSERT INTO e_column VALUES (1, '2026-01-01', 1, '')");
	wait_for($node, 'f_column');
	run("ALTER TABLE f_column ADD note text DEFAULT 'd'; UPDATE f_column SET note = 'mine'");
	run("INSERT INTO e_column VALUES (1, '2026-01-01', 1, ''), (1, '2026-01-01', 2, '')");
	wait_for($node, 'f_column');
	is(run("SELECT string_agg(k || ' ' || n || ' ' || note, ',' ORDER BY k) FROM f_column"), '1 2 mine,2 1 d', 'upserts leave it alone');
};

promise 'result_that_a_user_locks_delays_and_loses_nothing' => sub {
	setup('lock', tumble('SOURCE'), $late);
	my $session = $node->background_psql('postgres');
	$session->query_safe('BEGIN; LOCK f_lock IN ACCESS EXCLUSIVE MODE');
	run("INSERT INTO e_lock VALUES (1, '2026-01-01', 1, '')");
	wait_until($node, "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'f_lock'::regclass AND NOT granted");
	$session->query_safe('COMMIT');
	$session->quit;
	equal_to_batch($node, 'f_lock');
};

promise 'lock_timeout_of_the_database_loses_nothing' => sub {
	run("ALTER DATABASE postgres SET lock_timeout = '50ms'; ALTER DATABASE postgres SET statement_timeout = '30s'; ALTER DATABASE postgres SET default_transaction_isolation = 'serializable'");
	$node->restart;
	my $session = $node->background_psql('postgres');
	$session->query_safe('BEGIN; LOCK f_lock IN ACCESS EXCLUSIVE MODE');
	my $runner = wait_for_worker($node, 'runner');
	run("INSERT INTO e_lock VALUES (2, '2026-01-01', 1, '')");
	wait_until($node, "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'f_lock'::regclass AND NOT granted OR $runner NOT IN (SELECT pid FROM pg_stat_activity)");
	$session->query_safe('COMMIT');
	$session->quit;
	equal_to_batch($node, 'f_lock');
	run('ALTER DATABASE postgres RESET ALL');
};

promise 'slot_whose_wal_was_removed_voids_the_pipelines' => sub {
	setup('wal', tumble('SOURCE'), $late);
	run("INSERT INTO e_wal VALUES (1, '2026-01-01', 1, '')");
	equal_to_batch($node, 'f_wal');
	run("SELECT beam.pause_pipeline('f_wal')");
	run("INSERT INTO e_wal VALUES (2, '2026-01-01', 1, '')");
	run("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'; SELECT pg_reload_conf()");
	for (1 .. 3)
	{
		run('CREATE TABLE IF NOT EXISTS filler (i int); INSERT INTO filler VALUES (1); SELECT pg_switch_wal()');
		run('CHECKPOINT');
	}
	wait_until($node, "SELECT count(*) > 0 FROM pg_replication_slots WHERE wal_status = 'lost' OR confirmed_flush_lsn > (SELECT position FROM beam.pipelines WHERE name = 'f_wal')");
	run('ALTER SYSTEM RESET max_slot_wal_keep_size; SELECT pg_reload_conf()');
	run("INSERT INTO e_wal VALUES (3, '2026-01-01', 1, '')");
	state_is($node, 'f_wal', 'needs_resync', qr/changes of its source between .* are lost/);
	setup('wal2', tumble('SOURCE'), $late);
	run("INSERT INTO e_wal2 VALUES (1, '2026-01-01', 1, '')");
	equal_to_batch($node, 'f_wal2', 'a new one');
};

promise 'lost_slot_voids_the_pipelines_with_a_clear_message' => sub {
	setup('slot', tumble('SOURCE'), $late);
	run("INSERT INTO e_slot VALUES (1, '2026-01-01', 1, '')");
	equal_to_batch($node, 'f_slot');
	$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
	$node->restart;
	run("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots; INSERT INTO e_slot VALUES (2, '2026-01-01', 1, '')");
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'stream_beam'");
	$node->restart;
	state_is($node, 'f_slot', 'needs_resync', qr/changes of its source between .* are lost/);
	# a new one can be made at once
	setup('after', tumble('SOURCE'), $late);
	run("INSERT INTO e_after VALUES (1, '2026-01-01', 1, '')");
	equal_to_batch($node, 'f_after');
};

$node->stop;
done_testing();
