# Who sees what of a pipeline: its owner, who watches the server, who may read its result, a stranger; and who watches sees no row of anybody. What
# everybody may call and read in the schema beam is a list that stands here.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use Test::More;
use SbTest;

my $node = new_node('visibility', conf => "stream_beam.bundle_time = '20ms'\n");

sub admin { return $node->safe_psql('postgres', $_[0]) }
sub as_role { return $node->safe_psql('postgres', $_[1], extra_params => [ '-U', $_[0] ]) }

admin(q{CREATE ROLE alice LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_monitor; CREATE ROLE reader LOGIN; CREATE ROLE stranger LOGIN; CREATE ROLE dumper LOGIN IN ROLE pg_read_all_data;
	CREATE ROLE keeper LOGIN; CREATE ROLE base_owner LOGIN;
	CREATE SCHEMA alice AUTHORIZATION alice; GRANT USAGE ON SCHEMA alice TO PUBLIC; GRANT EXECUTE ON FUNCTION beam.create_pipeline TO alice;
	CREATE TABLE keep (id int, ts timestamptz, k int, v text, secret text); ALTER TABLE keep REPLICA IDENTITY FULL; GRANT SELECT ON keep TO alice});
as_role('alice', q{SET search_path = alice, public;
	SELECT beam.create_pipeline('alice.p', $$SELECT w.window_start, w.window_end, e.k, sum(10 / e.id) AS s, max(e.v) AS v FROM public.keep e, beam.tumble(e.ts, '1 minute') w GROUP BY 1, 2, 3$$,
		watermark => '0 s', allowed_lateness => '0 s', idle_timeout => NULL)});
as_role('alice', q{SET search_path = alice, public;
	SELECT beam.create_pipeline('alice.broken', 'SELECT max(id) AS m, max(v) AS v FROM public.keep'); SELECT beam.create_pipeline('alice.other', 'SELECT count(*) AS n FROM public.keep');
	GRANT SELECT ON alice.p, alice.broken TO reader});
admin(q{INSERT INTO keep SELECT i, '2026-01-02'::timestamptz + i * interval '1 min', i % 3, 'v' || i, 'hidden' || i FROM generate_series(1, 20) i});
wait_for($node, $_) for qw(p broken other);
# a late event, a dead letter, and an error that tells a value
admin(q{INSERT INTO keep VALUES (7, '2026-01-01', 1, 'topsecret', 'hidden')});
admin(q{INSERT INTO keep VALUES (0, '2026-01-03', 1, 'topsecret', 'hidden')});
wait_for($node, 'p');
admin(q{UPDATE beam.pipeline SET state = 'failed', error_code = '22P02', error_message = 'invalid input syntax: "topsecret"', error_at = now(), revision = revision + 1 WHERE name = 'broken'});

my @views = qw(pipelines pipeline_versions stat_pipelines watermarks stat_backfill late_events dead_letters scheduled_backfills);
my %shows = map { $_ => ($_ =~ /stat_backfill|late_events|dead_letters/ ? 'pipeline' : 'name') } @views;

sub sees
{
	my ($role, $view) = @_;

	return '' if $view eq 'scheduled_backfills';
	return as_role($role, "SELECT string_agg(DISTINCT $shows{$view}, ' ' ORDER BY $shows{$view}) FROM beam.$view");
}

# Everything that a role sees in the views, as one text
sub everything
{
	my ($role) = @_;

	return join("\n", map { as_role($role, "SELECT to_jsonb(x)::text FROM beam.$_ x") } @views) . as_role($role, 'SELECT to_jsonb(c)::text FROM beam.check() c');
}

promise 'owner_sees_all_of_his_pipelines' => sub {
	is(sees('alice', $_), 'broken other p', "all in $_") for qw(pipelines pipeline_versions stat_pipelines watermarks stat_backfill);
	is(sees('alice', $_), 'p', "what $_ has") for qw(late_events dead_letters);
	is(as_role('alice', q{SELECT data ->> 'v' FROM beam.late_events}), 'topsecret', 'late rows');
	is(as_role('alice', q{SELECT data ->> 'v', message FROM beam.dead_letters}), 'topsecret|division by zero', 'rows that failed, and their errors');
	like(as_role('alice', q{SELECT error_message FROM beam.pipelines WHERE name = 'broken'}), qr/topsecret/, 'errors of pipelines');
	like(as_role('alice', q{SELECT query FROM beam.pipeline_versions WHERE name = 'p'}), qr/10 \/ /, 'and queries');
};

promise 'member_of_pg_monitor_sees_states_and_numbers_and_no_data' => sub {
	is(sees('watcher', $_), 'broken other p', "all pipelines in $_") for qw(pipelines pipeline_versions stat_pipelines watermarks stat_backfill);
	is(as_role('watcher', q{SELECT state, error_code FROM beam.pipelines WHERE name = 'broken'}), 'failed|22P02', 'state and code');
	is(as_role('watcher', q{SELECT rows_in > 0, bundles > 0, lag_bytes IS NOT NULL, retained_bytes IS NOT NULL, late_events, dead_letters FROM beam.stat_pipelines WHERE name = 'p'}), 't|t|t|t|1|1', 'statistics and lags');
	is(as_role('watcher', q{SELECT input_watermark > '2026-01-02', lag > '0 s' FROM beam.watermarks WHERE name = 'p'}), 't|t', 'watermarks');
	is(as_role('watcher', 'SELECT count(*) > 5 FROM beam.check()'), 't', 'beam.check()');
	is(sees('watcher', $_), '', "nothing in $_") for qw(late_events dead_letters);
	is(as_role('watcher', 'SELECT count(error_message) + count(next_error_message) FROM beam.pipelines'), 0, 'no message, which may have a value in it');
	is(as_role('watcher', 'SELECT count(query) + count(error_message) FROM beam.pipeline_versions'), 0, 'no query and no message of a version');
	unlike(everything('watcher'), qr/topsecret|hidden|division by zero|10 \/ /, 'no data, no text of a query anywhere');
};

promise 'who_may_read_a_result_sees_how_far_it_is' => sub {
	is(sees('reader', $_), 'broken p', "those whose result he reads, in $_") for qw(pipelines pipeline_versions stat_pipelines watermarks stat_backfill);
	is(as_role('reader', q{SELECT p.state, s.lag_bytes IS NOT NULL, w.lag > '0 s' FROM beam.pipelines p JOIN beam.stat_pipelines s USING (name) JOIN beam.watermarks w USING (name) WHERE name = 'p'}), 'running|t|t', 'state and lag');
	is(sees('reader', $_), '', "nothing in $_") for qw(late_events dead_letters);
	unlike(everything('reader'), qr/topsecret|hidden|division by zero|10 \/ |other/, 'no data, no text of a query, no other pipeline');
	admin('REVOKE SELECT ON alice.broken FROM reader');
	is(sees('reader', 'pipelines'), 'p', 'and no more without that right');
};

promise 'stranger_sees_nothing' => sub {
	is(as_role('stranger', "SELECT count(*) FROM beam.$_"), 0, "nothing in $_") for @views;
	unlike(everything('stranger'), qr/topsecret|hidden|broken|alice/, 'no name either');
	for (qw(pipeline progress late_event dead_letter history input command cut schedule home definition _restored_definition))
	{
		refuses($node, "SET ROLE stranger; SELECT * FROM beam.$_", qr/permission denied/, "table $_");
	}
	for (split /\n/, admin(q{SELECT c.oid::regclass FROM pg_class c WHERE c.relnamespace = 'beam_state'::regnamespace AND c.relkind = 'r'}))
	{
		refuses($node, "SET ROLE stranger; SELECT * FROM $_", qr/permission denied/, "state table $_");
	}
};

promise 'letters_hold_the_columns_that_the_query_uses' => sub {
	is(admin(q{SELECT string_agg(DISTINCT c, ' ' ORDER BY c) FROM beam.dead_letter, jsonb_object_keys(data) c}), 'id k ts v', 'dead letters');
	is(admin(q{SELECT string_agg(DISTINCT c, ' ' ORDER BY c) FROM beam.late_event, jsonb_object_keys(data) c}), 'id k ts v', 'late events');
};

# For what else takes rights away, other than a right to a column that is used: see the next one
promise 'letters_show_what_their_reader_may_read' => sub {
	my $shown = q{SELECT (SELECT count(data) FROM beam.late_events), count(data), count(message), count(*) FROM beam.dead_letters};

	is(as_role('alice', $shown), '1|1|1|1', 'the owner may');
	admin('REVOKE SELECT ON keep FROM alice; GRANT SELECT (id, ts, k) ON keep TO alice');
	is(as_role('alice', $shown), '0|0|0|1', 'not without a column that the query uses: the letter is there, its data is not');
	unlike(everything('alice'), qr/hidden|division by zero/, 'nor is what the error says');
	admin('GRANT SELECT (v) ON keep TO alice');
	is(as_role('alice', $shown), '1|1|1|1', 'again with all columns that the query uses, of others none is needed');
	admin('CREATE POLICY few ON keep USING (k = 77); ALTER TABLE keep ENABLE ROW LEVEL SECURITY');
	is(as_role('alice', $shown), '0|0|0|1', 'not where row-level security hides rows');
	admin('ALTER TABLE keep DISABLE ROW LEVEL SECURITY; DROP POLICY few ON keep; GRANT SELECT ON keep TO alice');
	is(as_role('alice', $shown), '1|1|1|1', 'again without');
};

promise 'definitions_are_for_those_who_dump' => sub {
	admin('ALTER DATABASE postgres OWNER TO base_owner; GRANT base_owner TO keeper');
	is(as_role($_, 'SELECT count(*) FROM beam.definition'), 3, "readable for $_") for qw(dumper keeper base_owner);
	refuses($node, "SET ROLE $_; SELECT * FROM beam.definition", qr/permission denied/, "not for $_") for qw(alice watcher stranger);
};

promise 'verify_compares_alike_whatever_the_session_has_set' => sub {
	# text of times and floats depends on settings; the pipeline has those it was made with
	admin(q{CREATE TABLE times (ts timestamptz, d date, f float8, i interval, b bytea); ALTER TABLE times REPLICA IDENTITY FULL;
		SET timezone = 'Asia/Tokyo'; SET datestyle = 'SQL, DMY'; SET extra_float_digits = 0; SET intervalstyle = 'iso_8601'; SET bytea_output = 'escape';
		SELECT beam.create_pipeline('set', 'SELECT ts::date AS day, ts::text AS t, d::text AS d, f::text AS f, i::text AS i, b::text AS b, date_trunc(''day'', ts) AS s, max(ts) AS ts, sum(f) AS sum, count(*) AS n
			FROM times GROUP BY ts::date, ts::text, d::text, f::text, i::text, b::text, date_trunc(''day'', ts)');
		INSERT INTO times SELECT '2026-03-01 23:00+00'::timestamptz + x * interval '7 h', date '2026-03-04' + x, x / 3.0::float8, x * interval '1 h', 'ab\\000'::bytea FROM generate_series(1, 20) x});
	wait_for($node, 'set');
	is(admin('SELECT count(*), count(DISTINCT f) FROM "set"'), '20|20', 'there are rows');
	is(admin('SELECT d FROM "set" WHERE n = 1 ORDER BY d LIMIT 1'), '05/03/2026', 'made with the settings of who has created it');
	for my $set ('SET timezone = UTC', q{SET timezone = 'America/New_York'}, q{SET datestyle = 'German'}, 'SET extra_float_digits = -10', 'SET extra_float_digits = 3', q{SET intervalstyle = 'sql_standard'},
		q{SET bytea_output = 'hex'}, q{SET timezone = 'Pacific/Kiritimati'; SET datestyle = 'Postgres, MDY'; SET extra_float_digits = -15; SET intervalstyle = 'postgres_verbose'})
	{
		is(admin("$set; SELECT count(*) FROM beam.verify('set')"), 0, $set);
	}
	is(admin(q{SET timezone = 'America/New_York'; SET datestyle = 'German'; SELECT count(*) FROM beam.verify('set'); SHOW timezone; SHOW datestyle}), "0\nAmerica/New_York\nGerman, DMY", 'and the session keeps its own');
	admin(q{UPDATE "set" SET n = 7 WHERE d = '05/03/2026'});
	is(admin(q{SET datestyle = 'German'; SELECT string_agg(kind, ' ') FROM beam.verify('set')}), 'different', 'a difference is still one');
};

# ---- what everybody may do ------------------------------------------------------------------------------------------------------

my $public = q{
function beam."check"()
function beam._assign(integer,jsonb,integer[],boolean[])
function beam._describes(jsonb,jsonb)
function beam._differences(jsonb[],jsonb[])
function beam._expectations(jsonb,text[],text)
function beam._first_step(internal,anyelement,anycompatible)
function beam._last_step(internal,anyelement,anycompatible)
function beam._latest_final(internal,anyelement,anycompatible)
function beam._top_final(internal,integer,anyelement,anycompatible)
function beam._top_step(internal,integer,anyelement,anycompatible)
function beam.first(anyelement,anycompatible)
function beam.last(anyelement,anycompatible)
function beam.top(integer,anyelement,anycompatible)
function beam._key_hash("any")
function beam._lateness_by_mode()
function beam._may_read(oid,oid,smallint[])
function beam._may_see(oid,oid)
function beam._refuse_null(text,jsonb)
function beam._report(text,text)
function beam._row_hash("any")
function beam._row_to_jsonb(record)
function beam._slot()
function beam.after_all(beam.trigger[])
function beam.after_any(beam.trigger[])
function beam.after_count(bigint)
function beam.after_each(beam.trigger[])
function beam.after_processing_time(interval,interval)
function beam.after_watermark(beam.trigger,beam.trigger)
function beam.alter_pipeline(text,text,interval,interval,beam.trigger,text,interval,text,text,text,boolean,text,interval,text)
function beam.calendar(timestamp with time zone,text,integer,text)
function beam.calendar_end(timestamp with time zone,text,integer,text)
function beam.calendar_start(timestamp with time zone,text,integer,text)
function beam.cancel_alter(text)
function beam.continuous()
function beam.cumulate(timestamp with time zone,interval,interval,interval)
function beam.cumulate_ends(timestamp with time zone,interval,interval,interval)
function beam.default_trigger()
function beam.drop_pipeline(text,boolean)
function beam.dropped_are(text,jsonb,jsonb,text)
function beam.explain_pipeline(text)
function beam.hop(timestamp with time zone,interval,interval,interval)
function beam.hop_starts(timestamp with time zone,interval,interval,interval)
function beam.is_last_pane()
function beam.never()
function beam.no_state_left(text,jsonb,text)
function beam.or_finally(beam.trigger,beam.trigger)
function beam.pane_index()
function beam.pane_timestamp()
function beam.pane_timing()
function beam.panes_are(text,jsonb,jsonb,text)
function beam.pause_pipeline(text)
function beam.repeatedly(beam.trigger)
function beam.resume_pipeline(text)
function beam.resync_pipeline(text)
function beam.rollback_pipeline(text,integer,interval)
function beam.schedule_backfill(text,text,interval)
function beam.session(timestamp with time zone,interval)
function beam.session_end(timestamp with time zone,interval)
function beam.session_start(timestamp with time zone,interval)
function beam.test_stream(text,jsonb)
function beam.test_stream_state(text,jsonb)
function beam.trigger_from_json(jsonb)
function beam.trigger_to_json(beam.trigger)
function beam.tumble(timestamp with time zone,interval,interval)
function beam.tumble_end(timestamp with time zone,interval,interval)
function beam.tumble_start(timestamp with time zone,interval,interval)
function beam.unschedule_backfill(text)
function beam.verify(text,timestamp with time zone,timestamp with time zone)
function beam.window_end(timestamp with time zone,interval)
function beam.window_max_timestamp(timestamp with time zone)
procedure beam.backfill(text,timestamp with time zone,timestamp with time zone)
procedure beam.replay_dead_letters(text,bigint[])
procedure beam.replay_late_events(text)
procedure beam.wait_for(text,interval,timestamp with time zone)
procedure beam.wait_for_alter(text,interval)
relation beam.dead_letters select
relation beam.failed_groups select
relation beam.inputs select
relation beam.late_events select
relation beam.pipeline_versions select
relation beam.pipelines select
relation beam.scheduled_backfills select
relation beam.stat_backfill select
relation beam.stat_pipelines select
relation beam.watermarks select
schema beam usage};

promise 'everybody_may_call_and_read_what_is_listed_and_no_more' => sub {
	# a function's rights are PUBLIC's where nothing is said
	my $has = admin(q{
		SELECT x FROM (
			SELECT CASE p.prokind WHEN 'p' THEN 'procedure ' ELSE 'function ' END || p.oid::regprocedure::text AS x
			  FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
			 WHERE p.pronamespace = 'beam'::regnamespace AND a.grantee = 0
			UNION ALL
			SELECT 'relation ' || c.oid::regclass::text || ' ' || lower(a.privilege_type)
			  FROM pg_class c, aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's'::"char" ELSE 'r'::"char" END, c.relowner))) a
			 WHERE c.relnamespace IN ('beam'::regnamespace, 'beam_state'::regnamespace) AND a.grantee = 0 AND c.relkind NOT IN ('i', 'c')
			UNION ALL
			SELECT 'column ' || a.attrelid::regclass::text || '.' || a.attname || ' ' || lower(x.privilege_type)
			  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid, aclexplode(a.attacl) x
			 WHERE c.relnamespace IN ('beam'::regnamespace, 'beam_state'::regnamespace) AND x.grantee = 0
			UNION ALL
			SELECT 'schema ' || n.nspname || ' ' || lower(a.privilege_type)
			  FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
			 WHERE n.nspname LIKE 'beam%' AND a.grantee = 0) x
		 ORDER BY x COLLATE "C"});
	my @wanted = sort grep { /\S/ } split /\n/, $public;

	is($has, join("\n", @wanted), 'the list');
	is(admin(q{SELECT string_agg(p.oid::regprocedure::text, ', ') FROM pg_proc p WHERE p.pronamespace = 'beam'::regnamespace AND p.prosecdef}), '', 'nothing runs as its owner');
};

done_testing();
