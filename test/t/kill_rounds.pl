# Kills by the hundred: in each round a process of ours, a client's backend or the postmaster dies under a mixed load, at a moment nobody has
# chosen or at a named point of the code; then every result is its batch view, row for row.
#
#   ROUNDS=n   default 140; a new set of tables and pipelines every 40
#   SEED=n     of the first round, default the clock; printed. What is done follows from it, when the server does it does not
#   POINT=name kills at this point only
# For thousands: SB_FILE_SECONDS=20000 ROUNDS=5000 ./scripts/test tap=kill_rounds
# The first round that fails ends it.
use strict;
use warnings;
use Test::More;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time usleep);
use SbTest;
use SbLoad;

my $ROUNDS = $ENV{ROUNDS} // 140;
my $SEED = $ENV{SEED} // int(time) % 1_000_000;
my $EPOCH = 40;
my $POINT_SECONDS = 5; # so long a point may take to be passed
my $GUARD_SECONDS = 25; # the guard looks every ten
my $LARGE_SECONDS = 25; # a reader that is killed again and again is started after a while only

# All points of the code (scripts/check compares), and what makes a process pass those that the load alone does not
my %point = (
	before_result => undef, after_result => undef, before_letters => undef, after_letters => undef, before_failed_groups => undef, after_failed_groups => undef, before_state => undef, after_state => undef,
	before_position => undef, after_position => undef, after_rows => undef, before_commit => undef, after_commit => undef,
	before_dead_letter => \&failing_row, before_careful_commit => \&failing_row, after_careful_commit => \&failing_row,
	before_release => undef, after_release => undef, before_publish => undef, after_publish => undef,
	before_confirmable => undef, after_confirmable => undef, before_confirm => undef, after_confirm => undef,
	before_reset => \&pause_and_resume, after_reset => \&pause_and_resume, reload => \&pause_and_resume, after_join => \&pause_and_resume, before_queue_commit => \&pause_and_resume_downstream, after_queue_fill => \&resync_downstream, launcher_turn => undef, decode_change => undef, after_spool => \&large_transaction,
	stream_part => \&large_transaction, stream_commit => \&large_transaction,
	before_swap => \&resync, in_swap => \&resync, after_swap => \&resync,
	after_history_cut => \&resync, before_chunk_commit => \&resync, after_chunk_commit => \&resync,
	after_clear => \&backfill, after_backfill_cut => \&backfill, after_backfill_commit => \&backfill,
	before_replay_commit => \&replay, after_replay_commit => \&replay, before_give_up => \&hold_back, after_give_up => \&hold_back);

my $node = new_node('kill_rounds', conf => q{
stream_beam.ring_size = '1MB'
stream_beam.bundle_time = '20ms'
stream_beam.decoding_work_mem = '256kB'
stream_beam.housekeeping_interval = 1
stream_beam.history_rate = 40000
stream_beam.history_chunk_time = '5ms'
max_prepared_transactions = 50
max_locks_per_transaction = 256
log_statement = none
});
my ($postmaster, $load);
my (%killed, %passed);
my $held_back; # in this round

# ---- processes ----

sub slurp_line
{
	my ($file) = @_;

	open(my $fh, '<', $file) or return '';
	return <$fh> // '';
}

# The postmaster's children: pid => title
sub children
{
	my %title;

	for my $dir (glob '/proc/[0-9]*')
	{
		my ($pid) = $dir =~ /(\d+)/;

		next unless slurp_line("$dir/stat") =~ /\) \w (\d+)/ && $1 == $postmaster;
		$title{$pid} = slurp_line("$dir/cmdline") =~ s/\0+$//r;
	}
	return \%title;
}

sub find_child
{
	my ($pattern) = @_;
	my $title = children();

	return SbLoad::pick(grep { $title->{$_} =~ $pattern } sort keys %$title);
}

my %pattern = (
	map({ $_ => qr/stream_beam $_/ } qw(reader runner launcher)), backend => qr/\[local\] /, checkpointer => qr/checkpointer/, walwriter => qr/walwriter/);

sub gone
{
	my @pids = grep { defined } @_;
	my $until = time + 30;

	usleep(2000) while time < $until && grep { kill 0, $_ } @pids; # sleeps: between two looks
	die 'a process does not end' if grep { kill 0, $_ } @pids;
}

sub answers
{
	my $until = time + 60;

	until (eval { ($node->psql('postgres', 'SELECT 1'))[0] == 0 })
	{
		die 'the server does not come back' if time > $until;
		usleep(10000); # sleeps: between two looks
	}
}

sub note_postmaster
{
	($postmaster) = slurp_line($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
}

sub lull
{
	usleep(int(rand($_[0] * 1e6))); # sleeps: a moment that nobody has chosen
}

# ---- ways to be hurt ----

sub kill_child
{
	my ($kind, $signal) = @_;
	my $pid = find_child($pattern{$kind});

	return 0 unless $pid;
	kill($signal, $pid);
	gone($pid) if $signal eq 'KILL' || $kind ne 'backend';
	return 1;
}

sub kill_postmaster
{
	my @pids = keys %{ children() };

	$node->kill9;
	$load->end;
	gone(@pids);
	$node->start;
	note_postmaster();
	return 1;
}

sub set_kill_at
{
	my ($value) = @_;

	open(my $fh, '>', $node->data_dir . '/kill_at.conf') or die "kill_at.conf: $!";
	unlink $node->data_dir . '/stream_beam.killed';
	print $fh "stream_beam.kill_at = 'once $value'\n" if $value;
	# a large transaction comes in parts, unless there is memory for it; then it outgrows the ring
	print $fh "stream_beam.decoding_work_mem = '64MB'\n" if $value =~ /_spool/;
	print $fh "stream_beam.max_retained_wal = '32MB'\n" if $value =~ /_give_up/;
	close $fh;
	kill('HUP', $postmaster);
}

# The server may die while they are at it
sub failing_row { $load->try_sql('INSERT INTO ins (ts, k, v) VALUES (now(), 1, 0)') }
sub pause_and_resume { $load->try_sql("SELECT beam.pause_pipeline('base'); SELECT beam.resume_pipeline('base')") }
sub pause_and_resume_downstream { $load->try_sql("SELECT beam.pause_pipeline('chained'); SELECT beam.resume_pipeline('chained')") }
sub resync_downstream { $load->try_sql("SELECT beam.resync_pipeline('chained')") }
sub resync { $load->try_sql("SELECT beam.resync_pipeline('$_')") for 'chg_global', 'base' }
# ... whose snapshot sees what the stream has not brought yet
sub backfill { $load->try_sql("SET statement_timeout = '1s'; INSERT INTO chg (ts, k, v) SELECT '2026-03-29', i % 5, 1 FROM generate_series(1, 2000) i; CALL beam.backfill('base')") or eval { $load->settle } }
sub replay { $load->try_sql("SET statement_timeout = '2s'; INSERT INTO ins (ts, k, v) VALUES (now(), 1, 0); CALL beam.wait_for('ins_dead'); CALL beam.replay_dead_letters('ins_dead')") }
# ... of rows that cannot be compressed: an ALTER TYPE has the column's storage be the default again
sub large_transaction { $load->try_sql(q{INSERT INTO ins (ts, k, v, pad) SELECT '2026-03-29', 1, 1, (SELECT string_agg(md5((i * 1000 + j)::text), '') FROM generate_series(1, 250) j) FROM generate_series(1, 200) i}) }

# A pipeline that stands still while much is written, and no transaction that would hold the slot without it
sub hold_back
{
	return if $held_back++;
	$load->end;
	eval { $load->settle };
	$load->try_sql(q{SELECT beam.pause_pipeline('par_global')});
	$load->try_sql(q{SELECT pg_logical_emit_message(true, 'kill_rounds', repeat('m', 1000000)) FROM generate_series(1, 40)});
}

# True: a process has killed itself there
sub kill_at_point
{
	my ($name) = @_;
	my $at = -s $node->logfile;
	my $until = time + ($name =~ /_give_up$/ ? $GUARD_SECONDS : $name =~ /_spool$|^stream_/ ? $LARGE_SECONDS : $POINT_SECONDS);
	my $next = time + 0.15;

	# the slot is told once a second, and a transaction larger than the ring takes its time
	set_kill_at($name . ($name !~ /_confirm$|_spool$|^stream_|_swap$|_give_up$|_chunk_|_queue_|_replay_|history_|backfill_|_clear$/ && SbLoad::chance(0.5) ? ':' . SbLoad::between(2, 5) : ''));
	kill_child('reader', 'TERM') if $name =~ /_spool$/;
	while (slurp_file($node->logfile, $at) !~ /process (\d+) kills itself/)
	{
		if (time > $until)
		{
			set_kill_at('');
			return 0;
		}
		usleep(5000); # sleeps: between two looks
		next if time < $next;
		$next = time + 0.15;
		($point{$name} // sub { $load->try_sql(q{INSERT INTO ins (ts, k, v) VALUES ('2026-03-29', 1, 1)}) })->();
	}
	my ($pid) = slurp_file($node->logfile, $at) =~ /process (\d+) kills itself/;
	set_kill_at('');
	gone($pid);
	$passed{$name}++;
	return 1;
}

my @ways = (
	([ 'runner', 'KILL' ]) x 16, ([ 'reader', 'KILL' ]) x 12, ([ 'launcher', 'KILL' ]) x 4, ([ 'backend', 'KILL' ]) x 10, [ 'checkpointer', 'KILL' ], [ 'walwriter', 'KILL' ],
	([ 'runner', 'TERM' ]) x 4, ([ 'reader', 'TERM' ]) x 4, ([ 'backend', 'TERM' ]) x 2, [ 'launcher', 'TERM' ], (['postmaster']) x 3);
my @points = sort keys %point;

# Somebody is hurt under load, at a point or anywhere; says what was done
sub hurt
{
	my ($point) = @_;
	my $way = SbLoad::pick(@ways);
	my ($what, $done);

	$held_back = 0;
	$load->begin;
	lull(0.25);
	if (defined $point) { ($what, $done) = ("at $point", kill_at_point($point)) }
	elsif ($way->[0] eq 'postmaster') { ($what, $done) = ('postmaster', kill_postmaster()) }
	else { ($what, $done) = ("@$way", kill_child(@$way)) }
	$killed{ defined $point ? 'at a point' : $what }++ if $done;
	answers();
	$load->end;
	answers();
	$load->settle if $load->locked || SbLoad::chance(0.7);
	return $what . ($done ? '' : ' (not done)');
}

# A round, and what it leaves; false: there is no going on
sub one_round
{
	my ($number, $point) = @_;

	srand($SEED + $number);
	if ($number % $EPOCH == 0)
	{
		if ($load)
		{
			$load->settle;
			$load->drop;
		}
		$load = SbLoad->new($node);
		$load->create;
	}
	my $what = eval { hurt($point) };

	return ok(0, "round $number: $@") unless defined $what;
	my @wrong = $load->wrong;
	# who was started before the point was taken back may have passed it once more
	for (1 .. 3)
	{
		last unless "@wrong" =~ /^no answer.*connection/s;
		answers();
		@wrong = $load->wrong;
	}
	# what is wrong for a moment only is another thing than what is wrong for good
	diag('looked at again: ' . (eval { $load->wrong } ? 'still wrong' : 'right')) if @wrong;
	diag(eval { $node->safe_psql('postgres', q{SELECT * FROM beam.watermarks; SELECT * FROM beam.failed_groups; SELECT * FROM beam.pipeline_versions}) } // $@) if @wrong;
	note($load->summary) if $number % $EPOCH == $EPOCH - 1;
	return is(join("\n", @wrong), '', "round $number, $what: all results are right");
}

note_postmaster();
diag("SEED=$SEED ROUNDS=$ROUNDS");
my $number = 0;
my $going = 1;
while ($going && $number < $ROUNDS)
{
	$going = one_round($number, $ENV{POINT} // ($number % 3 == 0 ? $points[ ($number / 3) % @points ] : undef));
	$number++;
}
# a point may not be come by in time: it has further rounds
if ($ROUNDS >= 3 * @points)
{
	for my $point (@points)
	{
		for (my $more = 0; $going && $more < 5 && !$passed{$point}; $more++)
		{
			$going = one_round($number++, $point);
		}
	}
}
unlike(slurp_file($node->logfile), qr/terminated by signal (?!9:|15:)|TRAP:|PANIC:/, 'nobody dies of himself');
note(join(', ', map { "$_: $killed{$_}" } sort keys %killed));
if ($ROUNDS >= 3 * @points)
{
	ok($passed{$_}, "point_${_}_was_passed") for @points;
}
$node->stop;
done_testing();
