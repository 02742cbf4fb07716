# Whatever is done to pipelines at the same time, by commands, by DDL and by the bundles: no deadlock is reported to anybody, nothing hangs, and
# the results are right afterwards. Several sessions do one random thing after the other to the same few trees of pipelines.
#
# SB_SEED in the environment has the same things done again; SB_SECONDS says how long.
use strict;
use warnings;
use Test::More;
use PostgreSQL::Test::Utils;
use POSIX ();
use Time::HiRes qw(time);
use SbTest;

my $seconds = $ENV{SB_SECONDS} // ($ENV{SB_FULL} ? 1800 : 60);
my $seed = $ENV{SB_SEED} // int(time) % 1_000_000;
my $sessions = 6;
my $batch = 25;    # statements of one connection
my $node = new_node('deadlocks', conf => "stream_beam.bundle_time = '5ms'\nlog_lock_waits = off\nstream_beam.max_retries = 100000\n");
my $work = $PostgreSQL::Test::Utils::tmp_check;

# name => [what it reads, queries that it is altered between]
my %pipelines = (
	a => [ 's1', 'SELECT k, count(*) AS n, sum(v) AS s FROM s1 GROUP BY k', 'SELECT k, count(*) AS n, sum(v) AS s, max(v) AS m FROM s1 GROUP BY k' ],
	a1 => [ 'a', 'SELECT k % 3 AS k, sum(n) AS n FROM a GROUP BY 1', 'SELECT k % 3 AS k, sum(n) AS n, count(*) AS keys FROM a GROUP BY 1' ],
	a2 => [ 'a', 'SELECT count(*) AS keys, sum(s) AS s FROM a' ],
	a11 => [ 'a1', 'SELECT sum(n) AS n FROM a1', 'SELECT sum(n) AS n, count(*) AS groups FROM a1' ],
	b => [ 's2', q{SELECT k, w.window_start, w.window_end, count(*) AS n, sum(v) AS s FROM s2, beam.tumble(at, '1 hour') w GROUP BY 1, 2, 3} ],
	b1 => [ 'b', 'SELECT k, sum(n) AS n FROM b GROUP BY k', 'SELECT k, sum(n) AS n, count(*) AS hours FROM b GROUP BY k' ],
	c => [ 's3', 'SELECT k, count(*) AS n FROM s3 GROUP BY k' ],
	c1 => [ 'c', 'SELECT count(*) AS keys, sum(n) AS n FROM c' ]);
my @names = sort keys %pipelines;

my $s3 = 'CREATE TABLE s3 (id int PRIMARY KEY, k int, v int, at timestamptz); ALTER TABLE s3 REPLICA IDENTITY FULL';

sub pick { return $_[ int(rand(@_)) ] }

sub create
{
	my ($name) = @_;
	my (undef, $query) = @{ $pipelines{$name} };

	return qq{SELECT beam.create_pipeline('$name', \$q\$$query\$q\$, allowed_lateness => '10000 days')};
}

sub alter
{
	my ($name) = @_;
	my (undef, @queries) = @{ $pipelines{$name} };
	my $keep = pick('NULL', q{'1 hour'}, q{'1 hour'});

	return qq{SELECT beam.alter_pipeline('$name', \$q\$} . pick(@queries) . qq{\$q\$, keep => $keep)} if rand() < 0.6;
	return qq{SELECT beam.alter_pipeline('$name', keep => $keep)};
}

# Each is done with the name of a pipeline, and of what it reads; the first figure is how often
my @actions = (
	[ 20, sub { create($_[0]) } ],
	[ 8, sub { alter($_[0]) } ],
	[ 6, sub { "SELECT beam.rollback_pipeline('$_[0]', keep => '1 hour')" } ],
	[ 5, sub { "SELECT beam.resync_pipeline('$_[0]')" } ],
	[ 3, sub { "SELECT beam.cancel_alter('$_[0]')" } ],
	[ 5, sub { "CALL beam.backfill('$_[0]')" } ],
	[ 12, sub { "SELECT beam.drop_pipeline('$_[0]')" } ],
	[ 5, sub { "SELECT beam.pause_pipeline('$_[0]')" } ],
	[ 10, sub { "SELECT beam.resume_pipeline('$_[0]')" } ],
	[ 3, sub { "CALL beam.replay_dead_letters('$_[0]')" } ],
	[ 2, sub { "CALL beam.replay_late_events('$_[0]')" } ],
	[ 4, sub { "SELECT count(*) FROM beam.verify('$_[0]')" } ],
	[ 3, sub { "SELECT count(*) FROM beam.explain_pipeline('$_[0]')" } ],
	[ 3, sub { "CALL beam.wait_for('$_[0]', '5 s')" } ],
	[ 3, sub { "CALL beam.wait_for_alter('$_[0]', '5 s')" } ],
	[ 2, sub { "TRUNCATE $_[1]" } ],
	[ 2, sub { "TRUNCATE $_[0]" } ],
	[ 3, sub { 'ALTER TABLE ' . pick($_[0], $_[1]) . ' ' . pick('ADD COLUMN more int', 'DROP COLUMN IF EXISTS more', 'SET (autovacuum_enabled = off)', 'ADD CHECK (k IS NULL OR k IS NOT NULL)') } ],
	[ 1, sub { "ALTER TABLE $_[0] OWNER TO " . pick('alice', 'postgres') } ],
	[ 1, sub { "DROP TABLE $_[0]" } ],
	[ 1, sub { "DROP TABLE $_[0] CASCADE" } ],
	[ 1, sub { "DROP VIEW $_[0]_batch" } ],
	[ 2, sub { "BEGIN; DROP TABLE s3 CASCADE; $s3; COMMIT" } ],
	[ 3, sub { 'CREATE INDEX ON ' . pick($_[0], $_[1]) . ' (k)' } ],
	[ 3, sub { 'VACUUM FULL ' . pick($_[0], $_[1]) } ],
	[ 2, sub { "BEGIN; LOCK TABLE $_[0]; INSERT INTO s1 VALUES ((random() * 1e9)::int, 1, 1, now()) ON CONFLICT DO NOTHING; COMMIT" } ],
	[ 2, sub { "BEGIN; SELECT * FROM $_[0] FOR UPDATE; ALTER TABLE $_[0] SET (autovacuum_enabled = on); COMMIT" } ],
	[ 2, sub { 'SELECT count(*) FROM beam.pipelines p, beam.stat_pipelines s, beam.pipeline_versions' } ],
	[ 25, sub { my $t = pick(qw(s1 s2 s3)); "INSERT INTO $t SELECT (random() * 1e9)::int, i % 7, i, '2026-01-01'::timestamptz + i * interval '1 min' FROM generate_series(1, 300) i ON CONFLICT DO NOTHING" } ],
	[ 10, sub { my $t = pick(qw(s1 s2 s3)); "UPDATE $t SET k = (k + 1) % 7 WHERE id IN (SELECT id FROM $t ORDER BY id LIMIT 20 FOR UPDATE SKIP LOCKED)" } ],
	[ 6, sub { my $t = pick(qw(s1 s2 s3)); "DELETE FROM $t WHERE id IN (SELECT id FROM $t ORDER BY id LIMIT 200 FOR UPDATE SKIP LOCKED)" } ]);
my @lots = map { my ($times, $action) = @$_; ($action) x $times } @actions;

# So long no statement takes, whatever is in its way: what waits for one of these goes on
my $hangs = '60s';

sub random_statement
{
	my $name = pick(@names);

	return pick(@lots)->($name, $pipelines{$name}[0]);
}

# A session: connections, one after the other, each with some random statements; what they print is in a file
sub run_session
{
	my ($number) = @_;
	my $end = time + $seconds;
	my $out = "$work/session_$number.out";
	my $file = "$work/session_$number.sql";

	srand($seed * 100 + $number);
	while (time < $end)
	{
		unlink $file;
		append_to_file($file, join('', map { "$_;\n" } "SET statement_timeout = '$hangs'", 'SET client_min_messages = error', map { random_statement() } 1 .. $batch));
		system("psql -XqAt -a -v VERBOSITY=verbose -f '$file' '" . $node->connstr('postgres') . "' >> '$out' 2>&1");
	}
	return;
}

$node->safe_psql('postgres', q{
	CREATE ROLE alice; GRANT ALL ON SCHEMA public TO alice;
	CREATE TABLE s1 (id int PRIMARY KEY, k int, v int, at timestamptz); ALTER TABLE s1 REPLICA IDENTITY FULL;
	CREATE TABLE s2 (id int PRIMARY KEY, k int, v int, at timestamptz); ALTER TABLE s2 REPLICA IDENTITY FULL;
	GRANT ALL ON s1, s2 TO alice;
} . $s3);
$node->safe_psql('postgres', create($_)) for @names;

promise 'whatever_is_done_at_the_same_time_meets_no_deadlock_and_does_not_hang' => sub {
	my @children;
	for my $number (1 .. $sessions)
	{
		my $pid = fork // die "fork: $!";

		if ($pid == 0)
		{
			run_session($number);
			# no END blocks: they stop the server
			POSIX::_exit(0);
		}
		push @children, $pid;
	}
	waitpid($_, 0) for @children;

	my %states;
	my (@deadlocks, @hangs, @wrong);
	for my $number (1 .. $sessions)
	{
		my $statement = '';

		for (split /\n/, slurp_file("$work/session_$number.out"))
		{
			if (/(?:ERROR|FATAL|PANIC):  (\w{5}): (.*)/)
			{
				my ($state, $message) = ($1, $2);

				$states{$state}++;
				push @deadlocks, "$statement: $message" if $state eq '40P01';
				push @hangs, "$statement: $message" if $state eq '57014' && $message =~ /statement timeout/;
				# of two plain statements one may find so, as anywhere, that the other has just dropped its table
				next if $statement !~ /beam\./ && $message =~ /^cache lookup failed for relation/;
				push @wrong, "$statement: $state: $message" if $state =~ /^XX|^40001/ || $message =~ /could not open relation|cache lookup|tuple concurrently/;
			}
			elsif (!/^\S+:|^(DETAIL|HINT|CONTEXT|LOCATION|STATEMENT|QUERY|LINE)|^\s|^\d*$|^$/) { $statement = $_ }
		}
	}
	note "seed $seed, $seconds s: " . join(', ', map { "$_ $states{$_}" } sort keys %states);
	is(join("\n", @deadlocks), '', 'no deadlock was reported to anybody');
	is(join("\n", @hangs), '', 'nothing has hung')
	  or diag $node->safe_psql('postgres', 'TABLE beam.pipeline_versions; SELECT * FROM beam.command; SELECT id, name, stage, state, error_message, upstream, reason, rebuild FROM beam.pipeline ORDER BY id; TABLE beam.retry; TABLE beam.stat_pipelines');
	is(join("\n", @wrong), '', 'nothing has failed for what another session was doing');

	# What is left of the trees is made whole again
	my $log = slurp_file($node->logfile);
	my $ours = () = $log =~ /deadlock detected/g;
	note "deadlocks that a worker has met: $ours";
	unlike($log, qr/(PANIC|terminated by signal)/, 'nothing has crashed');
	$node->safe_psql('postgres', "DO \$\$ DECLARE name text; BEGIN FOREACH name IN ARRAY ARRAY['a11', 'a1', 'a2', 'a', 'b1', 'b', 'c1', 'c'] LOOP BEGIN PERFORM beam.drop_pipeline(name); EXCEPTION WHEN undefined_object THEN NULL; END; END LOOP; END \$\$");
	$node->safe_psql('postgres', "DROP TABLE IF EXISTS $_; DROP VIEW IF EXISTS ${_}_batch") for qw(a11 a1 a2 a b1 b c1 c);
	$node->safe_psql('postgres', create($_)) for @names;
	equal_to_batch($node, $_) for @names;
};

# A session with a transaction open in which this was run
sub open_with
{
	my ($sql) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);

	$session->query_safe("BEGIN; $sql");
	return $session;
}

sub end
{
	my ($session) = @_;

	$session->query_safe('COMMIT');
	$session->quit;
}

my $waiting = q{SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE };

promise 'trees_that_are_changed_in_one_transaction_readers_first_meet_no_deadlock' => sub {
	my $dropping = open_with(q{SELECT beam.drop_pipeline('a11')});
	my $altering = $node->background_psql('postgres', on_error_stop => 0);

	$altering->query_until(qr/started/, "\\echo started\nSELECT beam.resync_pipeline('a');\n");
	wait_until($node, $waiting . q{'%resync_pipeline%'});
	$dropping->query_safe(q{SELECT beam.drop_pipeline('a1')});
	$dropping->query_safe(create('a1'));
	$dropping->query_safe(create('a11'));
	end($dropping);
	$altering->quit;
	$node->safe_psql('postgres', q{CALL beam.wait_for_alter('a')});
	equal_to_batch($node, $_) for qw(a a1 a2 a11);
};

promise 'index_that_is_built_concurrently_is_not_waited_for' => sub {
	my $reading = open_with('SELECT count(*) FROM a');
	my $indexing = $node->background_psql('postgres', on_error_stop => 0);

	# it waits for a snapshot that is older than its index
	$reading->query_safe('COMMIT; BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
	$indexing->query_until(qr/started/, "\\echo started\nCREATE INDEX CONCURRENTLY built ON a (k);\n");
	wait_until($node, q{SELECT count(*) > 0 FROM pg_stat_progress_create_index WHERE relid = 'a'::regclass AND phase LIKE 'waiting%'});
	refuses($node, q{BEGIN; SELECT beam.drop_pipeline('a2'); SELECT beam.drop_pipeline('a11'); SELECT beam.drop_pipeline('a1'); SELECT beam.drop_pipeline('a')}, qr/an index is being built concurrently on table "a"/, 'a pipeline whose result is being indexed is not dropped');
	end($reading);
	$indexing->quit;
	is($node->safe_psql('postgres', q{SELECT indisvalid FROM pg_index WHERE indexrelid = 'built'::regclass}), 't', 'the index is built');
	equal_to_batch($node, 'a');
};

promise 'result_that_is_given_away_while_its_pipeline_is_changed_is_followed' => sub {
	my $pausing = open_with(q{SELECT beam.resume_pipeline('c1'); SELECT beam.pause_pipeline('c1')});

	$node->safe_psql('postgres', 'ALTER TABLE c1 OWNER TO alice');
	end($pausing);
	wait_until($node, q{SELECT owner = 'alice' FROM beam.pipelines WHERE name = 'c1'});
	$node->safe_psql('postgres', q{ALTER TABLE c1 OWNER TO postgres; SELECT beam.resume_pipeline('c1')});
	equal_to_batch($node, 'c1');
};

$node->stop;
done_testing();
