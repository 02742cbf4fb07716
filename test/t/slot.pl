# The slot: what is lost with it is said, what it retains is bounded, and it is not trusted further than what is flushed.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);
use SbTest;

my $MB = 1024 * 1024;
my $node = new_node('main', conf => "min_wal_size = '32MB'\nmax_wal_size = '64MB'\nautovacuum = off\n");

sub run { return $node->safe_psql('postgres', $_[0]) }

# A pipeline over a table of its own
sub setup
{
	my ($name) = @_;

	run("CREATE TABLE t_$name (k int); ALTER TABLE t_$name REPLICA IDENTITY FULL");
	create_pipeline($node, $name, "SELECT k, count(*) AS n FROM t_$name GROUP BY k");
	insert($name);
	equal_to_batch($node, $name);
}

# A test: made anew, it has what its batch view has
sub resync
{
	my ($name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	run("SELECT beam.resync_pipeline('$name')");
	run("CALL beam.wait_for_alter('$name')");
	return equal_to_batch($node, $name, "$name is made anew");
}

sub insert { run("INSERT INTO t_$_[0] SELECT i % 7 FROM generate_series(1, 100) i") }

sub set { $node->append_conf('postgresql.conf', $_[0]); $node->reload }

# So much WAL, quickly
sub fill
{
	my ($megabytes, $db) = @_;

	$node->safe_psql($db // 'postgres', "SELECT pg_logical_emit_message(false, '', repeat('x', $MB)) FROM generate_series(1, $megabytes)");
}

sub slot_of { return "(SELECT 'stream_beam_' || oid FROM pg_database WHERE datname = '$_[0]')" }

sub retained
{
	return run('SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn)::bigint FROM pg_replication_slots WHERE slot_name = ' . slot_of($_[0] // 'postgres'));
}

# Until no more than that is retained: what a slot needs moves with each checkpoint only, and the reader of an idle database looks every ten seconds
sub wait_until_released
{
	my ($megabytes, $db) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;
	my $retained;

	while (time < $deadline)
	{
		run('CHECKPOINT');
		$retained = retained($db);
		return 1 if $retained ne '' && $retained < $megabytes * $MB;
		usleep(200_000); # sleeps: between two looks at the slot
	}
	die "$retained bytes of WAL are retained";
}

# A test: this comes in the server's log
sub log_says
{
	my ($message, $name) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;

	usleep(100_000) until slurp_file($node->logfile) =~ $message || time > $deadline; # sleeps: between two looks at the log
	return like(slurp_file($node->logfile), $message, $name);
}

# Runs this while the reader does not have the slot. It comes back at once, so this may take a few attempts
sub without_reader
{
	my ($sql) = @_;
	my $slot = slot_of('postgres');

	for (1 .. 100)
	{
		return if eval { run("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $slot; $sql"); 1 };
	}
	die "the reader is always there first: $@";
}

# The result of a pipeline that needs a resync is void: it is dropped, and what comes after is not disturbed by it
sub drop { run("SELECT beam.drop_pipeline('$_') ; DROP TABLE t_$_") for @_ }

promise 'lost_wal_is_said_and_holds_nothing' => sub {
	setup($_) for qw(slow other);
	run("SELECT beam.pause_pipeline('slow')");
	insert('slow');
	set("max_slot_wal_keep_size = '1MB'");
	for (1 .. 3)
	{
		fill(1);
		run('SELECT pg_switch_wal()');
	}
	# while it is paused: nobody has to resume it to find out
	run('CHECKPOINT');
	state_is($node, 'slow', 'needs_resync', qr/^the changes of its source between .* are lost: the replication slot does not reach back/);
	set('max_slot_wal_keep_size = -1');
	is(run("SELECT error_code FROM beam.pipelines WHERE name = 'slow'"), '55000', 'with a code');
	refuses($node, q{SELECT beam.resume_pipeline('slow')}, qr/needs a resync and cannot be resumed.*HINT:  Call beam\.resync_pipeline\(\)/s, 'it cannot be resumed');
	refuses($node, q{SELECT beam.pause_pipeline('slow')}, qr/needs a resync and cannot be paused/, 'nor paused');
	refuses($node, q{CALL beam.wait_for('slow')}, qr/needs a resync: its result does not move.*are lost.*HINT:  Call beam\.resync_pipeline\(\)/s, 'wait_for says so');
	is(run("SELECT NOT ok AND value ~ '[12] needing a resync' FROM beam.check() WHERE item = 'pipelines'"), 't', 'beam.check() says so');
	wait_until_released(16);
	resync($_) for qw(slow other);
	setup('later');
	drop(qw(slow other later));
};

promise 'slot_dropped_by_hand_is_noticed' => sub {
	setup($_) for qw(hand idle);
	run("SELECT beam.pause_pipeline('idle')");
	without_reader('SELECT pg_drop_replication_slot(' . slot_of('postgres') . ')');
	insert('hand');
	state_is($node, 'hand', 'needs_resync', qr/are lost/);
	state_is($node, 'idle', 'needs_resync', qr/are lost/);
	setup('next');
	drop(qw(hand idle next));
};

promise 'slot_that_is_moved_by_hand_is_noticed' => sub {
	setup('moved');
	run("SELECT beam.pause_pipeline('moved')");
	insert('moved');
	without_reader('SELECT pg_replication_slot_advance(' . slot_of('postgres') . ', pg_current_wal_lsn())');
	state_is($node, 'moved', 'needs_resync', qr/are lost/);
	drop('moved');
};

promise 'wal_that_is_gone_from_disk_is_noticed' => sub {
	setup('segments');
	run("SELECT beam.pause_pipeline('segments')");
	insert('segments');
	for (1 .. 4)
	{
		fill(1);
		run('SELECT pg_switch_wal()');
	}
	run('CHECKPOINT');
	my $file = run('SELECT pg_walfile_name(restart_lsn) FROM pg_replication_slots WHERE slot_name = ' . slot_of('postgres'));
	$node->stop;
	ok(unlink($node->data_dir . "/pg_wal/$file"), 'a segment that the slot needs is removed');
	$node->start;
	state_is($node, 'segments', 'needs_resync', qr/are lost/);
	setup('thereafter');
	drop(qw(segments thereafter));
};

promise 'slot_of_another_plugin_is_not_read' => sub {
	setup('plugin');
	without_reader('SELECT pg_drop_replication_slot(' . slot_of('postgres') . '); SELECT pg_create_logical_replication_slot('
		  . slot_of('postgres') . q{, 'pgoutput')});
	insert('plugin');
	log_says(qr/replication slot "stream_beam_\d+" is not one of stream_beam/, 'the log says what is in the way');
	run('SELECT pg_drop_replication_slot(' . slot_of('postgres') . ')');
	state_is($node, 'plugin', 'needs_resync', qr/are lost/);
	drop('plugin');
};

promise 'paused_pipeline_is_given_up_before_the_disk_is_full' => sub {
	set("stream_beam.max_retained_wal = '64MB'");
	setup($_) for qw(paused moving);
	run("SELECT beam.pause_pipeline('paused')");
	insert('paused');
	fill(20);
	is(run(q{SELECT string_agg(name || ' ' || held_by, ', ' ORDER BY name) FROM beam.stat_pipelines}), 'moving pipeline paused, paused this pipeline', 'what holds the slot is shown');
	cmp_ok(run(q{SELECT min(retained_bytes) FROM beam.stat_pipelines}), '>', 20 * $MB, 'and how much it retains');
	fill(60);
	state_is($node, 'paused', 'needs_resync', qr/^it held back .* of WAL, more than stream_beam.max_retained_wal \(64 MB\)$/);
	is(run("SELECT error_code FROM beam.pipelines WHERE name = 'paused'"), '53400', 'with a code');
	log_says(qr/WARNING:  pipeline "paused" needs a resync: it held back/, 'the log says so');
	insert('moving');
	equal_to_batch($node, 'moving', 'one that moves goes on');
	wait_until_released(32);
	is(run("SELECT held_by FROM beam.stat_pipelines WHERE name = 'paused'"), 'pipeline moving', 'it holds nothing');
	resync('paused');
	drop(qw(paused moving));
};

promise 'no_pipeline_is_given_up_for_an_open_transaction' => sub {
	setup('patient');
	run('CREATE TABLE long_one (n int)');
	my $session = $node->background_psql('postgres');
	$session->query_safe('BEGIN; INSERT INTO long_one VALUES (1)');
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	# it is older than the pipeline's position
	insert('patient');
	wait_for($node, 'patient');
	run("SELECT beam.pause_pipeline('patient')");
	fill(80);
	log_says(qr/It is held by transaction \d+ of process $pid, not by a pipeline/, 'the log names the transaction');
	is(run("SELECT state FROM beam.pipelines WHERE name = 'patient'"), 'paused', 'the pipeline is left alone');
	like(run("SELECT held_by FROM beam.stat_pipelines WHERE name = 'patient'"), qr/^transaction \d+ of process $pid$/, 'held_by names it too');
	is(run("SELECT ok FROM beam.check() WHERE item = 'retained WAL'"), 'f', 'beam.check() says so');
	run("SELECT beam.resume_pipeline('patient')");
	$session->query_safe('COMMIT');
	$session->quit;
	insert('patient');
	equal_to_batch($node, 'patient', 'and goes on when it has ended');
	wait_until_released(32);
	drop('patient');
};

promise 'limit_holds_while_the_runner_is_stuck' => sub {
	setup('stuck');
	# a lock without a transaction id: the transaction itself holds nothing
	my $session = $node->background_psql('postgres');
	$session->query_safe('BEGIN; LOCK TABLE stuck IN SHARE MODE');
	insert('stuck');
	wait_until($node, q{SELECT count(*) > 0 FROM pg_locks WHERE relation = 'stuck'::regclass AND NOT granted});
	# more than the ring takes: the reader is stuck with it
	run("INSERT INTO t_stuck SELECT i FROM generate_series(1, 1000000) i");
	fill(100);
	state_is($node, 'stuck', 'needs_resync', qr/^it held back/);
	wait_until_released(64);
	$session->query_safe('COMMIT');
	$session->quit;
	setup('freed');
	drop(qw(stuck freed));
};

promise 'limit_holds_where_no_worker_can_run' => sub {
	$node->safe_psql('postgres', 'CREATE DATABASE closed');
	create_extension($node, 'closed');
	$node->safe_psql('closed', 'CREATE TABLE c (n int); ALTER TABLE c REPLICA IDENTITY FULL');
	create_pipeline($node, 'c_sum', 'SELECT sum(n) AS s FROM c', undef, 'closed');
	run('ALTER DATABASE closed ALLOW_CONNECTIONS false');
	run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'closed'");
	fill(80);
	# the guard can, and has nobody to leave the rest to
	log_says(qr/pipeline "c_sum" needs a resync/, 'the pipeline is given up');
	wait_until($node, 'SELECT count(*) = 0 FROM pg_replication_slots WHERE slot_name = ' . slot_of('closed'));
	pass('the slot that nobody needs is gone');
	run('ALTER DATABASE closed ALLOW_CONNECTIONS true');
	state_is($node, 'c_sum', 'needs_resync', qr/^it held back/, 'closed');
	run('DROP DATABASE closed');
};

promise 'idle_database_holds_no_wal_of_its_neighbour' => sub {
	set('stream_beam.max_retained_wal = -1');
	$node->safe_psql('postgres', 'CREATE DATABASE busy');
	setup('resting');
	for my $round ('a pipeline at rest', 'one that needs a resync', 'no pipeline')
	{
		if ($round eq 'one that needs a resync')
		{
			set("stream_beam.max_retained_wal = '64MB'");
			run("SELECT beam.pause_pipeline('resting')");
			fill(80, 'busy');
			state_is($node, 'resting', 'needs_resync', qr/^it held back/);
			set('stream_beam.max_retained_wal = -1');
		}
		drop('resting') if $round eq 'no pipeline';
		for (1 .. 2)
		{
			fill(80, 'busy');
			wait_until_released(40);
		}
		pass("$round: 160 MB have passed");
	}
};

promise 'pipeline_at_rest_is_not_given_up_for_what_its_neighbour_writes' => sub {
	refuses($node, q{ALTER SYSTEM SET stream_beam.max_retained_wal = '1MB'}, qr/invalid value.*It has to be -1 \(no limit\), or 32 MB at least/s, 'too little to make sense');
	setup('resting');
	set("stream_beam.max_retained_wal = '32MB'\nlog_min_messages = debug1");
	my $at = -s $node->logfile;
	my $reader = wait_for_worker($node, 'reader');

	# as long as it rests: it reads what others have written every ten seconds
	kill('STOP', $reader);
	fill(80, 'busy');
	$node->wait_for_log(qr/starting background worker process "stream_beam guard/, $at);
	kill('CONT', $reader);
	wait_until($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'stream_beam guard'});
	is(run("SELECT state FROM beam.pipelines WHERE name = 'resting'"), 'running', "it is not behind, and not given up");
	insert('resting');
	equal_to_batch($node, 'resting');
	wait_until_released(32);
	set("stream_beam.max_retained_wal = -1\nlog_min_messages = warning");
	drop('resting');
};

# ---- what is flushed ----

sub one { return run("SELECT $_[0] FROM pg_stat_activity WHERE backend_type = '$_[1]'") }

sub confirmed { return 'confirmed_flush_lsn ' . $_[0] . ' FROM pg_replication_slots WHERE slot_name = ' . slot_of('postgres') }

sub killed { return slurp_file($node->logfile, $_[0]) =~ /kills itself/ }

# Until this is true, or since $at somebody was killed
sub true_or_killed
{
	my ($at, $sql) = @_;
	my $deadline = time + $PostgreSQL::Test::Utils::timeout_default;

	until (killed($at) || (eval { run($sql) } // '') eq 't')
	{
		die "this never became true: $sql" if time > $deadline;
		usleep(20_000); # sleeps: between two looks
	}
}

# Once all is confirmed, and the slot has something to write to disk with the next confirmation: nothing is flushed from now on but by those who
# commit and wait for it. Who wrote the WAL, the bundle, does not.
sub freeze_flush
{
	my $writer;

	run('CHECKPOINT') for 1 .. 2;
	wait_for($node, 'flushed');
	wait_until($node, 'SELECT ' . confirmed(q{>= (SELECT position FROM beam.progress)}));
	$writer = one('pid', 'walwriter');
	kill('STOP', $writer) or die "process $writer: $!";
	return $writer;
}

# The workers that come after this have it; those that are there have it soon
sub now_kill_at
{
	my ($point) = @_;
	my $at = -s $node->logfile;

	kill_at($node, $point);
	$node->wait_for_log(qr/parameter "stream_beam.kill_at" (changed|removed)/, $at);
}

# Applies a row, and says where the WAL is flushed to since
sub apply
{
	my ($at, $k) = @_;
	my $flushed = eval { run("INSERT INTO t_flushed VALUES ($k); SELECT pg_current_wal_flush_lsn()") };

	# nothing that looks on writes or commits here: it would flush
	true_or_killed($at, "SELECT count(*) = 1 FROM flushed WHERE k = $k");
	return $flushed;
}

promise 'nothing_is_confirmed_before_its_bundle_is_flushed' => sub {
	my $at = -s $node->logfile;

	set("checkpoint_timeout = '1h'\nbgwriter_lru_maxpages = 0\nwal_writer_flush_after = '1GB'");
	setup('flushed');
	for my $round (1 .. 2)
	{
		my $writer = freeze_flush();
		my $runner = one('pid', 'stream_beam runner');

		# the runner, if it says that something may be confirmed. One that starts has it for sure, and has nothing to say
		now_kill_at('before_confirmable');
		run("SELECT pg_terminate_backend($runner)");
		wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'stream_beam runner' AND pid <> $runner AND wait_event = 'Extension'");
		$runner = one('pid', 'stream_beam runner');
		my $flushed = apply($at, 100 + $round);
		# it has had its chance when it sleeps
		true_or_killed($at, "SELECT wait_event = 'Extension' FROM pg_stat_activity WHERE pid = $runner");
		if (!ok(!killed($at), "round $round: nothing may be confirmed"))
		{
			kill_at($node, undef);
			wait_until($node, "SELECT pid <> $writer FROM pg_stat_activity WHERE backend_type = 'walwriter'");
			return equal_to_batch($node, 'flushed', "round $round: nothing is lost");
		}
		is(run('SELECT pg_current_wal_flush_lsn()'), $flushed, "round $round: nor was anything flushed");
		is(run('SELECT ' . confirmed('< (SELECT position FROM beam.progress)')), 't', "round $round: nor confirmed");
		# with all that was not flushed
		kill_at($node, undef);
		kill('KILL', $writer);
		wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'walwriter' AND pid <> $writer");
		equal_to_batch($node, 'flushed', "round $round: nothing is lost");
	}
};

promise 'crash_right_after_a_confirmation_loses_nothing' => sub {
	for my $round (1 .. 2)
	{
		my $at = -s $node->logfile;
		my $k = 1000 * $round;

		freeze_flush();
		now_kill_at('after_confirm');
		# each flushes the bundle of the one before, which is confirmed then; its own bundle is not flushed
		apply($at, $k++) until killed($at) || $k % 1000 > 100;
		kill_at($node, undef);
		ok(killed($at), "round $round: the reader is killed");
		wait_for_worker($node, 'runner');
		is(run("SELECT state FROM beam.pipelines WHERE name = 'flushed'"), 'running', "round $round: it goes on");
		equal_to_batch($node, 'flushed', "round $round: nothing is lost");
	}
};

done_testing();
