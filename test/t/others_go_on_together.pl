# What one role's pipelines do together, or one of them again and again, holds up another role's for little longer than one of them once.
use strict;
use warnings;
use Test::More;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time);
use SbTest;

my $LIMIT = 1.5; # stream_beam.pipeline_timeout, in seconds
my $LOCK = 0.6; # stream_beam.lock_timeout
my $MOST = 6; # what a limit may become for the others, on a busy machine: three times as much as it is by itself
my $MANY = 16;

my $node = new_node('others_go_on_together', conf => qq{
stream_beam.bundle_time = '20ms'
stream_beam.pipeline_timeout = '1500ms'
stream_beam.lock_timeout = '600ms'
});

sub run { return $node->safe_psql('postgres', $_[0], timeout => 100) }
sub mallory { return $node->safe_psql('postgres', "SET ROLE mallory; $_[0]", timeout => 100) }
sub slurp_log { return slurp_file($node->logfile, $_[0] // 0) }

run(q{CREATE ROLE mallory LOGIN; GRANT CREATE ON SCHEMA public TO mallory; GRANT EXECUTE ON FUNCTION beam.create_pipeline TO mallory;
	CREATE TABLE calm (id int, k int); ALTER TABLE calm REPLICA IDENTITY FULL; SELECT beam.create_pipeline('calm_sum', 'SELECT k, count(*) AS n, sum(id) AS s FROM calm GROUP BY k');
	GRANT SELECT ON calm_sum TO mallory; SET ROLE mallory;
	CREATE TABLE hold (on_ boolean); INSERT INTO hold VALUES (true);
	CREATE FUNCTION held_now() RETURNS boolean LANGUAGE sql VOLATILE AS 'SELECT on_ FROM hold';
	CREATE FUNCTION naps_now() RETURNS void LANGUAGE plpgsql VOLATILE AS 'BEGIN WHILE held_now() LOOP PERFORM pg_sleep(0.01); END LOOP; END'; -- # sleeps: as long as it is told
	CREATE FUNCTION naps(k int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN IF k = 13 THEN PERFORM naps_now(); END IF; RETURN k; END';
	CREATE FUNCTION stubborn(k int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN IF k = 13 THEN
		LOOP BEGIN PERFORM naps_now(); RETURN k; EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END IF; RETURN k; END';
	CREATE FUNCTION dozes_now(s float8) RETURNS void LANGUAGE plpgsql VOLATILE AS 'BEGIN IF held_now() THEN PERFORM pg_sleep(s); END IF; END'; -- # sleeps: for less than the limit
	CREATE FUNCTION dozes(k int, s float8, raises boolean) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN IF k = 13 THEN PERFORM dozes_now(s); IF raises THEN RAISE 'as told'; END IF; END IF; RETURN k; END$$});

# How long the others wait, in seconds, so many times
sub waits
{
	my ($times) = @_;

	return map {
		my $at = time;

		run(q{INSERT INTO calm SELECT i, i % 3 FROM generate_series(1, 10) i; CALL beam.wait_for('calm_sum', '90 s')});
		time - $at } 1 .. $times;
}

# A test
sub others_go_on
{
	my ($what) = @_;
	my $most = (sort { $a <=> $b } waits(3))[-1];

	cmp_ok($most, '<', $MOST, sprintf('the others go on: %.2f s at most %s', $most, $what // ''));
	is(run(q{SELECT state FROM beam.pipelines WHERE name = 'calm_sum'}), 'running');
	equal_to_batch($node, 'calm_sum');
}

# A source e_NAME of mallory's, and so many pipelines p_NAME_i over it
sub setup
{
	my ($name, $n, $query) = @_;

	mallory("CREATE TABLE e_$name (id int, k int, v int); ALTER TABLE e_$name REPLICA IDENTITY FULL; "
		. join('; ', map { "SELECT beam.create_pipeline('p_${name}_$_', '" . ($query =~ s/SOURCE/e_$name/r) . "')" } 1 .. $n));
	mallory("INSERT INTO e_$name VALUES (1, 1, 1)");
	wait_for($node, "p_${name}_$_") for 1 .. $n;
}

sub drop
{
	my ($name, $n) = @_;

	mallory("UPDATE hold SET on_ = true; " . join('; ', map { "SELECT beam.drop_pipeline('p_${name}_$_')" } 1 .. $n));
}

promise 'many_that_sleep_are_as_one_that_does' => sub {
	setup('naps', $MANY, 'SELECT naps(k) AS k, count(*) AS n FROM SOURCE GROUP BY 1');
	mallory('INSERT INTO e_naps VALUES (2, 13, 1), (3, 3, 1)');
	others_go_on();
	wait_until($node, "SELECT count(*) = $MANY FROM beam.pipelines WHERE name LIKE 'p_naps_%' AND state = 'retrying'");
	others_go_on('while they are tried again');
	mallory('UPDATE hold SET on_ = false');
	equal_to_batch($node, "p_naps_$_") for 1, $MANY;
	drop('naps', $MANY);
};

promise 'many_whose_results_are_locked_are_as_one_that_is' => sub {
	my $session = $node->background_psql('postgres', on_error_stop => 1);

	setup('locked', $MANY, 'SELECT k, count(*) AS n FROM SOURCE GROUP BY 1');
	$session->query_safe('BEGIN; ' . join(' ', map { "SELECT * FROM p_locked_$_ FOR UPDATE;" } 1 .. $MANY));
	mallory('INSERT INTO e_locked VALUES (2, 1, 1)');
	others_go_on();
	others_go_on('while they are tried again');
	$session->query_safe('ROLLBACK');
	$session->quit;
	equal_to_batch($node, "p_locked_$_") for 1, $MANY;
	drop('locked', $MANY);
};

promise 'many_whose_source_is_locked_are_as_one_that_is' => sub {
	my $session = $node->background_psql('postgres', on_error_stop => 1);

	setup('source', 2 * $MANY, 'SELECT k, count(*) AS n FROM SOURCE GROUP BY 1');
	$session->query_safe('BEGIN; LOCK TABLE e_source');
	for my $round (1 .. 3)
	{
		# all are looked at
		run(q{SELECT beam.create_pipeline('again', 'SELECT count(*) AS n FROM calm'); SELECT beam.drop_pipeline('again')});
		my $most = (sort { $a <=> $b } waits(2))[-1];

		cmp_ok($most, '<', 4, sprintf('the others go on: %.2f s', $most));
	}
	$session->query_safe('ROLLBACK');
	$session->quit;
	drop('source', 2 * $MANY);
};

promise 'rows_that_take_long_each_and_fail_have_one_limit_together' => sub {
	setup('fails', 1, "SELECT dozes(k, 1, true) AS k, count(*) AS n FROM SOURCE GROUP BY 1");
	mallory('INSERT INTO e_fails SELECT i, 13, 1 FROM generate_series(1, 8) i; INSERT INTO e_fails VALUES (9, 3, 1)');
	others_go_on();
	wait_until($node, q{SELECT count(*) = 8 FROM beam.dead_letters WHERE pipeline = 'p_fails_1'});
	wait_for($node, 'p_fails_1');
	is(run('SELECT string_agg(k || \':\' || n, \',\' ORDER BY k) FROM p_fails_1'), '1:1,3:1', 'beside the others each has the time that it takes');
	drop('fails', 1);
};

promise 'rows_that_take_long_each_of_one_transaction_have_one_limit_together' => sub {
	setup('chunks', 1, "SELECT dozes(k, 1, false) AS k, count(*) AS n FROM SOURCE GROUP BY 1");
	mallory('INSERT INTO e_chunks SELECT i, CASE WHEN i % 10000 = 0 THEN 13 ELSE i % 7 END, 1 FROM generate_series(1, 120000) i');
	others_go_on();
	equal_to_batch($node, 'p_chunks_1');
	drop('chunks', 1);
};

promise 'one_that_takes_long_again_and_again_goes_on_beside_the_others' => sub {
	my $offset = -s $node->logfile;
	my @waits;
	my $all = 0;

	setup('again', 1, "SELECT dozes(k, 0.5, false) AS k, count(*) AS n FROM SOURCE GROUP BY 1");
	for my $i (1 .. 30)
	{
		mallory("INSERT INTO e_again VALUES ($i, 13, 1)");
		push @waits, waits(1);
	}
	like(slurp_log($offset), qr/LOG:  pipeline "p_again_1" has kept the others waiting, and goes on beside them/, 'the log says so');
	$all += $_ for @waits[10 .. 29];
	cmp_ok($all, '<', 6, sprintf('the others have waited for a small part of its time: %.2f of 10 s', $all));
	mallory('UPDATE hold SET on_ = false');
	equal_to_batch($node, 'p_again_1', 'it is right');
	drop('again', 1);
};

promise 'several_that_catch_the_cancellation_end_the_runner_once_each' => sub {
	my $offset = -s $node->logfile;
	my $log;

	setup('stubborn', 3, 'SELECT stubborn(k) AS k, count(*) AS n FROM SOURCE GROUP BY 1');
	mallory('INSERT INTO e_stubborn VALUES (2, 13, 1)');
	my ($wait) = waits(1);
	state_is($node, "p_stubborn_$_", 'failed', qr/^it took longer than stream_beam.pipeline_timeout, and could not be cancelled/) for 1 .. 3;
	$log = slurp_log($offset);
	is(scalar(() = $log =~ /terminating background worker "stream_beam runner/g), 3, 'one end of the runner for each');
	cmp_ok($wait, '<', 3 * ($LIMIT + 3) + 12, sprintf('the others have waited for that: %.2f s', $wait));
	others_go_on('and then no more');
	drop('stubborn', 3);
};

promise 'constraints_that_a_function_sets_deferred_are_its_pipelines_trouble' => sub {
	mallory(q{CREATE FUNCTION defers_now() RETURNS void LANGUAGE plpgsql VOLATILE AS $$BEGIN IF held_now() THEN EXECUTE 'SET CONSTRAINTS ALL DEFERRED'; END IF; END$$;
		CREATE FUNCTION defers(k int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN IF k = 13 THEN PERFORM defers_now(); END IF; RETURN k; END$$});
	setup('defers', 1, 'SELECT defers(k) AS k, count(*) AS n FROM SOURCE GROUP BY 1');
	# it comes after that one in a bundle
	run(q{CREATE TABLE keys (k int PRIMARY KEY); INSERT INTO keys SELECT generate_series(0, 2); SELECT beam.create_pipeline('calm_keys', 'SELECT k, count(*) AS n FROM calm GROUP BY k');
		CALL beam.wait_for('calm_keys'); ALTER TABLE calm_keys ADD FOREIGN KEY (k) REFERENCES keys DEFERRABLE});
	run('BEGIN; INSERT INTO e_defers VALUES (2, 13, 1); INSERT INTO calm VALUES (1, 1); COMMIT');
	others_go_on();
	equal_to_batch($node, 'calm_keys');
	state_is($node, 'p_defers_1', 'failed', qr/^cannot execute SET CONSTRAINTS within a pipeline/);
	mallory(q{UPDATE hold SET on_ = false; SELECT beam.resume_pipeline('p_defers_1')});
	equal_to_batch($node, 'p_defers_1');
	drop('defers', 1);
};

promise 'readers_that_somebody_makes_of_a_result_are_no_trouble_of_its_pipeline' => sub {
	my $session = $node->background_psql('postgres', on_error_stop => 1);
	my $runner = pid_of($node, 'runner');

	$session->query_safe(q{SET ROLE mallory; BEGIN; SELECT beam.create_pipeline('reads', 'SELECT count(*) AS n, sum(s) AS s FROM calm_sum')});
	others_go_on('while one is being made');
	is(run('SELECT count(*) FROM beam.retry'), 0, 'nobody is put aside');
	$session->query_safe('COMMIT');
	equal_to_batch($node, 'reads', 'it has all');
	$session->query_safe(q{BEGIN; SELECT beam.alter_pipeline('reads', allowed_lateness => '1 s')});
	others_go_on('while one is being altered');
	is(run('SELECT count(*) FROM beam.retry'), 0, 'nobody is put aside');
	$session->query_safe(q{COMMIT; CALL beam.wait_for_alter('reads')});
	equal_to_batch($node, 'reads', 'it has all');
	$session->query_safe(q{SELECT beam.drop_pipeline('reads')});
	for my $i (1 .. 20)
	{
		$session->query_safe(qq{SELECT beam.create_pipeline('reads_$i', 'SELECT count(*) AS n, sum(s) AS s FROM calm_sum')});
		waits(1);
		$session->query_safe(qq{SELECT beam.drop_pipeline('reads_$i')});
	}
	others_go_on('after many were made and dropped');
	is(pid_of($node, 'runner'), $runner, 'no worker has ended');
	$session->quit;
};

promise 'reader_that_is_dropped_in_a_transaction_that_stays_open_ends_no_worker' => sub {
	my $session = $node->background_psql('postgres', on_error_stop => 1);
	my $runner = pid_of($node, 'runner');

	run(q{CREATE TABLE base (id int, k int); ALTER TABLE base REPLICA IDENTITY FULL; SELECT beam.create_pipeline('base_sum', 'SELECT k, count(*) AS n FROM base GROUP BY k'); GRANT SELECT ON base_sum TO mallory});
	mallory(q{SELECT beam.create_pipeline('reads', 'SELECT count(*) AS keys, sum(n) AS n FROM base_sum')});
	run('INSERT INTO base SELECT i, i % 3 FROM generate_series(1, 10) i');
	wait_for($node, 'reads');
	for my $end (qw(ROLLBACK COMMIT))
	{
		$session->query_safe(q{SET ROLE mallory; BEGIN; SELECT beam.drop_pipeline('reads')});
		run('INSERT INTO base SELECT i, i % 3 FROM generate_series(1, 10) i');
		others_go_on('while what it reads has rows for it');
		equal_to_batch($node, 'base_sum', 'and so does what it reads');
		run(q{SELECT beam.create_pipeline('again', 'SELECT count(*) AS n FROM calm'); SELECT beam.drop_pipeline('again')});
		others_go_on('after all were looked at');
		$session->query_safe($end);
		equal_to_batch($node, 'base_sum');
		equal_to_batch($node, 'reads') if $end eq 'ROLLBACK';
	}
	is(pid_of($node, 'runner'), $runner, 'no worker has ended');
	$session->quit;
	wait_until($node, q{SELECT count(*) = 0 FROM pg_class WHERE relname LIKE 'queue\_%' AND relkind = 'r'});
	run(q{SELECT beam.drop_pipeline('base_sum')});
};

$node->stop;
done_testing();
