# A pipeline that takes long, waits for a lock, or fails with what may pass is put aside and tried again; the others go on meanwhile.
use strict;
use warnings;
use Test::More;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time);
use SbTest;

my $node = new_node('others_go_on', conf => "stream_beam.bundle_time = '20ms'\nstream_beam.pipeline_timeout = '500ms'\nstream_beam.lock_timeout = '300ms'\n");

sub run { return $node->safe_psql('postgres', $_[0], timeout => 60) }
sub state_of { return run("SELECT state FROM beam.pipelines WHERE name = '$_[0]'") }

run(q{CREATE TABLE calm (id int, k int); ALTER TABLE calm REPLICA IDENTITY FULL; SELECT beam.create_pipeline('calm_sum', 'SELECT k, count(*) AS n, sum(id) AS s FROM calm GROUP BY k')});

# A test: the others are not held up for longer than the limits, three times in a row
sub others_go_on
{
	my $most = 0;

	for (1 .. 3)
	{
		my $at = time;

		run(q{INSERT INTO calm SELECT i, i % 3 FROM generate_series(1, 10) i; CALL beam.wait_for('calm_sum', '10 s')});
		$most = time - $at if time - $at > $most;
	}
	cmp_ok($most, '<', 4, sprintf('the others go on: %.2f s at most', $most));
	equal_to_batch($node, 'calm_sum');
}

# A source e_NAME, and a pipeline p_NAME over it that has a row
sub setup
{
	my ($name, $query) = @_;

	run("CREATE TABLE e_$name (id int, k int, v int); ALTER TABLE e_$name REPLICA IDENTITY FULL");
	create_pipeline($node, "p_$name", ($query // 'SELECT k, count(*) AS n, sum(v) AS s FROM SOURCE GROUP BY k') =~ s/SOURCE/e_$name/r);
	run("INSERT INTO e_$name VALUES (1, 1, 1)");
	wait_for($node, "p_$name");
}

sub is_retrying
{
	my ($name, $message) = @_;

	wait_until($node, "SELECT state = 'retrying' AND error_message IS NOT NULL FROM beam.pipelines WHERE name = 'p_$name'");
	like(run("SELECT error_code || ' ' || error_message FROM beam.pipelines WHERE name = 'p_$name'"), $message, 'it is put aside, and says why');
	is(run("SELECT state FROM beam.stat_pipelines WHERE name = 'p_$name'"), 'retrying', 'in beam.stat_pipelines too');
}

# ---- time -----------------------------------------------------------------------------------------------------------------------

run(q{CREATE TABLE hold (on_ boolean); INSERT INTO hold VALUES (true);
	CREATE FUNCTION held_now() RETURNS boolean LANGUAGE sql VOLATILE AS 'SELECT on_ FROM hold';
	CREATE FUNCTION naps_now() RETURNS void LANGUAGE plpgsql VOLATILE AS 'BEGIN WHILE held_now() LOOP PERFORM pg_sleep(0.01); END LOOP; END'; -- # sleeps: as long as it is told
	CREATE FUNCTION naps(k int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN IF k = 13 THEN PERFORM naps_now(); END IF; RETURN k; END';
	CREATE FUNCTION stubborn(k int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN IF k = 13 THEN
		LOOP BEGIN PERFORM naps_now(); RETURN k; EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END IF; RETURN k; END'});

promise 'expression_that_sleeps_is_put_aside' => sub {
	run('UPDATE hold SET on_ = true');
	setup('naps', 'SELECT naps(k) AS k, count(*) AS n FROM SOURCE GROUP BY 1');
	run('INSERT INTO e_naps VALUES (2, 13, 1), (3, 3, 1)');
	is_retrying('naps', qr/^57014 canceling statement/);
	others_go_on();
	run('UPDATE hold SET on_ = false');
	equal_to_batch($node, 'p_naps', 'when it is over it goes on where it was');
	wait_until($node, q{SELECT state = 'running' AND error_message IS NULL FROM beam.pipelines WHERE name = 'p_naps'});
	is(run('SELECT count(*) FROM beam.dead_letters'), 0, 'and no row is a dead letter');
	run(q{SELECT beam.drop_pipeline('p_naps')});
};

promise 'one_that_always_sleeps_is_failed' => sub {
	run('UPDATE hold SET on_ = true; ALTER SYSTEM SET stream_beam.max_retries = 2; SELECT pg_reload_conf()');
	setup('sleeps', 'SELECT naps(k) AS k, count(*) AS n FROM SOURCE GROUP BY 1');
	run('INSERT INTO e_sleeps VALUES (2, 13, 1)');
	state_is($node, 'p_sleeps', 'failed', qr/^canceling statement/);
	others_go_on();
	run(q{UPDATE hold SET on_ = false; SELECT beam.resume_pipeline('p_sleeps')});
	equal_to_batch($node, 'p_sleeps', 'resumed');
	run(q{SELECT beam.drop_pipeline('p_sleeps'); ALTER SYSTEM RESET stream_beam.max_retries; SELECT pg_reload_conf()});
};

promise 'one_that_catches_the_cancellation_is_failed' => sub {
	run('UPDATE hold SET on_ = true');
	setup('stubborn', 'SELECT stubborn(k) AS k, count(*) AS n FROM SOURCE GROUP BY 1');
	run('INSERT INTO e_stubborn VALUES (2, 13, 1)');
	state_is($node, 'p_stubborn', 'failed', qr/^it took longer than stream_beam.pipeline_timeout, and could not be cancelled/);
	others_go_on();
	run(q{UPDATE hold SET on_ = false; SELECT beam.resume_pipeline('p_stubborn')});
	equal_to_batch($node, 'p_stubborn', 'resumed');
	run(q{SELECT beam.drop_pipeline('p_stubborn')});
};

# ---- locks ----------------------------------------------------------------------------------------------------------------------

my %locks = (
	row_of_the_result => q{SELECT * FROM p_NAME FOR UPDATE},
	result => q{LOCK TABLE p_NAME},
	share_of_the_result => q{LOCK TABLE p_NAME IN SHARE MODE},
	result_that_is_altered => q{ALTER TABLE p_NAME ADD COLUMN more int},
	result_that_is_renamed => q{ALTER TABLE p_NAME RENAME TO q_NAME},
	result_that_is_dropped => q{SELECT beam.drop_pipeline('p_NAME')},
	result_that_is_truncated => q{TRUNCATE p_NAME},
	source => q{LOCK TABLE e_NAME},
	progress => q{SELECT beam.pause_pipeline('p_NAME')});

for my $kind (sort keys %locks)
{
	promise "lock_on_the_${kind}_holds_up_no_other" => sub {
		my $session;

		setup($kind);
		run("INSERT INTO e_$kind VALUES (2, 2, 2)");
		wait_for($node, "p_$kind");
		$session = $node->background_psql('postgres', on_error_stop => 1);
		$session->query_safe('BEGIN; INSERT INTO e_' . $kind . ' VALUES (3, 1, 5); ' . ($locks{$kind} =~ s/_NAME/_$kind/gr));
		run("INSERT INTO e_$kind VALUES (4, 1, 7), (5, 2, 8)") if $kind ne 'source';
		is_retrying($kind, qr/^55P03 canceling statement due to lock timeout/) if $kind !~ /^(source|progress)$/;
		others_go_on();
		$session->query_safe('ROLLBACK');
		$session->quit;
		equal_to_batch($node, "p_$kind", 'it has all when the lock is released');
		wait_until($node, "SELECT state = 'running' AND error_message IS NULL FROM beam.pipelines WHERE name = 'p_$kind'");
		run("SELECT beam.drop_pipeline('p_$kind')");
	};
}

promise 'failing_pipeline_whose_row_is_locked_holds_up_no_other' => sub {
	my $session = $node->background_psql('postgres', on_error_stop => 1);

	setup('both', 'SELECT k, count(*) AS n, sum(1000 / v) AS s FROM SOURCE GROUP BY k HAVING count(*) < 1000');
	run(q{ALTER SYSTEM SET stream_beam.max_dead_letters = 0; SELECT pg_reload_conf()});
	$session->query_safe(q{BEGIN; SELECT beam.pause_pipeline('p_both')});
	run('INSERT INTO e_both VALUES (2, 1, 0)');
	others_go_on();
	$session->query_safe('ROLLBACK');
	$session->quit;
	state_is($node, 'p_both', 'failed', qr/more than 0 rows of a bundle fail/);
	run(q{ALTER SYSTEM RESET stream_beam.max_dead_letters; SELECT pg_reload_conf(); SELECT beam.drop_pipeline('p_both')});
};

# ---- codes ----------------------------------------------------------------------------------------------------------------------

promise 'code_that_a_function_raises_is_the_row\'s' => sub {
	my @codes = qw(40001 40P01 53100 53200 53300 55P03 57014 57P01 57P03 58030 08006 0A000 25001 28000 42883 42501 55000 XX000 XX001 P0001);

	run(q{CREATE FUNCTION raises(k int, code text) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN IF code <> '' THEN RAISE EXCEPTION USING ERRCODE = code, MESSAGE = 'as told'; END IF; RETURN k; END$$;
		CREATE TABLE e_codes (id int, k int, code text); ALTER TABLE e_codes REPLICA IDENTITY FULL; SELECT beam.create_pipeline('p_codes', 'SELECT raises(k, code) AS k, count(*) AS n FROM e_codes GROUP BY 1')});
	my $runner = wait_for_worker($node, 'runner');
	for my $code (@codes)
	{
		run("INSERT INTO e_codes VALUES (1, 1, ''), (2, 1, '$code'), (3, 1, '')");
		wait_for($node, 'p_codes');
		is(run("SELECT string_agg(sqlstate || message, ',') FROM beam.dead_letters WHERE pipeline = 'p_codes' AND sqlstate = '$code'"), "${code}as told", "$code is a dead letter");
	}
	is(run('SELECT n FROM p_codes'), 2 * @codes, 'the others are counted');
	is(state_of('p_codes'), 'running', 'it runs');
	is(pid_of($node, 'runner'), $runner, 'the runner was not disturbed');
	others_go_on();
	run(q{SELECT beam.drop_pipeline('p_codes')});
};

# 55P03 that is no RAISE: it may pass, and does not
promise 'code_that_may_pass_is_the_row\'s_after_a_few_tries' => sub {
	my $session = $node->background_psql('postgres', on_error_stop => 1);

	run(q{CREATE TABLE taken (i int); INSERT INTO taken VALUES (1);
		CREATE FUNCTION takes_now() RETURNS void LANGUAGE plpgsql VOLATILE AS $$BEGIN PERFORM FROM taken FOR UPDATE NOWAIT; END$$;
		CREATE FUNCTION takes(k int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN IF k = 13 THEN PERFORM takes_now(); END IF; RETURN k; END$$});
	setup('takes', 'SELECT takes(k) AS k, count(*) AS n FROM SOURCE GROUP BY 1');
	$session->query_safe('BEGIN; SELECT FROM taken FOR UPDATE');
	run('INSERT INTO e_takes VALUES (2, 13, 1), (3, 3, 1)');
	is_retrying('takes', qr/^55P03 could not obtain lock on row/);
	others_go_on();
	wait_until($node, q{SELECT count(*) = 1 FROM beam.dead_letters WHERE pipeline = 'p_takes' AND sqlstate = '55P03' AND data->>'k' = '13'});
	wait_for($node, 'p_takes');
	is(run('SELECT string_agg(k || \':\' || n, \',\' ORDER BY k) FROM p_takes'), '1:1,3:1', 'the others are counted');
	wait_until($node, q{SELECT state = 'running' AND error_message IS NULL FROM beam.pipelines WHERE name = 'p_takes'});
	$session->query_safe('ROLLBACK');
	$session->quit;
	run(q{SELECT beam.drop_pipeline('p_takes')});
};

# 58P01 that is no RAISE: as far as a process can tell its disk may be gone
promise 'file_that_a_function_does_not_find_is_its_pipelines_trouble' => sub {
	run(q{CREATE FUNCTION loads_now() RETURNS void LANGUAGE plpgsql VOLATILE AS $$BEGIN IF (SELECT on_ FROM hold) THEN LOAD '$libdir/plugins/none'; END IF; END$$;
		CREATE FUNCTION loads(k int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN IF k = 13 THEN PERFORM loads_now(); END IF; RETURN k; END$$; UPDATE hold SET on_ = true});
	setup('loads', 'SELECT loads(k) AS k, count(*) AS n FROM SOURCE GROUP BY 1');
	my $runner = pid_of($node, 'runner');
	run('INSERT INTO e_loads VALUES (2, 13, 1), (3, 3, 1)');
	is_retrying('loads', qr/^58P01 could not access file/);
	others_go_on();
	# more often than a row has that is at fault
	wait_until($node, q{SELECT max(tries) >= 4 FROM beam.retry});
	is(pid_of($node, 'runner'), $runner, 'no worker ends for it');
	run('UPDATE hold SET on_ = false');
	equal_to_batch($node, 'p_loads', 'no row is given up');
	is(run('SELECT count(*) FROM beam.dead_letters'), 0, 'nor a letter written');
	# ... nor one that is in the history
	run(q{UPDATE hold SET on_ = true; SELECT beam.drop_pipeline('p_loads'); INSERT INTO e_loads VALUES (4, 13, 1)});
	create_pipeline($node, 'p_loads', 'SELECT loads(k) AS k, count(*) AS n FROM e_loads GROUP BY 1');
	is_retrying('loads', qr/^58P01 could not access file/);
	others_go_on();
	is(pid_of($node, 'runner'), $runner, 'no worker ends for it');
	run('UPDATE hold SET on_ = false');
	equal_to_batch($node, 'p_loads');
	run(q{SELECT beam.drop_pipeline('p_loads')});
};

$node->stop;
done_testing();
