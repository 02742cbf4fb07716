# What is too much has an end: windows beyond stream_beam.state_memory fail their pipeline and not the server, scripts of test_stream are cancelled or refused,
# whoever waits can be cancelled, and a runner that works on many windows can be ended.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time usleep);
use SbTest;

my $mb = 64;
my $node = new_node('limits', conf => "stream_beam.state_memory = '${mb}MB'\nstream_beam.bundle_time = '20ms'\nstream_beam.pipeline_timeout = '10min'\nautovacuum = off\nfsync = off\nmax_locks_per_transaction = 1024\n");

sub run { return $node->safe_psql('postgres', $_[0], timeout => 60) }

my $started = run('SELECT pg_postmaster_start_time()');

sub no_crash
{
	unlike(slurp_file($node->logfile), qr/was terminated by signal|TRAP: |PANIC: /, 'no process has crashed');
	is(run('SELECT pg_postmaster_start_time()'), $started, 'the server was not restarted');
}

# Memory of a process that nobody shares, in kB
sub private_memory
{
	my ($pid) = @_;
	my $status = eval { slurp_file("/proc/$pid/status") } // '';

	return $status =~ /^RssAnon:\s*(\d+) kB/m ? $1 : 0;
}

# A session that runs statements in the background
sub session
{
	my ($name, @sql) = @_;
	my ($out, $err) = ('', '');
	my $run = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-d', $node->connstr('postgres') . " application_name=$name", map { ('-c', $_) } @sql ],
		'<', \undef, '>', \$out, '2>', \$err);

	return { run => $run, name => $name, err => \$err };
}

# A test: the session is at work, is cancelled, and has come to its end within five seconds
sub cancelled
{
	my ($session, $name) = @_;
	my $at;

	# not at what comes before
	wait_until($node, "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = '$session->{name}' AND state = 'active' AND query ~* '^(CALL|SELECT) beam'");
	$at = time;
	is(run("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE application_name = '$session->{name}'"), 't', "$name: there is somebody to cancel");
	$session->{run}->finish;
	cmp_ok(time - $at, '<', 5, "$name is cancelled at once");
	like(${ $session->{err} }, qr/57014/, "$name says so");
}

my $many = q{SELECT w.window_start, w.window_end, count(*) AS n FROM NAME e, beam.hop(e.ts, '10 ms', '1 us') w GROUP BY 1, 2};

# ---- memory of the runner -------------------------------------------------------------------------------------------------------

promise 'windows_that_hold_the_watermark_beyond_state_memory_fail_their_pipeline_within_that_memory' => sub {
	my ($pid, $highest, $state, $deadline, $before) = (undef, 0, '', time + 150);

	run(q{CREATE TABLE e (id int, ts timestamptz); ALTER TABLE e REPLICA IDENTITY FULL;
		CREATE TABLE calm (id int, ts timestamptz); ALTER TABLE calm REPLICA IDENTITY FULL;
		SELECT beam.create_pipeline('calm_sum', 'SELECT sum(id) AS s, count(*) AS n FROM calm');});
	# each holds the output watermark at its first row
	run('SELECT beam.create_pipeline(\'many\', $q$' . ($many =~ s/NAME/e/r) . '$q$, timestamp_combiner => \'earliest\', trigger => \'after_watermark(late => after_count(1))\')');
	wait_for($node, 'many');
	$pid = wait_for_worker($node, 'runner');
	$before = private_memory($pid);
	my $insert = session('insert', q{INSERT INTO e SELECT i, '2026-01-01'::timestamptz + i * interval '100 ms' FROM generate_series(1, 2000) i},
		q{INSERT INTO calm SELECT i FROM generate_series(1, 100) i});
	my $asked = 0;
	while ($state ne 'failed' && time < $deadline)
	{
		my $now = private_memory($pid);

		$highest = $now if $now > $highest;
		if (time > $asked + 0.5)
		{
			$state = run(q{SELECT state FROM beam.pipelines WHERE name = 'many'});
			$asked = time;
		}
		usleep(2000); # sleeps: between two looks
	}
	$insert->{run}->finish;
	is($state, 'failed', 'the pipeline is failed');
	cmp_ok($highest, '>', 0, 'its memory was looked at');
	cmp_ok($highest, '<=', ($mb * 1.25 + 64) * 1024, sprintf('the runner had no more than it may: %d MB, %d before', $highest / 1024, $before / 1024));
	is(run(q{SELECT error_code FROM beam.pipelines WHERE name = 'many'}), '55000', 'with a code');
	like(run(q{SELECT error_message FROM beam.pipelines WHERE name = 'many'}), qr/windows of pipeline "many" that hold its output watermark are more than stream_beam.state_memory has room for/, 'and with what is too much');
	equal_to_batch($node, 'calm_sum', 'another pipeline goes on');
	is(pid_of($node, 'runner'), $pid, 'in the same runner');
	no_crash();
	run(q{SELECT beam.drop_pipeline('many')});
};

promise 'more_windows_than_state_memory_has_room_for_are_counted_within_that_memory' => sub {
	my ($pid, $highest) = (undef, 0);

	run(q{CREATE TABLE m (id int, ts timestamptz); ALTER TABLE m REPLICA IDENTITY FULL;});
	run('SELECT beam.create_pipeline(\'rest\', $q$' . ($many =~ s/NAME/m/r) . '$q$)');
	wait_for($node, 'rest');
	$pid = wait_for_worker($node, 'runner');
	my $insert = session('rows', q{INSERT INTO m SELECT i, '2026-01-01'::timestamptz + i * interval '100 ms' FROM generate_series(1, 40) i});
	while ($insert->{run}->pumpable || run(q{SELECT rows_in < 40 FROM beam.stat_pipelines WHERE name = 'rest'}) eq 't')
	{
		my $now = private_memory($pid);

		$highest = $now if $now > $highest;
		$insert->{run}->pump_nb if $insert->{run}->pumpable;
		usleep(20000); # sleeps: between two looks
	}
	$insert->{run}->finish;
	cmp_ok($highest, '<=', ($mb * 1.25 + 64) * 1024, sprintf('the runner had no more than it may: %d MB', $highest / 1024));
	is(run(q{SELECT cells FROM beam.stat_pipelines WHERE name = 'rest'}), 400_000, 'all cells are there');
	# old ones are found again
	run(q{UPDATE m SET id = -id WHERE id % 10 = 0; DELETE FROM m WHERE id = 5});
	wait_for($node, 'rest');
	equal_to_batch($node, 'rest', 'and right');
	is(pid_of($node, 'runner'), $pid, 'the runner is the same');
	run(q{SELECT beam.drop_pipeline('rest')});
};

# ---- scripts --------------------------------------------------------------------------------------------------------------------

promise 'script_of_test_stream_is_cancelled_and_bounded' => sub {
	my ($at, $rc, $out, $err);

	run(q{CREATE TABLE g (id int, ts timestamptz); ALTER TABLE g REPLICA IDENTITY FULL});
	run(q{SELECT beam.create_pipeline('few', $q$SELECT w.window_start, w.window_end, count(*) AS n, sum(e.id) AS s FROM g e, beam.hop(e.ts, '1 s', '1 ms') w GROUP BY 1, 2$q$)});
	run('SELECT beam.create_pipeline(\'script\', $q$' . ($many =~ s/NAME/g/r) . '$q$)');
	# it is the same few windows again and again, so that it is time that it takes, and no memory
	my $huge = q{(SELECT jsonb_agg(jsonb_build_object('rows', (SELECT jsonb_agg(jsonb_build_object('id', i, 'ts', '2026-01-01 00:00+00')) FROM generate_series(1, 100) i))) FROM generate_series(1, 1000) s)};
	run("CREATE TABLE scripts AS SELECT $huge AS huge");
	$at = time;
	($rc, $out, $err) = $node->psql('postgres', q{\set VERBOSITY verbose
		SET statement_timeout = '2s'; SELECT count(*) FROM scripts, beam.test_stream('few', huge)}, timeout => 60);
	like($err, qr/57014.*statement timeout/, 'a script that takes long is cancelled by statement_timeout');
	cmp_ok(time - $at, '<', 5, 'in time');
	$at = time;
	($rc, $out, $err) = $node->psql('postgres', q{\set VERBOSITY verbose
		SELECT count(*) FROM beam.test_stream('script', (SELECT jsonb_agg(jsonb_build_object('rows', jsonb_build_array(jsonb_build_object('id', i, 'ts', '2026-01-01'::timestamptz + i * interval '100 ms')))) FROM generate_series(1, 2000) i))}, timeout => 60);
	like($err, qr/53200.*cells of pipeline "script" need more memory than stream_beam\.state_memory/, 'one that needs too much memory is refused');
	like($err, qr/fewer rows, keys or windows/, 'and says what to do');
	cancelled(session('script', q{SELECT beam.test_stream('few', huge) FROM scripts}), 'test_stream');
	run(q{SELECT beam.drop_pipeline('few'); SELECT beam.drop_pipeline('script')});
	no_crash();
};

# ---- who waits can go -----------------------------------------------------------------------------------------------------------

# What they wait for does not come while the result is locked
promise 'whoever_waits_is_cancelled' => sub {
	run(q{CREATE TABLE w (id int PRIMARY KEY, ts timestamptz); ALTER TABLE w REPLICA IDENTITY FULL;
		SELECT beam.create_pipeline('waits', $q$SELECT t.window_start, t.window_end, count(*) AS n FROM w, beam.tumble(w.ts, '1 minute') t GROUP BY 1, 2$q$, allowed_lateness => '10000 days');
		INSERT INTO w SELECT i, '2026-01-01'::timestamptz + i * interval '1 s' FROM generate_series(1, 1000) i});
	wait_for($node, 'waits');
	for my $call ([ 'wait_for', q{CALL beam.wait_for('waits');} ], [ 'backfill', q{CALL beam.backfill('waits');} ],
		[ 'wait_for_alter', q{CALL beam.wait_for_alter('waits');} ], [ 'replay_late_events', q{CALL beam.replay_late_events('waits');} ],
		[ 'replay_dead_letters', q{CALL beam.replay_dead_letters('waits');} ])
	{
		my $lock = $node->background_psql('postgres', on_error_stop => 1);

		run(q{INSERT INTO beam.late_event (pipeline, position, event_time, window_start, window_end, op, reason, watermark, data)
			SELECT id, '0/1', '2026-01-01', '2026-01-01', '2026-01-01 00:01', 'insert', 'expired', '2026-01-02', '{}' FROM beam.pipeline WHERE name = 'waits'}) if $call->[0] eq 'replay_late_events';
		run(q{INSERT INTO beam.dead_letter (pipeline, position, op, data, sqlstate, message)
			SELECT id, '0/1', 'insert', '{"ts": "2026-01-01 00:00+00"}', '22012', 'division by zero' FROM beam.pipeline WHERE name = 'waits'}) if $call->[0] eq 'replay_dead_letters';
		$lock->query_safe('BEGIN; LOCK TABLE waits IN SHARE MODE');
		run(q{SELECT beam.resync_pipeline('waits')}) if $call->[0] eq 'wait_for_alter';
		run(q{UPDATE w SET ts = ts + interval '10 s'});
		cancelled(session($call->[0], $call->[1]), $call->[0]);
		$lock->quit;
		run(q{CALL beam.wait_for_alter('waits', '20 s')}) if $call->[0] eq 'wait_for_alter';
		equal_to_batch($node, 'waits');
	}
	# a call that waits for a lock of the catalog's row
	my $lock = $node->background_psql('postgres', on_error_stop => 1);
	$lock->query_safe(q{BEGIN; SELECT 1 FROM beam.pipeline WHERE name = 'waits' FOR UPDATE});
	cancelled(session('resync', q{SELECT beam.resync_pipeline('waits');}), 'resync_pipeline');
	$lock->quit;
	equal_to_batch($node, 'waits');
	is(run(q{SELECT count(*) FROM beam.pipeline WHERE name = 'waits' AND stage = 'building'}), 0, 'nothing is being built');
	no_crash();
};

promise 'runner_with_many_windows_is_ended' => sub {
	my ($pid, $at, $end);

	run(q{CREATE TABLE h (id int, ts timestamptz); ALTER TABLE h REPLICA IDENTITY FULL});
	# all rows in the same windows: they fit, and take long
	run('SELECT beam.create_pipeline(\'busy\', $q$' . ($many =~ s/NAME/h/r) . '$q$, allowed_lateness => \'10000 days\')');
	wait_for($node, 'busy');
	run(q{INSERT INTO h SELECT i, '2026-01-01'::timestamptz + i * interval '1 us' FROM generate_series(1, 3000) i});
	$pid = wait_for_worker($node, 'runner');
	wait_until($node, "SELECT state = 'active' AND backend_xid IS NOT NULL OR wait_event IS NULL FROM pg_stat_activity WHERE pid = $pid");
	$at = time;
	is(run("SELECT pg_terminate_backend($pid)"), 't', 'it is told to end');
	usleep(2000) while kill(0, $pid) == 1 && time < $at + 20; # sleeps: between two looks
	$end = time - $at;
	cmp_ok($end, '<', 5, sprintf('it has ended, after %.1f s', $end));
	is(run(q{SELECT rows_in FROM beam.stat_pipelines WHERE name = 'busy'}), 0, 'in the middle of its work');
	run(q{SELECT beam.drop_pipeline('busy')});
	equal_to_batch($node, 'calm_sum', 'another one goes on');
	no_crash();
};

# ---- many pipelines -------------------------------------------------------------------------------------------------------------

# More rows of the catalog than one look at it brings
promise 'pipelines_among_hundreds_are_altered_and_made_anew' => sub {
	my $many = 250;

	run(qq{CREATE TABLE t (k int, v int); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t SELECT i % 5, i FROM generate_series(1, 100) i;
		DO \$\$BEGIN FOR i IN 1..$many LOOP PERFORM beam.create_pipeline('w' || i, 'SELECT k, sum(v) AS s, count(*) AS n FROM t GROUP BY k'); END LOOP; END\$\$});
	$node->safe_psql('postgres', "CALL beam.wait_for('w$many')", timeout => 60);
	# each in a new session, which has no catalog in its caches yet
	run(qq{SELECT beam.resync_pipeline('w1')});
	run(qq{SELECT beam.alter_pipeline('w$many', 'SELECT k, sum(v) AS s, count(*) AS n, max(v) AS m FROM t GROUP BY k')});
	run(q{SELECT beam.resync_pipeline('w125')});
	run(q{INSERT INTO t SELECT i % 7, i FROM generate_series(1, 100) i; DELETE FROM t WHERE v = 3});
	run("CALL beam.wait_for_alter('$_', '30 s')") for ('w1', 'w125', "w$many");
	equal_to_batch($node, $_) for ('w1', 'w2', 'w125', "w$many");
	run("SELECT beam.rollback_pipeline('w$many')");
	run("CALL beam.wait_for_alter('w$many', '30 s')");
	equal_to_batch($node, "w$many", 'rolled back');
	is(run("SELECT count(*) FROM pg_attribute WHERE attrelid = 'w$many'::regclass AND attname = 'm' AND NOT attisdropped"), 0, 'the column is gone again');
	is(run("SELECT count(*) FROM beam.pipelines WHERE state = 'running' AND name ~ '^w[0-9]'"), $many, 'all are running');
	no_crash();
};

$node->stop('immediate');
done_testing();
