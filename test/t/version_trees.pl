# Versions of a pipeline whose result others read: they get new versions with it, and all take their places in one transaction; under writers,
# queries and kills.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use SbTest;

my $node = new_node('version_trees', conf => q{
stream_beam.housekeeping_interval = 1
stream_beam.max_dead_letters = 50
stream_beam.bundle_time = '20ms'
stream_beam.history_chunk_time = '20ms'
});
my $rows = 20000;

sub run
{
	return $node->safe_psql('postgres', $_[0]);
}

# Over table `e_NAME`, with rows, pipeline NAME; over that `NAME_h` and `NAME_all`, and over `NAME_h` again `NAME_d`
sub setup
{
	my ($name, $query) = @_;

	make_source($node, "e_$name");
	run("CREATE INDEX ON e_$name (ts)");
	run("INSERT INTO e_$name SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 7, '' FROM generate_series(1, $rows) i");
	create_pipeline($node, $name, $query // tumble("e_$name"));
	create_pipeline($node, "${name}_h", qq{SELECT w.window_start, w.window_end, sum(u.n) AS n, sum(u.s) AS s, max(u.s) AS most, count(DISTINCT u.n) AS different
		FROM $name u, beam.tumble(u.window_start, '1 hour') w GROUP BY 1, 2});
	create_pipeline($node, "${name}_d", qq{SELECT w.window_start, w.window_end, sum(h.n) AS n, string_agg(h.s::text, ' ' ORDER BY h.window_start) AS list
		FROM ${name}_h h, beam.tumble(h.window_start, '1 day') w GROUP BY 1, 2});
	create_pipeline($node, "${name}_all", "SELECT count(*) AS groups, sum(n) AS n FROM $name");
}

sub members
{
	my ($name) = @_;

	return ($name, map { "${name}_$_" } qw(h d all));
}

sub drop_all
{
	run("SELECT beam.drop_pipeline('$_')") for reverse members($_[0]);
}

sub by_hour
{
	my ($name) = @_;

	return qq{SELECT w.window_start, w.window_end, e.k, count(*) AS n, sum(e.id) AS s, max(e.id) AS most
		FROM e_$name e, beam.tumble(e.ts, '30 minutes') w WHERE e.k <> 3 GROUP BY 1, 2, 3};
}

sub alter
{
	my ($name, $query, $arguments) = @_;

	run("SELECT beam.alter_pipeline('$name', \$q\$$query\$q\$" . ($arguments // '') . ')');
}

sub altered
{
	my ($name) = @_;

	$node->safe_psql('postgres', "CALL beam.wait_for_alter('$name')", timeout => $PostgreSQL::Test::Utils::timeout_default);
}

sub stages
{
	my ($name) = @_;

	return run("SELECT string_agg(version || ' ' || stage, ', ' ORDER BY version) FROM beam.pipeline_versions WHERE name = '$name'");
}

# All of the tree are in these stages
sub tree_is
{
	my ($name, $stages, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is(join('; ', map { stages($_) } members($name)), join('; ', ($stages) x 4), "$what: stages");
}

sub all_equal
{
	my ($name, $what) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	equal_to_batch($node, $_, "$what: $_") for members($name);
}

# Clients that change all there is of the table
sub load
{
	my ($name) = @_;

	return start_load($node, qq{
\\set i random(1, $rows)
INSERT INTO e_$name SELECT :i, '2026-01-01'::timestamptz + (:i + i) * interval '1 s', i % 7, '' FROM generate_series(1, 5) i;
UPDATE e_$name SET k = (k + 1) % 7, id = id + 1 WHERE ts = '2026-01-01'::timestamptz + :i * interval '1 s';
DELETE FROM e_$name WHERE ts = '2026-01-01'::timestamptz + (:i + 1) * interval '1 s';
}, undef, qw(-c 2 -T 600 -R 100));
}

promise 'readers_get_new_versions_with_what_they_read' => sub {
	setup('p');
	my $load = load('p');

	alter('p', by_hour('p'));
	altered('p');
	finish_load($load);
	tree_is('p', '1 kept, 2 current', 'altered');
	all_equal('p', 'altered');
	$load = load('p');
	run("SELECT beam.rollback_pipeline('p')");
	altered('p');
	finish_load($load);
	tree_is('p', '1 current, 2 kept', 'rolled back');
	all_equal('p', 'rolled back');
	$load = load('p');
	run("SELECT beam.resync_pipeline('p')");
	wait_for($node, 'p_d');
	finish_load($load);
	tree_is('p', '2 kept, 3 current', 'resynced');
	all_equal('p', 'resynced');
	drop_all('p');
	is(run("SELECT count(*) FROM pg_class WHERE relname LIKE 'p\\_%' AND relkind IN ('r', 'v') AND relnamespace = 'public'::regnamespace"), 0, 'nothing is left of them');
	wait_until($node, "SELECT count(*) = 0 FROM pg_class WHERE relnamespace = 'beam_state'::regnamespace AND relkind = 'r'");
};

# Nothing can take its place while this is held
sub hold
{
	my ($name, $db) = @_;
	my $holder = $node->background_psql($db // 'postgres');

	$holder->query_safe("BEGIN; LOCK TABLE $name IN ROW EXCLUSIVE MODE");
	return $holder;
}

sub release
{
	my ($holder) = @_;

	$holder->query_safe('COMMIT');
	$holder->quit;
}

promise 'nobody_sees_a_new_level_beside_an_old_one' => sub {
	make_source($node, 'e_r');
	run("INSERT INTO e_r SELECT i, '2026-01-01', i % 7, '' FROM generate_series(1, $rows) i");
	create_pipeline($node, 'r', 'SELECT k, 1 AS generation, count(*) AS n FROM e_r e GROUP BY k');
	create_pipeline($node, 'r_1', 'SELECT k % 2 AS k, sum(n) AS n, min(generation) AS least, max(generation) AS most FROM r GROUP BY 1');
	create_pipeline($node, 'r_2', 'SELECT sum(n) AS n, min(least) AS least, max(most) AS most FROM r_1');
	wait_for($node, 'r_2');
	run(q{CREATE TABLE seen (what text);
		CREATE FUNCTION look() RETURNS void LANGUAGE plpgsql AS $$
		DECLARE
			found record;
		BEGIN
			SELECT (SELECT sum(n) FROM r) AS n, (SELECT min(generation) FROM r) AS least, (SELECT max(generation) FROM r) AS most,
				(SELECT sum(n) FROM r_1) AS n1, (SELECT min(least) FROM r_1) AS least1, (SELECT max(most) FROM r_1) AS most1, r_2.* INTO found FROM r_2;
			IF found.n IS DISTINCT FROM found.n1 OR found.least <> found.most OR (found.least1, found.most1) IS DISTINCT FROM (found.least, found.most) THEN
				INSERT INTO seen VALUES (found::text);
			END IF;
		END$$});
	# the columns stay, so nobody who looks is in the way
	my $queries = start_load($node, 'SELECT look();', undef, qw(-c 3 -T 600));
	for my $generation (2 .. 6)
	{
		alter('r', "SELECT k, $generation AS generation, count(*) AS n FROM e_r e GROUP BY k", $generation % 2 ? q{, keep => NULL} : '');
		run("INSERT INTO e_r SELECT i, '2026-01-01', i % 7, '' FROM generate_series(1, 100) i");
		altered('r');
		is(run('SELECT least, most FROM r_2'), "$generation|$generation", "generation $generation is in place at the last level");
	}
	finish_load($queries);
	is(run('SELECT string_agg(DISTINCT what, $$; $$) FROM seen'), '', 'never a mixture, never nothing');
	equal_to_batch($node, $_, 'the last one') for qw(r r_1 r_2);
	run("SELECT beam.drop_pipeline('$_')") for qw(r_2 r_1 r);
};

promise 'columns_that_a_reader_uses_stay' => sub {
	setup('c');
	wait_for($node, 'c_d');
	refuses($node, q{SELECT beam.alter_pipeline('c', 'SELECT w.window_start, w.window_end, e.k, count(*) AS n FROM e_c e, beam.tumble(e.ts, $$1 minute$$) w GROUP BY 1, 2, 3')},
		qr/result column "s" of pipeline "c" cannot change.*pipeline c_h depends on it/s, 'one that goes');
	refuses($node, q{SELECT beam.alter_pipeline('c', 'SELECT w.window_start, w.window_end, e.k, count(*) AS n, sum(e.id)::float8 AS s FROM e_c e, beam.tumble(e.ts, $$1 minute$$) w GROUP BY 1, 2, 3')},
		qr/result column "s" of pipeline "c" cannot change.*pipeline c_h depends on it/s, 'one that gets another type');
	tree_is('c', '1 current', 'nothing is built');
	# k goes, which nobody reads, and comes again as a text, behind the others
	alter('c', q{SELECT w.window_start, w.window_end, count(*) AS n, sum(e.id) AS s, e.k::text AS k, min(e.id) AS least
		FROM e_c e, beam.tumble(e.ts, '1 minute') w GROUP BY 1, 2, e.k::text});
	altered('c');
	run("INSERT INTO e_c SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 3, '' FROM generate_series(1, 100) i");
	all_equal('c', 'columns exchanged');
	# rows that leave and come with all they have, from a retracting result and to it
	alter('c', q{SELECT w.window_start, w.window_end, count(*) AS n, sum(e.id) AS s FROM e_c e, beam.tumble(e.ts, '1 minute') w GROUP BY 1, 2}, q{, accumulation => 'retracting'});
	altered('c');
	run("INSERT INTO e_c SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 3, '' FROM generate_series(1, 100) i");
	wait_for($node, 'c');
	cmp_ok(run('SELECT count(*) FROM c WHERE op = -1'), '>', 0, 'retracting');
	equal_to_batch($node, $_, "over rows that are added only: $_") for qw(c_h c_d c_all);
	run("SELECT beam.rollback_pipeline('c')");
	altered('c');
	run("INSERT INTO e_c SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 3, '' FROM generate_series(1, 100) i");
	all_equal('c', 'back again');
	drop_all('c');
};

promise 'trees_are_given_up_as_a_whole' => sub {
	setup('g');
	wait_for($node, 'g_d');
	my $holder = hold('g');
	alter('g', by_hour('g'));
	is(run(q{SELECT string_agg(name, ' ' ORDER BY name) FROM beam.pipeline_versions WHERE stage = 'building'}), 'g g_all g_d g_h', 'a version of each is built');
	refuses($node, "SELECT beam.$_->[0]('g_h')", $_->[1], "downstream pipeline: $_->[0]")
		for [ 'alter_pipeline', qr/a new version of pipeline "g_h" is being built already/ ], [ 'resync_pipeline', qr/is being built already/ ],
		[ 'rollback_pipeline', qr/is being built already/ ], [ 'cancel_alter', qr/belongs to that of pipeline "g", which is upstream of it/ ];
	run(q{SELECT beam.cancel_alter('g')});
	tree_is('g', '1 current', 'given up');
	release($holder);
	run("INSERT INTO e_g VALUES (1, '2026-01-01', 1, '')");
	all_equal('g', 'the old ones go on');
	alter('g', by_hour('g'));
	altered('g');
	$holder = hold('g');
	run(q{SELECT beam.rollback_pipeline('g')});
	run(q{SELECT beam.cancel_alter('g')});
	tree_is('g', '1 kept, 2 current', 'a tree that was to be rolled back to is kept on');
	release($holder);
	run(q{SELECT beam.rollback_pipeline('g')});
	altered('g');
	tree_is('g', '1 current, 2 kept', '... to be rolled back to later');
	all_equal('g', 'rolled back');
	drop_all('g');
};

promise 'reader_that_fails_over_the_new_result_leaves_the_old_ones_alone' => sub {
	setup('f');
	create_pipeline($node, 'f_x', 'SELECT sum(1 / (n + 100)) AS n FROM f');
	wait_for($node, 'f_x');
	alter('f', tumble('e_f') =~ s/count\(\*\) AS n/count(*) - count(*) - 100 AS n/r);
	wait_until($node, "SELECT next_state FROM beam.pipelines WHERE name = 'f_x'", 'failed');
	refuses($node, qq{CALL beam.wait_for_alter('$_')}, qr/version 2 of pipeline "f_x", which is being built, is failed.*division by zero/s, "who waits for $_ is told") for qw(f f_x f_h);
	run("INSERT INTO e_f VALUES (1, '2026-01-01', 1, '')");
	all_equal('f', 'the old ones go on');
	run(q{SELECT beam.drop_pipeline('f_x')});
	altered('f');
	tree_is('f', '1 kept, 2 current', 'without it all take their places');
	all_equal('f', 'without it');
	drop_all('f');
};

promise 'readers_come_and_go_while_a_tree_is_built' => sub {
	setup('m');
	wait_for($node, 'm_d');
	my $holder = hold('m_d');
	alter('m', by_hour('m'));
	run(q{SELECT beam.drop_pipeline('m_all')});
	create_pipeline($node, 'm_all', 'SELECT count(*) AS groups, sum(n) AS n FROM m');
	create_pipeline($node, 'm_more', 'SELECT max(s) AS most FROM m_h');
	wait_until($node, q{SELECT count(*) = 5 FROM beam.pipeline_versions WHERE stage = 'building'});
	run(q{SELECT beam.pause_pipeline('m_h')});
	release($holder);
	run("INSERT INTO e_m VALUES (1, '2026-01-01', 1, '')");
	wait_for($node, 'm');
	tree_is('m', '1 current, 2 building', 'one that is paused is waited for');
	run(q{SELECT beam.resume_pipeline('m_h')});
	altered('m');
	tree_is('m', '1 kept, 2 current', 'all in place');
	all_equal('m', 'all in place');
	equal_to_batch($node, 'm_more', 'the one that came in between');
	run(q{SELECT beam.pause_pipeline('m_d')});
	refuses($node, qq{SELECT beam.$_('m')}, qr/downstream pipeline "m_d" of pipeline "m_h" is paused/, $_) for qw(alter_pipeline rollback_pipeline);
	run(q{SELECT beam.resync_pipeline('m')});
	wait_for($node, 'm_d');
	all_equal('m', 'made anew it runs');
	run(q{SELECT beam.drop_pipeline('m_more')});
	drop_all('m');
};

promise 'reader_that_is_altered_meanwhile' => sub {
	setup('a');
	wait_for($node, 'a_d');
	my $holder = hold('a_all');
	alter('a_all', 'SELECT count(*) AS groups, sum(n) AS n, max(s) AS most FROM a');
	refuses($node, q{SELECT beam.alter_pipeline('a')}, qr/a new version of pipeline "a_all" is being built already.*new version of downstream pipeline "a_all"/s, 'is in the way of an alteration');
	run(q{SELECT beam.resync_pipeline('a')});
	release($holder);
	wait_for($node, 'a_all');
	is(run(q{SELECT count(most) FROM a_all}), 1, 'a resync has it begin again, as it was to be');
	all_equal('a', 'altered and made anew');
	# its own versions
	alter('a_all', 'SELECT count(*) AS groups, sum(n) AS n FROM a');
	altered('a_all');
	run(q{SELECT beam.rollback_pipeline('a_all')});
	altered('a_all');
	is(run(q{SELECT count(most) FROM a_all}), 1, 'a downstream pipeline is rolled back alone');
	equal_to_batch($node, 'a_all', 'rolled back');
	alter('a', by_hour('a'));
	altered('a');
	refuses($node, q{SELECT beam.rollback_pipeline('a_all')}, qr/version \d+ of pipeline "a_all" reads an earlier version of "a"/, 'not to what read another result');
	alter('a_all', 'SELECT count(*) AS groups, sum(n) * 2 AS n, max(s) AS most FROM a');
	altered('a_all');
	create_pipeline($node, 'a_new', 'SELECT k, sum(n) AS n FROM a GROUP BY k');
	run(q{SELECT beam.rollback_pipeline('a')});
	altered('a');
	run("INSERT INTO e_a VALUES (1, '2026-01-01', 1, '')");
	like(run("SELECT query FROM beam.pipeline_versions WHERE name = 'a_all' AND stage = 'current'"), qr/\* /, 'a downstream pipeline that was altered later stays as it is');
	all_equal('a', 'rolled back under it');
	equal_to_batch($node, 'a_new', 'one that was made later');
	refuses($node, q{SELECT beam.alter_pipeline('a', 'SELECT list AS k, sum(n) AS n FROM a_d GROUP BY 1')}, qr/cannot read its own result.*made from it/s, 'no circles');
	run(q{SELECT beam.drop_pipeline('a_new')});
	drop_all('a');
};

promise 'kept_tree_expires_as_a_whole' => sub {
	setup('x');
	alter('x_h', q{SELECT w.window_start, w.window_end, sum(u.n) AS n, sum(u.s) AS s FROM x u, beam.tumble(u.window_start, '2 hours') w GROUP BY 1, 2});
	altered('x_h');
	alter('x', by_hour('x'), q{, keep => '1 second'});
	altered('x');
	wait_until($node, "SELECT count(*) = 4 FROM beam.pipeline_versions WHERE name LIKE 'x%'");
	is(run("SELECT string_agg(relname, ' ' ORDER BY 1) FROM pg_class WHERE relname ~ '^x.*_v[0-9]' AND relkind IN ('r', 'v')"), '', 'nothing of it is left');
	all_equal('x', 'those that are left');
	drop_all('x');
};

promise 'tree_is_rebuilt_where_its_root_has_to_be' => sub {
	run(q{CREATE TABLE e_b (id int, ts timestamptz, k int, v text) PARTITION BY LIST (k);
		CREATE TABLE e_b_1 PARTITION OF e_b FOR VALUES IN (0, 1, 2);
		CREATE TABLE e_b_2 (id int, ts timestamptz, k int, v text);
		ALTER TABLE e_b_1 REPLICA IDENTITY FULL; ALTER TABLE e_b_2 REPLICA IDENTITY FULL;
		INSERT INTO e_b SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 3, '' FROM generate_series(1, 5000) i;
		INSERT INTO e_b_2 SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', 7, '' FROM generate_series(1, 5000) i});
	create_pipeline($node, 'b', tumble('e_b'));
	create_pipeline($node, 'b_h', q{SELECT w.window_start, w.window_end, sum(u.n) AS n, sum(u.s) AS s FROM b u, beam.tumble(u.window_start, '1 hour') w GROUP BY 1, 2});
	create_pipeline($node, 'b_d', 'SELECT sum(n) AS n, count(*) AS hours FROM b_h');
	create_pipeline($node, 'b_all', 'SELECT count(*) AS groups, sum(n) AS n FROM b');
	equal_to_batch($node, 'b_all', 'before');
	run('ALTER TABLE e_b ATTACH PARTITION e_b_2 FOR VALUES IN (7)');
	all_equal('b', 'a partition with rows has come');
	is(run('SELECT n FROM b_d'), 10000, 'which are in the last level');
	tree_is('b', '2 current', 'all made anew');
	run('ALTER TABLE e_b DETACH PARTITION e_b_2');
	all_equal('b', 'and has gone');
	is(run('SELECT n FROM b_d'), 5000, 'from the last level too');
	drop_all('b');
};

promise 'one_call_mends_all_levels_after_a_promotion' => sub {
	setup('n');
	all_equal('n', 'before');
	run(q{UPDATE beam.home SET timeline = timeline + 1});
	kill9($node, 'runner');
	state_is($node, 'n', 'needs_resync', qr/promoted or restored/);
	run("INSERT INTO e_n SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 3, '' FROM generate_series(1, 100) i");
	run(q{SELECT beam.resync_pipeline('n')});
	all_equal('n', 'made anew');
	run("INSERT INTO e_n SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 3, '' FROM generate_series(1, 100) i");
	all_equal('n', 'and they go on');
	tree_is('n', '2 current', 'all new');
	# in the middle of an alteration
	my $holder = hold('n');
	alter('n', by_hour('n'));
	run(q{UPDATE beam.home SET timeline = timeline + 1});
	kill9($node, 'runner');
	# which has ended whoever held it back
	eval { $holder->quit };
	altered('n');
	all_equal('n', 'the one that was built begins again');
	drop_all('n');
};

promise 'restored_levels_are_resynced_in_their_order' => sub {
	my $dump = $PostgreSQL::Test::Utils::tmp_check . '/dump.sql';

	setup('o');
	all_equal('o', 'before');
	command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ], 'dumped');
	run('CREATE DATABASE restored');
	command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('restored') ], 'restored');
	refuses($node, q{SELECT beam.resync_pipeline('o_h')}, qr/is downstream of pipeline "o", which needs a resync itself/, 'a downstream pipeline first', 'restored');
	# one that is a definition still is in nobody's way
	$node->safe_psql('restored', q{SELECT beam.resync_pipeline('o')});
	wait_for($node, 'o', 'restored');
	my $holder = hold('o_all', 'restored');
	$node->safe_psql('restored', q{SELECT beam.resync_pipeline('o_all')});
	$node->safe_psql('restored', q{INSERT INTO e_o VALUES (1, '2026-01-01', 1, '')});
	equal_to_batch($node, 'o', 'rebuilt while a downstream pipeline is yet to be', 'restored');
	release($holder);
	# nobody waits in between
	$node->safe_psql('restored', join('; ', map { "SELECT beam.resync_pipeline('$_')" } qw(o_h o_d)));
	equal_to_batch($node, $_, "made anew: $_", 'restored') for members('o');
	$node->safe_psql('restored', q{INSERT INTO e_o VALUES (1, '2026-01-01', 1, '')});
	equal_to_batch($node, $_, "and they go on: $_", 'restored') for members('o');
	run('DROP DATABASE restored');
	drop_all('o');
};

# ---- kills ----

promise 'killed_while_a_tree_is_built_and_exchanged' => sub {
	setup('k');
	wait_for($node, 'k_d');
	my $load = load('k');
	my $version = 1;
	for my $what (qw(runner postmaster before_swap in_swap after_swap runner))
	{
		my $query = $version++ % 2 ? by_hour('k') =~ s/, max\(e.id\) AS most//r : tumble('e_k');
		my $at = -s $node->logfile;

		kill_at($node, $what) if $what =~ /swap/;
		alter('k', $query, q{, keep => NULL});
		kill9($node, 'runner') if $what eq 'runner';
		crash_and_start($node) if $what eq 'postmaster';
		if ($what =~ /swap/)
		{
			$node->wait_for_log(qr/kills itself/, $at);
			kill_at($node, undef);
			wait_for_worker($node, 'runner');
		}
		wait_until($node, "SELECT next_version IS NULL FROM beam.pipelines WHERE name = 'k'");
		tree_is('k', "$version current", "$what: the new versions are in place");
		finish_load($load);
		all_equal('k', $what);
		$load = load('k');
	}
	finish_load($load);
	drop_all('k');
};

done_testing();
