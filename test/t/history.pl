# A pipeline made over a table with rows, while others write to it: history and stream meet exactly, whatever happens in between.
use strict;
use warnings;
use Test::More;
use Time::HiRes qw(time);
use SbTest;

# Chunks of some hundred rows, so that there are many of them
my $node = new_node('history', conf => q{
stream_beam.history_chunk_time = '10ms'
stream_beam.history_rate = 30000
max_prepared_transactions = 10
autovacuum = off
synchronous_standby_names = 'nobody'
synchronous_commit = local
});
my $late = q{allowed_lateness => '10000 days'};
my $seed = $ENV{SB_SEED} // int(time) % 100000;

diag("SB_SEED=$seed");
srand($seed);

sub run
{
	return $node->safe_psql('postgres', $_[0]);
}

# A table with rows whose event times are spread over three hours, in no order
sub make_full
{
	my ($name, $rows, %options) = @_;

	run(qq{CREATE TABLE $name (id int PRIMARY KEY, ts timestamptz, k int, v text);
		ALTER TABLE $name REPLICA IDENTITY FULL;
		INSERT INTO $name SELECT i, '2026-01-01'::timestamptz + (i::bigint * 7919 % 10800) * interval '1 s', i % 7, 'v' || i % 97 FROM generate_series(1, $rows) i});
	run("CREATE INDEX ON $name (ts)") if $options{index} // 1;
	run("ANALYZE $name");
}

my %queries = (
	tumble => q{SELECT w.window_start, w.window_end, e.k, count(*) AS n, sum(e.id) AS s, max(e.v) AS m
		FROM %s e, beam.tumble(e.ts, '1 minute') w GROUP BY 1, 2, 3},
	hop => q{SELECT w.window_start, w.window_end, count(*) AS n, min(e.ts) AS first, sum(e.k) AS ks
		FROM %s e, beam.hop(e.ts, '10 minutes', '2 minutes') w GROUP BY 1, 2},
	keys => q{SELECT e.k, count(*) AS n, sum(e.id) AS s, count(DISTINCT e.v) AS d FROM %s e GROUP BY 1},
	one => q{SELECT count(*) AS n, sum(id) AS s FROM %s});

# All of them, over one table
sub make_pipelines
{
	my ($table) = @_;

	create_pipeline($node, "${table}_$_", sprintf($queries{$_}, $table), $late) for sort keys %queries;
}

sub all_equal
{
	my ($table, $name) = @_;

	equal_to_batch($node, "${table}_$_", "$name: $_") for sort keys %queries;
	is(run(q{SELECT string_agg(name || ' ' || error_message, ',') FROM beam.pipelines WHERE state <> 'running'}), '', "$name: all are running");
	is(run('SELECT count(*) FROM beam.late_events'), 0, "$name: nothing is late");
	is(run('SELECT count(*) FROM beam.dead_letters'), 0, "$name: no dead letter");
}

sub drop_all
{
	my ($table) = @_;

	run("SELECT beam.drop_pipeline('${table}_$_')") for sort keys %queries;
	run("DROP TABLE $table");
}

# Until the history of a pipeline is so far; dies when it is through already, since then nothing has been tested
sub await_chunks
{
	my ($pipeline, $chunks) = @_;

	wait_until($node, "SELECT chunks >= $chunks FROM beam.stat_backfill WHERE pipeline = '$pipeline'");
	die "the history of $pipeline is over" if run("SELECT finished_at IS NOT NULL FROM beam.stat_backfill WHERE pipeline = '$pipeline'") eq 't';
}

# How fast histories are read, in rows a second: slowly, while something is done in their middle
sub rate
{
	run("ALTER SYSTEM SET stream_beam.history_rate = $_[0]");
	run('SELECT pg_reload_conf()');
}

# Changes of every kind, near and far in time; ids below 1,000,000 are those of the history
my $changes = q{
\set a random(1, 20000)
\set b random(1, 10800)
\set c random(1, 1000000000)
\set d random(1, 20000)
BEGIN;
INSERT INTO %s VALUES (1000000 + :c, '2026-01-01'::timestamptz + :b * interval '1 s', :b %% 7, 'new') ON CONFLICT DO NOTHING;
UPDATE %s SET ts = '2026-01-01'::timestamptz + :b * interval '1 s', k = k + 1 WHERE id = :a;
SAVEPOINT s;
DELETE FROM %s WHERE id = :d;
ROLLBACK TO s;
DELETE FROM %s WHERE id = :d + 1;
UPDATE %s SET v = 'changed' WHERE id BETWEEN :a AND :a + 3;
COMMIT;
};

sub load
{
	my ($table, @options) = @_;

	@options = qw(-c 4 -T 600 -R 400) unless @options;
	return start_load($node, $changes =~ s/%s/$table/gr =~ s/%%/%/gr, undef, @options);
}

promise 'changes_during_the_history_are_neither_lost_nor_doubled' => sub {
	make_full('ev', 20000);
	my $load = load('ev');

	make_pipelines('ev');
	await_chunks('ev_tumble', 5);
	is(run(q{SELECT string_agg(by, ' ' ORDER BY pipeline) FROM beam.stat_backfill}), 'event time id id event time', 'what they are read by');
	wait_for($node, "ev_$_") for sort keys %queries;
	finish_load($load);
	all_equal('ev', 'after the load');
	cmp_ok(run(q{SELECT min(chunks) FROM beam.stat_backfill}), '>', 20, 'there were chunks');
	is(run(q{SELECT string_agg(DISTINCT state || percent, ',') FROM beam.stat_backfill}), 'done100', 'the view says that all is done');
	drop_all('ev');
};

# ... into what has been read already, and out of it, by an UPDATE of a column that nothing else depends on
promise 'rows_that_move_within_the_history_are_neither_lost_nor_doubled' => sub {
	run(q{CREATE TABLE moved (k int, v int, at int, pad text);
		ALTER TABLE moved REPLICA IDENTITY FULL;
		CREATE INDEX ON moved (at);
		INSERT INTO moved SELECT i % 3, i, i, repeat('p', 100) FROM generate_series(1, 20000) i; ANALYZE moved});
	rate(2000);
	create_pipeline($node, 'moved_sum', 'SELECT k, count(*) AS n, sum(v) AS s, max(v) AS m FROM moved GROUP BY k', $late);
	await_chunks('moved_sum', 20);
	run('UPDATE moved SET at = at + 100000 WHERE at <= 300; UPDATE moved SET at = at - 100000 WHERE at BETWEEN 19900 AND 20000');
	await_chunks('moved_sum', 40);
	is(run(q{SELECT by FROM beam.stat_backfill WHERE pipeline = 'moved_sum'}), 'at', 'what it is read by');
	rate(0);
	equal_to_batch($node, 'moved_sum', 'rows that have moved are counted once');
	run(q{SELECT beam.drop_pipeline('moved_sum'); DROP TABLE moved});
	rate(30000);
};

promise 'no_index_is_one_chunk' => sub {
	run(q{CREATE TABLE plain (id int, ts timestamptz, k int, v text);
		ALTER TABLE plain REPLICA IDENTITY FULL;
		INSERT INTO plain SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 7, 'v' FROM generate_series(1, 20000) i});
	my $load = load('plain');

	make_pipelines('plain');
	wait_for($node, "plain_$_") for sort keys %queries;
	finish_load($load);
	all_equal('plain', 'without an index');
	is(run(q{SELECT string_agg(DISTINCT chunks::text, ',') FROM beam.stat_backfill}), '1', 'one chunk');
	drop_all('plain');
};

promise 'killed_in_the_middle_it_goes_on_where_it_was' => sub {
	make_full('ev', 40000);
	my $load = load('ev');

	make_pipelines('ev');
	await_chunks('ev_tumble', 3);
	kill9($node, 'runner');
	finish_load($load);
	$load = load('ev');
	await_chunks('ev_tumble', 10);
	my $before = run(q{SELECT sum(chunks) FROM beam.stat_backfill});
	crash_and_start($node);
	finish_load($load);
	$load = load('ev');
	wait_for_worker($node, 'runner');
	cmp_ok(run(q{SELECT sum(chunks) FROM beam.stat_backfill}), '>=', $before - 10, 'no more than the last unflushed chunks were lost');
	for (1 .. 3)
	{
		my $pid = wait_for_worker($node, (qw(runner reader))[ rand 2 ]);

		run("SELECT pg_terminate_backend($pid)");
	}
	rate(0);
	wait_for($node, 'ev_keys');
	finish_load($load);
	all_equal('ev', 'after the kills');
	drop_all('ev');
	rate(30000);
};

promise 'truncate_starts_it_anew' => sub {
	make_full('ev', 20000);
	make_pipelines('ev');
	await_chunks('ev_tumble', 3);
	run(q{BEGIN; INSERT INTO ev VALUES (2000000, '2026-01-01', 1, 'x'); TRUNCATE ev;
		INSERT INTO ev SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 7, 'again' FROM generate_series(1, 15000) i; COMMIT});
	my $load = load('ev');
	await_chunks('ev_tumble', 3);
	finish_load($load);
	all_equal('ev', 'after the first');
	run('TRUNCATE ev');
	all_equal('ev', 'empty');
	drop_all('ev');
};

promise 'transactions_open_at_the_creation_count_when_they_commit' => sub {
	rate(3000);
	make_full('ev', 10000);
	my $open = $node->background_psql('postgres');
	my $later = $node->background_psql('postgres');

	$open->query_safe(q{BEGIN; INSERT INTO ev SELECT 100000 + i, '2026-01-01'::timestamptz + i * interval '1 s', 1, 'open' FROM generate_series(1, 5000) i;
		UPDATE ev SET k = k + 10 WHERE id <= 500; DELETE FROM ev WHERE id BETWEEN 600 AND 700});
	$later->query_safe(q{BEGIN; INSERT INTO ev SELECT 200000 + i, '2026-01-01'::timestamptz + i * interval '1 s', 2, 'later' FROM generate_series(1, 5000) i});
	run(q{BEGIN; INSERT INTO ev SELECT 300000 + i, '2026-01-01'::timestamptz + i * interval '1 s', 3, 'prepared' FROM generate_series(1, 5000) i;
		DELETE FROM ev WHERE id BETWEEN 800 AND 900; PREPARE TRANSACTION 'p1'});
	run(q{BEGIN; UPDATE ev SET ts = ts + interval '1 hour' WHERE id BETWEEN 1000 AND 1100; PREPARE TRANSACTION 'p2'});
	make_pipelines('ev');
	await_chunks('ev_tumble', 3);
	$open->query_safe('COMMIT');
	rate(30000);
	run(q{COMMIT PREPARED 'p1'});
	all_equal('ev', 'two have committed');
	$later->query_safe('COMMIT');
	run(q{COMMIT PREPARED 'p2'});
	all_equal('ev', 'all have');
	$open->quit;
	$later->quit;
	drop_all('ev');
};

# Committed, in the WAL, decoded; and not visible to anybody, since it waits for a standby that is not there
promise 'commits_that_wait_for_a_standby_are_neither_lost_nor_doubled' => sub {
	rate(3000);
	make_full('ev', 20000);
	make_pipelines('ev');
	await_chunks('ev_tumble', 2);
	my $waiting = $node->background_psql('postgres');
	$waiting->query_until(qr/^$/, q{SET synchronous_commit = on;
		BEGIN; INSERT INTO ev SELECT 100000 + i, '2026-01-01'::timestamptz + i * 2 * interval '1 s', 1, 'waits' FROM generate_series(1, 5000) i;
		UPDATE ev SET ts = ts + interval '10 minutes' WHERE id <= 1000; DELETE FROM ev WHERE id BETWEEN 5000 AND 6000; COMMIT;
		\\echo over
});
	wait_until($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'});
	# what the others have goes on meanwhile
	my $before = run('SELECT pg_current_wal_lsn()');
	run(q{INSERT INTO ev SELECT 600000 + i, '2026-01-01'::timestamptz + i * interval '1 s', 1, 'does not wait' FROM generate_series(1, 1000) i});
	wait_until($node, "SELECT position > '$before' FROM beam.stat_pipelines WHERE name = 'ev_tumble'");
	is(run(q{SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'}), 1, 'it still waits');
	rate(30000);
	run(q{SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'});
	$waiting->query_until(qr/over/, '');
	$waiting->quit;
	all_equal('ev', 'after the wait');
	drop_all('ev');
};

promise 'a_row_that_fails_is_a_dead_letter_of_the_history' => sub {
	make_full('ev', 5000);
	run(q{UPDATE ev SET v = CASE id WHEN 77 THEN 'x' WHEN 4999 THEN 'y' ELSE '1' END});
	create_pipeline($node, 'numbers', q{SELECT k, sum(v::int) AS s, max(id) AS top FROM ev GROUP BY k});
	wait_for($node, 'numbers');
	is(run(q{SELECT string_agg(data ->> 'id' || op || sqlstate, ' ' ORDER BY id) FROM beam.dead_letters WHERE pipeline = 'numbers'}),
		'4999insert22P02 77insert22P02', 'both rows');
	is(run('SELECT sum(s) FROM numbers'), 4998, 'and all others count');
	run(q{SELECT beam.drop_pipeline('numbers'); DROP TABLE ev});
};

promise 'rows_are_whole_whatever_their_layout' => sub {
	run(q{CREATE TABLE wide (id int PRIMARY KEY, gone text, big text);
		ALTER TABLE wide REPLICA IDENTITY FULL; ALTER TABLE wide ALTER big SET STORAGE EXTERNAL;
		INSERT INTO wide SELECT i, 'g', repeat(i::text, 5000) FROM generate_series(1, 300) i;
		ALTER TABLE wide ADD added int DEFAULT 42;
		INSERT INTO wide SELECT i, 'g', repeat(i::text, 5000) FROM generate_series(301, 600) i});
	create_pipeline($node, 'w1', q{SELECT added, count(*) AS n, sum(length(big)) AS l, max(big) AS m, string_agg(DISTINCT right(big, 3), '') AS r FROM wide GROUP BY added});
	equal_to_batch($node, 'w1', 'a column added, values stored elsewhere');
	run('ALTER TABLE wide DROP gone');
	create_pipeline($node, 'w2', q{SELECT added, count(*) AS n, sum(length(big)) AS l, max(big) AS m FROM wide GROUP BY added});
	equal_to_batch($node, 'w2', 'a column dropped');
	run(q{UPDATE wide SET added = id % 3; DELETE FROM wide WHERE id % 5 = 0});
	equal_to_batch($node, 'w1', 'and what changes afterwards');
	equal_to_batch($node, 'w2', 'and what changes afterwards');
	run(q{SELECT beam.drop_pipeline('w1'), beam.drop_pipeline('w2'); DROP TABLE wide});
};

promise 'paused_resumed_and_dropped_in_the_middle' => sub {
	rate(3000);
	make_full('ev', 6000);
	make_pipelines('ev');
	my $load = load('ev');
	await_chunks('ev_tumble', 3);
	run(q{SELECT beam.pause_pipeline('ev_tumble')});
	run(q{SELECT beam.drop_pipeline('ev_one')});
	wait_for($node, 'ev_keys');
	is(run(q{SELECT state FROM beam.stat_backfill WHERE pipeline = 'ev_tumble'}), 'paused', 'the view says so');
	run(q{SELECT beam.resume_pipeline('ev_tumble')});
	create_pipeline($node, 'ev_one', sprintf($queries{one}, 'ev'), $late);
	rate(30000);
	wait_for($node, 'ev_tumble');
	finish_load($load);
	all_equal('ev', 'after all that');
	drop_all('ev');
};

# The rest of the table is then read in one go
promise 'an_index_dropped_in_the_middle_does_no_harm' => sub {
	rate(3000);
	make_full('ev', 8000);
	make_pipelines('ev');
	my $load = load('ev');
	await_chunks('ev_tumble', 3);
	run('DROP INDEX ev_ts_idx');
	rate(30000);
	wait_for($node, 'ev_tumble');
	finish_load($load);
	all_equal('ev', 'without the index');
	drop_all('ev');
};

promise 'a_table_that_is_locked_holds_up_nobody' => sub {
	rate(3000);
	make_full('ev', 8000);
	make_source($node, 'other');
	create_pipeline($node, 'others', tumble('other'));
	make_pipelines('ev');
	my $locker = $node->background_psql('postgres');

	await_chunks('ev_tumble', 2);
	$locker->query_safe('BEGIN; LOCK TABLE ev IN ACCESS EXCLUSIVE MODE');
	run(q{INSERT INTO other SELECT i, '2026-01-01', 1, 'v' FROM generate_series(1, 100) i});
	equal_to_batch($node, 'others', 'another pipeline');
	$locker->query_safe('COMMIT');
	rate(30000);
	$locker->quit;
	all_equal('ev', 'the lock is gone');
	drop_all('ev');
	run(q{SELECT beam.drop_pipeline('others'); DROP TABLE other});
};

promise 'keys_of_any_type' => sub {
	rate(3000);
	for my $type ('text', 'numeric', 'uuid', 'bytea', 'date', 'int2', has_icu($node) ? q{varchar(40) COLLATE "en-x-icu"} : 'varchar(40)')
	{
		my $value = {numeric => 'i / 7.0', uuid => 'md5(i::text)::uuid', bytea => q{decode(md5(i::text), 'hex')}, date => q{'2000-01-01'::date + i}, int2 => 'i'}->{$type} // q{md5(i::text)};

		run(qq{CREATE TABLE typed (id $type PRIMARY KEY, n int); ALTER TABLE typed REPLICA IDENTITY FULL; INSERT INTO typed SELECT $value, i FROM generate_series(1, 3000) i});
		create_pipeline($node, 'p', 'SELECT n % 3 AS k, count(*) AS n, sum(n) AS s FROM typed GROUP BY 1');
		await_chunks('p', 1);
		run('UPDATE typed SET n = n + 1 WHERE n % 3 = 0; DELETE FROM typed WHERE n % 5 = 0');
		equal_to_batch($node, 'p', $type);
		cmp_ok(run(q{SELECT chunks FROM beam.stat_backfill}), '>', 1, "$type: in chunks");
		run(q{SELECT beam.drop_pipeline('p'); DROP TABLE typed});
	}
};

# Rows of a table that have no event time, and those at its ends
promise 'nulls_and_infinities_of_the_event_time' => sub {
	rate(3000);
	make_full('ev', 5000);
	run(q{UPDATE ev SET ts = NULL WHERE id % 100 = 0});
	make_pipelines('ev');
	await_chunks('ev_tumble', 1);
	run(q{UPDATE ev SET ts = NULL WHERE id % 100 = 1; UPDATE ev SET ts = '2026-01-01' WHERE id % 100 = 0 AND id < 1000});
	rate(30000);
	all_equal('ev', 'nulls');
	drop_all('ev');
};

promise 'windows_end_when_the_history_is_in' => sub {
	make_full('ev', 3000);
	create_pipeline($node, 'final', q{SELECT w.window_start, w.window_end, count(*) AS n FROM ev e, beam.tumble(e.ts, '1 minute') w GROUP BY 1, 2},
		q{trigger => 'after_watermark()', allowed_lateness => '0'});
	wait_for($node, 'final');
	wait_until($node, q{SELECT count(*) >= 179 FROM final});
	is(run(q{SELECT count(*) FROM (TABLE final EXCEPT ALL TABLE final_batch) x}), 0, 'each window once, and whole');
	is(run(q{SELECT count(*) FROM beam.late_events}), 0, 'nothing is late');
	run(q{SELECT beam.drop_pipeline('final'); DROP TABLE ev});
};

promise 'sessions_merge_over_the_ends_of_chunks' => sub {
	rate(3000);
	make_full('ev', 10000);
	create_pipeline($node, 'visits', q{SELECT w.window_start, w.window_end, e.k, count(*) AS n, min(e.ts) AS first
		FROM ev e, beam.session(e.ts, '7 seconds') w GROUP BY 1, 2, 3}, "$late, source_mode => 'append_only'");
	await_chunks('visits', 2);
	run(q{INSERT INTO ev SELECT 100000 + i, '2026-01-01'::timestamptz + (i * 7 % 10800) * interval '1 s', i % 7, 'v' FROM generate_series(1, 5000) i});
	rate(30000);
	equal_to_batch($node, 'visits');
	run(q{SELECT beam.drop_pipeline('visits'); DROP TABLE ev});
};

promise 'from_now_on_only' => sub {
	make_full('ev', 3000);
	create_pipeline($node, 'now', 'SELECT count(*) AS n FROM ev', q{history => false, source_mode => 'append_only'});
	run(q{INSERT INTO ev SELECT 100000 + i, now(), 1, 'v' FROM generate_series(1, 10) i});
	wait_for($node, 'now');
	is(run('SELECT n FROM now'), 10, 'the rows from before do not count');
	refuses($node, q{SELECT beam.create_pipeline('later', 'SELECT count(*) AS n FROM ev', history => false)}, qr/has rows already/, 'with changes');
	run(q{SELECT beam.drop_pipeline('now'); DROP TABLE ev});
};

promise 'a_chained_pipeline_takes_the_rows_of_the_result' => sub {
	rate(3000);
	make_full('ev', 5000);
	create_pipeline($node, 'up', tumble('ev'), $late);
	await_chunks('up', 1);
	create_pipeline($node, 'down', q{SELECT k, sum(n) AS n, sum(s) AS s FROM up GROUP BY k}, $late);
	run('UPDATE ev SET k = k + 1 WHERE id < 100; DELETE FROM ev WHERE id > 4000');
	rate(30000);
	equal_to_batch($node, 'up', 'the first');
	equal_to_batch($node, 'down', 'the second');
	create_pipeline($node, 'down2', q{SELECT sum(n) AS n, sum(s) AS s FROM up}, $late);
	equal_to_batch($node, 'down2', 'one over a whole result');
	run('UPDATE ev SET k = k + 1 WHERE id < 100');
	equal_to_batch($node, $_, "$_ goes on") for qw(up down down2);
	run(q{SELECT beam.drop_pipeline(p) FROM unnest(ARRAY['down', 'down2', 'up']) p; DROP TABLE ev});
};

$node->stop;
done_testing();
