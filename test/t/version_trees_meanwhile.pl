# What users do to pipelines, and to those that read them, while new versions of these are built.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use SbTest;

my $node = new_node('version_trees_meanwhile', conf => 'stream_beam.housekeeping_interval = 1');

sub run
{
	return $node->safe_psql('postgres', $_[0]);
}

# Table `e_NAME`, and pipeline NAME that counts its groups
sub setup
{
	my ($name) = @_;

	make_source($node, "e_$name");
	run("INSERT INTO e_$name SELECT i, '2026-01-01', i % 7, '' FROM generate_series(1, 1000) i");
	create_pipeline($node, $name, "SELECT k, count(*) AS n FROM e_$name GROUP BY k");
}

sub query
{
	my ($name, $times) = @_;

	return "SELECT k, count(*) * $times AS n FROM e_$name GROUP BY k";
}

# One that reads table `e_NAME`
sub other
{
	my ($pipeline, $name) = @_;

	create_pipeline($node, $pipeline, "SELECT sum(id::numeric) AS n FROM e_$name");
	wait_for($node, $pipeline);
}

sub altered
{
	$node->safe_psql('postgres', "CALL beam.wait_for_alter('$_')", timeout => $PostgreSQL::Test::Utils::timeout_default) for @_;
}

sub drop_all
{
	run("SELECT beam.drop_pipeline('$_')") for @_;
}

# A session with a transaction open in which this was run
sub open_with
{
	my ($sql) = @_;
	my $session = $node->background_psql('postgres');

	$session->query_safe("BEGIN; $sql");
	return $session;
}

# So that it cannot take its place
sub hold
{
	return open_with("LOCK TABLE $_[0] IN ROW EXCLUSIVE MODE");
}

sub commit
{
	my ($session) = @_;

	$session->query_safe('COMMIT');
	$session->quit;
}

sub reads_current
{
	my ($downstream, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(run("SELECT u.name || ' ' || u.stage FROM beam.pipeline r JOIN beam.pipeline u ON u.id = r.upstream WHERE r.name = '$downstream' AND r.stage = 'current'"),
		"$name current", "$downstream reads the current version of $name");
	run("INSERT INTO e_$name VALUES (1, '2026-01-01', 1, '')");
	equal_to_batch($node, $_) for $name, $downstream;
}

promise 'one_that_is_altered_to_read_a_result_reads_its_next_version' => sub {
	setup('a');
	other('x', 'a');
	my $holder = hold('x');
	run(q{SELECT beam.alter_pipeline('x', 'SELECT sum(n) AS n FROM a')});
	run("SELECT beam.alter_pipeline('a', '" . query('a', 10) . q{', keep => NULL)});
	wait_until($node, q{SELECT u.stage = 'building' FROM beam.pipeline r JOIN beam.pipeline u ON u.id = r.upstream WHERE r.name = 'x' AND r.stage = 'building'});
	commit($holder);
	altered('a', 'x');
	reads_current('x', 'a');
	# neither sees the other
	other('y', 'a');
	my $session = open_with("SELECT beam.alter_pipeline('a', '" . query('a', 100) . q{', keep => NULL)});
	run(q{SELECT beam.alter_pipeline('y', 'SELECT sum(n) AS n FROM a')});
	commit($session);
	altered('a', 'y');
	reads_current('y', 'a');
	reads_current('x', 'a');
	drop_all(qw(x y a));
};

promise 'reader_that_is_altered_to_read_something_else_does' => sub {
	setup('b');
	make_source($node, 'e_else');
	run("INSERT INTO e_else VALUES (5, '2026-01-01', 1, '')");
	create_pipeline($node, 'r', 'SELECT sum(n) AS n FROM b');
	wait_for($node, 'r');
	my $holder = hold('r');
	run(q{SELECT beam.alter_pipeline('r', 'SELECT sum(id::numeric) AS n FROM e_else')});
	run("SELECT beam.alter_pipeline('b', '" . query('b', 10) . q{')});
	commit($holder);
	altered('b', 'r');
	run("INSERT INTO e_else VALUES (6, '2026-01-01', 1, '')");
	equal_to_batch($node, $_) for qw(b r);
	is(run('SELECT n FROM r'), 11, 'it reads the other table');
	drop_all(qw(r b));
};

promise 'replaced_view_is_not_taken_and_a_query_that_reads_something_else_is' => sub {
	setup('v');
	create_pipeline($node, 'r', 'SELECT sum(n) AS n FROM v');
	wait_for($node, 'r');
	run('CREATE OR REPLACE VIEW r_batch AS SELECT sum(id::numeric) AS n FROM e_v');
	refuses($node, q{SELECT beam.resync_pipeline('r')}, qr/has been replaced/, 'what the view says is not asked');
	run(q{SELECT beam.alter_pipeline('r', 'SELECT sum(id::numeric) AS n FROM e_v', keep => NULL)});
	run(q{CALL beam.wait_for_alter('r')});
	equal_to_batch($node, 'r', 'a table');
	is(run('SELECT n FROM r'), 500500, 'has its rows');
	run(q{SELECT beam.alter_pipeline('r', 'SELECT sum(n) AS n FROM v', keep => NULL)});
	run(q{CALL beam.wait_for_alter('r')});
	wait_for($node, 'r');
	reads_current('r', 'v');
	drop_all(qw(r v));
};

promise 'two_that_are_altered_to_read_each_other_are_refused' => sub {
	setup('c');
	other($_, 'c') for qw(c_x c_y);
	my $session = open_with(q{SELECT beam.alter_pipeline('c_x', 'SELECT sum(n) AS n, 0 AS more FROM c_y')});
	run(q{SELECT beam.alter_pipeline('c_y', 'SELECT sum(n) AS n, 0 AS more FROM c_x')});
	commit($session);
	wait_until($node, q{SELECT bool_or(next_state = 'failed') FROM beam.pipelines WHERE name IN ('c_x', 'c_y')});
	run(q{SELECT beam.cancel_alter(name) FROM beam.pipeline_versions WHERE stage = 'building'});
	run("INSERT INTO e_c VALUES (1, '2026-01-01', 1, '')");
	equal_to_batch($node, $_, "the old one goes on: $_") for qw(c_x c_y);
	drop_all(qw(c_x c_y c));
};

promise 'what_joined_a_version_that_begins_again_begins_again' => sub {
	run(q{CREATE TABLE e_p (id int, ts timestamptz, k int, v text) PARTITION BY LIST (k);
		CREATE TABLE e_p_1 PARTITION OF e_p FOR VALUES IN (0, 1, 2);
		CREATE TABLE e_p_2 (id int, ts timestamptz, k int, v text);
		ALTER TABLE e_p_1 REPLICA IDENTITY FULL; ALTER TABLE e_p_2 REPLICA IDENTITY FULL;
		INSERT INTO e_p SELECT i, '2026-01-01', i % 3, '' FROM generate_series(1, 100) i;
		INSERT INTO e_p_2 SELECT i, '2026-01-01', 7, '' FROM generate_series(1, 100) i});
	create_pipeline($node, 'p', 'SELECT k, count(*) AS n FROM e_p GROUP BY k');
	other('p_x', 'p');
	my $holder = hold('p_x');
	run(q{BEGIN; SELECT beam.alter_pipeline('p', 'SELECT k, count(*) * 10 AS n FROM e_p GROUP BY k');
		SELECT beam.alter_pipeline('p_x', 'SELECT sum(n) AS n FROM p'); COMMIT});
	my $built = run(q{SELECT id FROM beam.pipeline WHERE name = 'p' AND stage = 'building'});
	run('ALTER TABLE e_p ATTACH PARTITION e_p_2 FOR VALUES IN (7)');
	wait_until($node, "SELECT count(*) = 0 FROM beam.pipeline WHERE id = $built");
	commit($holder);
	altered('p', 'p_x');
	reads_current('p_x', 'p');
	drop_all(qw(p_x p));
};

promise 'drop_that_is_open_holds_up_no_other_pipeline' => sub {
	setup('d');
	setup('e');
	create_pipeline($node, 'd_r', 'SELECT sum(n) AS n FROM d');
	other('bystander', 'd');
	wait_for($node, 'd_r');
	my $runner = pid_of($node, 'runner');
	my $session = hold('d, e');
	run(q{SELECT beam.alter_pipeline('d'); SELECT beam.alter_pipeline('e')});
	# a pipeline that is at work would wait for who drops it: they are to have nothing more to do
	wait_until($node, q{SELECT count(*) = 3 FROM beam.history h JOIN beam.pipeline p ON p.id = h.pipeline WHERE p.stage = 'building' AND h.finished_at IS NOT NULL});
	wait_for($node, 'bystander');
	$session->query_safe(q{SELECT beam.drop_pipeline('d_r'); SELECT beam.drop_pipeline('e')});
	# the runner looks at all of them again
	run(q{SELECT beam.pause_pipeline('bystander')});
	run(q{SELECT beam.resume_pipeline('bystander')});
	wait_for($node, 'bystander');
	commit($session);
	altered('d');
	run("INSERT INTO e_d VALUES (1, '2026-01-01', 1, '')");
	equal_to_batch($node, 'd');
	is(pid_of($node, 'runner'), $runner, 'and the runner lives');
	drop_all(qw(bystander d));
};

promise 'reader_of_another_role_is_not_run_in_its_alterer_s_session' => sub {
	run(q{CREATE ROLE upper_owner; CREATE ROLE reader_owner; GRANT CREATE ON SCHEMA public TO upper_owner, reader_owner;
		GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA beam TO upper_owner, reader_owner;
		SET SESSION AUTHORIZATION upper_owner;
		CREATE TABLE e_s (id int); ALTER TABLE e_s REPLICA IDENTITY FULL;
		SELECT beam.create_pipeline('s', 'SELECT count(*) AS n FROM e_s');
		GRANT SELECT ON s TO reader_owner;
		SET SESSION AUTHORIZATION reader_owner;
		CREATE TABLE rates AS SELECT 7 AS rate;
		CREATE FUNCTION rate() RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT rate FROM rates); END';
		SELECT beam.create_pipeline('s_r', 'SELECT sum(n) * rate() AS n FROM s')});
	wait_for($node, 's_r');
	my ($rc, $out, $err) = $node->psql('postgres', q{SET SESSION AUTHORIZATION upper_owner;
		CREATE FUNCTION steal() RETURNS int LANGUAGE plpgsql AS 'BEGIN RAISE WARNING $$running as %$$, current_user; RETURN 0; END';
		CREATE TEMP VIEW rates AS SELECT steal() AS rate;
		GRANT SELECT ON rates TO reader_owner;
		SELECT beam.alter_pipeline('s', 'SELECT count(*) * 2 AS n FROM e_s')});
	is($rc, 0, 'altered');
	is($err, '', 'nothing of it is run as the owner of the downstream pipeline');
	altered('s');
	run('INSERT INTO e_s VALUES (1)');
	equal_to_batch($node, $_) for qw(s s_r);
	is(run('SELECT n FROM s_r'), 14, 'it is built with the settings of its own');
	drop_all(qw(s_r s));
	run('DROP OWNED BY upper_owner, reader_owner; DROP ROLE upper_owner, reader_owner');
};

promise 'kept_reader_that_has_failed_is_not_waited_for' => sub {
	setup('f');
	create_pipeline($node, 'f_r', 'SELECT sum(n) AS n FROM f');
	wait_for($node, 'f_r');
	run("SELECT beam.alter_pipeline('f', '" . query('f', 10) . q{')});
	altered('f');
	run(q{UPDATE beam.pipeline SET state = 'failed', revision = revision + 1 WHERE name = 'f_r' AND stage = 'kept'});
	run(q{SELECT beam.rollback_pipeline('f')});
	altered('f');
	reads_current('f_r', 'f');
	drop_all(qw(f_r f));
};

promise 'kept_version_that_is_read_holds_back_its_own_expiry_only' => sub {
	setup('g');
	setup('h');
	run("SELECT beam.alter_pipeline('$_')") for qw(g h);
	altered(qw(g h));
	my $session = open_with('LOCK TABLE ' . run(q{SELECT result::regclass FROM beam.pipeline WHERE name = 'g' AND stage = 'kept'}) . ' IN ACCESS SHARE MODE');
	# a bundle has housekeeping look again
	run(q{UPDATE beam.pipeline SET keep_until = now() WHERE stage = 'kept'; INSERT INTO e_h VALUES (1, '2026-01-01', 1, '')});
	wait_until($node, q{SELECT count(*) = 0 FROM beam.pipeline WHERE name = 'h' AND stage = 'kept'});
	is(run(q{SELECT count(*) FROM beam.pipeline WHERE name = 'g' AND stage = 'kept'}), 1, 'the one that is read is there');
	commit($session);
	wait_until($node, q{SELECT count(*) = 0 FROM beam.pipeline WHERE name = 'g' AND stage = 'kept'});
	drop_all(qw(g h));
};

done_testing();
