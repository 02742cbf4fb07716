# SbTest.pm: what the tests of crashes, restarts and life cycles share.
#
#   use SbTest;
#   my $node = new_node('main');                      # preloaded, wal_level logical, started, with the extension in postgres
#   $node->safe_psql('postgres', "SELECT beam.create_pipeline(...)");
#   wait_for($node, 'revenue');                       # all that is committed now is in the result
#   equal_to_batch($node, 'revenue', 'nothing is lost');   # a test: the result is the batch answer
#   my $pid = pid_of($node, 'runner');
#   kill9($node, 'runner');                           # and returns when another one has taken its place
#
# Functions that take a database take it last, default postgres. Waiting means polling for a condition, never letting time pass.
package SbTest;

use strict;
use warnings;
use Exporter 'import';
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use IPC::Run ();

our @EXPORT = qw(new_node create_extension wait_until wait_for equal_to_batch pid_of wait_for_worker wait_for_no_worker kill9 kill_at
  crash_and_start differences promise make_source tumble create_pipeline refuses state_is slot_count has_icu start_load finish_load);

# new_node(NAME, conf => "lines of postgresql.conf", preload => 0, extension => 0, start => 0)
sub new_node
{
	my ($name, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);

	$node->init(allows_streaming => 'logical', extra => [ '--locale=C', '--encoding=UTF8' ]);
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'stream_beam'") if $options{preload} // 1;
	# Over the harness's own: room for the workers and connections of several databases. It switches a restart after a crash off, which
	# for us would turn a killed worker into a stopped server.
	$node->append_conf(
		'postgresql.conf', q{
max_connections = 40
max_worker_processes = 40
max_replication_slots = 20
shared_buffers = 16MB
timezone = 'UTC'
restart_after_crash = on
include_if_exists = 'kill_at.conf'
});
	$node->append_conf('postgresql.conf', $options{conf}) if defined $options{conf};
	return $node unless $options{start} // 1;
	$node->start;
	create_extension($node) if ($options{preload} // 1) && ($options{extension} // 1);
	return $node;
}

sub create_extension
{
	my ($node, $db) = @_;

	$node->safe_psql($db // 'postgres', 'CREATE EXTENSION stream_beam');
}

# Polls until the query's output is what is expected ('t' where nothing is said); the test file dies where that does not happen.
sub wait_until
{
	my ($node, $sql, $expected, $db) = @_;
	my $true;

	# a server that is coming back from a crash may hang up on psql before it has taken its input
	until (eval { $true = $node->poll_query_until($db // 'postgres', $sql, $expected // 't'); 1 })
	{
		die $@ unless $@ =~ /Broken pipe/;
	}
	die "this never became true: $sql" unless $true;
}

# Until all that is committed now is in the pipeline's result
sub wait_for
{
	my ($node, $pipeline, $db) = @_;

	$node->safe_psql($db // 'postgres', "CALL beam.wait_for('$pipeline')", timeout => $PostgreSQL::Test::Utils::timeout_default);
}

# The rows in which a result and its batch view differ, '+' for those only the result has: an empty string means equal
sub differences
{
	my ($node, $pipeline, $db) = @_;

	return $node->safe_psql(
		$db // 'postgres', qq{
		(SELECT '+' AS side, x::text FROM (TABLE $pipeline EXCEPT ALL TABLE ${pipeline}_batch) x)
		UNION ALL
		(SELECT '-', x::text FROM (TABLE ${pipeline}_batch EXCEPT ALL TABLE $pipeline) x)
		ORDER BY 1, 2 LIMIT 20});
}

# One test: once everything committed is in, the result is the batch answer. Says how many rows, since empty equals empty too.
sub equal_to_batch
{
	my ($node, $pipeline, $name, $db) = @_;
	my $rows;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_for($node, $pipeline, $db);
	$rows = $node->safe_psql($db // 'postgres', "SELECT count(*) FROM $pipeline");
	return is(differences($node, $pipeline, $db), '', ($name // "$pipeline equals its batch view") . " ($rows rows)");
}

# The process id of a database's reader or runner, or of the server's launcher; undef while there is none
sub pid_of
{
	my ($node, $kind, $db) = @_;
	my $pid = $node->safe_psql('postgres', _workers('min(pid)', $kind, $db));

	return $pid eq '' ? undef : $pid;
}

sub wait_for_worker
{
	my ($node, $kind, $db) = @_;

	wait_until($node, _workers('count(*) > 0', $kind, $db));
	return pid_of($node, $kind, $db);
}

sub wait_for_no_worker
{
	my ($node, $kind, $db) = @_;

	wait_until($node, _workers('count(*) = 0', $kind, $db));
}

sub _workers
{
	my ($what, $kind, $db) = @_;
	my $where = "backend_type = 'stream_beam $kind'";

	$db //= 'postgres';
	$where .= " AND datname = '$db'" unless $kind eq 'launcher';
	return "SELECT $what FROM pg_stat_activity WHERE $where";
}

# Kills a worker. The postmaster takes this for a crash and restarts all its children; returns the new worker's pid once it is there.
sub kill9
{
	my ($node, $kind, $db) = @_;
	my $pid = wait_for_worker($node, $kind, $db);

	kill('KILL', $pid) or die "could not kill the $kind, process $pid: $!";
	wait_until($node, _workers("count(*) FILTER (WHERE pid <> $pid) > 0 AND count(*) FILTER (WHERE pid = $pid) = 0", $kind, $db));
	return pid_of($node, $kind, $db);
}

# One process kills itself at this point (src/sb_kill_point.h), if it comes there; undef: none does. With `every` each does, time and again.
sub kill_at
{
	my ($node, $point, %how) = @_;
	my $file = $node->data_dir . '/kill_at.conf';

	unlink $file;
	# not before the next point: who has not read yet that there is none would kill itself once more
	unlink $node->data_dir . '/stream_beam.killed' if defined $point;
	append_to_file($file, sprintf("stream_beam.kill_at = '%s%s'\n", $how{every} ? '' : 'once ', $point)) if defined $point;
	# the server may be starting
	$node->reload;
}

# promise(NAME, sub { ... }): the tests of one promise. What dies in it fails it, and the next one has its turn.
sub promise
{
	my ($name, $code) = @_;

	# ONLY=regular expression in the environment: these of a file
	return if defined $ENV{ONLY} && $name !~ /$ENV{ONLY}/;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return subtest $name => sub {
		eval { $code->(); 1 } or fail("came to its end: $@");
		done_testing();
	};
}

# A table for events
sub make_source
{
	my ($node, $name, $db) = @_;

	$node->safe_psql($db // 'postgres', "CREATE TABLE $name (id int, ts timestamptz, k int, v text); ALTER TABLE $name REPLICA IDENTITY FULL");
}

# A query over such a table that is right for whatever comes in
sub tumble
{
	my ($source) = @_;

	return qq{SELECT w.window_start, w.window_end, e.k, count(*) AS n, sum(e.id) AS s
		FROM $source e, beam.tumble(e.ts, '1 minute') w GROUP BY 1, 2, 3};
}

# create_pipeline(NODE, NAME, QUERY, ARGUMENTS, DB): rows are never late where the arguments do not say so
sub create_pipeline
{
	my ($node, $name, $query, $arguments, $db) = @_;

	$arguments //= q{allowed_lateness => '10000 days'};
	$node->safe_psql($db // 'postgres', "SELECT beam.create_pipeline('$name', \$q\$$query\$q\$, $arguments)");
}

# A test: the command fails with this message
sub refuses
{
	my ($node, $sql, $message, $name, $db) = @_;
	my ($rc, $out, $err) = $node->psql($db // 'postgres', $sql);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	isnt($rc, 0, "$name: refused");
	return like($err, $message, $name);
}

# A test: the pipeline comes to this state, and its error is this
sub state_is
{
	my ($node, $pipeline, $state, $message, $db) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_until($node, "SELECT state FROM beam.pipelines WHERE name = '$pipeline'", $state, $db);
	return like($node->safe_psql($db // 'postgres', "SELECT error_message FROM beam.pipelines WHERE name = '$pipeline'"),
		$message // qr/^$/, "$pipeline is $state");
}

sub slot_count
{
	my ($node) = @_;

	return $node->safe_psql('postgres', "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'stream\\_beam\\_%'");
}

# PostgreSQL can be built without ICU: no collation is nondeterministic then
sub has_icu
{
	my ($node) = @_;

	return $node->safe_psql('postgres', q{SELECT EXISTS (SELECT FROM pg_collation WHERE collname = 'und-x-icu')}) eq 't';
}

# start_load(NODE, SQL, DB, options of pgbench...): clients that run a script until finish_load; errors of theirs are not ours
sub start_load
{
	my ($node, $sql, $db, @options) = @_;
	my ($out, $err) = ('', '');
	my $file = $PostgreSQL::Test::Utils::tmp_check . '/load.sql';

	@options = qw(-c 2 -T 600 -R 300) unless @options;
	unlink $file;
	append_to_file($file, $sql);
	return IPC::Run::start(
		[ 'pgbench', '-n', '-f', $file, '-h', $node->host, '-p', $node->port, @options, $db // 'postgres' ],
		'<', \undef, '>', \$out, '2>', \$err);
}

sub finish_load
{
	my ($load, $kill) = @_;

	$load->signal('TERM') if $kill // 1;
	eval { $load->finish };
}

# The server dies where it stands, and comes back
sub crash_and_start
{
	my ($node) = @_;

	$node->stop('immediate');
	$node->start;
}

1;
