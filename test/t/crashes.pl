# Whatever makes a process crash, the server comes back for good: what crashes at a pipeline is blamed on it, and the third time it is failed; a change that cannot be
# decoded fails the pipelines of its table; workers that crash at nothing that somebody made are left alone. Who is only hit by another's crash is innocent.
use strict;
use warnings;
use Test::More;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time usleep);
use SbTest;

my $node = new_node('crashes', conf => "stream_beam.bundle_time = '20ms'\nmax_locks_per_transaction = 256\n");

sub run { return $node->safe_psql('postgres', $_[0], timeout => 120) }

# Once the server lets us in and has come to rest; statements that the crash of another process cuts off are tried again
sub wait_run
{
	my ($sql) = @_;

	for (1 .. 100)
	{
		my $out = eval { run($sql) };
		return $out if defined $out;
		die $@ if $@ !~ /server closed|connection|Broken pipe|recovery mode|starting up|shutting down|crash|not yet accepting/i;
		usleep(100_000); # sleeps: between two looks
	}
	die "it does not come to rest";
}

sub crashes
{
	my ($from) = @_;

	my $log = slurp_file($node->logfile, $from);
	return () = $log =~ /was terminated by signal/g;
}

# Until the state of the pipeline is what is expected, whatever crashes meanwhile
sub comes_to
{
	my ($name, $state, $seconds) = @_;
	my $until = time + ($seconds // 20);
	my $now = '';

	while ($now ne $state && time < $until) { $now = wait_run("SELECT state FROM beam.pipelines WHERE name = '$name'") }
	is($now, $state, "$name is $state");
}

# A function that ends the process that calls it for one value: with the rights of a superuser, who else could
run(q{CREATE FUNCTION crash_now() RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $$BEGIN COPY (SELECT 1) TO PROGRAM 'kill -SEGV $PPID; cat > /dev/null'; END$$;
	CREATE FUNCTION crash(k int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN IF k = 13 THEN PERFORM crash_now(); END IF; RETURN k; END$$;
	CREATE TABLE calm (id int, k int); ALTER TABLE calm REPLICA IDENTITY FULL; SELECT beam.create_pipeline('calm_sum', 'SELECT k, count(*) AS n, sum(id) AS s FROM calm GROUP BY k')});

my %where = (
	an_argument => [ 'SELECT count(*) AS n, sum(crash(k)) AS s FROM NAME', '' ],
	a_key => [ 'SELECT crash(k) AS c, count(*) AS n FROM NAME GROUP BY 1', '' ],
	a_filter => [ 'SELECT count(*) AS n FROM NAME WHERE crash(k) > 0', '' ],
	an_output => [ 'SELECT k, crash(k + count(*)::int) AS n FROM NAME GROUP BY k', '', 12 ],
	a_session => [ q{SELECT w.window_start, w.window_end, sum(crash(k)) AS s FROM NAME e, beam.session(e.ts, '1 minute') w GROUP BY 1, 2}, '' ],
	a_trigger_of_the_result => [ 'SELECT k, count(*) AS n FROM NAME GROUP BY k', q{CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM crash(NEW.k); RETURN NEW; END$$;
		CREATE TRIGGER t BEFORE INSERT ON RESULT FOR EACH ROW EXECUTE FUNCTION fires()} ]);

for my $kind (sort keys %where)
{
	promise "crash_in_${kind}_fails_its_pipeline_and_no_other" => sub {
		my ($query, $then, $value) = @{ $where{$kind} };
		my $from;

		run("CREATE TABLE e_$kind (id int, k int, ts timestamptz); ALTER TABLE e_$kind REPLICA IDENTITY FULL");
		create_pipeline($node, "c_$kind", $query =~ s/NAME/e_$kind/r);
		run("INSERT INTO e_$kind VALUES (1, 1, '2026-01-01')");
		wait_for($node, "c_$kind");
		run($then =~ s/RESULT/c_$kind/r) if $then;
		$from = -s $node->logfile;
		eval { run('BEGIN; INSERT INTO calm SELECT i, i % 3 FROM generate_series(1, 10) i; INSERT INTO e_' . $kind . ' VALUES (2, ' . ($value // 13) . ", '2026-01-01 00:01'); COMMIT") };
		comes_to("c_$kind", 'failed');
		is(crashes($from), 3, 'after three crashes');
		like(wait_run("SELECT error_message FROM beam.pipelines WHERE name = 'c_$kind'"), qr/^the workers have crashed 3 times at work on it/, 'which says so');
		like(slurp_file($node->logfile, $from), qr/pipeline "c_$kind" has failed: the workers have crashed 3 times.*Its position stays at/s, 'in the log too');
		equal_to_batch($node, 'calm_sum', 'the other goes on');
		is(wait_run("SELECT count(*) FROM beam.pipelines WHERE name <> 'c_$kind' AND state <> 'running'"), 0, 'and all others');
		is(crashes($from), 3, 'there is no further crash');
		run("SELECT beam.drop_pipeline('c_$kind'); DROP TABLE e_$kind CASCADE");
	};
}

promise 'mended_pipeline_is_rebuilt' => sub {
	run(q{CREATE FUNCTION mendable(k int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN crash(k); END';
		CREATE TABLE e_mend (id int, k int); ALTER TABLE e_mend REPLICA IDENTITY FULL; SELECT beam.create_pipeline('c_mend', 'SELECT mendable(k) AS k, count(*) AS n FROM e_mend GROUP BY 1')});
	eval { run('INSERT INTO e_mend SELECT i, i FROM generate_series(1, 20) i') };
	comes_to('c_mend', 'failed');
	run(q{CREATE OR REPLACE FUNCTION mendable(k int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT k'});
	equal_to_batch($node, 'c_mend');
	run(q{SELECT beam.drop_pipeline('c_mend')});
};

promise 'crash_at_planning_fails_its_pipeline' => sub {
	my $from;

	run(q{CREATE TABLE switch (on_ boolean); INSERT INTO switch VALUES (false);
		CREATE FUNCTION folded(k int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN IF (SELECT on_ FROM switch) THEN PERFORM crash(13); END IF; RETURN k; END';
		CREATE TABLE e_plan (id int, k int); ALTER TABLE e_plan REPLICA IDENTITY FULL; SELECT beam.create_pipeline('c_plan', 'SELECT k + folded(1) AS k, count(*) AS n FROM e_plan GROUP BY 1');
		INSERT INTO e_plan VALUES (1, 1)});
	wait_for($node, 'c_plan');
	$from = -s $node->logfile;
	run('UPDATE switch SET on_ = true');
	# it is opened anew
	run(q{SELECT beam.pause_pipeline('c_plan')});
	eval { run(q{SELECT beam.resume_pipeline('c_plan')}) };
	comes_to('c_plan', 'failed');
	is(crashes($from), 3, 'after three crashes');
	run('INSERT INTO calm VALUES (100, 1)');
	equal_to_batch($node, 'calm_sum', 'the other goes on');
	run(q{UPDATE switch SET on_ = false; SELECT beam.resume_pipeline('c_plan'); INSERT INTO e_plan VALUES (2, 2)});
	equal_to_batch($node, 'c_plan', 'mended');
	run(q{SELECT beam.drop_pipeline('c_plan')});
};

# Its rows come from the table, chunk by chunk, and not from the stream
promise 'crash_in_a_history_fails_its_pipeline' => sub {
	my $from = -s $node->logfile;

	run(q{CREATE TABLE e_old (id int PRIMARY KEY, k int); ALTER TABLE e_old REPLICA IDENTITY FULL; INSERT INTO e_old SELECT i, i FROM generate_series(1, 20) i});
	eval { run(q{SELECT beam.create_pipeline('c_old', 'SELECT crash(k) AS k, count(*) AS n FROM e_old GROUP BY 1')}) };
	comes_to('c_old', 'failed');
	is(crashes($from), 3, 'after three crashes');
	run('INSERT INTO calm VALUES (100, 1)');
	equal_to_batch($node, 'calm_sum', 'the other goes on');
	run(q{SELECT beam.drop_pipeline('c_old')});
};

promise 'backend_that_crashes_blames_nobody' => sub {
	run(q{CREATE TABLE e_slow (id int, k int); ALTER TABLE e_slow REPLICA IDENTITY FULL; CREATE TABLE hold (on_ boolean); INSERT INTO hold VALUES (true);
		CREATE FUNCTION wait_now() RETURNS void LANGUAGE plpgsql VOLATILE AS 'BEGIN WHILE (SELECT on_ FROM hold) LOOP PERFORM pg_sleep(0.01); END LOOP; END'; -- # sleeps: between two looks
		CREATE FUNCTION slow(k int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM wait_now(); RETURN k; END';
		SELECT beam.create_pipeline('c_slow', 'SELECT slow(k) AS k, count(*) AS n FROM e_slow GROUP BY 1')});
	wait_for($node, 'c_slow');
	run('INSERT INTO e_slow VALUES (1, 1)');
	for my $round (1 .. 5)
	{
		my $from = -s $node->logfile;
		my $idle = $node->background_psql('postgres');

		wait_until($node, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'stream_beam runner' AND wait_event = 'PgSleep'});
		kill('KILL', $idle->query_safe('SELECT pg_backend_pid()'));
		eval { $idle->quit };
		usleep(5000) while crashes($from) == 0; # sleeps: between two looks
		wait_run('SELECT 1');
	}
	run('UPDATE hold SET on_ = false');
	comes_to('c_slow', 'running');
	equal_to_batch($node, 'c_slow');
	run(q{SELECT beam.drop_pipeline('c_slow')});
};

# ---- the reader -----------------------------------------------------------------------------------------------------------------

for my $how ([ crash => 'decode_change(e_crash)', qr/the reader has crashed at it 3 times/ ], [ error => '!decode_change(e_error)', qr/planted at "decode_change"/ ])
{
	promise "$how->[0]_at_a_change_fails_the_pipelines_of_its_table" => sub {
		my $name = "e_$how->[0]";
		my $from = -s $node->logfile;

		run("CREATE TABLE $name (id int, k int); ALTER TABLE $name REPLICA IDENTITY FULL; SELECT beam.create_pipeline('r1_$name', 'SELECT k, count(*) AS n FROM $name GROUP BY k');
			SELECT beam.create_pipeline('r2_$name', 'SELECT max(id) AS m, count(*) AS n FROM $name'); INSERT INTO $name VALUES (1, 1); INSERT INTO calm VALUES (300, 2)");
		wait_for($node, $_) for "r1_$name", "r2_$name", 'calm_sum';
		kill_at($node, $how->[1], every => 1);
		# until the reader has heard of it
		while (slurp_file($node->logfile, $from) !~ /kills itself|planted at/) { eval { run("INSERT INTO $name VALUES (2, 2)") } }
		comes_to("r1_$name", 'failed');
		comes_to("r2_$name", 'failed');
		kill_at($node, undef);
		like(wait_run("SELECT string_agg(error_code || error_message, ' ') FROM beam.pipelines WHERE name ~ '_$name'"), qr/^55000a change of the source of pipeline "r1_$name" cannot be read from the WAL: $how->[2].*55000.*"r2_$name" cannot be read.*$how->[2]/,
			'with an error that says so');
		wait_run("INSERT INTO calm VALUES (301, 2); INSERT INTO $name VALUES (3, 3)");
		equal_to_batch($node, 'calm_sum', 'the other goes on');
		run("SELECT beam.resync_pipeline('r1_$name'); SELECT beam.resync_pipeline('r2_$name')");
		run("CALL beam.wait_for_alter('$_')") for "r1_$name", "r2_$name";
		equal_to_batch($node, $_) for "r1_$name", "r2_$name";
		run("SELECT beam.drop_pipeline('r1_$name'); SELECT beam.drop_pipeline('r2_$name'); DROP TABLE $name");
	};
}

# 2 GB of memory: the old row and the new one have half a gigabyte each
promise 'row_that_is_wider_than_a_change_may_be_fails_the_pipelines_of_its_table' => sub {
	plan skip_all => 'with --full' unless $ENV{SB_FULL};
	run(q{CREATE TABLE wide (id int, a text, b text); ALTER TABLE wide ALTER a SET STORAGE EXTERNAL, ALTER b SET STORAGE EXTERNAL; ALTER TABLE wide REPLICA IDENTITY FULL;
		SELECT beam.create_pipeline('wide_n', 'SELECT count(*) AS n, max(length(a)) AS a FROM wide')});
	run(q{INSERT INTO wide VALUES (1, repeat('x', 600000000), NULL)});
	wait_for($node, 'wide_n');
	run(q{UPDATE wide SET b = repeat('y', 600000000)});
	run('INSERT INTO calm VALUES (400, 2)');
	comes_to('wide_n', 'failed', 300);
	like(run(q{SELECT error_message FROM beam.pipelines WHERE name = 'wide_n'}), qr/cannot be read from the WAL/, 'with an error that says so');
	equal_to_batch($node, 'calm_sum', 'the others go on');
	run(q{SELECT beam.drop_pipeline('wide_n'); DROP TABLE wide});
};

# ---- what nobody has made -------------------------------------------------------------------------------------------------------

for my $role ([ runner => 'reload' ], [ reader => 'before_reset' ], [ launcher => 'launcher_turn' ])
{
	promise "$role->[0]_that_crashes_by_itself_is_left_alone" => sub {
		my $from = -s $node->logfile;

		kill_at($node, $role->[1], every => 1);
		eval { run(q{BEGIN; SELECT beam.pause_pipeline('calm_sum'); SELECT beam.resume_pipeline('calm_sum'); COMMIT}) } if $role->[0] ne 'reader';
		eval { run(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'stream_beam reader'}) } if $role->[0] eq 'reader';
		for (1 .. 600)
		{
			last if slurp_file($node->logfile, $from) =~ /has crashed 5 times/;
			wait_run('SELECT pg_sleep(0.1)'); # sleeps: between two looks
		}
		like(slurp_file($node->logfile, $from), qr/stream_beam: the (stream_beam )?$role->[0].* has crashed 5 times/, 'the log says so');
		wait_run('SELECT 1');
		is(crashes($from), 5, 'it has crashed five times');
		kill_at($node, undef);
		wait_run('INSERT INTO calm VALUES (200, 1)');
		equal_to_batch($node, 'calm_sum', 'a reload of the configuration starts it again');
		is(crashes($from), 5, 'and it stays');
	};
}

promise 'back_off_grows_over_crashes_of_the_server' => sub {
	my $from = -s $node->logfile;
	my @at;

	kill_at($node, 'before_reset', every => 1);
	eval { run(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'stream_beam reader'}) };
	while (@at < 4)
	{
		push @at, time if crashes($from) > @at;
		usleep(5000); # sleeps: between two looks
	}
	kill_at($node, undef);
	cmp_ok($at[3] - $at[2], '>', 0.9, sprintf('the fourth comes a second after the third: %.1f s', $at[3] - $at[2]));
	cmp_ok($at[2] - $at[1], '>', 0.4, sprintf('which comes half a second after the second: %.1f s', $at[2] - $at[1]));
	wait_run('INSERT INTO calm VALUES (201, 1)');
	equal_to_batch($node, 'calm_sum');
};

promise 'nothing_is_lost_where_the_file_is' => sub {
	my $file = $node->data_dir . '/stream_beam.work';

	ok(-f $file && -s $file < 1024 * 1024, 'it is a small file of the data directory');
	is((stat $file)[2] & 077, 0, 'which only the server reads');
	$node->stop;
	open(my $fh, '>', $file) or die $!;
	print $fh 'not what it was';
	close $fh;
	$node->start;
	run('INSERT INTO calm VALUES (202, 1)');
	equal_to_batch($node, 'calm_sum', 'a file that is something else is made anew');
	$node->stop;
	unlink $file;
	$node->start;
	run('INSERT INTO calm VALUES (203, 1)');
	equal_to_batch($node, 'calm_sum', 'and one that is gone');
};

$node->stop;
done_testing();
