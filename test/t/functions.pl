# Functions of a query: which may be in it, and what happens when they are replaced.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SbTest;

my $node = new_node('main');

# What the C source lists, by the names of fmgroids.h.
sub listed
{
	my $source = slurp_file("$FindBin::RealBin/../../src/query/plan/sb_plan_stable.c");
	my ($lists) = $source =~ /^(static const Oid of_settings.*?)^static bool/ms;
	my ($dir) = run_command([ $ENV{PG_CONFIG} // 'pg_config', '--includedir-server' ]);
	my %oids = slurp_file("$dir/utils/fmgroids.h") =~ /^#define (F_\w+) (\d+)$/mg;

	return map { $oids{$_} // die "$_ is no function" } $lists =~ /\b(F_\w+)/g;
}

# Is such a call refused?
sub refused
{
	my ($expression) = @_;
	my (undef, undef, $error) = $node->psql('postgres', "SELECT beam.create_pipeline('r', \$\$SELECT id, $expression AS x FROM src\$\$)");

	return $error =~ /is not allowed in a pipeline's query/ ? 1 : 0;
}

{
	my @oids = listed();

	is($node->safe_psql('postgres',
			'SELECT oid::regprocedure FROM pg_proc RIGHT JOIN unnest(ARRAY[' . join(',', @oids) . "]) AS l (l) ON oid = l WHERE provolatile IS DISTINCT FROM 's'"),
		'', 'stable_functions_that_are_let_through_are_there_and_stable');
	is(scalar(@oids), scalar(keys %{ { map { $_ => 1 } @oids } }), 'each_is_listed_once');
	$node->safe_psql('postgres', 'CREATE TABLE src (id int PRIMARY KEY, t text, at timestamptz); ALTER TABLE src REPLICA IDENTITY FULL');
	# every other one of the catalog without arguments, and those of one text
	my @others = split /\n/, $node->safe_psql('postgres', q{SELECT format('%s%s::text', proname, CASE pronargs WHEN 0 THEN '()' ELSE '(t)' END)
		FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND provolatile = 's' AND NOT proretset AND prokind = 'f'
		AND prorettype <> ALL (ARRAY['trigger', 'event_trigger', 'internal']::regtype[])
		AND (pronargs = 0 OR proargtypes[0] = 'text'::regtype AND pronargs = 1) AND proname <> ALL (ARRAY['current_user', 'session_user', 'current_catalog'])
		AND oid <> ALL (ARRAY[} . join(',', @oids) . q{]::oid[]) ORDER BY 1});
	cmp_ok(scalar(@others), '>', 15, 'the catalog has others');
	is(join(' ', grep { !refused($_) } @others), '', 'every_other_stable_function_of_the_catalog_is_refused');
}

done_testing();
