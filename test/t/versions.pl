# Versions of a pipeline: built beside it, exchanged in one transaction, kept to go back to; under writers, queries and kills.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use SbTest;

my $node = new_node('versions', conf => q{
stream_beam.housekeeping_interval = 1
stream_beam.max_dead_letters = 50
stream_beam.bundle_time = '20ms'
stream_beam.history_chunk_time = '20ms'
});
my $forever = q{allowed_lateness => '10000 days'};
my $rows = 20000;

sub run
{
	return $node->safe_psql('postgres', $_[0]);
}

# A table `e_NAME` with rows, and over it pipeline NAME
sub setup
{
	my ($name, $query, $arguments) = @_;

	make_source($node, "e_$name");
	run("CREATE INDEX ON e_$name (ts)");
	run("INSERT INTO e_$name SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 7, '' FROM generate_series(1, $rows) i");
	create_pipeline($node, $name, $query // tumble("e_$name"), $arguments);
}

sub by_hour
{
	my ($name) = @_;

	return qq{SELECT w.window_start, w.window_end, e.k, count(*) AS n, sum(e.id) AS s, max(e.id) AS most
		FROM e_$name e, beam.tumble(e.ts, '1 hour') w GROUP BY 1, 2, 3};
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

# Clients that change all there is of the table
sub load
{
	my ($name, @options) = @_;

	return start_load($node, qq{
\\set i random(1, $rows)
INSERT INTO e_$name SELECT :i, '2026-01-01'::timestamptz + (:i + i) * interval '1 s', i % 7, '' FROM generate_series(1, 5) i;
UPDATE e_$name SET k = (k + 1) % 7, id = id + 1 WHERE ts = '2026-01-01'::timestamptz + :i * interval '1 s';
DELETE FROM e_$name WHERE ts = '2026-01-01'::timestamptz + (:i + 1) * interval '1 s';
}, undef, @options ? @options : qw(-c 2 -T 600 -R 100));
}


# equal_to_batch() waits by the name of a table, which of a side table is no pipeline's
sub side_is_batch
{
	my ($pipeline, $table, $name) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	wait_for($node, $pipeline);
	is(differences($node, $table), '', $name);
}

promise 'new_version_takes_its_place_under_load' => sub {
	setup('p');
	my $load = load('p');
	my $oid = run("SELECT 'p'::regclass::oid");

	alter('p', by_hour('p'));
	altered('p');
	finish_load($load);
	is(stages('p'), '1 kept, 2 current', 'the old version is kept');
	is(run("SELECT 'p'::regclass::oid"), $oid, 'the result table is the one it was');
	equal_to_batch($node, 'p', 'new version');
	side_is_batch('p', 'p_v1', 'old version, at the side');
	$load = load('p');
	run("SELECT beam.rollback_pipeline('p')");
	altered('p');
	finish_load($load);
	is(stages('p'), '1 current, 2 kept', 'rolled back');
	is(run("SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'p'::regclass AND attnum > 0 AND NOT attisdropped"),
		'window_start window_end k n s', 'the new column is gone again');
	equal_to_batch($node, 'p', 'the old version, back in its place');
	side_is_batch('p', 'p_v2', 'the new version, at the side');
	run("SELECT beam.drop_pipeline('p')");
	is(run("SELECT count(*) FROM pg_class WHERE relname LIKE 'p%' AND relnamespace = 'public'::regnamespace"), 0, 'all versions are dropped with it');
	is(run("SELECT count(*) FROM pg_class WHERE relnamespace = 'beam_state'::regnamespace AND relkind = 'r'"), 0, 'and their state');
};

promise 'readers_see_old_rows_or_new_ones' => sub {
	setup('r', q{SELECT k, 1 AS generation, count(*) AS n FROM e_r e GROUP BY k});
	wait_for($node, 'r');
	run(q{CREATE TABLE seen (what text);
		CREATE FUNCTION look() RETURNS void LANGUAGE plpgsql AS $$
		DECLARE
			rows int;
			least int;
			most int;
		BEGIN
			SELECT count(*), min(generation), max(generation) INTO rows, least, most FROM r;
			IF rows <> 7 OR least <> most THEN
				INSERT INTO seen VALUES (format('%s rows of generations %s to %s', rows, least, most));
			END IF;
		END$$});
	my $queries = start_load($node, 'SELECT look();', undef, qw(-c 4 -T 600));
	my $old = $node->background_psql('postgres');

	for my $generation (2 .. 6)
	{
		# who has taken a snapshot before sees what was there, before and after
		my $before = $old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT sum(n) FROM e_r, LATERAL (SELECT 1 AS n) x WHERE false; SELECT 1');
		alter('r', "SELECT k, $generation AS generation, count(*) AS n FROM e_r e GROUP BY k");
		altered('r');
		is($old->query_safe('SELECT count(*), min(generation), max(generation) FROM r'), '7|' . ($generation - 1) . '|' . ($generation - 1),
			"generation $generation is in place, and an older snapshot has the rows from before");
		$old->query_safe('COMMIT');
	}
	$old->quit;
	finish_load($queries);
	is(run('SELECT string_agg(DISTINCT what, $$; $$) FROM seen'), '', 'never a mixture, never nothing');
	equal_to_batch($node, 'r', 'the last one');
	run("SELECT beam.drop_pipeline('r')");
};

promise 'what_depends_on_the_result_stays' => sub {
	setup('d');
	run(q{CREATE ROLE reader; GRANT SELECT ON d, d_batch TO reader;
		CREATE VIEW over_d AS SELECT k, sum(n) AS n FROM d GROUP BY k;
		CREATE VIEW over_batch AS SELECT k, sum(n) AS n FROM d_batch GROUP BY k;
		CREATE TABLE changes (op text, n int);
		CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO changes SELECT TG_OP, count(*) FROM x; RETURN NULL; END$$;
		CREATE TRIGGER d_insert AFTER INSERT ON d REFERENCING NEW TABLE AS x FOR EACH STATEMENT EXECUTE FUNCTION note();
		CREATE INDEX of_mine ON d (n)});
	wait_for($node, 'd');
	run('TRUNCATE changes');
	alter('d', by_hour('d'));
	altered('d');
	is(run('SET ROLE reader; SELECT count(*) > 0 FROM d'), 't', 'rights on the result');
	is(run('SET ROLE reader; SELECT count(*) > 0 FROM d_batch'), 't', 'rights on the batch view');
	is(run('SELECT sum(n) FROM over_d'), $rows, 'a view over the result');
	is(run('SELECT sum(n) FROM over_batch'), $rows, 'a view over the batch view');
	is(run("SELECT count(*) FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid WHERE d.refobjid = 'd_batch'::regclass AND r.ev_class = 'over_batch'::regclass") > 0, 1,
		'... which reads the new definition');
	is(run("SELECT count(*) FROM changes WHERE op = 'INSERT' AND n = (SELECT count(*) FROM d)"), 1, 'a trigger sees the rows that come');
	is(run("SELECT count(*) FROM pg_index WHERE indrelid = 'd'::regclass"), 2, 'an index of the user stays');
	refuses($node, q{SELECT beam.alter_pipeline('d', 'SELECT k, count(*) AS m FROM e_d GROUP BY k')}, qr/"n" of pipeline "d" cannot change.*view (public\.)?over_d/s,
		'a column that a view uses');
	refuses($node, q{SELECT beam.alter_pipeline('d', 'SELECT k, count(*) AS n FROM e_d GROUP BY k')}, qr/batch view "d_batch".*over_batch/s,
		'a batch view that a view uses');
	run('DROP VIEW over_batch');
	# columns gone, and one with another type; the key is another one, and so is the index
	alter('d', 'SELECT k, count(*) AS n, count(*)::text AS s FROM e_d GROUP BY k');
	altered('d');
	equal_to_batch($node, 'd', 'columns dropped, changed and reordered keys');
	is(run("SELECT string_agg(attname || ' ' || format_type(atttypid, NULL), ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'd'::regclass AND attnum > 0 AND NOT attisdropped"),
		'k integer,n bigint,s text', 'columns of the result');
	is(run('SET ROLE reader; SELECT count(*) > 0 FROM d_batch'), 't', 'rights on the batch view, which is another one');
	is(run("SELECT count(*) FROM pg_index WHERE indrelid = 'd'::regclass AND indisunique"), 1, 'one unique index');
	run("INSERT INTO e_d VALUES (1, '2026-01-01', 1, '')");
	equal_to_batch($node, 'd', 'and it goes on');
	is(run('SELECT sum(n) FROM over_d'), $rows + 1, 'the view over the result');
	# another accumulation: a column op, and no unique index
	alter('d', q{SELECT k, count(*) AS n, count(*)::text AS s FROM e_d GROUP BY k}, q{, accumulation => 'retracting'});
	altered('d');
	run("INSERT INTO e_d VALUES (1, '2026-01-01', 1, '')");
	wait_for($node, 'd');
	is(run('SELECT sum(n * op) FROM d'), $rows + 2, 'retracting');
	run("SELECT beam.rollback_pipeline('d')");
	altered('d');
	equal_to_batch($node, 'd', 'and accumulating again');
	run("DROP VIEW over_d; SELECT beam.drop_pipeline('d')");
};

promise 'kept_version_expires' => sub {
	setup('x');
	alter('x', by_hour('x'), q{, keep => '1 second'});
	altered('x');
	wait_until($node, "SELECT count(*) = 1 FROM beam.pipeline_versions WHERE name = 'x'");
	is(run("SELECT string_agg(relname, ' ' ORDER BY 1) FROM pg_class WHERE relname IN ('x', 'x_batch', 'x_v1', 'x_v1_batch', 'x_v2', 'x_v2_batch')"), 'x x_batch', 'nothing of it is left');
	refuses($node, q{SELECT beam.rollback_pipeline('x')}, qr/no earlier version of pipeline "x" is kept/, 'nothing to go back to');
	alter('x', tumble('e_x'), q{, keep => NULL});
	altered('x');
	is(stages('x'), '3 current', 'not kept at all');
	equal_to_batch($node, 'x', 'the one that is left');
	run("SELECT beam.drop_pipeline('x')");
};

promise 'kept_version_that_is_void_is_not_gone_back_to' => sub {
	setup('y');
	wait_for($node, 'y');
	alter('y', by_hour('y'));
	altered('y');
	# as the runner says it of each version, when changes are lost
	run(q{UPDATE beam.pipeline SET state = 'needs_resync', error_code = '55000', error_message = 'changes are lost' WHERE name = 'y' AND version = 1});
	refuses($node, q{SELECT beam.rollback_pipeline('y')},
		qr/version 1 of pipeline "y" is needs_resync\nDETAIL:  changes are lost\nHINT:  Its rows cannot be trusted\. Give its query, which is that of its batch view, to beam\.alter_pipeline\(\)/, 'it says what to do');
	my $query = run(q{SELECT pg_get_viewdef('y_v1_batch')}) =~ s/;\s*$//r;
	alter('y', $query);
	altered('y');
	equal_to_batch($node, 'y', 'the same definition, made anew');
	is(run("SELECT count(*) FROM (TABLE y EXCEPT ALL ($query)) x"), 0, 'which is that of the old version');
	run("SELECT beam.drop_pipeline('y')");
};

promise 'version_that_fails_leaves_the_old_one_alone' => sub {
	setup('f');
	run(q{INSERT INTO e_f SELECT -100, '2026-01-01', 1, '' FROM generate_series(1, 100)});
	alter('f', q{SELECT k, sum(1 / (id + 100)) AS n FROM e_f e GROUP BY k});
	wait_until($node, "SELECT next_state FROM beam.pipelines WHERE name = 'f'", 'failed');
	like(run("SELECT error_message FROM beam.pipeline_versions WHERE name = 'f' AND version = 2"), qr/division by zero/, 'it says why');
	refuses($node, q{CALL beam.wait_for_alter('f')}, qr/version 2 of pipeline "f", which is being built, is failed.*division by zero/s, 'who waits is told');
	equal_to_batch($node, 'f', 'the old one goes on');
	refuses($node, q{SELECT beam.alter_pipeline('f')}, qr/is being built already/, 'one at a time');
	run(q{SELECT beam.cancel_alter('f')});
	is(stages('f'), '1 current', 'given up');
	altered('f');
	run("SELECT beam.pause_pipeline('f')");
	refuses($node, q{SELECT beam.alter_pipeline('f')}, qr/is paused/, 'not while it is paused');
	run("SELECT beam.drop_pipeline('f')");
};

promise 'resync_mends_what_has_failed' => sub {
	setup('s');
	wait_for($node, 's');
	run(q{CREATE OR REPLACE VIEW s_batch AS SELECT w.window_start, w.window_end, e.k, count(*) AS n, sum(e.id) * 2 AS s
		FROM e_s e, beam.tumble(e.ts, '1 minute') w GROUP BY 1, 2, 3});
	state_is($node, 's', 'failed', qr/replaced/);
	refuses($node, q{SELECT beam.resync_pipeline('s')}, qr/batch view of pipeline "s" has been replaced.*beam\.alter_pipeline/s, 'a definition that is not its own is not taken');
	run(q{CREATE OR REPLACE VIEW s_batch AS SELECT w.window_start, w.window_end, e.k, count(*) AS n, sum(e.id) AS s
		FROM e_s e, beam.tumble(e.ts, '1 minute') w GROUP BY 1, 2, 3});
	my $load = load('s');
	run("SELECT beam.resync_pipeline('s')");
	wait_for($node, 's');
	finish_load($load);
	is(stages('s'), '2 current', 'nothing is kept of the old one');
	equal_to_batch($node, 's', 'from the table');
	# the slot goes while nobody looks
	my $slot = run("SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'stream\\_beam\\_%'");
	run("SELECT beam.pause_pipeline('s')");
	run("INSERT INTO e_s SELECT i, '2026-01-02', 1, '' FROM generate_series(1, 100) i");
	$node->stop;
	$node->append_conf('postgresql.conf', 'shared_preload_libraries = $$$$' =~ s/\$\$\$\$/''/r);
	$node->start;
	run("SELECT pg_drop_replication_slot('$slot')");
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'stream_beam'");
	$node->restart;
	run("SELECT beam.resync_pipeline('s')");
	equal_to_batch($node, 's', 'paused, and its slot lost');
	is(run("SELECT state FROM beam.pipelines WHERE name = 's'"), 'running', 'it runs');
	run("SELECT beam.drop_pipeline('s')");
};

promise 'pipeline_that_has_to_be_rebuilt_is' => sub {
	setup('b');
	setup('other');
	wait_for($node, 'b');
	# as the runner says it, where it finds that changes alone do not tell what has happened
	run(q{UPDATE b SET n = n + 1});
	isnt(differences($node, 'b'), '', 'the result is wrong');
	run(q{UPDATE beam.pipeline SET rebuild = 'rows have come without an INSERT' WHERE name = 'b'});
	run(q{SELECT beam.pause_pipeline('other')});
	equal_to_batch($node, 'b', 'who waits for it waits for the new version');
	is(run("SELECT version || ' ' || reason FROM beam.pipeline_versions WHERE name = 'b'"), '2 rows have come without an INSERT', 'and it is said why');
	# while a version is being built that begins again, and one that is kept is worth nothing any more
	alter('b', by_hour('b'));
	altered('b');
	is(stages('b'), '2 kept, 3 current', 'altered');
	run(q{UPDATE beam.pipeline SET rebuild = 'rows have gone without a DELETE' WHERE name = 'b'; SELECT beam.resume_pipeline('other')});
	equal_to_batch($node, 'b', 'made anew');
	is(stages('b'), '4 current', 'alone');
	run("SELECT beam.drop_pipeline('b'), beam.drop_pipeline('other')");
};

promise 'restored_pipeline_is_resynced' => sub {
	my $dump = $PostgreSQL::Test::Utils::tmp_check . '/dump.sql';

	setup('o');
	alter('o', by_hour('o'));
	altered('o');
	command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ], 'dumped');
	run('CREATE DATABASE restored');
	command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $node->connstr('restored') ], 'restored');
	is($node->safe_psql('restored', q{SELECT state FROM beam.pipelines WHERE name = 'o'}), 'needs_resync', 'a definition only');
	# the slot of a new database waits for nobody
	$node->safe_psql('restored', q{SELECT beam.resync_pipeline('o')});
	equal_to_batch($node, 'o', 'one call makes it a pipeline again', 'restored');
	$node->safe_psql('restored', q{INSERT INTO e_o VALUES (1, '2026-01-01', 1, '')});
	equal_to_batch($node, 'o', 'which goes on', 'restored');
	run('DROP DATABASE restored');
	run("SELECT beam.drop_pipeline('o')");
};

# ---- kills ----

promise 'killed_while_it_is_built_and_exchanged' => sub {
	setup('k');
	wait_for($node, 'k');
	my $load = load('k');
	my $version = 1;
	for my $what (qw(runner postmaster before_swap after_swap runner))
	{
		my $query = $version++ % 2 ? by_hour('k') : tumble('e_k');
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
		is(stages('k'), "$version current", "$what: the new version is in place");
		finish_load($load);
		equal_to_batch($node, 'k', "$what: it is right");
		$load = load('k');
	}
	finish_load($load);
	run("SELECT beam.drop_pipeline('k')");
};

sub preload
{
	$node->append_conf('postgresql.conf', "shared_preload_libraries = '$_[0]'");
	$node->start;
}

# Tests: all that there is of a pipeline is of one definition, as the catalog says. Which: 'old' or 'new'
sub whole
{
	my ($name, $what, $old, $new) = @_;
	my $stages = run("SELECT string_agg(version || ' ' || stage, ', ' ORDER BY version) FROM beam.pipeline WHERE name = '$name'");
	my $which = $stages eq '1 current, 2 building' ? 'old' : $stages eq '1 kept, 2 current' ? 'new' : die "$stages: neither";
	my $query = $which eq 'old' ? $old : $new;
	my $side = $which eq 'old' ? 2 : 1;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	for my $relation ($name, "${name}_batch")
	{
		# columns of another definition would be an error
		is(run("SELECT count(*) FROM ((TABLE $relation EXCEPT ALL ($query)) UNION ALL (($query) EXCEPT ALL TABLE $relation)) x"), 0, "$what: $relation is wholly $which");
	}
	is(run("SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relname ~ '^${name}_?(v|batch|\$)' AND relkind IN ('r', 'v')"),
		"$name ${name}_batch ${name}_v$side ${name}_v${side}_batch", "$what: and so is what is beside it");
	return $which;
}

promise 'killed_at_any_point_of_the_exchange_it_is_wholly_old_or_wholly_new' => sub {
	for my $point (qw(before_swap in_swap after_swap))
	{
		my $name = "w_$point";
		my $at;

		setup($name);
		wait_for($node, $name);
		$at = -s $node->logfile;
		kill_at($node, $point);
		alter($name, by_hour($name));
		$node->wait_for_log(qr/kills itself/, $at);
		# before the runner has another try: no worker
		$node->stop('immediate');
		unlink $node->data_dir . '/kill_at.conf';
		preload('');
		my $which = whole($name, $point, tumble("e_$name"), by_hour($name));
		is($which, 'old', "$point: nothing was committed") if $point ne 'after_swap';
		$node->stop;
		preload('stream_beam');
		altered($name);
		is(stages($name), '1 kept, 2 current', "$point: it comes to its end");
		whole($name, "$point, then", tumble("e_$name"), by_hour($name));
		run("INSERT INTO e_$name VALUES (1, '2026-01-01', 1, '')");
		equal_to_batch($node, $name, "$point: and goes on");
		side_is_batch($name, "${name}_v1", "$point: the old one too");
		run("SELECT beam.drop_pipeline('$name')");
	}
};

done_testing();
