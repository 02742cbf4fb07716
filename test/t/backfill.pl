# Windows are computed anew while writers go on: the result is exact, queries see old or new rows, and a kill in the middle changes nothing.
use strict;
use warnings;
use Test::More;
use PostgreSQL::Test::Utils;
use SbTest;

my $node = new_node('backfill', conf => q{
stream_beam.ring_size = '1MB'
stream_beam.bundle_time = '20ms'
log_statement = none
stream_beam.housekeeping_interval = '1s'
});

# Rows that come, change, move to other windows and go
my $script = q{
\set id random(1, 4000)
\set k random(1, 5)
\set t random(0, 86399)
BEGIN;
INSERT INTO ev (ts, k, v) SELECT '2026-01-01'::timestamptz + (:t + i * 997) % 86400 * interval '1 s', :k, i FROM generate_series(1, 5) i;
UPDATE ev SET v = v + 1, ts = '2026-01-01'::timestamptz + :t * interval '1 s' WHERE id BETWEEN :id AND :id + 3;
DELETE FROM ev WHERE id = :id + 5;
COMMIT;
};

sub from_ev
{
	my ($window) = @_;

	return "SELECT w.window_start, w.window_end, e.k, count(*) AS n, sum(e.v) AS s, max(e.v) AS m FROM ev e, $window w GROUP BY 1, 2, 3";
}

$node->safe_psql('postgres', q{
	CREATE TABLE ev (id bigserial PRIMARY KEY, ts timestamptz, k int, v int);
	ALTER TABLE ev REPLICA IDENTITY FULL});
create_pipeline($node, 'b_tumble', from_ev(q{beam.tumble(e.ts, '10 minutes')}));
create_pipeline($node, 'b_hop', from_ev(q{beam.hop(e.ts, '1 hour', '15 minutes')}));
create_pipeline($node, 'b_gap', from_ev(q{beam.session(e.ts, '30 seconds')}));
create_pipeline($node, 'b_global', 'SELECT e.k, count(*) AS n, sum(e.v) AS s FROM ev e GROUP BY 1');
create_pipeline($node, 'b_net', from_ev(q{beam.tumble(e.ts, '1 hour')}), q{allowed_lateness => '10000 days', accumulation => 'retracting'});
create_pipeline($node, 'b_downstream', q{SELECT w.window_start, w.window_end, sum(b.n) AS n, count(*) AS groups
	FROM b_tumble b, beam.tumble(b.window_start, '3 hours') w GROUP BY 1, 2});
my @pipelines = qw(b_tumble b_hop b_gap b_global b_net b_downstream);

# Ends a load, and waits until nothing of it is on its way
sub end_load
{
	my ($load, $kill) = @_;

	finish_load($load, $kill);
	wait_until($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()});
}

sub verified
{
	my ($name) = @_;

	for my $pipeline (@pipelines)
	{
		wait_for($node, $pipeline);
		is($node->safe_psql('postgres', "SELECT * FROM beam.verify('$pipeline') LIMIT 5"), '', "$name: $pipeline");
	}
}

sub backfill
{
	my ($pipeline, @range) = @_;

	$node->safe_psql('postgres', "CALL beam.backfill('$pipeline'" . join('', map { ", '2026-01-01 $_'" } @range) . ')',
		timeout => $PostgreSQL::Test::Utils::timeout_default);
}

# Rows that no stream would write, and some gone
sub spoil
{
	my ($pipeline) = @_;

	$node->safe_psql('postgres', $pipeline eq 'b_net'
		? q{INSERT INTO b_net SELECT window_start, window_end, k, n, s, m, (-1) ^ (k % 2) FROM b_net WHERE op > 0 AND k < 4;
			INSERT INTO b_net VALUES ('2026-01-01 03:00', '2026-01-01 04:00', 77, 1, 1, 1, 1)}
		# locked: row by row it could meet with a bundle in a deadlock
		: "BEGIN; LOCK TABLE $pipeline IN SHARE ROW EXCLUSIVE MODE; UPDATE $pipeline SET n = n + 1 WHERE k = 1; DELETE FROM $pipeline WHERE k = 2; COMMIT");
}

promise 'backfill_under_writers_is_exact' => sub {
	my $load = start_load($node, $script, 'postgres', qw(-c 3 -T 600 -R 200 --max-tries=1000));

	wait_until($node, 'SELECT count(*) > 3000 FROM ev');
	for my $round (1 .. 6)
	{
		my $hour = sprintf('%02d:20', $round);

		for my $pipeline (@pipelines)
		{
			spoil($pipeline) if $round == 3 && $pipeline ne 'b_downstream';
			backfill($pipeline, $round == 3 ? () : ($hour, sprintf('%02d:00', $round + 8)));
		}
	}
	end_load($load);
	verified('with writers');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM beam.dead_letters'), 0, 'no row was taken for wrong');
	is($node->safe_psql('postgres', "SELECT count(*) FROM beam.command WHERE state IN ('waiting', 'building')"), 0, 'nothing is left to do')
		or diag($node->safe_psql('postgres', 'SELECT id, pipeline, kind, state FROM beam.command'));
};

promise 'truncate_during_backfill_is_exact' => sub {
	my $load = start_load($node, $script, 'postgres', qw(-c 2 -T 600 -R 100 --max-tries=1000));

	# it has read its script, which the next one replaces
	wait_until($node, q{SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()});
	for (1 .. 10)
	{
		my $backfill = start_load($node, "CALL beam.backfill('b_tumble', '2026-01-01 02:00', '2026-01-01 20:00');\n", 'postgres', qw(-c 1 -t 5));

		$node->safe_psql('postgres', 'TRUNCATE ev');
		finish_load($backfill, 0);
	}
	wait_until($node, 'SELECT count(*) > 500 FROM ev');
	end_load($load);
	verified('with TRUNCATE');
};

promise 'readers_see_old_or_new' => sub {
	my $expected = $node->safe_psql('postgres', 'SELECT count(*), sum(n), sum(s) FROM b_tumble');
	my $backfills = start_load($node, "CALL beam.backfill('b_tumble', '2026-01-01 03:07', '2026-01-01 18:03');\n", 'postgres', qw(-c 1 -t 30));
	my %seen;

	do
	{
		$seen{$node->safe_psql('postgres', 'SELECT count(*), sum(n), sum(s) FROM b_tumble')}++;
	} while ($backfills->pumpable && keys(%seen) == 1 && eval { $backfills->pump_nb; $backfills->pumpable });
	finish_load($backfills, 0);
	is(join(' ', keys %seen), $expected, 'at any time');
};

promise 'sessions_are_computed_anew' => sub {
	my $insert = q{
\set t random(0, 36000)
INSERT INTO visits SELECT i, '2026-01-01'::timestamptz + (:t + i * 20) * interval '1 s', :t % 3, '' FROM generate_series(1, 5) i;
};
	make_source($node, 'visits');
	create_pipeline($node, 'b_session', q{SELECT w.window_start, w.window_end, e.k, count(*) AS n FROM visits e, beam.session(e.ts, '30 seconds') w GROUP BY 1, 2, 3});
	my $load = start_load($node, $insert, 'postgres', qw(-c 2 -T 600 -R 200));

	for my $round (1 .. 5)
	{
		wait_until($node, "SELECT count(*) > $round * 200 FROM visits");
		$node->safe_psql('postgres', 'DELETE FROM b_session WHERE k = 1; UPDATE b_session SET n = n + 1 WHERE k = 2') if $round == 3;
		backfill('b_session');
	}
	end_load($load);
	wait_for($node, 'b_session');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM beam.verify('b_session')}), 0, 'exactly');
};

promise 'collected_windows_are_mended' => sub {
	my $old = q{WHERE window_start < '2026-01-02'};

	make_source($node, 'old');
	create_pipeline($node, 'b_closed', tumble('old'), q{allowed_lateness => '0', watermark => '0'});
	$node->safe_psql('postgres', q{INSERT INTO old SELECT i, '2026-01-01'::timestamptz + i * interval '1 min', i % 3, '' FROM generate_series(0, 600) i;
		INSERT INTO old VALUES (1, '2026-01-03', 1, '')});
	wait_for($node, 'b_closed');
	$node->safe_psql('postgres', q{INSERT INTO old VALUES (1, '2026-01-01 05:00', 1, ''), (1, '2026-01-01 15:00', 88, '')});
	wait_for($node, 'b_closed');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM beam.verify('b_closed')}), 2, 'it is wrong');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM beam.late_events}), 2, 'since rows were late');
	my $cells = $node->safe_psql('postgres', q{SELECT cells FROM beam.stat_pipelines WHERE name = 'b_closed'});
	$node->safe_psql('postgres', q{CALL beam.replay_late_events('b_closed')});
	is($node->safe_psql('postgres', q{SELECT count(*) FROM beam.verify('b_closed')}), 0, 'replayed');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM beam.late_events}), 0, 'no late event is left');
	$node->safe_psql('postgres', 'UPDATE b_closed SET n = n + 1 WHERE k = 1; DELETE FROM b_closed WHERE k = 2');
	backfill('b_closed');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM beam.verify('b_closed')}), 0, 'all is mended');
	is($node->safe_psql('postgres', q{SELECT cells FROM beam.stat_pipelines WHERE name = 'b_closed'}), $cells, 'no cell is left of the windows');
};

promise 'cancelled_backfill_is_withdrawn' => sub {
	my $locker = $node->background_psql('postgres');

	my $since = $node->safe_psql('postgres', 'SELECT now()');

	spoil('b_tumble');
	$locker->query_safe('BEGIN; LOCK TABLE ev IN ACCESS EXCLUSIVE MODE');
	my ($rc, $out, $err) = $node->psql('postgres', q{SET statement_timeout = '500ms'; CALL beam.backfill('b_tumble')});
	like($err, qr/canceling statement due to statement timeout/, 'a user can give up');
	$locker->query_safe('COMMIT');
	$locker->quit;
	wait_until($node, "SELECT state = 'cancelled' FROM beam.stat_backfill WHERE pipeline = 'b_tumble' AND kind = 'backfill' AND started_at > '$since'");
	isnt($node->safe_psql('postgres', q{SELECT count(*) FROM beam.verify('b_tumble')}), 0, 'it is not done');
	# what reads the result has not seen what was done to it by hand
	backfill($_) for qw(b_tumble b_downstream);
	verified('afterwards');
};

promise 'failing_backfill_says_why' => sub {
	$node->safe_psql('postgres', q{CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today' USING ERRCODE = '40001', HINT = 'tomorrow'; END $$;
		CREATE TRIGGER no BEFORE DELETE ON b_tumble FOR EACH STATEMENT EXECUTE FUNCTION no()});
	my ($rc, $out, $err) = $node->psql('postgres', q{CALL beam.backfill('b_tumble')});
	like($err, qr/not today.*HINT:  tomorrow/s, 'the error of the runner is the caller\'s');
	$node->safe_psql('postgres', 'DROP TRIGGER no ON b_tumble');
	backfill('b_tumble');
	verified('afterwards');
};

promise 'letters_expire_by_age_and_count' => sub {
	make_source($node, 'bad');
	create_pipeline($node, 'b_bad', 'SELECT sum(1 / e.k) AS n, max(e.id) AS top FROM bad e');
	$node->safe_psql('postgres', 'INSERT INTO bad SELECT i, now(), 0 FROM generate_series(1, 30) i');
	wait_for($node, 'b_bad');
	my $count = q{SELECT count(*) FROM beam.dead_letters WHERE pipeline = 'b_bad'};
	is($node->safe_psql('postgres', $count), 30, 'they are there');
	$node->append_conf('postgresql.conf', 'stream_beam.letter_max_count = 10');
	$node->reload;
	$node->safe_psql('postgres', 'INSERT INTO bad VALUES (31, now(), 1)');
	wait_until($node, "SELECT ($count) = 10");
	is($node->safe_psql('postgres', q{SELECT min(data ->> 'id') FROM beam.dead_letters WHERE pipeline = 'b_bad'}), 21, 'the newest stay');
	$node->append_conf('postgresql.conf', 'stream_beam.letter_max_age = 1');
	$node->reload;
	$node->safe_psql('postgres', 'INSERT INTO bad VALUES (31, now(), 1)');
	wait_until($node, "SELECT ($count) = 0");
	$node->safe_psql('postgres', q{SELECT beam.drop_pipeline('b_bad')});
};

# Until the runner has read that it is not to be killed any more: it has had two turns without dying
sub survive
{
	for (my $turns = 0; $turns < 2;)
	{
		wait_until($node, 'SELECT NOT pg_is_in_recovery()');
		$turns = eval { $node->psql('postgres', q{CALL beam.wait_for('b_hop', '60 s')}) == 0 } ? $turns + 1 : 0;
	}
}

for my $point (qw(before_state:3 before_commit:4 after_commit:4 before_position:3))
{
	promise "kill_at_${point}_during_backfill_changes_nothing" => sub {
		my $load = start_load($node, $script, 'postgres', qw(-c 2 -T 600 -R 50 --max-tries=1000));

		spoil('b_hop');
		kill_at($node, $point);
		# the server may hang up on psql before it has taken its input
		eval { $node->psql('postgres', q{CALL beam.backfill('b_hop', '2026-01-01 03:00', '2026-01-01 18:00')}) } for 1 .. 3;
		kill_at($node, undef);
		survive();
		end_load($load);
		backfill('b_hop');
		verified('after the kill');
	};
}

promise 'terminated_runner_goes_on_with_it' => sub {
	my $locker = $node->background_psql('postgres');

	spoil('b_hop');
	$locker->query_safe('BEGIN; LOCK TABLE ev IN ACCESS EXCLUSIVE MODE');
	my $backfill = start_load($node, "CALL beam.backfill('b_hop');\n", 'postgres', qw(-c 1 -t 1));
	wait_until($node, q{SELECT count(*) = 1 FROM beam.command WHERE state = 'waiting'});
	my $pid = pid_of($node, 'runner');
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid");
	$locker->query_safe('COMMIT');
	$locker->quit;
	finish_load($backfill, 0);
	is($node->safe_psql('postgres', q{SELECT count(*) FROM beam.verify('b_hop')}), 0, 'it is done');
};

# ---- windows that cannot be taken a part at a time: by a version that is built beside ----

# At this rate a version is built until it is to come to its end
sub history_rate
{
	my ($rate) = @_;

	$node->append_conf('postgresql.conf', "stream_beam.history_rate = $rate");
	$node->reload;
}

# A backfill in a session of its own that has read some chunks and has far to go yet
sub start_slow
{
	my ($pipeline) = @_;
	my %call = (out => '', err => '');

	history_rate(1000);
	$call{run} = IPC::Run::start([ 'psql', '-XqAt', '-d', $node->connstr('postgres'), '-c', "CALL beam.backfill('$pipeline')" ],
		'<', \undef, '>', \$call{out}, '2>', \$call{err});
	wait_until($node, "SELECT count(*) = 1 FROM beam.stat_backfill WHERE pipeline = '$pipeline' AND kind = 'backfill' AND chunks >= 2 AND finished_at IS NULL");
	return \%call;
}

# It is done, or fails with this message
sub finish_slow
{
	my ($call, $message) = @_;

	history_rate(0);
	eval { $call->{run}->finish };
	return is($call->{err} =~ s/^NOTICE.*\n//mgr, '', 'it is done') unless $message;
	return like($call->{err}, $message, 'the caller is told');
}

# Nothing is left of a version, and the spoiled result is what it was
sub given_up
{
	my ($pipeline, $name) = @_;

	wait_until($node, "SELECT count(*) = 1 FROM beam.pipeline_versions WHERE name = '$pipeline'");
	wait_until($node, "SELECT count(*) = 0 FROM beam.command WHERE state IN ('waiting', 'building')");
	wait_for($node, $pipeline);
	isnt($node->safe_psql('postgres', "SELECT count(*) FROM beam.verify('$pipeline')"), 0, "$name: it is not done");
	is($node->safe_psql('postgres', "SELECT count(*) FROM pg_class WHERE relname LIKE '${pipeline}_v%'"), 0, "$name: no table is left");
}

$node->safe_psql('postgres', q{
	CREATE TABLE big (id int PRIMARY KEY, ts timestamptz, k int, v text);
	ALTER TABLE big REPLICA IDENTITY FULL;
	CREATE INDEX ON big (ts);
	CREATE FUNCTION shifts(at timestamptz, OUT window_start timestamptz, OUT window_end timestamptz) RETURNS SETOF record LANGUAGE sql IMMUTABLE AS
		$$SELECT date_trunc('hour', at), date_trunc('hour', at) + interval '90 min'$$;
	INSERT INTO big SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 400, '' FROM generate_series(1, 20000) i});
create_pipeline($node, 'w_session', q{SELECT w.window_start, w.window_end, e.k, count(*) AS n FROM big e, beam.session(e.ts, '2 s') w GROUP BY 1, 2, 3});
create_pipeline($node, 'w_global', 'SELECT e.k, count(*) AS n, sum(e.id) AS s FROM big e GROUP BY 1');
create_pipeline($node, 'w_custom', q{SELECT w.window_start, w.window_end, e.k, count(*) AS n FROM big e, shifts(e.ts) w GROUP BY 1, 2, 3});
wait_for($node, $_) for qw(w_session w_global w_custom);

sub spoil_whole
{
	my ($pipeline) = @_;

	$node->safe_psql('postgres', "UPDATE $pipeline SET n = n + 1 WHERE k = 1; DELETE FROM $pipeline WHERE k = 2");
}

promise 'whole_backfill_lets_others_go_on' => sub {
	my $id = 100000;

	for my $pipeline (qw(w_session w_global w_custom))
	{
		spoil_whole($pipeline);
		my $call = start_slow($pipeline);
		is($node->safe_psql('postgres', "SELECT state || (percent BETWEEN 1 AND 60) || (time_left > '0') || (rows_per_second > 0) || by FROM beam.stat_backfill WHERE pipeline = '$pipeline'"
				. " AND kind = 'backfill' AND finished_at IS NULL"), 'scanningtruetruetrue' . ($pipeline eq 'w_global' ? 'id' : 'event time'), "$pipeline: how far it is");
		$node->safe_psql('postgres', "INSERT INTO big VALUES (" . ++$id . ", '2026-01-02', 5, ''); UPDATE big SET k = 4 WHERE id = $id - 100000 + 7; DELETE FROM big WHERE id = 20000 - $id % 1000");
		wait_for($node, $_) for qw(b_tumble w_session w_global w_custom);
		is($node->safe_psql('postgres', "SELECT count(*) FROM beam.stat_backfill WHERE pipeline = '$pipeline' AND kind = 'backfill' AND finished_at IS NULL"), 1,
			"$pipeline: it is still going on, and nobody waited for it");
		isnt($node->safe_psql('postgres', "SELECT count(*) FROM $pipeline WHERE k = 1"), 0, "$pipeline: the old rows stand");
		finish_slow($call);
		wait_for($node, $pipeline);
		is($node->safe_psql('postgres', "SELECT * FROM beam.verify('$pipeline') LIMIT 5"), '', "$pipeline: exact");
		is($node->safe_psql('postgres', "SELECT kind || state || percent || (finished_at IS NOT NULL) FROM beam.stat_backfill WHERE pipeline = '$pipeline'"), 'backfilldone100true',
			"$pipeline: the last one is seen");
	}
};

promise 'rows_that_are_right_are_not_written' => sub {
	my $xmins = q{SELECT string_agg(xmin::text, ' ' ORDER BY k) FROM w_global WHERE k > 2};
	my $before = $node->safe_psql('postgres', $xmins);

	$node->safe_psql('postgres', q{INSERT INTO big VALUES (200000, '2026-01-01', NULL, '')});
	wait_for($node, 'w_global');
	spoil_whole('w_global');
	backfill('w_global');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM beam.verify('w_global')}), 0, 'what was wrong is right');
	is($node->safe_psql('postgres', $xmins), $before, 'the others are the same rows still');
};

promise 'whole_backfill_that_fails_says_why' => sub {
	my $pid = pid_of($node, 'runner');

	spoil_whole('w_global');
	$node->safe_psql('postgres', q{CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this row' USING ERRCODE = 'P0003'; END $$;
		CREATE TRIGGER never BEFORE DELETE ON w_global FOR EACH ROW EXECUTE FUNCTION never()});
	refuses($node, q{CALL beam.backfill('w_global')}, qr/ERROR:  not this row/, 'the error of the exchange');
	is($node->safe_psql('postgres', q{SELECT state FROM beam.stat_backfill WHERE pipeline = 'w_global' AND kind = 'backfill' ORDER BY started_at DESC LIMIT 1}), 'failed', 'the view says so');
	given_up('w_global', 'failed');
	is(pid_of($node, 'runner'), $pid, 'the runner goes on');
	$node->safe_psql('postgres', 'DROP TRIGGER never ON w_global');
	backfill('w_global');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM beam.verify('w_global')}), 0, 'afterwards it can be done');
};

promise 'cancelled_whole_backfill_gives_up_its_version' => sub {
	spoil_whole('w_session');
	history_rate(1000);
	my ($rc, $out, $err) = $node->psql('postgres', q{SET statement_timeout = '1s'; CALL beam.backfill('w_session')});
	like($err, qr/canceling statement due to statement timeout/, 'a user can give up');
	given_up('w_session', 'timeout');
	is($node->safe_psql('postgres', q{SELECT string_agg(kind || state, ' ' ORDER BY kind, started_at) FROM beam.stat_backfill WHERE pipeline = 'w_session'}), 'backfilldone backfillcancelled',
		'and that is seen');

	my $call = start_slow('w_session');
	$node->safe_psql('postgres', q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'CALL beam.backfill%'});
	given_up('w_session', 'terminated');
	finish_slow($call, qr/terminating connection/);

	$call = start_slow('w_session');
	crash_and_start($node);
	given_up('w_session', 'crash');
	finish_slow($call, qr/connection/);

	$call = start_slow('w_session');
	$node->safe_psql('postgres', q{SELECT beam.cancel_alter('w_session')});
	given_up('w_session', 'given up by cancel_alter');
	finish_slow($call, qr/ERROR:  the version that was built for the backfill has been given up\nHINT:  Call/);
	backfill('w_session');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM beam.verify('w_session')}), 0, 'afterwards it can be done');
};

promise 'terminated_runner_goes_on_with_the_version' => sub {
	spoil_whole('w_session');
	my $call = start_slow('w_session');
	my $pid = pid_of($node, 'runner');

	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid");
	finish_slow($call);
	is($node->safe_psql('postgres', q{SELECT count(*) FROM beam.verify('w_session')}), 0, 'it is done');
};

promise 'whole_backfill_beside_another_version_is_refused' => sub {
	my $pid = pid_of($node, 'runner');

	history_rate(1000);
	$node->safe_psql('postgres', q{SELECT beam.alter_pipeline('w_session', allowed_lateness => '5000 days', keep => NULL)});
	refuses($node, q{CALL beam.backfill('w_session')}, qr/a new version of pipeline "w_session" is being built already.*HINT:  Wait for it/s, 'while it is altered');
	is(pid_of($node, 'runner'), $pid, 'the runner is not troubled by it');
	history_rate(0);
	$node->safe_psql('postgres', q{CALL beam.wait_for_alter('w_session')});
};

promise 'backfills_at_the_same_time_take_turns' => sub {
	my $load = start_load($node, q{
\set t random(0, 86399)
\set id random(1000000, 2000000000)
INSERT INTO big VALUES (:id, '2026-01-01'::timestamptz + :t * interval '1 s', :t % 400, '') ON CONFLICT DO NOTHING;
DELETE FROM big WHERE id BETWEEN :id % 20000 AND :id % 20000 + 1;
}, 'postgres', qw(-c 1 -T 600 -R 100));

	wait_until($node, 'SELECT count(*) > 0 FROM big WHERE id > 1000000');
	my $backfills = start_load($node, q{
\set which random(1, 4)
\if :which = 1
CALL beam.backfill('w_session');
\elif :which = 2
CALL beam.backfill('w_global');
\elif :which = 3
CALL beam.backfill('w_custom');
\else
CALL beam.backfill('b_tumble', '2026-01-01 03:00', '2026-01-01 15:00');
\endif
}, 'postgres', qw(-c 5 -j 1 -t 8));
	ok(finish_load($backfills, 0), 'all are done');
	end_load($load);
	for my $pipeline (qw(w_session w_global w_custom b_tumble))
	{
		wait_for($node, $pipeline);
		is($node->safe_psql('postgres', "SELECT * FROM beam.verify('$pipeline') LIMIT 5"), '', "$pipeline: exact");
	}
};

promise 'late_events_of_sessions_are_replayed' => sub {
	make_source($node, 'tardy');
	create_pipeline($node, 'w_tardy', q{SELECT w.window_start, w.window_end, e.k, count(*) AS n FROM tardy e, beam.session(e.ts, '1 min') w GROUP BY 1, 2, 3}, q{allowed_lateness => '0', watermark => '0'});
	$node->safe_psql('postgres', q{INSERT INTO tardy SELECT i, '2026-01-01'::timestamptz + i * interval '10 min', i % 3, '' FROM generate_series(0, 60) i});
	wait_for($node, 'w_tardy');
	$node->safe_psql('postgres', q{INSERT INTO tardy VALUES (1, '2026-01-01 02:00:30', 0, ''), (1, '2026-01-01 05:55', 1, '')});
	wait_for($node, 'w_tardy');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM beam.late_events WHERE pipeline = 'w_tardy'}), 2, 'rows were late');
	my ($rc, $out, $err) = $node->psql('postgres', q{CALL beam.replay_late_events('w_tardy')});
	like($err, qr/2 late events of pipeline "w_tardy" are in its result now/, 'they are replayed');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM beam.late_events WHERE pipeline = 'w_tardy'}), 0, 'no late event is left');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM beam.verify('w_tardy')}), 0, 'exactly');
};

promise 'discarding_windows_have_one_pane_each' => sub {
	my $sums = 'SELECT window_start, k, sum(n), sum(s) FROM w_parts GROUP BY 1, 2 EXCEPT SELECT window_start, k, n, s FROM w_parts_batch';
	my $extra = q{SELECT count(*) - count(DISTINCT (window_start, k)) FROM w_parts};

	make_source($node, 'parts');
	$node->safe_psql('postgres', 'ALTER TABLE parts ADD PRIMARY KEY (id)');
	create_pipeline($node, 'w_parts', tumble('parts'), q{accumulation => 'discarding', source_mode => 'append_only', allowed_lateness => '30 min', watermark => '0'});
	for my $i (0 .. 4)
	{
		$node->safe_psql('postgres', "INSERT INTO parts SELECT 1000 * $i + j, '2026-01-01'::timestamptz + j * interval '30 s', j % 2, '' FROM generate_series(0, 199) j");
		wait_for($node, 'w_parts');
	}
	$node->safe_psql('postgres', q{UPDATE w_parts SET n = 7 WHERE window_start < '2026-01-01 00:10'; DELETE FROM w_parts WHERE window_start > '2026-01-01 01:00' AND k = 1});
	cmp_ok($node->safe_psql('postgres', $extra), '>', 0, 'windows have several panes');
	isnt($node->safe_psql('postgres', $sums), '', 'and are wrong');
	backfill('w_parts');
	is($node->safe_psql('postgres', $extra), 0, 'one pane each');
	is($node->safe_psql('postgres', $sums), '', 'with all rows');
	$node->safe_psql('postgres', q{INSERT INTO parts SELECT 9000 + j, '2026-01-01 01:20'::timestamptz + j * interval '30 s', j % 2, '' FROM generate_series(0, 100) j});
	wait_for($node, 'w_parts');
	is($node->safe_psql('postgres', $sums), '', 'what comes afterwards is added');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM w_parts WHERE n = 0'), 0, 'no pane says nothing');

	# a window that is shown again although its trigger waits for more
	make_source($node, 'few');
	create_pipeline($node, 'w_few', tumble('few'), q{accumulation => 'discarding', source_mode => 'append_only', trigger => beam.after_watermark(early => beam.after_count(10), late => beam.after_count(1))});
	$node->safe_psql('postgres', q{INSERT INTO few SELECT i, '2026-01-01', 1, '' FROM generate_series(1, 10) i});
	wait_until($node, 'SELECT count(*) = 1 FROM w_few');
	$node->safe_psql('postgres', 'DELETE FROM few WHERE id > 4');
	wait_for($node, 'w_few');
	backfill('w_few');
	is($node->safe_psql('postgres', 'SELECT n FROM w_few'), 4, 'a pane before its time');
	$node->safe_psql('postgres', q{INSERT INTO few VALUES (1, '2026-01-02', 2, '')});
	wait_for($node, 'w_few');
	wait_until($node, q{SELECT output_watermark > '2026-01-01 12:00' FROM beam.watermarks WHERE name = 'w_few'});
	is($node->safe_psql('postgres', q{SELECT string_agg(n::text, ' ') FROM w_few WHERE window_start < '2026-01-02'}), 4, 'is not said again when the window ends');
	$node->safe_psql('postgres', q{SELECT beam.create_pipeline('w_parts_downstream', 'SELECT count(*) AS n FROM w_parts p', source_mode => 'append_only')});
	wait_for($node, 'w_parts_downstream');
	refuses($node, q{CALL beam.backfill('w_parts')}, qr/it has downstream pipelines.*HINT:  Drop these/s, 'whose result is read');
};

done_testing();
