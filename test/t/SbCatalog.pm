# SbCatalog.pm: what the extension is made of, as text: two databases whose texts are equal have the same objects.
#
#   use SbCatalog;
#   my @lines = catalog_lines($node, 'postgres');     # sorted, one for each object, column, privilege ...
#   same_catalog($node, 'updated', 'fresh', 'name');  # a test
#
# It reads all that lies in the schemas beam and beam_state, members of the extension or not, what else belongs to the extension, and the extension's
# own row. Nothing that differs without meaning anything is in it: OIDs, sizes, the order in which a privilege was given.
package SbCatalog;

use strict;
use warnings;
use Exporter 'import';
use Test::More;

our @EXPORT = qw(catalog_lines same_catalog);

my $acl = '(SELECT array_agg(a::text ORDER BY a::text) FROM unnest(%s) a)';

sub _acl { return sprintf $acl, $_[0] }

# Some builds of PostgreSQL note there where in the WAL a column has come.
sub _options { return "(SELECT array_agg(o ORDER BY o) FROM unnest($_[0]) o WHERE o !~ '^pg_attver=')" }

# What is looked at, and a query for it: each gives rows
my %parts = (
	'extension' => q{SELECT extversion, extowner::regrole, extnamespace::regnamespace, extrelocatable, extconfig::regclass[], extcondition
		FROM pg_extension WHERE extname = 'stream_beam'},
	'member' => q{SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend
		WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'stream_beam') AND deptype = 'e'},
	'schema' => 'SELECT nspname, nspowner::regrole, ' . _acl('nspacl') . q{, obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE oid = ANY (ours())},
	# what a BEGIN ATOMIC body refers to is in its text with the schema, since the path is empty
	'function' => 'SELECT oid::regprocedure, prokind, proowner::regrole, ' . _acl('proacl') . q{, obj_description(oid, 'pg_proc'), probin, prosrc,
		CASE WHEN prokind <> 'a' THEN pg_get_functiondef(oid) END FROM pg_proc WHERE pronamespace = ANY (ours())},
	'aggregate' => q{SELECT p.oid::regprocedure, a.aggkind, a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggtranstype::regtype, a.agginitval
		FROM pg_aggregate a JOIN pg_proc p ON p.oid = a.aggfnoid WHERE p.pronamespace = ANY (ours())},
	'relation' => 'SELECT oid::regclass, relkind, relpersistence, relowner::regrole, reloptions, relrowsecurity, relforcerowsecurity, relreplident, '
	  . _acl('relacl') . q{, obj_description(oid, 'pg_class'), CASE WHEN relkind = 'v' THEN pg_get_viewdef(oid) END FROM pg_class WHERE relnamespace = ANY (ours())},
	'column' => 'SELECT a.attrelid::regclass, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attcollation::regcollation, a.attidentity,
		a.attgenerated, a.attstorage, ' . _options('a.attoptions') . ', pg_get_expr(d.adbin, d.adrelid), ' . _acl('a.attacl') . q{, col_description(a.attrelid, a.attnum)
		FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		WHERE c.relnamespace = ANY (ours()) AND a.attnum > 0},
	'constraint' => q{SELECT conname, conrelid::regclass, contypid::regtype, convalidated, pg_get_constraintdef(oid), obj_description(oid, 'pg_constraint')
		FROM pg_constraint WHERE connamespace = ANY (ours())},
	'index' => q{SELECT pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisreplident FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relnamespace = ANY (ours())},
	'sequence' => q{SELECT seqrelid::regclass, seqtypid::regtype, seqstart, seqincrement, seqmax, seqmin, seqcache, seqcycle FROM pg_sequence},
	'trigger' => q{SELECT pg_get_triggerdef(t.oid), t.tgenabled FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid WHERE c.relnamespace = ANY (ours()) AND NOT t.tgisinternal},
	'event trigger' => q{SELECT e.evtname, e.evtevent, e.evtowner::regrole, e.evtfoid::regprocedure, e.evtenabled, e.evttags FROM pg_event_trigger e},
	'policy' => q{SELECT polname, polrelid::regclass, polcmd, polpermissive FROM pg_policy},
	'type' => 'SELECT oid::regtype, typtype, typcategory, typlen, typbyval, typalign, typstorage, typowner::regrole, typinput, typoutput, typreceive, typsend, typanalyze,
		typnotnull, typdefault, ' . _acl('typacl') . q{, obj_description(oid, 'pg_type') FROM pg_type WHERE typnamespace = ANY (ours())},
	'operator' => q{SELECT oid::regoperator, oprowner::regrole, oprcode, oprrest, oprjoin, oprcom::regoperator, oprnegate::regoperator, oprcanmerge, oprcanhash
		FROM pg_operator WHERE oprnamespace = ANY (ours())},
	'cast' => q{SELECT c.castsource::regtype, c.casttarget::regtype, c.castfunc::regprocedure, c.castcontext, c.castmethod FROM pg_cast c
		JOIN pg_type s ON s.oid = c.castsource JOIN pg_type t ON t.oid = c.casttarget WHERE s.typnamespace = ANY (ours()) OR t.typnamespace = ANY (ours())},
	'default privilege' => 'SELECT defaclrole::regrole, defaclnamespace::regnamespace, defaclobjtype, ' . _acl('defaclacl') . ' FROM pg_default_acl',
	# what pg_dump takes for given
	'first privilege' => 'SELECT pg_describe_object(classoid, objoid, objsubid), privtype, ' . _acl('initprivs') . q{ FROM pg_init_privs WHERE privtype = 'e'});

sub catalog_lines
{
	my ($node, $db) = @_;
	my $sql = join ' UNION ALL ', map { "SELECT format('%s: %s', '$_', to_json(x.*)) FROM ($parts{$_}) x" } sort keys %parts;

	# an array's text, so that it stands for itself in the queries
	$sql =~ s/ours\(\)/ARRAY['beam'::regnamespace, 'beam_state'::regnamespace]/g;
	return sort split /\n/, $node->safe_psql($db, "SET search_path = ''; SET quote_all_identifiers = off; $sql");
}

# A test: no line is in one only. It says what is.
sub same_catalog
{
	my ($node, $is, $should_be, $name) = @_;
	my @is = catalog_lines($node, $is);
	my @should_be = catalog_lines($node, $should_be);
	my (%is, %should_be);

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	@is{@is} = ();
	@should_be{@should_be} = ();
	return is(
		join("\n", (map { "only $is: $_" } grep { !exists $should_be{$_} } @is), (map { "only $should_be: $_" } grep { !exists $is{$_} } @should_be)),
		'', "$name (" . scalar(@should_be) . ' lines)');
}

1;
