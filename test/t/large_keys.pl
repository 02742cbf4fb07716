# Group keys of any size: they work in every mode, equal ones have one row, whatever is killed, and whenever the first one comes.
use strict;
use warnings;
use Test::More;
use SbTest;

my $node = new_node('large_keys');
my %query = (
	by_text => 'SELECT k, sum(v) AS s, count(*) AS n FROM SOURCE GROUP BY k',
	by_columns => 'SELECT k, b, t, j, a, sum(v) AS s, count(*) AS n FROM SOURCE GROUP BY k, b, t, j, a',
	by_json => 'SELECT j, count(*) AS n FROM SOURCE GROUP BY j',
	by_bytes => 'SELECT b, max(v) AS m FROM SOURCE GROUP BY b',
	by_array => 'SELECT a, count(*) AS n FROM SOURCE GROUP BY a',
	only_keys => 'SELECT k, b FROM SOURCE GROUP BY k, b',
	tumbled => q{SELECT w.window_start, w.window_end, k, sum(v) AS s FROM SOURCE x, beam.tumble(x.at, '1 minute') w GROUP BY 1, 2, 3},
	sessions => q{SELECT w.window_start, w.window_end, k, sum(v) AS s FROM SOURCE x, beam.session(x.at, '10 s') w GROUP BY 1, 2, 3},
	rows_of => 'SELECT id, k, v FROM SOURCE',
	bag => 'SELECT k, t, v FROM SOURCE');
my @pipelines = (sort keys %query);

sub run { return $node->safe_psql('postgres', $_[0]) }

# Large keys do not compress: 6.4 kB of digits of MD5, in 3.2 kB of bytes. NULL and short ones are among them.
run(q{CREATE FUNCTION large(i int, n int) RETURNS text IMMUTABLE LANGUAGE sql AS $$ SELECT string_agg(md5(i || ' ' || x), '') FROM generate_series(1, n) x $$});

sub source
{
	my ($name) = @_;

	run("CREATE TABLE $name (id int PRIMARY KEY, at timestamptz NOT NULL, k text, b bytea, t int, j jsonb, a text[], v int NOT NULL); ALTER TABLE $name REPLICA IDENTITY FULL");
}

# Rows from..to; every third has a large key where `large`
sub insert
{
	my ($table, $from, $to, $large) = @_;

	run(qq{INSERT INTO $table SELECT i, '2026-03-01'::timestamptz + i * 7 % 200 * interval '1 s', k, k::bytea, nullif(i % 3, 0), to_jsonb(k), ARRAY[k, NULL, 'x'], i
		FROM (SELECT i, CASE i % 3 WHEN 0 THEN CASE WHEN $large THEN large(i % 7, 200) ELSE 'no' END WHEN 1 THEN 'short ' || i % 5 ELSE nullif('x' || i % 2, 'x1') END AS k
			FROM generate_series($from, $to) i) x});
}

sub change
{
	my ($table) = @_;

	run("UPDATE $table SET v = v + 1 WHERE id % 2 = 0");
	run("UPDATE $table SET k = large(id % 4, 210) WHERE id % 5 = 1");
	run("DELETE FROM $table WHERE id % 11 = 3");
}

sub is_by_hash
{
	return run("SELECT count(*) FROM pg_indexes WHERE tablename = '$_[0]' AND indexdef LIKE '%beam.\\_key\\_hash(%'") == 1;
}

# ... and no row of a source has failed
sub all_are_right
{
	my ($what, @names) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	equal_to_batch($node, $_, "$what: $_") for @names ? @names : @pipelines;
	is(run('SELECT (SELECT count(*) FROM beam.dead_letters) + (SELECT count(*) FROM beam.failed_groups)'), 0, "$what: no row and no group failed");
}

promise 'groups_with_large_keys_work' => sub {
	source('s');
	create_pipeline($node, $_, $query{$_} =~ s/SOURCE/s/r) for @pipelines;
	create_pipeline($node, 'downstream', 'SELECT k, sum(s) AS s FROM by_text GROUP BY k');
	create_pipeline($node, 'downstream_rows', 'SELECT k, s FROM by_text');
	push @pipelines, qw(downstream downstream_rows);
	insert('s', 1, 30, 'false');
	all_are_right('short');
	ok(!is_by_hash($_), "$_ is on its columns") for @pipelines;
	insert('s', 31, 60, 'true');
	all_are_right('large');
	ok(is_by_hash($_), "$_ is by hash") for qw(by_text by_columns by_json by_bytes by_array only_keys tumbled sessions downstream);
	ok(!is_by_hash($_), "$_ is not") for qw(rows_of bag);
	change('s');
	all_are_right('changed');
	change('s') for 1 .. 3;
	insert('s', 61, 120, 'true');
	all_are_right('more');
	is(run(q{SET enable_seqscan = off; EXPLAIN (COSTS off) SELECT * FROM by_text WHERE k = 'x0'}) =~ /Index Scan/ ? 1 : 0, 1, 'a row is looked up by its key with an index');
	is(run(qq{SELECT string_agg(kind, ' ') FROM beam.verify('$_')}), '', "verify: $_") for @pipelines;
};

promise 'discarding_and_retracting_too' => sub {
	source('o');
	source('appended');
	my $triggers = q{allowed_lateness => '10000 days', trigger => beam.after_watermark(early => beam.repeatedly(beam.after_count(1)), late => beam.repeatedly(beam.after_count(1)))};

	create_pipeline($node, 'net', $query{tumbled} =~ s/SOURCE/o/r, "accumulation => 'retracting', $triggers");
	create_pipeline($node, 'net_text', $query{by_text} =~ s/SOURCE/o/r, "accumulation => 'retracting'");
	create_pipeline($node, 'parts', $query{tumbled} =~ s/SOURCE/appended/r, "source_mode => 'append_only', accumulation => 'discarding', $triggers");
	for my $table (qw(o appended))
	{
		insert($table, 1, 20, 'false');
		insert($table, 21, 50, 'true');
		insert($table, 51, 90, 'true');
	}
	wait_for($node, $_) for qw(net net_text parts);
	is(run(q{SELECT count(*) FROM (SELECT window_start, k, sum(s) FROM parts GROUP BY 1, 2 EXCEPT ALL SELECT window_start, k, s FROM parts_batch) x}), 0, 'discarding: the parts make the whole');
	change('o');
	wait_for($node, $_) for qw(net net_text);
	is(run(q{SELECT count(*) FROM (SELECT window_start, k, sum(op * s) FROM net GROUP BY 1, 2 HAVING sum(op) <> 0 EXCEPT ALL SELECT window_start, k, s FROM net_batch) x}), 0, 'retracting: windows');
	is(run(q{SELECT count(*) FROM (SELECT k, sum(op * s) FROM net_text GROUP BY 1 HAVING sum(op) <> 0 EXCEPT ALL SELECT k, s FROM net_text_batch) x}), 0, 'retracting: groups');
	is(run('SELECT (SELECT count(*) FROM beam.dead_letters) + (SELECT count(*) FROM beam.failed_groups)'), 0, 'no row and no group failed');
};

promise 'history_has_them' => sub {
	create_pipeline($node, "late_$_", $query{$_} =~ s/SOURCE/s/r) for qw(by_text by_columns tumbled sessions rows_of bag);
	all_are_right('history', map { "late_$_" } qw(by_text by_columns tumbled sessions rows_of bag));
};

promise 'versions_have_them' => sub {
	run(qq{SELECT beam.resync_pipeline('$_')}) for qw(by_text sessions);
	run(qq{CALL beam.wait_for_alter('$_')}) for qw(by_text sessions);
	all_are_right('resync');
	ok(is_by_hash('by_text'), 'by hash as before');
	run(q{SELECT beam.alter_pipeline('by_json', query => 'SELECT j, count(*) AS n, sum(v) AS s FROM s GROUP BY j')});
	run(q{SELECT beam.alter_pipeline('only_keys', query => 'SELECT t, count(*) AS n FROM s GROUP BY t')});
	run(q{SELECT beam.alter_pipeline('by_columns', query => 'SELECT k, b, t, j, a, sum(v) AS s, count(*) AS n FROM s WHERE v % 2 = 0 GROUP BY k, b, t, j, a')});
	run(qq{CALL beam.wait_for_alter('$_')}) for qw(by_json only_keys by_columns);
	insert('s', 121, 150, 'true');
	all_are_right('altered');
	ok(!is_by_hash('only_keys'), 'another key is on its column');
	run(qq{SELECT beam.rollback_pipeline('$_')}) for qw(by_json only_keys by_columns);
	run(qq{CALL beam.wait_for_alter('$_')}) for qw(by_json only_keys by_columns);
	insert('s', 151, 180, 'true');
	change('s');
	all_are_right('rolled back');
	ok(is_by_hash($_), "$_ is by hash again") for qw(by_json only_keys by_columns);
	run(q{CALL beam.backfill('tumbled')});
	run(q{CALL beam.backfill('by_text')});
	all_are_right('backfill');
};

promise 'index_is_on_columns_again_without_them' => sub {
	run(q{DELETE FROM s WHERE length(k) > 2000});
	all_are_right('none');
	ok(is_by_hash('by_text'), 'a result stays as it is');
	run(q{SELECT beam.resync_pipeline('by_text')});
	run(q{CALL beam.wait_for_alter('by_text')});
	all_are_right('resync');
	ok(!is_by_hash('by_text'), 'until a version comes that needs no hash');
	insert('s', 181, 200, 'true');
	all_are_right('again');
	ok(is_by_hash('by_text'), 'and changes again');
};

promise 'key_that_compresses_keeps_the_index' => sub {
	run(q{CREATE TABLE c (k text, v int); ALTER TABLE c REPLICA IDENTITY FULL});
	create_pipeline($node, 'compressible', 'SELECT k, sum(v) AS s FROM c GROUP BY k');
	run(q{INSERT INTO c SELECT repeat('x', 20000 + i % 3), i FROM generate_series(1, 10) i});
	all_are_right('compressible', 'compressible');
	ok(!is_by_hash('compressible'), 'on its columns');
	run(q{INSERT INTO c SELECT large(1, n), n FROM generate_series(78, 90) n});
	all_are_right('just too large or not', 'compressible');
	ok(is_by_hash('compressible'), 'by hash');
	for my $n (2550 .. 2720)
	{
		# on the limit, to the byte: a result each
		next if $n % 10 && ($n < 2640 || $n > 2680);
		run(qq{CREATE TABLE c$n (k text, v int); ALTER TABLE c$n REPLICA IDENTITY FULL});
		create_pipeline($node, "limit$n", "SELECT k, sum(v) AS s FROM c$n GROUP BY k");
	}
	run(q{DO $$ DECLARE r record; BEGIN
		FOR r IN SELECT substr(relname, 2)::int AS n FROM pg_class WHERE relname ~ '^c\d+$' LOOP
			EXECUTE format('INSERT INTO c%s SELECT string_agg(chr(33 + (hashint4(x) & 1048575) %% 94), %L), 1 FROM generate_series(1, %s) x', r.n, '', r.n);
		END LOOP; END $$});
	my @limits = split /\n/, run(q{SELECT name FROM beam.pipelines WHERE name LIKE 'limit%' ORDER BY 1});
	wait_for($node, $_) for @limits;
	is(run('SELECT count(*) FROM beam.failed_groups'), 0, 'none is refused, whatever its size');
	is(run(join(' UNION ALL ', map { "(SELECT 1 FROM $_ FULL JOIN ${_}_batch b USING (k, s) WHERE $_ IS NULL OR b IS NULL)" } @limits)), '', 'all are right');
	ok(!is_by_hash('limit2550') && is_by_hash('limit2720'), 'there is a limit');
	run("SELECT beam.drop_pipeline('$_')") for @limits;
};

promise 'equal_keys_have_one_row_however_they_are_written' => sub {
	run(q{CREATE TYPE pair AS (a text, b text); CREATE DOMAIN long AS text;
		CREATE TABLE e (id int PRIMARY KEY, n numeric, p pair, l long, r int4multirange, f float8[], v int); ALTER TABLE e REPLICA IDENTITY FULL});
	create_pipeline($node, 'by_n', 'SELECT n, count(*) AS c FROM e GROUP BY n');
	create_pipeline($node, 'by_pair', 'SELECT p, count(*) AS c FROM e GROUP BY p');
	create_pipeline($node, 'by_domain', 'SELECT l, v % 2 AS w, count(*) AS c FROM e GROUP BY l, v % 2');
	create_pipeline($node, 'by_range', 'SELECT r, count(*) AS c FROM e GROUP BY r');
	create_pipeline($node, 'by_floats', 'SELECT f, count(*) AS c FROM e GROUP BY f');
	my @names = qw(by_n by_pair by_domain by_range by_floats);

	# compared by their values: which of equal ones is shown need not be the same
	my $right = sub {
		my ($what) = @_;

		for my $name (@names)
		{
			wait_for($node, $name);
			is(run("SELECT count(*), (SELECT count(*) FROM ${name}_batch), (SELECT count(*) FROM (TABLE $name EXCEPT ALL TABLE ${name}_batch) x) FROM $name") =~ /^([1-9]\d*)\|\1\|0$/ ? 1 : 0, 1, "$what: $name");
		}
		is(run(qq{SELECT count(*) FROM beam.failed_groups WHERE pipeline LIKE 'by\\_%'}), 0, "$what: none has failed");
	};
	my $insert = sub {
		my ($from, $to, $zeros, $more) = @_;

		run(qq{INSERT INTO e SELECT i, (translate(large(i % 2, 250), 'abcdef', '123456') || '.5$zeros')::numeric, ROW(large(i % 3, 100), large(i % 2, 60)$more)::pair, large(i % 3, 150),
			(SELECT range_agg(int4range(x * 10 + i % 2, x * 10 + 5)) FROM generate_series(1, 500) x), (SELECT array_agg(CASE WHEN x % 2 = 0 THEN '${\($zeros ? '-' : '')}0'::float8 ELSE sqrt(x * (2 + i % 2)) END) FROM generate_series(1, 1500) x), i
			FROM generate_series($from, $to) i});
	};

	$insert->(1, 20, '', '');
	$right->('first');
	ok(is_by_hash($_), "$_ is by hash") for @names;
	$insert->(21, 40, '00', '');
	run('UPDATE e SET v = v + 1; DELETE FROM e WHERE id % 5 = 0');
	$right->('written otherwise');
	run('ALTER TYPE pair ADD ATTRIBUTE c int');
	$insert->(41, 60, '0', ', NULL');
	$right->('a type has gained an attribute');
	run('UPDATE e SET p.c = 1 WHERE id % 3 = 0; DELETE FROM e WHERE id % 4 = 0');
	$right->('which has values');
	return unless has_icu($node);
	run(q{CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE TABLE i (k text COLLATE blind, l text, v int); ALTER TABLE i REPLICA IDENTITY FULL});
	create_pipeline($node, 'by_blind', 'SELECT k, l, sum(v) AS s FROM i GROUP BY k, l');
	run(q{INSERT INTO i SELECT CASE i % 2 WHEN 0 THEN upper(large(1, 200)) ELSE large(1, 200) END, 'x', i FROM generate_series(1, 10) i});
	wait_for($node, 'by_blind');
	run(q{INSERT INTO i SELECT CASE i % 2 WHEN 0 THEN upper(large(1, 200)) ELSE large(1, 200) END, 'x', i FROM generate_series(1, 10) i});
	wait_for($node, 'by_blind');
	is(run('SELECT count(*), sum(s) FROM by_blind'), '1|110', 'one row for what a collation takes for equal');
};

# The result refuses another group of the same write: what the write has made of the index is undone with it
promise 'write_that_is_undone_leaves_no_half' => sub {
	run(q{CREATE TABLE r (k text NOT NULL, v int NOT NULL); ALTER TABLE r REPLICA IDENTITY FULL});
	create_pipeline($node, 'refusing', 'SELECT k, sum(v) AS s FROM r GROUP BY k');
	run(q{ALTER TABLE refusing ADD CHECK (s >= 0)});
	is(run(q{SELECT relreplident FROM pg_class WHERE oid = 'refusing'::regclass}), 'i', 'no key is null');
	run(q{INSERT INTO r SELECT CASE WHEN i % 3 = 0 THEN large(i, 150) ELSE 'k' || i END, CASE WHEN i % 10 = 5 THEN -1 ELSE i END FROM generate_series(1, 100) i});
	wait_for($node, 'refusing');
	is(run(q{SELECT count(*) FROM beam.failed_groups WHERE pipeline = 'refusing'}), 10, 'those that are refused have failed');
	is(run(q{SELECT count(*) FROM ((TABLE refusing EXCEPT ALL SELECT * FROM refusing_batch WHERE s >= 0) UNION ALL (SELECT * FROM refusing_batch WHERE s >= 0 EXCEPT ALL TABLE refusing)) x}), 0, 'the others are there');
	is(run(q{SELECT relreplident FROM pg_class WHERE oid = 'refusing'::regclass}), 'f', 'its replica identity is FULL');
	run(q{CREATE PUBLICATION results FOR TABLE refusing});
	run(q{UPDATE r SET v = 7 WHERE v < 0});
	all_are_right('well again', 'refusing');
	run(q{ALTER TABLE r ALTER k DROP NOT NULL; INSERT INTO r VALUES (NULL, 1), (NULL, 2)});
	all_are_right('null', 'refusing');
	run(q{DELETE FROM r WHERE k IS NULL OR length(k) > 1000});
	all_are_right('published', 'refusing');
};

promise 'row_that_failed_is_replayed' => sub {
	run(q{CREATE TABLE d (k text, v int, w int); ALTER TABLE d REPLICA IDENTITY FULL;
		CREATE TABLE broken AS SELECT true AS yes;
		CREATE FUNCTION f(v int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN IF v < 0 AND (SELECT yes FROM broken) THEN RAISE 'negative'; END IF; RETURN v; END $$});
	create_pipeline($node, 'replayed', 'SELECT k, sum(f(v)) AS s FROM d GROUP BY k');
	run(q{INSERT INTO d SELECT large(i % 3, 200), CASE WHEN i % 4 = 0 THEN -i ELSE i END FROM generate_series(1, 40) i; INSERT INTO d SELECT large(7, 300), -1 FROM generate_series(1, 5)});
	wait_for($node, 'replayed');
	is(run(q{SELECT count(*) FROM beam.dead_letters WHERE pipeline = 'replayed'}), 15, 'dead letters');
	run(q{UPDATE d SET k = large(8, 300) WHERE v = -1 AND ctid = (SELECT min(ctid) FROM d WHERE v = -1)});
	run(q{DELETE FROM d WHERE v = -4});
	wait_for($node, 'replayed');
	run(q{UPDATE broken SET yes = false});
	run(q{CALL beam.replay_dead_letters('replayed')});
	wait_until($node, q{SELECT count(*) = 0 FROM beam.dead_letters WHERE pipeline = 'replayed'});
	all_are_right('replayed', 'replayed');
};

promise 'what_a_user_has_made_of_the_result_stays' => sub {
	run(q{CREATE TABLE u (k text NOT NULL, v int); ALTER TABLE u REPLICA IDENTITY FULL});
	create_pipeline($node, 'referred', 'SELECT k, sum(v) AS s FROM u GROUP BY k');
	create_pipeline($node, 'indexed', 'SELECT k, sum(v) AS s FROM u GROUP BY k');
	run(q{CREATE TABLE refers (k text REFERENCES referred (k)); CREATE INDEX own ON indexed (k)});
	run(q{INSERT INTO u SELECT 'k' || i % 3, i FROM generate_series(1, 9) i; INSERT INTO u SELECT large(i % 2, 200), i FROM generate_series(1, 10) i; INSERT INTO u VALUES ('last', 1)});
	wait_for($node, $_) for qw(referred indexed);
	is(run(q{SELECT p.name, state, sqlstate, count(*) FROM beam.pipelines p JOIN beam.failed_groups f ON f.pipeline = p.name WHERE p.name IN ('referred', 'indexed') GROUP BY 1, 2, 3 ORDER BY 1}),
		"indexed|running|54000|2\nreferred|running|2BP01|2", 'groups that it is in the way of have failed');
	is(run("SELECT count(*) FROM $_"), 4, "$_: the others are there") for qw(referred indexed);
	run(q{DROP TABLE refers; DROP INDEX own; INSERT INTO u SELECT large(i % 2, 200), i FROM generate_series(1, 4) i});
	wait_until($node, q{SELECT count(*) = 0 FROM beam.failed_groups});
	all_are_right('without', qw(referred indexed));
	ok(is_by_hash($_), "$_ is by hash") for qw(referred indexed);
};

# Whoever reads the result while the index is to be changed: the pipeline waits, and is right then
promise 'reader_of_the_result_delays_only' => sub {
	run(q{CREATE TABLE b (k text, v int); ALTER TABLE b REPLICA IDENTITY FULL});
	create_pipeline($node, 'blocked', 'SELECT k, sum(v) AS s FROM b GROUP BY k');
	my $reader = $node->background_psql('postgres');

	$reader->query_safe('BEGIN; TABLE blocked');
	run(q{INSERT INTO b SELECT large(1, 200), i FROM generate_series(1, 10) i});
	wait_until($node, q{SELECT count(*) > 0 FROM pg_locks WHERE relation = 'blocked'::regclass AND NOT granted AND mode = 'AccessExclusiveLock'});
	insert('s', 1001, 1030, 'true');
	all_are_right('others', 'by_text');
	$reader->query_safe('COMMIT');
	$reader->quit;
	all_are_right('afterwards', 'blocked');
};

promise 'killed_whenever_nothing_is_twice' => sub {
	for my $point (qw(before_result after_result))
	{
		my $table = "k_$point";
		my @names = map { "${point}_$_" } qw(by_text tumbled sessions rows_of bag only_keys);

		source($table);
		create_pipeline($node, "${point}_$_", $query{$_} =~ s/SOURCE/$table/r) for qw(by_text tumbled sessions rows_of bag only_keys);
		insert($table, 1, 20, 'false');
		all_are_right("$point, before", @names);
		my $pid = wait_for_worker($node, 'runner');

		kill_at($node, $point);
		# the server may hang up before it has taken its input, or said so
		eval { insert($table, 21, 60, 'true') };
		wait_until($node, "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'stream_beam runner' AND pid <> $pid");
		kill_at($node, undef);
		all_are_right($point, @names);
		ok(is_by_hash("${point}_by_text"), "$point: by hash");
		kill9($node, 'runner');
		change($table);
		kill9($node, 'reader');
		insert($table, 61, 90, 'true');
		all_are_right("$point, killed", @names);
	}
	source('k');
	create_pipeline($node, 'under_load', $query{by_text} =~ s/SOURCE/k/r);
	create_pipeline($node, 'under_load_sessions', $query{sessions} =~ s/SOURCE/k/r);
	create_pipeline($node, 'under_load_read', 'SELECT k, max(s) AS s FROM under_load GROUP BY k');
	for my $round (1 .. 4)
	{
		my $load = start_load($node, q{\set i random(1, 400)
			INSERT INTO k SELECT :i, '2026-03-01'::timestamptz + :i * interval '5 s', CASE WHEN :i % 3 = 0 THEN large(:i % 7, 200) ELSE 'k' || :i % 5 END, NULL, NULL, NULL, NULL, :i
			ON CONFLICT (id) DO UPDATE SET k = excluded.k, v = k.v + 1;
			DELETE FROM k WHERE id = :i + 7;
			});

		wait_until($node, "SELECT count(*) > 0 FROM k");
		kill9($node, $round % 2 ? 'runner' : 'reader');
		finish_load($load);
		all_are_right("round $round", qw(under_load under_load_sessions under_load_read));
	}
	crash_and_start($node);
	all_are_right('crash', @pipelines, qw(under_load under_load_sessions under_load_read));
};

$node->stop;
done_testing();
