# Attacks by names: what a role puts before the names that the extension's own SQL uses, types, relations, operators and functions, in pg_temp
# or in a schema that its search_path has in front, does not run as anybody else, whatever is called.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use SbTest;
use SbAttack;

my $node = attack_server('attacks');

# ---- what stands before the names of pg_catalog ----------------------------------------------------------------------------------

my @types = qw(text int2 int4 int8 oid bool name regclass regtype regproc regprocedure regnamespace regrole interval timestamptz timestamp json jsonb
  pg_lsn pg_snapshot xid xid8 tid float8 numeric bytea varchar uuid date);
my %relations = (
	pg_attribute => 'attrelid, attname, atttypid, attnum, atttypmod, attcollation, attnotnull, attisdropped, attidentity, attgenerated',
	map { $_ => '*' } qw(pg_class pg_namespace pg_type pg_proc pg_index pg_constraint pg_depend pg_roles pg_auth_members pg_database pg_extension pg_inherits
	  pg_opclass pg_am pg_operator pg_collation pg_trigger pg_rewrite pg_settings pg_stat_activity pg_replication_slots pg_partitioned_table pg_locks));
my %shaped = (
	pipeline => '1 AS id, NULL::pg_catalog.text AS name',
	pipelines => 'NULL::pg_catalog.text AS name',
	progress => '1 AS pipeline', history => '1 AS pipeline', command => '1 AS id', cut => '1 AS pipeline', schedule => '1 AS pipeline',
	late_event => '1 AS id', dead_letter => '1 AS id', definition => '1 AS pipeline', rows => '1 AS n', job => '1 AS jobid');
# name and arguments, result; each acts and gives null
my @functions = (
	[ 'now', '', 'timestamptz' ], [ 'clock_timestamp', '', 'timestamptz' ], [ 'transaction_timestamp', '', 'timestamptz' ], [ 'pg_backend_pid', '', 'int4' ],
	[ 'pg_current_wal_lsn', '', 'pg_lsn' ], [ 'pg_current_wal_insert_lsn', '', 'pg_lsn' ], [ 'pg_current_snapshot', '', 'pg_snapshot' ],
	[ 'current_database', '', 'name' ], [ 'version', '', 'text' ], [ 'unnest', 'anyarray', 'SETOF anyelement' ], [ 'array_length', 'anyarray, int4', 'int4' ],
	[ 'cardinality', 'anyarray', 'int4' ], [ 'generate_series', 'int4, int4', 'SETOF int4' ], [ 'quote_ident', 'text', 'text' ],
	[ 'quote_literal', 'text', 'text' ], [ 'quote_nullable', 'text', 'text' ], [ 'format', 'text', 'text' ], [ 'to_json', 'anyelement', 'json' ], [ 'to_jsonb', 'anyelement', 'jsonb' ],
	[ 'row_to_json', 'record', 'json' ], [ 'pg_get_userbyid', 'oid', 'name' ], [ 'pg_get_viewdef', 'oid', 'text' ], [ 'pg_get_expr', 'pg_node_tree, oid', 'text' ],
	[ 'has_table_privilege', 'oid, text', 'bool' ], [ 'has_table_privilege', 'text, text', 'bool' ], [ 'has_table_privilege', 'name, oid, text', 'bool' ], [ 'has_function_privilege', 'text, text', 'bool' ],
	[ 'pg_has_role', 'oid, text', 'bool' ], [ 'pg_has_role', 'name, oid, text', 'bool' ], [ 'nextval', 'regclass', 'int8' ], [ 'setval', 'regclass, int8', 'int8' ],
	[ 'length', 'text', 'int4' ], [ 'lower', 'text', 'text' ], [ 'left', 'text, int4', 'text' ], [ 'substr', 'text, int4', 'text' ], [ 'replace', 'text, text, text', 'text' ],
	[ 'current_setting', 'text', 'text' ], [ 'current_setting', 'text, bool', 'text' ], [ 'set_config', 'text, text, bool', 'text' ], [ 'pg_notify', 'text, text', 'void' ],
	[ 'isfinite', 'timestamptz', 'bool' ], [ 'date_trunc', 'text, timestamptz', 'timestamptz' ], [ 'to_timestamp', 'float8', 'timestamptz' ],
	[ 'make_interval', 'int4', 'interval' ], [ 'date_bin', 'interval, timestamptz, timestamptz', 'timestamptz' ],
	[ 'pg_relation_size', 'regclass', 'int8' ], [ 'pg_wal_lsn_diff', 'pg_lsn, pg_lsn', 'numeric' ], [ 'greatest_of', 'int4', 'int4' ], [ 'round', 'numeric', 'numeric' ], [ 'floor', 'float8', 'float8' ],
	[ 'pg_visible_in_snapshot', 'xid8, pg_snapshot', 'bool' ], [ 'pg_snapshot_xmin', 'pg_snapshot', 'xid8' ], [ 'jsonb_array_elements', 'jsonb', 'SETOF jsonb' ],
	[ 'jsonb_each', 'jsonb', 'SETOF record' ], [ 'jsonb_object_keys', 'jsonb', 'SETOF text' ], [ 'jsonb_typeof', 'jsonb', 'text' ], [ 'pg_advisory_xact_lock', 'int8', 'void' ],
	[ 'pg_table_is_visible', 'oid', 'bool' ], [ 'format_type', 'oid, int4', 'text' ], [ 'pg_is_in_recovery', '', 'bool' ]);
my @aggregates = map { my $name = $_; map { [ $name, $_ ] } qw(int4 int8 text timestamptz pg_lsn oid numeric) } qw(min max sum);

# Types of both sides; those in the last list compare like oid
my @compared = ((map { [ $_, $_ ] } qw(text int2 int4 int8 oid name timestamptz interval pg_lsn bool jsonb float8 numeric xid8 bytea date)),
	[ 'name', 'text' ], [ 'text', 'name' ], [ 'int4', 'int8' ], [ 'int8', 'int4' ], [ 'regclass', 'regclass' ], [ 'oid', 'regclass' ], [ 'regclass', 'oid' ], [ '"char"', '"char"' ]);

sub types_in
{
	my ($schema, $allowed) = @_;

	# what is in pg_temp has to be named with it; no type of these names is meant here yet
	return "CREATE FUNCTION $schema.good(pg_catalog.anyelement) RETURNS pg_catalog.bool LANGUAGE plpgsql IMMUTABLE AS "
	  . "\$evil\$BEGIN PERFORM evil.act('types', '$allowed'); RETURN true; END\$evil\$;\n"
	  . join('', map { "CREATE DOMAIN $schema.$_ AS pg_catalog.$_ CHECK ($schema.good(VALUE));\n" } @types);
}

sub relations_in
{
	my ($schema, $allowed) = @_;
	my $temporary = $schema eq 'pg_temp' ? 'TEMPORARY' : '';
	my $name = $schema eq 'pg_temp' ? '' : "$schema.";

	return "CREATE FUNCTION $schema.seen(pg_catalog.int4) RETURNS pg_catalog.bool LANGUAGE plpgsql IMMUTABLE AS "
	  . "\$evil\$BEGIN PERFORM evil.act('relations', '$allowed'); RETURN true; END\$evil\$;\n"
	  . join('', map { "CREATE $temporary VIEW $name$_ AS SELECT $relations{$_} FROM pg_catalog.$_ WHERE $schema.seen(1);\n" } sort keys %relations)
	  . join('', map { "CREATE $temporary VIEW $name$_ AS SELECT $shaped{$_} WHERE $schema.seen(1);\n" } sort keys %shaped);
}

sub operators_in
{
	my ($schema, $allowed) = @_;
	my $sql = '';

	for my $pair (@compared)
	{
		my ($left, $right) = map { "pg_catalog.$_" } @$pair;
		my $cast = "@$pair" =~ /regclass/ ? '::pg_catalog.oid' : '';

		for (([ '=', 'eq' ], [ '<>', 'ne' ], [ '<', 'lt' ], [ '<=', 'le' ], [ '>', 'gt' ], [ '>=', 'ge' ]))
		{
			my ($operator, $function) = @$_;

			$sql .= evil_function("$schema.$function", "$left, $right", 'pg_catalog.bool', "\$1$cast OPERATOR(pg_catalog.$operator) \$2$cast", $allowed, 'operators')
			  . "CREATE OPERATOR $schema.$operator (LEFTARG = $left, RIGHTARG = $right, FUNCTION = $schema.$function);\n";
		}
	}
	for (([ '||', 'text', 'text', 'text' ], [ '+', 'timestamptz', 'interval', 'timestamptz' ], [ '-', 'timestamptz', 'interval', 'timestamptz' ],
		[ '-', 'timestamptz', 'timestamptz', 'interval' ], [ '-', 'pg_lsn', 'pg_lsn', 'numeric' ], [ '+', 'int8', 'int8', 'int8' ], [ '+', 'int4', 'int4', 'int4' ],
		[ '-', 'int4', 'int4', 'int4' ], [ '-', 'int8', 'int8', 'int8' ], [ '*', 'interval', 'float8', 'interval' ], [ '*', 'int4', 'int4', 'int4' ], [ '/', 'numeric', 'numeric', 'numeric' ],
		[ '->', 'jsonb', 'text', 'jsonb' ], [ '->>', 'jsonb', 'text', 'text' ], [ '-', 'jsonb', 'text', 'jsonb' ], [ '||', 'jsonb', 'jsonb', 'jsonb' ], [ '@>', 'jsonb', 'jsonb', 'bool' ],
		[ '~', 'text', 'text', 'bool' ], [ '~', 'name', 'text', 'bool' ], [ '~~', 'text', 'text', 'bool' ], [ '~~', 'name', 'text', 'bool' ], [ '&', 'int4', 'int4', 'int4' ]))
	{
		my ($operator, $left, $right, $result) = @$_;

		$sql .= evil_function("$schema.calc_" . unpack('H*', $operator), "pg_catalog.$left, pg_catalog.$right", "pg_catalog.$result",
			"\$1 OPERATOR(pg_catalog.$operator) \$2", $allowed, 'operators')
		  . "CREATE OPERATOR $schema.$operator (LEFTARG = pg_catalog.$left, RIGHTARG = pg_catalog.$right, FUNCTION = $schema.calc_" . unpack('H*', $operator) . ");\n";
	}
	return $sql;
}

sub functions_in
{
	my ($schema, $allowed) = @_;
	my $sql = '';

	for (@functions)
	{
		my ($name, $arguments, $result) = @$_;

		$sql .= "CREATE FUNCTION $schema.$name($arguments) RETURNS $result LANGUAGE plpgsql IMMUTABLE AS \$evil\$BEGIN PERFORM evil.act('functions', '$allowed'); "
		  . ($result =~ /SETOF|void/ ? 'RETURN' : 'RETURN NULL') . "; END\$evil\$;\n";
	}
	for (@aggregates)
	{
		my ($name, $type) = @$_;

		$sql .= evil_function("$schema.${name}_step", "$type, $type", $type, '$2', $allowed, 'functions')
		  . "CREATE AGGREGATE $schema.$name($type) (SFUNC = $schema.${name}_step, STYPE = $type);\n";
	}
	return $sql . evil_function("$schema.count_step", 'int8', 'int8', '$1 OPERATOR(pg_catalog.+) 1', $allowed, 'functions')
	  . "CREATE AGGREGATE $schema.count(*) (SFUNC = $schema.count_step, STYPE = int8, INITCOND = '0');\n";
}

# Each: what a session does first, and of which places it is
my %front = (
	pg_temp => {
		places => [qw(types relations)],
		session => types_in('pg_temp', '{ROLE}') . relations_in('pg_temp', '{ROLE}') },
	schema_in_front => {
		places => [qw(types relations)],
		once => 'CREATE SCHEMA front_1 AUTHORIZATION alice',
		make => types_in('front_1', 'alice') . relations_in('front_1', 'alice'),
		session => 'SET search_path = front_1, pg_catalog, alice;' },
	schema_in_front_of_it => {
		places => [qw(operators functions)],
		once => 'CREATE SCHEMA front_2 AUTHORIZATION alice',
		make => operators_in('front_2', 'alice') . functions_in('front_2', 'alice'),
		session => 'SET search_path = front_2, pg_catalog, alice;' });

# ---- what is called -------------------------------------------------------------------------------------------------------------

my $query = q{SELECT w.window_start, w.window_end, e.k, pg_catalog.count(*) AS n
	FROM alice.src e, beam.tumble(e.ts, '1 minute') w WHERE 10 OPERATOR(pg_catalog./) e.id OPERATOR(pg_catalog.<>) 77 GROUP BY 1, 2, 3};
my $other_query = $query =~ s/ AS n/ AS n, pg_catalog.max(e.id) AS most/r;
my $stream = q{'[{"rows": [{"id": 1, "ts": "2026-01-01 00:00:01+00", "k": 1}]}, {"watermark": "2026-01-02"}, {"rows": [{"id": 1, "ts": "2026-01-01", "k": 2}]}, "end"]'};
# rows that count, one that is late, one that fails, and changes
my $rows = q{INSERT INTO alice.src SELECT i, timestamptz '2026-01-01' + i * interval '1 s', i % 3 FROM generate_series(1, 100) i;
	INSERT INTO alice.src VALUES (1, '2025-01-01', 1);
	INSERT INTO alice.src VALUES (0, '2026-01-01 00:01', 1); DELETE FROM alice.src WHERE id = 0;
	UPDATE alice.src SET k = 4 WHERE id = 7; DELETE FROM alice.src WHERE id = 8;};

# [name, SQL of the attacker's session, whether there are to be rows first]; {PIPELINE} is a running one. In the order of a life
my @entries = (
	[ 'explain_pipeline', q{SELECT * FROM beam.explain_pipeline('{PIPELINE}')} ],
	[ 'verify', q{SELECT * FROM beam.verify('{PIPELINE}'); SELECT * FROM beam.verify('{PIPELINE}', '2026-01-01', '2026-01-02')} ],
	[ 'test_stream', qq{SELECT * FROM beam.test_stream('{PIPELINE}', $stream)} ],
	[ 'test_stream_state', qq{SELECT * FROM beam.test_stream_state('{PIPELINE}', $stream)} ],
	[ 'panes_are', qq{SELECT beam.panes_are('{PIPELINE}', $stream, '[{"k": 1}]'); SELECT beam.dropped_are('{PIPELINE}', $stream, '[]'); SELECT beam.no_state_left('{PIPELINE}', $stream)} ],
	[ 'wait_for', q{CALL beam.wait_for('{PIPELINE}', '10 s'); CALL beam.wait_for('{PIPELINE}', '100 ms', '2025-01-01')} ],
	[ 'backfill', q{CALL beam.backfill('{PIPELINE}'); CALL beam.backfill('{PIPELINE}', '2026-01-01', '2026-01-02')}, 1 ],
	[ 'replay_dead_letters', q{CALL beam.replay_dead_letters('{PIPELINE}'); CALL beam.replay_dead_letters('{PIPELINE}', '{1, 2}')} ],
	[ 'replay_late_events', q{CALL beam.replay_late_events('{PIPELINE}')} ],
	[ 'pause_pipeline', q{SELECT beam.pause_pipeline('{PIPELINE}')} ],
	[ 'resume_pipeline', q{SELECT beam.resume_pipeline('{PIPELINE}')}, 1 ],
	[ 'alter_pipeline', qq{SELECT beam.alter_pipeline('{PIPELINE}', \$q\$$other_query\$q\$); CALL beam.wait_for_alter('{PIPELINE}', '5 s')} ],
	[ 'rollback_pipeline', q{SELECT beam.rollback_pipeline('{PIPELINE}'); CALL beam.wait_for_alter('{PIPELINE}', '5 s')} ],
	[ 'cancel_alter', qq{SELECT beam.alter_pipeline('{PIPELINE}', \$q\$$other_query\$q\$); SELECT beam.cancel_alter('{PIPELINE}'); CALL beam.wait_for_alter('{PIPELINE}', '5 s')} ],
	[ 'resync_pipeline', q{SELECT beam.resync_pipeline('{PIPELINE}'); CALL beam.wait_for('{PIPELINE}', '5 s')} ],
	[ 'schedule_backfill', q{SELECT beam.schedule_backfill('{PIPELINE}', '* * * * *', '1 day'); SELECT beam.unschedule_backfill('{PIPELINE}')} ],
	[ 'check', q{SELECT * FROM beam.check()} ],
	[ 'the_views', join(';', map { "SELECT * FROM beam.$_" } qw(pipelines pipeline_versions stat_pipelines watermarks late_events dead_letters stat_backfill scheduled_backfills)) ],
	[ 'triggers_and_windows', q{SELECT beam.after_watermark(beam.after_count(3), beam.after_all(beam.after_count(1), beam.after_processing_time('1 s')));
		SELECT beam.trigger_to_json(beam.after_any(beam.after_count(1), beam.never())); SELECT beam.trigger_from_json('{"after_count": 3}');
		SELECT * FROM beam.tumble('2026-01-01', '1 min'); SELECT * FROM beam.hop('2026-01-01', '1 min', '10 s'); SELECT * FROM beam.cumulate('2026-01-01', '1 min', '10 s');
		SELECT * FROM beam.session('2026-01-01', '1 min'); SELECT * FROM beam.calendar('2026-01-01', 'month'); SELECT beam.pane_timing(), beam.pane_index(), beam.is_last_pane()} ],
	[ 'alter_owner', q{ALTER TABLE {OWNED} OWNER TO {ROLE}} ],
	[ 'reassign_owned', q{REASSIGN OWNED BY {ROLE} TO {ROLE}} ],
	[ 'attach_partition', q{INSERT INTO {PART} VALUES (4); ALTER TABLE {PARTED} ATTACH PARTITION {PART} FOR VALUES FROM (0) TO (9)} ],
	[ 'truncate', q{TRUNCATE {PARTED}; TRUNCATE {PART}} ],
	[ 'detach_partition', q{ALTER TABLE {PARTED} DETACH PARTITION {PART}} ],
	[ 'alter_of_a_source', q{ALTER TABLE {PARTED} ADD COLUMN more pg_catalog.int4; ALTER TABLE {PARTED} ENABLE ROW LEVEL SECURITY; ALTER TABLE {PARTED} DISABLE ROW LEVEL SECURITY;
		ALTER TABLE {OWNED} SET UNLOGGED; ALTER TABLE {OWNED} SET LOGGED; GRANT SELECT ON {OWNED} TO bob; DROP OWNED BY nobody} ],
	[ 'drop_of_a_source', q{DROP TABLE {PARTED}, {OWNED} CASCADE} ],
	[ 'drop_pipeline', q{SELECT beam.drop_pipeline('{PIPELINE}')} ],
);

sub filled_in
{
	my ($sql, %by) = @_;

	$sql =~ s/\{$_\}/$by{$_}/g for keys %by;
	return $sql;
}

# ---- a role that owns pipelines --------------------------------------------------------------------------------------------------

wait_as('alice', q{CREATE TABLE alice.src (id int, ts timestamptz, k int); ALTER TABLE alice.src REPLICA IDENTITY FULL; CREATE INDEX ON alice.src (ts)});

for my $where (sort keys %front)
{
	my $front = $front{$where};
	my $session = filled_in($front->{session}, ROLE => 'alice');
	my %names = (PIPELINE => "victim_$where", ROLE => 'alice', OWNED => "alice.owned_$where", PARTED => "alice.parted_$where", PART => "alice.part_$where");

	if ($front->{once})
	{
		admin($front->{once});
		my ($out, $err) = strike('alice', $front->{make});
		is($err, '', "$where: all is there");
	}
	else
	{
		my ($out, $err) = strike('alice', $session);
		is($err, '', "$where: all is there");
	}
	wait_as('alice', filled_in(qq{
		CREATE TABLE {OWNED} (k int);
		CREATE TABLE {PARTED} (k int) PARTITION BY RANGE (k); CREATE TABLE {PART} (k int);
		ALTER TABLE {OWNED} REPLICA IDENTITY FULL; ALTER TABLE {PART} REPLICA IDENTITY FULL;
		SELECT beam.create_pipeline('{PIPELINE}', \$q\$$query\$q\$, watermark => '0 s', allowed_lateness => '0 s', idle_timeout => NULL)}, %names));
	wait_as('alice', filled_in($_, %names)) for (q{SELECT beam.create_pipeline('{PIPELINE}_o', 'SELECT k, count(*) AS n FROM {OWNED} GROUP BY k')},
		q{SELECT beam.create_pipeline('{PIPELINE}_p', 'SELECT k, count(*) AS n FROM {PARTED} GROUP BY k')});
	wait_as('alice', $rows);
	settle($names{PIPELINE});
	forget();

	# one that is made like this keeps the search_path: the workers, too, see these names first
	strike('alice', "$session SELECT beam.create_pipeline('alice.made_$where', \$q\$$query\$q\$, watermark => '0 s', allowed_lateness => '0 s', idle_timeout => NULL)");
	settle("made_$where");
	is(admin(qq{SELECT string_agg(a.attname || ' ' || a.atttypid::regtype, ', ' ORDER BY attnum) FROM pg_attribute a
		WHERE attrelid = to_regclass('alice.made_$where') AND attnum > 0 AND NOT attisdropped}),
		'window_start timestamp with time zone, window_end timestamp with time zone, k integer, n bigint', "types_in_${where}_do_not_become_those_of_a_result");
	is(admin(q{SELECT string_agg(attrelid::regclass || '.' || attname, ', ' ORDER BY attrelid, attnum) FROM pg_attribute a LEFT JOIN pg_type t ON t.oid = atttypid
		WHERE attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'beam_state'::regnamespace AND relkind = 'r') AND attnum > 0
			AND (attisdropped OR t.typnamespace <> 'pg_catalog'::regnamespace)}), '', "types_in_${where}_do_not_become_those_of_a_state_table");
	harmless_by_place("%_in_${where}_of_create_pipeline_run_as_nobody_else", @{ $front->{places} });
	wait_as('alice', $rows);
	settle("made_$where");
	harmless_by_place("%_in_${where}_of_a_pipeline_that_runs_run_as_nobody_else", @{ $front->{places} });
	for (([ 'explain_pipeline', "SELECT * FROM beam.explain_pipeline('made_$where')" ], [ 'verify', "SELECT * FROM beam.verify('made_$where')" ],
		[ 'test_stream', "SELECT * FROM beam.test_stream('made_$where', $stream)" ], [ 'backfill', "CALL beam.backfill('made_$where')" ],
		[ 'replay', "CALL beam.replay_dead_letters('made_$where'); CALL beam.replay_late_events('made_$where')" ],
		[ 'alter_pipeline', "SELECT beam.alter_pipeline('made_$where', \$q\$$other_query\$q\$); CALL beam.wait_for_alter('made_$where', '5 s')" ],
		[ 'resync_pipeline', "SELECT beam.resync_pipeline('made_$where'); CALL beam.wait_for('made_$where', '5 s')" ], [ 'drop_pipeline', "SELECT beam.drop_pipeline('made_$where')" ]))
	{
		my ($entry, $sql) = @$_;

		strike(superuser(), $sql);
		settle('honest');
		harmless_by_place("%_in_${where}_of_${entry}_that_a_superuser_calls_run_as_nobody_else", @{ $front->{places} });
	}

	for (@entries)
	{
		my ($entry, $sql, $with_rows) = @$_;

		wait_as('alice', $rows) if $with_rows;
		strike('alice', $session . filled_in($sql, %names));
		settle('honest');
		harmless_by_place("%_in_${where}_of_${entry}_run_as_nobody_else", @{ $front->{places} });
	}
}

# ---- a role that has no grant at all ---------------------------------------------------------------------------------------------

for (@entries, [ 'create_pipeline', qq{SELECT beam.create_pipeline('pg_temp.x', \$q\$$query\$q\$)} ])
{
	my ($entry, $sql) = @$_;

	strike('nobody', filled_in($front{pg_temp}{session}, ROLE => 'nobody')
	  . 'CREATE TEMPORARY TABLE owned (k pg_catalog.int4); CREATE TEMPORARY TABLE part (k pg_catalog.int4); CREATE TEMPORARY TABLE parted (k pg_catalog.int4) PARTITION BY RANGE (k);'
	  . filled_in($sql, PIPELINE => 'honest', ROLE => 'nobody', OWNED => 'owned', PARTED => 'parted', PART => 'part'));
	settle('honest');
	harmless_by_place("%_in_pg_temp_of_${entry}_that_nobody_calls_run_as_nobody_else", qw(types relations));
}

# The input that made a role without any right superuser
strike('nobody', q{
	CREATE FUNCTION pg_temp.evil(pg_catalog.text) RETURNS bool LANGUAGE plpgsql AS $$BEGIN PERFORM evil.act('code', 'nobody'); RETURN true; END$$;
	CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (pg_temp.evil(value));
	SELECT beam.pause_pipeline('honest'::pg_catalog.text)});
harmless('cast_to_a_domain_in_pg_temp_named_text_in_pause_pipeline_does_not_run_as_extension_owner');

nothing_is_broken();
done_testing();
