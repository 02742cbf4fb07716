# Versions of a pipeline whose result others read: they get new versions with it, and all take their places in one transaction; under writers,
# readers and kills.
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
include_if_exists = 'kill_at.conf'
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
	is(run("SELECT count(*) FROM pg_class WHERE relnamespace = 'beam_state'::regnamespace AND relkind = 'r'"), 0, 'nor of their state');
};

done_testing();
