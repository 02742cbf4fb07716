# ALTER EXTENSION stream_beam UPDATE, from each version that was released: the catalog is that of a fresh installation, and pipelines that run
# meanwhile neither stop nor miss a row. The library is that of now all the time, as it is once a package is replaced and the server restarted.
#
# test/upgrade/ has the install scripts of those versions, as they were put together then: src/install/[0-9]*.sql in the order of their numbers. They are
# never edited. scripts/test installs them beside the build.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use Test::More;
use SbCatalog;
use SbTest;

my $node = new_node('main', extension => 0, conf => "stream_beam.lock_timeout = '100ms'\n");
my @released = map { m{stream_beam--([^-]+)\.sql$} } glob "$FindBin::RealBin/../upgrade/stream_beam--*.sql";
my $newest = $node->safe_psql('postgres', q{SELECT default_version FROM pg_available_extensions WHERE name = 'stream_beam'});
# that are right for whatever comes in, one of them over another's result
my @pipelines = qw(by_minute by_key of_keys sessions twices);

sub make_database
{
	my ($db, $version) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, 'CREATE EXTENSION stream_beam' . ($version ? " VERSION '$version'" : ''));
	return $db;
}

sub version_in
{
	return $node->safe_psql($_[0], q{SELECT extversion FROM pg_extension WHERE extname = 'stream_beam'});
}

sub states_in
{
	return $node->safe_psql($_[0], q{SELECT string_agg(name || ' ' || state, ', ' ORDER BY name) FROM beam.pipelines});
}

sub make_pipelines
{
	my ($db) = @_;

	make_source($node, 'e', $db);
	$node->safe_psql($db, q{INSERT INTO e SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 7, 'v' || i % 3 FROM generate_series(1, 1000) i});
	create_pipeline($node, 'by_minute', tumble('e'), undef, $db);
	create_pipeline($node, 'by_key', 'SELECT k, count(*) AS n, sum(id) AS s, max(v) AS v FROM e GROUP BY k', undef, $db);
	create_pipeline($node, 'of_keys', 'SELECT count(*) AS keys, sum(n) AS n FROM by_key', undef, $db);
	create_pipeline($node, 'sessions', q{SELECT w.window_start, w.window_end, e.k, count(*) AS n FROM e, beam.session(e.ts, '10 s') w GROUP BY 1, 2, 3}, undef, $db);
	$node->safe_psql($db, q{CREATE FUNCTION twice(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN v * 2; END'});
	create_pipeline($node, 'twices', 'SELECT sum(twice(k)) AS s FROM e', undef, $db);
	create_pipeline($node, 'paused', 'SELECT count(*) AS n FROM e', undef, $db);
	create_pipeline($node, 'inverse', 'SELECT sum(1000 / id) AS s FROM e', undef, $db);
	create_pipeline($node, 'closing', tumble('e'), q{watermark => '0', allowed_lateness => '0'}, $db);
	wait_for($node, $_, $db) for @pipelines, 'paused', 'inverse', 'closing';
	$node->safe_psql($db, q{SELECT beam.pause_pipeline('paused')});
	# a dead letter, and a late event
	$node->safe_psql($db, q{INSERT INTO e VALUES (0, '2026-01-01 12:00', 1, 'v')});
	wait_for($node, 'closing', $db);
	$node->safe_psql($db, q{INSERT INTO e VALUES (1, '2026-01-01 00:00:30', 1, 'v')});
	wait_for($node, $_, $db) for qw(closing inverse);
}

# While somebody has its result locked, a pipeline is put aside; the test goes on once it says so, and returns when it has come back.
sub put_aside
{
	my ($db, $is_aside) = @_;
	my $locker = $node->background_psql($db);
	my $logged = -s $node->logfile;

	$locker->query_safe('BEGIN; LOCK by_minute IN ACCESS EXCLUSIVE MODE');
	$node->safe_psql($db, q{INSERT INTO e VALUES (1, '2026-01-02', 1, 'v')});
	$node->wait_for_log(qr/pipeline "by_minute" is put aside/, $logged);
	$is_aside->();
	$locker->query_safe('COMMIT');
	$locker->quit;
	equal_to_batch($node, 'by_minute', 'by_minute comes back', $db);
}

sub update
{
	my ($db) = @_;

	$node->safe_psql($db, 'ALTER EXTENSION stream_beam UPDATE');
	is(version_in($db), $newest, "$db is $newest now");
}

ok(@released > 0, 'there are released versions') or diag('test/upgrade is empty');
make_database('fresh');

for my $version (@released)
{
	my $name = $version =~ s/\./_/gr;

	promise "update_from_${name}_makes_the_catalog_of_a_fresh_installation" => sub {
		my $db = make_database("empty_$name", $version);
		my %fresh = map { $_ => 1 } catalog_lines($node, 'fresh');

		is(version_in($db), $version, "$db begins with $version");
		ok(scalar(grep({ !$fresh{$_} && !/^extension:/ } catalog_lines($node, $db))) > 0, 'which has another catalog');
		update($db);
		same_catalog($node, $db, 'fresh', 'it is the catalog of a fresh installation');
	};

	promise "pipelines_of_${name}_go_on_over_the_update_and_miss_nothing" => sub {
		my $db = make_database("busy_$name", $version);
		my $letters = q{SELECT (SELECT string_agg(d::text, ',') FROM beam.dead_letters d), (SELECT string_agg(l::text, ',') FROM beam.late_events l WHERE pipeline = 'closing' AND window_end < '2026-01-02')};
		my ($load, $before, $states, $pid);

		make_pipelines($db);
		$before = $node->safe_psql($db, $letters);
		like($before, qr/inverse.*division by zero.*closing/s, 'there are a dead letter and a late event');
		put_aside($db, sub { });
		equal_to_batch($node, $_, "$_ runs with the catalog of $version", $db) for @pipelines;
		$states = states_in($db);
		is($states, 'by_key running, by_minute running, closing running, inverse running, of_keys running, paused paused, sessions running, twices running', 'the states');
		$pid = pid_of($node, 'runner', $db);
		$load = start_load($node, q{
			\set i random(1, 5000)
			INSERT INTO e VALUES (:i, '2026-01-03'::timestamptz + :i * interval '1 s', :i % 7, 'v' || :i % 3);
			UPDATE e SET k = (k + 1) % 7 WHERE id = :i + 1 AND ts >= '2026-01-03';
			DELETE FROM e WHERE id = :i + 2 AND ts >= '2026-01-03'}, $db);
		wait_until($node, q{SELECT count(*) > 10 FROM by_minute WHERE window_start >= '2026-01-03'}, 't', $db);
		update($db);
		my $rows = $node->safe_psql($db, 'SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = $$e$$');
		wait_until($node, "SELECT n_tup_ins > $rows + 100 FROM pg_stat_user_tables WHERE relname = 'e'", 't', $db);
		finish_load($load);
		is(pid_of($node, 'runner', $db), $pid, 'it is the same runner');
		equal_to_batch($node, $_, undef, $db) for @pipelines;
		is(states_in($db), $states, 'the states are what they were');
		is($node->safe_psql($db, $letters), $before, 'dead letter and late event are what they were');
		put_aside($db, sub { is($node->safe_psql($db, q{SELECT state FROM beam.pipelines WHERE name = 'by_minute'}), 'retrying', 'what the new version has works') });
	} or next;

	promise "pipelines_of_${name}_are_those_of_now_after_the_update" => sub {
		my $db = "busy_$name";

		$node->safe_psql($db, q{SELECT beam.resume_pipeline('paused'); SELECT beam.alter_pipeline('by_key', 'SELECT k, count(*) AS n, min(v) AS v FROM e GROUP BY k')});
		$node->safe_psql($db, q{CALL beam.wait_for_alter('by_key')});
		$node->safe_psql($db, q{INSERT INTO e VALUES (2, '2026-01-04', 2, 'w'); CALL beam.backfill('by_minute')});
		equal_to_batch($node, $_, "$_, altered, resumed or computed anew", $db) for @pipelines, 'paused';
		crash_and_start($node);
		$node->safe_psql($db, q{INSERT INTO e VALUES (3, '2026-01-05', 3, 'x'); DELETE FROM e WHERE id = 2});
		equal_to_batch($node, $_, "$_ after a crash", $db) for @pipelines, 'paused';
		$node->safe_psql($db, q{CREATE OR REPLACE FUNCTION twice(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN v * 3; END'});
		equal_to_batch($node, 'twices', 'a function that is replaced is noticed by a pipeline of then', $db);
		$node->safe_psql($db, "SELECT beam.drop_pipeline('$_')") for qw(twices of_keys by_key by_minute sessions paused inverse closing);
		same_catalog($node, $db, 'fresh', 'without pipelines the catalog is that of a fresh installation');
	};
}

# The catalog of an earlier version has not the columns of options that the library knows; this is one that no view shows.
promise 'option_without_a_column_is_as_if_it_were_not_given' => sub {
	my $db = make_database('older');

	make_source($node, 'e', $db);
	$node->safe_psql($db, 'ALTER TABLE beam.pipeline DROP COLUMN keep');
	create_pipeline($node, 'p', 'SELECT k, count(*) AS n FROM e GROUP BY k', undef, $db);
	$node->safe_psql($db, q{INSERT INTO e VALUES (1, '2026-01-01', 1, 'v')});
	equal_to_batch($node, 'p', 'a pipeline runs', $db);
	$node->safe_psql($db, q{SELECT beam.alter_pipeline('p', idle_timeout => '0')});
	$node->safe_psql($db, q{CALL beam.wait_for_alter('p')});
	is($node->safe_psql($db, q{SELECT version, stage FROM beam.pipeline_versions}), '2|current', 'the old version is not kept');
};

done_testing();
