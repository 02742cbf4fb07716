# What a machine, its administrator and other sessions do to a server: memory runs out, timeouts are set for everybody, locks cross, tables are
# altered by hand, the clock is set back. Results are late then, never wrong.
use strict;
use warnings;
use Test::More;
use PostgreSQL::Test::Utils;
use SbTest;

my $clock = "$PostgreSQL::Test::Utils::tmp_check/clock";
my $late = q{allowed_lateness => '10000 days'};
my $node = new_node('adversity', start => 0, conf => "stream_beam.bundle_time = '50ms'\n");

# ---- a clock that can be set ----

# The server's wall clock is the machine's plus what a file says, in seconds; the monotonic clock stays
my $shim = q{
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long *offset;

static long long
shift(void)
{
	return offset ? *offset : 0;
}

__attribute__((constructor)) static void
attach(void)
{
	const char *path = getenv("SB_CLOCK");
	int fd = path ? open(path, O_RDONLY) : -1;
	void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(long long), PROT_READ, MAP_SHARED, fd, 0);

	if (at != MAP_FAILED)
		offset = at;
	if (fd >= 0)
		close(fd);
}

int
clock_gettime(clockid_t id, struct timespec *ts)
{
	static int (*real)(clockid_t, struct timespec *);
	int rc;

	if (!real)
		real = (int (*)(clockid_t, struct timespec *)) dlsym(RTLD_NEXT, "clock_gettime");
	rc = real(id, ts);
	if (id == CLOCK_REALTIME)
		ts->tv_sec += shift();
	return rc;
}

int
gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	struct timespec ts;

	(void) tz;
	if (clock_gettime(CLOCK_REALTIME, &ts) != 0)
		return -1;
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *out)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	if (out)
		*out = ts.tv_sec;
	return ts.tv_sec;
}
};

sub set_clock
{
	my ($seconds) = @_;

	my $file;

	# in place: the servers have it mapped
	open($file, -e $clock ? '+<' : '>', $clock) or die "$clock: $!";
	syswrite($file, pack('q', $seconds)) or die "$clock: $!";
	close $file;
}

append_to_file("$clock.c", $shim);
set_clock(0);
system('cc', '-O1', '-shared', '-fPIC', '-o', "$clock.so", "$clock.c", '-ldl') == 0 or die 'the clock does not compile';
{
	local $ENV{LD_PRELOAD} = "$clock.so";
	local $ENV{SB_CLOCK} = $clock;
	$node->start;
}
create_extension($node);

sub run { return $node->safe_psql('postgres', $_[0]) }

sub load
{
	my ($table, $from, $to) = @_;

	run("INSERT INTO $table SELECT i, '2026-01-01'::timestamptz + i % 600 * interval '1 s', i % 7, md5(i::text) FROM generate_series($from, $to) i");
}

sub all_run
{
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(run(q{SELECT string_agg(name || ': ' || error_message, ', ') FROM beam.pipelines WHERE state <> 'running'}), '', 'all run');
}

# Restarts of a worker are spaced out more and more; a bundle that works ends that
sub new_worker
{
	my ($kind, $pid) = @_;

	wait_until($node, "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'stream_beam $kind' AND pid <> $pid");
}

promise 'clock_set_back_loses_nothing_and_stops_nothing' => sub {
	make_source($node, 'clk');
	create_pipeline($node, 'c_plain', tumble('clk'), $late);
	create_pipeline($node, 'c_delay', q{SELECT e.k, count(*) AS n FROM clk e GROUP BY e.k}, q{trigger => $$repeatedly(after_processing_time('50 ms'))$$});
	create_pipeline($node, 'c_idle', tumble('clk') =~ s/1 minute/1 second/r, q{allowed_lateness => '10000 days', watermark => '0', idle_timeout => '100 ms', trigger => 'default_trigger()'});
	my $from = 0;

	for my $seconds (0, -86400, 86400, -3600, 0)
	{
		set_clock($seconds);
		for my $kind (qw(runner reader))
		{
			load('clk', $from + 1, $from + 200);
			$from += 200;
			equal_to_batch($node, 'c_plain', "clock at $seconds");
			my $pid = wait_for_worker($node, $kind);
			run("SELECT pg_terminate_backend($pid)");
			new_worker($kind, $pid);
			load('clk', $from + 1, $from + 200);
			$from += 200;
			equal_to_batch($node, 'c_plain', "clock at $seconds, with a new $kind");
		}
		# set back while it waits
		load('clk', $from + 1, $from + 200);
		$from += 200;
		set_clock($seconds - 7200);
		wait_until($node, q{SELECT (SELECT sum(n) FROM c_delay) = (SELECT count(*) FROM clk)});
		wait_until($node, q{SELECT NOT EXISTS (TABLE c_idle EXCEPT ALL TABLE c_idle_batch) AND NOT EXISTS (TABLE c_idle_batch EXCEPT ALL TABLE c_idle)});
		pass("panes that the clock fires, set back from $seconds");
	}
	set_clock(0);
	all_run();
};

promise 'timeouts_for_everybody_do_not_reach_the_workers' => sub {
	my @settings = map { "$_ = '1ms'" } qw(statement_timeout idle_in_transaction_session_timeout idle_session_timeout);
	my $user = run('SELECT current_user');

	make_source($node, 'tmo');
	create_pipeline($node, 't_plain', tumble('tmo'), $late);
	create_pipeline($node, 't_slow', 'SELECT e.k, string_agg(e.v, $$,$$ ORDER BY e.v, e.id) AS v FROM tmo e GROUP BY e.k', $late);
	for my $where ("ALTER ROLE $user", 'ALTER DATABASE postgres')
	{
		local $ENV{PGOPTIONS} = '-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0';
		run("$where SET $_") for @settings;
		$node->restart;
		load('tmo', 1, 20000);
		equal_to_batch($node, $_, "$where SET: $_") for qw(t_plain t_slow);
		run("$where RESET ALL");
	}
	{
		local $ENV{PGOPTIONS} = '-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c idle_session_timeout=0';
		run("ALTER SYSTEM SET $_") for @settings;
		$node->restart;
		load('tmo', 1, 20000);
		equal_to_batch($node, $_, "ALTER SYSTEM SET: $_") for qw(t_plain t_slow);
		run("ALTER SYSTEM RESET $_") for map { s/ .*//r } @settings;
	}
	$node->restart;
	all_run();
};

# The runner writes result after result; a user locks them the other way round
sub deadlock
{
	my ($lock_timeout, $user_ms, $message) = @_;
	my $user = $node->background_psql('postgres', on_error_stop => 0);
	my $from;

	run("ALTER SYSTEM SET stream_beam.lock_timeout = '$lock_timeout'; SELECT pg_reload_conf()");
	my $pid = wait_for_worker($node, 'runner');
	run("SELECT pg_terminate_backend($pid)");
	new_worker('runner', $pid);
	# it has opened them
	wait_for($node, $_) for qw(dl_a dl_b);
	$user->query_safe("SET deadlock_timeout = '${user_ms}ms'; BEGIN; LOCK dl_b IN ACCESS EXCLUSIVE MODE");
	$from = -s $node->logfile;
	load('dl', 1, 100);
	wait_until($node, q{SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE relation = 'dl_b'::regclass AND NOT granted AND backend_type = 'stream_beam runner'});
	$user->query('LOCK dl_a IN ACCESS EXCLUSIVE MODE');
	ok($node->wait_for_log($message, $from), 'they block each other');
	$user->query('ROLLBACK');
	$user->quit;
	equal_to_batch($node, $_, "runner after $lock_timeout, user after $user_ms ms: $_") for qw(dl_a dl_b);
	return slurp_file($node->logfile, $from);
}

promise 'deadlock_with_a_user_loses_nothing' => sub {
	make_source($node, 'dl');
	create_pipeline($node, $_, tumble('dl'), $late) for qw(dl_a dl_b);
	unlike(deadlock('1s', 60000, qr/stream_beam: a bundle is run again.*lock timeout/), qr/background worker "stream_beam runner" \(PID \d+\) exited/, 'the runner gives way, and tries again');
	unlike(deadlock('0', 100, qr/deadlock detected/), qr/background worker "stream_beam runner" \(PID \d+\) exited/, 'or the user, where the runner is to wait for ever');
	run('ALTER SYSTEM RESET stream_beam.lock_timeout; SELECT pg_reload_conf()');
	all_run();
};

# Each: what is done to the result table, what the pipeline then says, how it is mended
for my $case (
	[ 'column_dropped', 'ALTER TABLE %s DROP COLUMN s', qr/the result table "a_column_dropped" of pipeline "a_column_dropped" has no column "s" any more/, 'ALTER TABLE %s ADD COLUMN s bigint; UPDATE %1$s SET s = (SELECT s FROM %1$s_batch b WHERE (b.window_start, b.k) = (%1$s.window_start, %1$s.k))' ],
	[ 'index_dropped', 'DROP INDEX %s', qr/no unique or exclusion constraint matching the ON CONFLICT/, 'CREATE UNIQUE INDEX ON %s (window_start, window_end, k) NULLS NOT DISTINCT' ],
	[ 'type_changed', 'ALTER TABLE %s ALTER n TYPE boolean USING true', qr/column "n" of the result table .* is of type boolean, and the pipeline writes bigint/,
		'ALTER TABLE %s ALTER n TYPE bigint USING 0; UPDATE %1$s SET n = (SELECT n FROM %1$s_batch b WHERE (b.window_start, b.k) = (%1$s.window_start, %1$s.k))' ])
{
	my ($name, $harm, $error, $mend) = @$case;

	promise "result_table_altered_by_hand_${name}" => sub {
		make_source($node, "alt_$name");
		create_pipeline($node, "a_$name", tumble("alt_$name"), $late);
		create_pipeline($node, "o_$name", tumble("alt_$name"), $late);
		load("alt_$name", 1, 200);
		equal_to_batch($node, "a_$name");
		my $index = run("SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'a_$name'::regclass");
		run(sprintf $harm, $name eq 'index_dropped' ? $index : "a_$name");
		load("alt_$name", 201, 400);
		state_is($node, "a_$name", 'failed', $error);
		equal_to_batch($node, "o_$name", 'the other one goes on');
		run(sprintf $mend, "a_$name");
		run("SELECT beam.resume_pipeline('a_$name')");
		wait_for($node, "a_$name");
		is(run("SELECT count(*) FROM (SELECT window_start, k, n, s FROM a_$name EXCEPT ALL SELECT window_start, k, n, s FROM a_${name}_batch) x"), 0, 'mended and resumed, it has all');
		is(run("SELECT (SELECT count(*) FROM a_$name) - (SELECT count(*) FROM a_${name}_batch)"), 0, 'and no more');
	};
}

promise 'state_table_cannot_be_dropped_by_hand' => sub {
	refuses($node, 'DROP TABLE beam_state.cells_' . run('SELECT min(id) FROM beam.pipeline'), qr/because extension stream_beam requires it/, 'DROP TABLE');
};

promise 'out_of_memory_is_waited_out' => sub {
	make_source($node, 'mem');
	create_pipeline($node, 'm_bag', 'SELECT e.k, array_agg(e.v ORDER BY e.id) AS v FROM mem e GROUP BY e.k', $late);
	load('mem', 1, 200);
	equal_to_batch($node, 'm_bag');
	my $runner = wait_for_worker($node, 'runner');
	my $postmaster = $node->{_pid};
	my ($now) = slurp_file("/proc/$runner/status") =~ /^VmSize:\s+(\d+) kB/m;
	my $limit = ($now + 30 * 1024) * 1024;
	my $from = -s $node->logfile;

	# the limits of the runner, and of those that are started after it
	for my $pid ($postmaster, $runner)
	{
		system('prlimit', '--pid', $pid, "--as=$limit:") == 0 or die 'prlimit';
	}
	run(q{INSERT INTO mem SELECT i, '2026-01-01', 1, repeat(md5(i::text), 20) FROM generate_series(1001, 80000) i});
	ok($node->wait_for_log(qr/out of memory/, $from), 'the memory does not do');
	is(run('SELECT count(*) FROM beam.dead_letters'), 0, 'no row is to blame');
	system('prlimit', '--pid', $postmaster, '--as=unlimited:') == 0 or die 'prlimit';
	# also those that were started meanwhile, for a pipeline that was put aside
	system('prlimit', '--pid', $_, '--as=unlimited:') for split /\n/, run(q{SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'stream_beam%'});
	equal_to_batch($node, 'm_bag', 'with memory again');
};

$node->stop;
done_testing();
