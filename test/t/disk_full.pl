# A full disk, under the WAL or under a result and its state: nothing is lost, nothing is counted twice, and when there is room again it goes on.
#
# The small disks are tmpfs mounts in a mount namespace of this test's own, which it enters by starting itself anew; where the machine does not
# let a user have one it is skipped.
use strict;
use warnings;
use FindBin;

# before the modules of the tests have set up their output
BEGIN
{
	my @namespace = qw(unshare --user --map-current-user --keep-caps --mount);

	if (!$ENV{SB_DISK_NAMESPACE}++)
	{
		if (system("@namespace true >/dev/null 2>&1") != 0)
		{
			print "1..0 # SKIP this machine gives a user no mount namespace\n";
			exit 0;
		}
		exec(@namespace, $^X, (map { "-I$_" } @INC), "$FindBin::Bin/$FindBin::Script") or die "unshare: $!";
	}
}

use Test::More;
use File::Copy ();
use SbTest;

my $small = "$PostgreSQL::Test::Utils::tmp_check/small";

# mount(8) is for root alone; the system call asks for the capability
my %sys_mount = (x86_64 => 165, aarch64 => 40, riscv64 => 40);

sub mount_small
{
	my ($dir, $size) = @_;
	my ($type, $options) = ('tmpfs', "size=$size,mode=0700");
	my ($number) = map { $sys_mount{$_} // () } `uname -m` =~ /(\S+)/;

	return 0 unless $number;
	return syscall($number, $type, $dir, $type, 0, $options) == 0;
}

mkdir $_ for $small, "$small/wal", "$small/space";
plan skip_all => 'a small disk cannot be mounted' unless mount_small("$small/wal", '300m') && mount_small("$small/space", '6m');

my $node = new_node('disk_full', start => 0, conf => "stream_beam.bundle_time = '50ms'\nmax_wal_size = '32MB'\nmin_wal_size = '32MB'\nwal_recycle = off\nwal_keep_size = 0\n");
my $late = q{allowed_lateness => '10000 days'};
my $wal = $node->data_dir . '/pg_wal';

for my $file (glob "$wal/*")
{
	my ($base) = $file =~ m{([^/]+)$};

	if (-d $file) { mkdir "$small/wal/$base", 0700 }
	else { File::Copy::move($file, "$small/wal/$base") or die "$file: $!" }
}
rename $wal, "$wal.old" or die "$wal: $!";
symlink "$small/wal", $wal or die "$wal: $!";
$node->start;
create_extension($node);

sub run { return $node->safe_psql('postgres', $_[0]) }

# Leaves so many kilobytes free
sub fill
{
	my ($dir, $leave) = @_;
	my ($free) = `df -k --output=avail $dir` =~ /(\d+)\s*$/;

	system('dd', 'if=/dev/zero', "of=$dir/filler", 'bs=1k', 'count=' . ($free - $leave), 'status=none') == 0 or die 'dd';
}

sub load
{
	my ($from, $to) = @_;

	return "INSERT INTO ev SELECT i, '2026-01-01'::timestamptz + i % 7200 * interval '1 s', i % 2000, md5(i::text) FROM generate_series($from, $to) i";
}

make_source($node, 'ev');
run("CREATE TABLESPACE small LOCATION '$small/space'");
create_pipeline($node, 'd_plain', tumble('ev'), $late);
create_pipeline($node, 'd_small', q{SELECT w.window_start, w.window_end, e.k, count(*) AS n, max(e.v) AS m, string_agg(e.v, ',' ORDER BY e.id) AS v
	FROM ev e, beam.hop(e.ts, '2 hours', '1 hour') w GROUP BY 1, 2, 3}, $late);

promise 'full_tablespace_delays_and_loses_nothing' => sub {
	my $state = 'beam_state.cells_' . run(q{SELECT id FROM beam.pipeline WHERE name = 'd_small'});

	run("ALTER TABLE d_small SET TABLESPACE small; ALTER TABLE $state SET TABLESPACE small");
	run(load(1, 500));
	equal_to_batch($node, 'd_small', 'on the small disk');
	my $from = -s $node->logfile;
	fill("$small/space", 400);
	run(load(501, 12000));
	ok($node->wait_for_log(qr/could not extend file .*No space left on device/, $from), 'the runner meets the full disk');
	is(run(q{SELECT string_agg(DISTINCT state, ',') FROM beam.pipelines}), 'running', 'and that fails no pipeline');
	run(load(12001, 12500));
	unlink "$small/space/filler";
	run("ALTER TABLE d_small SET TABLESPACE pg_default; ALTER TABLE $state SET TABLESPACE pg_default");
	equal_to_batch($node, 'd_small', 'with room again');
	equal_to_batch($node, 'd_plain', 'the other one');
	is(run('SELECT count(*) FROM beam.dead_letters'), 0, 'no row is to blame');
};

promise 'full_wal_disk_stops_the_server_and_loses_nothing' => sub {
	my $from = -s $node->logfile;

	fill("$small/wal", 1000);
	# until no segment can be made any more
	for my $i (1 .. 200)
	{
		my ($rc) = $node->psql('postgres', load(12500 + 1000 * $i, 12500 + 1000 * $i + 999));

		last if $rc != 0;
	}
	ok($node->wait_for_log(qr/PANIC: .*No space left on device/, $from), 'there is no room for WAL');
	# it may try to recover and fail for the same reason
	$node->stop('immediate', fail_ok => 1);
	unlink "$small/wal/filler";
	$node->{_pid} = undef;
	$node->start;
	equal_to_batch($node, $_) for qw(d_plain d_small);
	run(load(1000001, 1000500));
	equal_to_batch($node, $_, 'and goes on') for qw(d_plain d_small);
	is(run(q{SELECT string_agg(DISTINCT state, ',') FROM beam.pipelines}), 'running', 'all run');
};

$node->stop;
done_testing();
