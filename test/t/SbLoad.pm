# SbLoad.pm: a mixed load of several clients, pipelines of every kind over it, and what their results must be. For tests that hurt
# the server in the middle of it.
#
#   my $load = SbLoad->new($node);
#   $load->create;                                 # tables, and a random pipeline for each window function
#   $load->begin; ...; $load->end;                 # clients at work; nobody minds their errors
#   $load->settle;                                 # ends the transactions that are left prepared
#   $load->mend;                                   # pipelines that a client has left paused, or that were given up, run again
#   my @wrong = $load->wrong;                      # what differs from the batch views; empty: nothing does
#   $load->drop;
#
# TABLES. `ins` has rows inserted only, `chg` rows of all fates, and so has `par`, which is partitioned: rows move between partitions,
# and one partition comes and goes, with rows and without. Values are such that each aggregate has one right answer whatever the
# order of the rows: floats are small multiples of a power of two, and what orders is unique.
# What the queries of `chg_moving` compute with (a function, an inlined one, a row type) is replaced and altered under the load, and the
# result of `chg_refused` gets and loses a constraint.
# PIPELINES. Some are made and dropped by the clients while they are at work, over tables that have rows; others are altered, rolled back,
# built anew, paused, and have windows computed anew. What of a pipeline is compared, and when, is the same for all its versions. Rows are never late, but for `ins_late`, whose late events are then left out of the batch answer; rows with v = 0 fail in
# `ins_dead` alone.
package SbLoad;

use strict;
use warnings;
use POSIX ();
use PostgreSQL::Test::Utils;

my $FOREVER = '10000 days';
my $CLIENTS = 4;
# A new version has to be built: so much longer may it take
my $WAIT = '40 s';

sub chance { return rand() < $_[0] }
sub between { return $_[0] + int(rand($_[1] - $_[0] + 1)) }
sub pick { return $_[ int(rand(@_)) ] }

sub new
{
	my ($class, $node, %options) = @_;

	return bless { node => $node, db => 'postgres', round => 0, columns => 0, gids => 0, births => 0, young => {}, %options }, $class;
}

sub sql
{
	my ($self, $sql) = @_;

	return $self->{node}->safe_psql($self->{db}, $sql);
}

# What may fail, and may lose the server in the middle: psql can then not even be given all of its input
sub try_sql
{
	my ($self, $sql) = @_;

	return eval { ($self->{node}->psql($self->{db}, $sql, timeout => 60))[0] == 0 };
}

# ---- pipelines ----

my %window = (
	tumble => q{beam.tumble(e.ts, '1 minute')},
	hop => q{beam.hop(e.ts, '5 minutes', '2 minutes')},
	cumulate => q{beam.cumulate(e.ts, '10 minutes', '5 minutes')},
	calendar => q{beam.calendar(e.ts, 'day', 1, 'Europe/Berlin')},
	session => q{beam.session(e.ts, '20 seconds')},
	custom => q{load_windows(e.ts)},
	global => undef);

my @aggregates = (
	'avg(e.v)', 'min(e.v)', 'max(e.v)', 'sum(e.v::numeric)', 'sum(e.f)', 'avg(e.f)', 'max(e.f)', 'var_pop(e.v)', 'stddev(e.v::numeric)', 'min(e.t)', 'max(e.ts)',
	'count(DISTINCT e.t)', 'sum(DISTINCT e.v)', 'percentile_disc(0.5) WITHIN GROUP (ORDER BY e.v)', 'percentile_cont(0.25) WITHIN GROUP (ORDER BY e.f)',
	'mode() WITHIN GROUP (ORDER BY e.v)', q{string_agg(e.t, ',' ORDER BY e.t, e.id)}, q{string_agg(DISTINCT e.t, '-' ORDER BY e.t)}, 'array_agg(e.v ORDER BY e.id DESC)',
	'bool_or(e.v > 40)', 'count(*) FILTER (WHERE e.v > 5)', 'sum(e.v) FILTER (WHERE e.k <> 2)', 'min(e.t) FILTER (WHERE e.v % 2 = 0)', 'count(e.t)');

# How a trigger can be compared: at once; once its delay has passed; for windows that have ended only
my @triggers = (
	[ 'continuous()', 'now' ], [ 'repeatedly(after_count(1))', 'now' ], [ 'repeatedly(after_any(after_count(7), continuous()))', 'now' ],
	[ q{repeatedly(after_processing_time('20 ms'))}, 'soon' ], [ 'after_watermark(early => after_count(3), late => continuous())', 'ended' ],
	[ 'default_trigger()', 'ended' ], [ 'after_watermark(late => after_count(1))', 'ended' ]);

# A row so far ahead that all others are in windows that have ended; what lies behind it is not compared
my $AHEAD = '2030-01-01';
my $ENDED = '2029-01-01';

# With aggregates of its own each time; of a discarding pipeline the sums over its panes are compared
sub query_of
{
	my ($p) = @_;
	my $number = 0;
	my @more = $p->{accumulation} eq 'discarding' ? () : map { "$_ AS a" . $number++ } map { pick(@aggregates) } 1 .. between(1, 4);

	return 'SELECT ' . join(', ', $p->{select}, @more) . $p->{rest};
}

sub random_pipeline
{
	my ($self, $table, $kind, $young) = @_;
	my $call = $window{$kind};
	# whether windows have ended is not known of a table that may be empty when a version is built
	my $trigger = defined $call && !$young && $table ne 'par' ? pick(@triggers) : pick(@triggers[ 0 .. 3 ]);
	my $p = { name => $young // "${table}_$kind", table => $table, trigger => $trigger->[0], when => $trigger->[1] };
	# what has gone with a pane cannot be taken back
	my @accumulations = (('accumulating') x 3, 'retracting', $table eq 'ins' ? 'discarding' : ());
	my @keys = $kind eq 'session' || chance(0.6) ? ('k') : ();
	my @by = (defined $call ? qw(w.window_start w.window_end) : (), map { "e.$_" } @keys);
	my @select = (@by, 'count(*) AS n', 'sum(e.v) AS s');

	$p->{accumulation} = pick(@accumulations);
	$p->{select} = join(', ', @select);
	$p->{rest} = " FROM $table e" . (defined $call ? ", $call w" : '');
	$p->{rest} .= ' WHERE e.v % 3 <> 0' if chance(0.2);
	$p->{rest} .= ' GROUP BY ' . join(', ', @by) if @by;
	$p->{rest} .= ' HAVING count(*) > 2' if @by && $p->{accumulation} ne 'discarding' && chance(0.25);
	$p->{query} = query_of($p);
	# the windows of a session are not those of its panes
	$p->{sum_by} = join(', ', grep { $kind ne 'session' || !/window/ } map { s/^\w\.//r } @by);
	$p->{windowed} = defined $call;
	return $p;
}

sub arguments
{
	my ($self, $p) = @_;
	my $text = sprintf(q{allowed_lateness => '%s', trigger => $t$%s$t$, accumulation => '%s', allow_unsafe_trigger => true},
		$p->{lateness} // $FOREVER, $p->{trigger} // 'continuous()', $p->{accumulation} // 'accumulating');

	$text .= q{, watermark => '0', idle_timeout => NULL} if $p->{lateness};
	$text .= ", source_mode => '" . ($p->{table} eq 'ins' ? 'append_only' : 'changes') . "'" unless $p->{chained};
	return $text;
}

sub add_pipeline
{
	my ($self, $p) = @_;

	$self->sql("SET timezone = 'UTC'; " . $self->create_sql($p));
	push @{ $self->{pipelines} }, $p;
}

sub create_sql
{
	my ($self, $p) = @_;

	return "SELECT beam.create_pipeline('$p->{name}', \$q\$$p->{query}\$q\$, " . $self->arguments($p) . ')';
}

# What a client does now and then: drops the young pipelines and makes another one
sub young_sql
{
	my ($self) = @_;
	my $table = pick(qw(ins chg par));
	my $name = 'young' . ++$self->{births};
	my $p = $self->random_pipeline($table, pick(sort keys %window), $name);

	$self->{young}{$name} = $p;
	return (q{SET timezone = 'UTC'}, chance(0.7) ? q{SELECT beam.drop_pipeline(name) FROM beam.pipelines WHERE name LIKE 'young%'} : (), $self->create_sql($p));
}

# Those that a client has come to commit
sub living_young
{
	my ($self) = @_;

	return map { $self->{young}{$_} } split /\n/, $self->sql(q{SELECT name FROM beam.pipelines WHERE name LIKE 'young%' ORDER BY name});
}

sub create
{
	my ($self) = @_;
	my @kinds = sort keys %window;

	$self->sql(q{CREATE OR REPLACE FUNCTION load_windows(ts timestamptz) RETURNS TABLE (window_start timestamptz, window_end timestamptz) LANGUAGE sql IMMUTABLE AS $$
		SELECT s.window_start, s.window_end + s.i * interval '7 minutes' FROM (SELECT t.*, i FROM beam.tumble($1, '3 minutes') t, generate_series(0, 1) i) s $$});
	$self->sql("CREATE TABLE $_ (id bigserial PRIMARY KEY, ts timestamptz, k int, v int, f float8, t text, pad text); ALTER TABLE $_ ALTER pad SET STORAGE EXTERNAL") for qw(ins chg);
	$self->sql('ALTER TABLE chg REPLICA IDENTITY FULL; CREATE INDEX ON chg (ts); CREATE INDEX ON ins (ts)');
	$self->sql(q{CREATE TABLE par (id bigserial, ts timestamptz, k int, v int, f float8, t text, pad text) PARTITION BY LIST (k); CREATE INDEX ON par (ts)});
	$self->sql("CREATE TABLE $_->[0] PARTITION OF par FOR VALUES IN ($_->[1]); ALTER TABLE $_->[0] REPLICA IDENTITY FULL")
		for [ 'par_0', '0, 1' ], [ 'par_1', '2' ], [ 'par_2', '3, 4, NULL' ], [ 'par_x', '7' ];
	$self->sql($_) for map({ function_sql($_, 1) } qw(load_scaled load_inlined)), 'DROP TYPE IF EXISTS load_pair; CREATE TYPE load_pair AS (a int, b int)';
	$self->{pipelines} = [];
	for my $table (qw(ins chg))
	{
		$self->add_pipeline($self->random_pipeline($table, $_)) for @kinds;
	}
	$self->add_pipeline($self->random_pipeline('par', $_)) for qw(tumble global), pick(qw(hop session custom));
	$self->add_pipeline({ name => 'ins_late', table => 'ins', when => 'now', lateness => '2 minutes',
		oracle => q{SELECT w.window_start, w.window_end, e.k, count(*) AS n, sum(e.v) AS s, max(e.id) AS top FROM ins e, beam.tumble(e.ts, '1 minute') w
			WHERE e.ts < '2029-01-01' AND e.id NOT IN (SELECT (data ->> 'id')::bigint FROM beam.late_events WHERE pipeline = 'ins_late') GROUP BY 1, 2, 3},
		query => q{SELECT w.window_start, w.window_end, e.k, count(*) AS n, sum(e.v) AS s, max(e.id) AS top FROM ins e, beam.tumble(e.ts, '1 minute') w WHERE e.ts < '2029-01-01' GROUP BY 1, 2, 3} });
	$self->add_pipeline({ name => 'ins_dead', table => 'ins', when => 'now',
		oracle => 'SELECT k, sum(100 / v) AS s, count(*) AS n, max(id) AS top FROM (SELECT * FROM ins WHERE v <> 0 OFFSET 0) e GROUP BY k',
		query => 'SELECT e.k, sum(100 / e.v) AS s, count(*) AS n, max(e.id) AS top FROM ins e GROUP BY e.k' });
	# groups that cannot be computed come and go all the time
	$self->add_pipeline({ name => 'chg_failed', table => 'chg', when => 'now',
		oracle => 'SELECT k, v % 10 AS d, sum(v) / (count(*) % 5) AS q, count(*) AS n FROM chg GROUP BY 1, 2 HAVING count(*) % 5 <> 0',
		query => 'SELECT e.k, e.v % 10 AS d, sum(e.v) / (count(*) % 5) AS q, count(*) AS n FROM chg e GROUP BY 1, 2' });
	# whose functions and types are replaced and altered
	$self->add_pipeline({ name => 'chg_moving', table => 'chg', when => 'now',
		query => q{SELECT ROW(e.k, e.v % 3)::load_pair::text AS pair, load_inlined(e.k) AS k, count(*) AS n, sum(load_scaled(e.v)) AS s, string_agg((ROW(e.v, 0)::load_pair)::text, '' ORDER BY e.id) AS t FROM chg e GROUP BY 1, 2} });
	$self->add_pipeline({ name => 'moving_chained', table => 'chg_moving', when => 'now', chained => 1, query => 'SELECT k, sum(s) AS s, sum(n) AS n, count(*) AS groups FROM chg_moving GROUP BY k' });
	# the result refuses some rows, for a time
	$self->add_pipeline({ name => 'chg_refused', table => 'chg', when => 'soon',
		oracle => q{SELECT * FROM chg_refused_batch b WHERE NOT EXISTS (SELECT FROM beam.failed_groups f WHERE f.pipeline = 'chg_refused' AND f.key = jsonb_build_object('k', b.k, 'd', b.d))},
		query => 'SELECT e.k, e.v % 7 AS d, count(*) AS n, sum(e.v) AS s FROM chg e GROUP BY 1, 2' });
	$self->add_pipeline({ name => 'base', table => 'chg', when => 'now',
		query => q{SELECT w.window_start, w.window_end, e.k, count(*) AS n, sum(e.v) AS s FROM chg e, beam.tumble(e.ts, '2 minutes') w GROUP BY 1, 2, 3} });
	$self->add_pipeline({ name => 'chained', table => 'base', when => 'now', chained => 1, query => 'SELECT k, count(*) AS windows, sum(n) AS n, max(s) AS s FROM base GROUP BY k' });
	$self->add_maps;
	$self->sql("INSERT INTO $_ (ts, k, v, f, t) VALUES ('$AHEAD', 1, 1, 1, 'a')") for qw(ins chg par);
	# who deletes it before it has been read takes its time with it
	$self->sql("CALL beam.wait_for('$_->{name}')") for @{ $self->{pipelines} };
}

# Without groups: rows by their key, with windows too; equal rows; with retractions; appended; over another result
sub add_maps
{
	my ($self) = @_;

	$self->add_pipeline({ table => 'chg', when => 'now', %$_ }) for
		{ name => 'map_key', query => 'SELECT e.id, e.k, upper(e.t) AS t, e.v * 2 AS v FROM chg e WHERE e.v % 3 <> 0' },
		{ name => 'map_window', query => q{SELECT w.window_start, w.window_end, e.id, e.v FROM chg e, beam.hop(e.ts, '4 minutes', '2 minutes') w} },
		{ name => 'map_log', query => 'SELECT e.t, e.id, e.f FROM chg e WHERE e.k <> 3', accumulation => 'retracting' },
		{ name => 'map_bag', table => 'par', query => 'SELECT e.v % 5 AS v, e.t IS NULL AS blank, e.k FROM par e WHERE e.v > 0' },
		{ name => 'map_append', table => 'ins', query => 'SELECT e.v, e.k FROM ins e WHERE e.v > 5', accumulation => 'discarding', oracle => 'SELECT v, k FROM ins WHERE v > 5' },
		{ name => 'map_chained', table => 'base', chained => 1, query => 'SELECT n, s > 0 AS positive FROM base WHERE n > 1' };
}

sub function_sql
{
	my ($name, $by) = @_;

	return $name eq 'load_scaled'
	  ? "CREATE OR REPLACE FUNCTION load_scaled(v int) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN v::bigint * $by; END'"
	  : "CREATE OR REPLACE FUNCTION load_inlined(v int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT v % 3 + $by'";
}

sub drop
{
	my ($self) = @_;

	$self->sql("SELECT beam.drop_pipeline('$_->{name}')") for $self->living_young, reverse @{ $self->{pipelines} };
	$self->sql('DROP TABLE IF EXISTS par_x, par_y; DROP TABLE ins, chg, par; DROP TYPE load_pair');
	$self->{young} = {};
}

# ---- the clients ----

# Times of day on both sides of a change of the clock, close enough for sessions to meet; for `ins` they go forward with the rounds
sub insert
{
	my ($self, $table, $n, $columns) = @_;
	my $base = $table eq 'ins' && chance(0.7) ? sprintf(q{'2026-03-30'::timestamptz + %d * interval '1 minute'}, $self->{round}) : sprintf(q{'2026-03-28'::timestamptz + %d * interval '1 day'}, between(0, 2));

	return sprintf(
		q{INSERT INTO %s (%s) SELECT %s + (%d + i * %d %% 61) * interval '1 s', (i + %d) %% 5, (i * %d) %% 59 - %d, (i %% 37) * 0.25, chr(97 + i %% %d) || i %% 3 FROM generate_series(1, %d) i},
		$table, $columns // 'ts, k, v, f, t', $base, between(0, 1200), between(1, 60), between(0, 4), between(1, 57), between(0, 9), between(1, 26), $n);
}

sub update
{
	my ($table) = @_;
	my $some = sprintf('id %% %d = %d', pick(5, 7, 13), between(0, 4));

	return pick(
		"UPDATE $table SET v = v + 1 WHERE $some", "UPDATE $table SET ts = ts + interval '90 s' WHERE $some AND ts < '2028-01-01'", "UPDATE $table SET k = (k + 1) % 5, f = f + 0.5 WHERE $some",
		"UPDATE $table SET t = t || 'x' WHERE $some AND length(t) < 9", "UPDATE $table SET v = v WHERE $some", "UPDATE $table SET pad = repeat('p', 3000) WHERE $some AND pad IS NULL AND id % 3 = 0",
		"UPDATE $table SET t = NULL, f = NULL WHERE $some AND v % 5 = 0",
		$table eq 'chg' ? q{INSERT INTO chg (id, ts, k, v) SELECT id, ts, k, v FROM chg ORDER BY id DESC LIMIT 9 ON CONFLICT (id) DO UPDATE SET v = chg.v + 3} : (),
		"MERGE INTO $table USING (SELECT id FROM $table ORDER BY v, id LIMIT 12) s ON s.id = $table.id WHEN MATCHED AND $table.v < 0 THEN DELETE WHEN MATCHED THEN UPDATE SET v = $table.v - 7");
}

sub remove
{
	my ($table) = @_;

	return pick(
		sprintf("DELETE FROM $table WHERE id %% %d = %d", pick(5, 9, 17), between(0, 4)), "DELETE FROM $table WHERE id IN (SELECT id FROM $table ORDER BY id LIMIT 60)",
		"DELETE FROM $table WHERE v < 0", "DELETE FROM $table WHERE k = " . between(0, 4));
}

sub write_statement
{
	my ($self) = @_;
	my $dice = rand();
	my $table = pick('chg', 'chg', 'par');

	return $self->insert('ins', between(1, 8)) if $dice < 0.25;
	return $self->insert($table, between(1, 25)) if $dice < 0.6;
	return update($table) if $dice < 0.85;
	return remove($table) if $dice < 0.98;
	return "TRUNCATE $table";
}

# The partition that comes and goes, filled or empty, in one transaction or in several
sub partition
{
	my ($self) = @_;
	my $detach = 'ALTER TABLE par DETACH PARTITION par_x';
	my $attach = 'ALTER TABLE par ATTACH PARTITION par_x FOR VALUES IN (7)';
	my $fill = $self->insert('par_x', between(1, 12)) =~ s/\(i \+ \d+\) % 5/7/r;

	return pick(
		[ $attach, $fill ], [$fill], [ $attach, $detach ], [ $fill, $detach, $fill, $attach ], [ 'BEGIN', $attach, $fill, pick('COMMIT', 'ROLLBACK') ],
		[ 'BEGIN', 'DELETE FROM par_x', $self->insert('par', 3), $detach, 'COMMIT', $attach ], [ 'BEGIN', 'TRUNCATE par_x', $fill, 'COMMIT' ],
		[ 'DROP TABLE IF EXISTS par_y', 'BEGIN', 'CREATE TABLE par_y PARTITION OF par FOR VALUES IN (8)', 'ALTER TABLE par_y REPLICA IDENTITY FULL', 'COMMIT', 'INSERT INTO par (ts, k, v) VALUES (now(), 8, 1)', 'DROP TABLE par_y' ],
		[ $attach, 'UPDATE par SET k = 7 WHERE k = 3 AND id % 3 = 0', 'UPDATE par SET k = 2 WHERE k = 7 AND id % 2 = 0' ]);
}

# What a user does with pipelines while they are at work. The versions of a pipeline are compared alike.
sub care
{
	my ($self) = @_;
	my $p = pick(grep { !$_->{oracle} && ($_->{when} ne 'ended' || $_->{table} eq 'ins') } @{ $self->{pipelines} });
	my $name = $p->{name};
	my $day = between(27, 31);
	my $keep = pick('NULL', q{'1 s'}, q{'3 s'});
	my $alter = $p->{rest} ? 'query => $q$' . query_of($p) . '$q$, ' : '';
	my $trigger = pick(grep { $_->[1] eq $p->{when} } @triggers)->[0];

	return (q{SET timezone = 'UTC'}, @{ pick(
		[ "CALL beam.backfill('$name', '2026-03-$day', '2026-03-$day 10:00'::timestamptz + interval '@{[ between(1, 30) ]} h')" ], ["CALL beam.backfill('$name')"],
		["CALL beam.backfill('$name', '2026-03-28 00:@{[ between(10, 50) ]}')"], [q{CALL beam.replay_dead_letters('ins_dead')}], [q{CALL beam.replay_late_events('ins_late')}],
		["SELECT beam.resync_pipeline('$name')"], ["SELECT beam.alter_pipeline('$name', ${alter}trigger => \$t\$$trigger\$t\$, keep => $keep)"],
		["SELECT beam.alter_pipeline('$name', ${alter}keep => '1 min')", $self->write_statement, "CALL beam.wait_for_alter('$name', '5 s')", $self->write_statement, "SELECT beam.rollback_pipeline('$name', keep => $keep)"],
		["SELECT beam.rollback_pipeline('$name', keep => $keep)"], ["SELECT beam.resync_pipeline('$name')", $self->write_statement, "SELECT beam.cancel_alter('$name')"],
		["SELECT beam.pause_pipeline('$name')", $self->write_statement, $self->write_statement, "SELECT beam.resume_pipeline('$name')"]) });
}

sub ddl
{
	my ($self) = @_;
	my $table = pick('ins', 'chg', 'chg');
	my $new = 'x' . ++$self->{columns};
	my $old = 'x' . between($self->{columns} - 6, $self->{columns});
	my $row = $self->insert($table, 3, 'ts, kk, v, f, t');

	return pick(
		["ALTER TABLE $table ADD COLUMN $new int DEFAULT 7"], ["ALTER TABLE $table ADD COLUMN $new float8 DEFAULT random()"], ["ALTER TABLE $table DROP COLUMN IF EXISTS $old"],
		["ALTER TABLE $table DROP COLUMN IF EXISTS $old"], ["ALTER TABLE $table RENAME COLUMN $old TO ${old}_renamed"], ["VACUUM FULL $table"], ["VACUUM $table"],
		["CLUSTER $table USING ${table}_pkey"], ["ALTER TABLE $table ALTER v SET DEFAULT " . between(1, 9)], ["ALTER TABLE $table ALTER pad TYPE " . pick('text', 'varchar(9000)')],
		[ 'BEGIN', "ALTER TABLE $table RENAME k TO kk", $row, "ALTER TABLE $table RENAME kk TO k", pick('COMMIT', 'ROLLBACK') ],
		[ 'BEGIN', $self->insert($table, 2), "ALTER TABLE $table ADD COLUMN $new text DEFAULT 'd'", $self->insert($table, 2), "ALTER TABLE $table DROP COLUMN $new", $self->insert($table, 2), 'COMMIT' ],
		[ 'BEGIN', "ALTER TABLE $table RENAME TO other", "ALTER TABLE other RENAME TO $table", $self->insert($table, 2), 'COMMIT' ], [ 'CHECKPOINT' ]);
}

# What a query computes with becomes another, alone or between writes; a result refuses rows, or does no longer
sub alteration
{
	my ($self) = @_;
	my $replace = function_sql(pick(qw(load_scaled load_inlined)), between(1, 4));
	my $attribute = 'x' . ++$self->{columns};
	my $old = 'x' . between($self->{columns} - 9, $self->{columns});

	return pick(
		[$replace], [ 'BEGIN', $self->write_statement, $replace, $self->write_statement, pick('COMMIT', 'COMMIT', 'ROLLBACK') ], [ 'BEGIN', 'SAVEPOINT a', $replace, 'ROLLBACK TO a', $self->write_statement, 'COMMIT' ],
		["ALTER TYPE load_pair ADD ATTRIBUTE $attribute int"], ["ALTER TYPE load_pair DROP ATTRIBUTE IF EXISTS $old"], [ 'BEGIN', $self->write_statement, "ALTER TYPE load_pair ADD ATTRIBUTE $attribute text", 'COMMIT' ],
		['ALTER TABLE chg_refused DROP CONSTRAINT IF EXISTS refuses'], ['ALTER TABLE chg_refused DROP CONSTRAINT IF EXISTS refuses, ADD CONSTRAINT refuses CHECK (n % 4 <> 1) NOT VALID'],
		[ 'BEGIN', 'ALTER TABLE chg_refused DROP CONSTRAINT IF EXISTS refuses, ADD CONSTRAINT refuses CHECK (s > 0) NOT VALID', 'ROLLBACK', $self->write_statement ]);
}

sub transaction
{
	my ($self) = @_;
	my @sql = ('BEGIN');
	my $depth = 0;
	my $gid;

	return ($self->write_statement) if chance(0.3);
	return @{ $self->ddl } if chance(0.12);
	return @{ $self->partition } if chance(0.04);
	return @{ $self->alteration } if chance(0.04);
	push @sql, 'SET LOCAL synchronous_commit = ' . pick('on', 'off') if chance(0.2);
	for (1 .. between(1, 5))
	{
		push @sql, 'SAVEPOINT s' . ++$depth if chance(0.35);
		push @sql, $self->write_statement;
		push @sql, pick('ROLLBACK TO', 'ROLLBACK TO', 'RELEASE') . ' s' . $depth-- if $depth && chance(0.4);
	}
	return (@sql, 'ROLLBACK') if chance(0.12);
	return (@sql, 'COMMIT') unless chance(0.12);
	$gid = 'load' . ++$self->{gids};
	# whoever reads a history would have to wait for its end
	$self->{locked} = 1 if grep { /^TRUNCATE/ } @sql;
	# some are left for others to end
	return (@sql, "PREPARE TRANSACTION '$gid'", chance(0.3) ? () : pick('COMMIT', 'COMMIT', 'ROLLBACK') . " PREPARED '$gid'");
}

sub spawn
{
	my ($self, $file) = @_;
	my $pid = fork() // die "fork: $!";

	return $pid if $pid;
	$ENV{PGOPTIONS} = '-c lock_timeout=200ms -c deadlock_timeout=20ms -c statement_timeout=10s';
	open(STDOUT, '>', "$file.out");
	open(STDERR, '>&', \*STDOUT);
	exec('psql', '-X', '-q', '-h', $self->{node}->host, '-p', $self->{node}->port, '-d', $self->{db}, '-f', $file) or POSIX::_exit(1);
}

# Clients that run so many transactions each, or until their server goes away
sub begin
{
	my ($self, $transactions) = @_;

	$self->{round}++;
	for my $client (1 .. $CLIENTS)
	{
		my $file = "$PostgreSQL::Test::Utils::tmp_check/load$client.sql";
		my @sql = map { $self->transaction } 1 .. $transactions // 15;

		unshift @sql, $self->young_sql if $client == 1 && chance(0.25);
		push @sql, $self->care, $self->transaction if $client == 2 && chance(0.5);
		unshift @sql, $self->care if $client == 3 && chance(0.3);
		unlink $file;
		append_to_file($file, join('', map { "$_;\n" } @sql));
		push @{ $self->{clients} }, $self->spawn($file);
	}
}

sub end
{
	my ($self) = @_;

	waitpid($_, 0) for @{ $self->{clients} };
	$self->{clients} = [];
}

sub settle
{
	my ($self) = @_;
	my @gids = split /\n/, $self->sql('SELECT gid FROM pg_prepared_xacts');

	$self->sql(join('; ', map { pick('COMMIT', 'ROLLBACK') . " PREPARED '$_'" } @gids)) if @gids;
	$self->{locked} = 0;
}

# Does a prepared transaction have a table for itself?
sub locked { return $_[0]{locked} }

sub names
{
	my ($self, $where) = @_;

	return split /\n/, $self->sql("SELECT name FROM beam.pipelines WHERE $where ORDER BY name");
}

# A client may have gone before it came to resume what it had paused. What reads a pipeline is built anew with it.
sub mend
{
	my ($self) = @_;
	my @void = $self->names(q{state = 'needs_resync' AND next_version IS NULL});

	$self->sql("SELECT beam.resume_pipeline('$_')") for $self->names(q{state = 'paused'});
	# the runner may have begun with one that is to be rebuilt
	$self->try_sql("SELECT beam.resync_pipeline('$_')") for @void;
}

# ---- comparing ----

sub both_ways
{
	my ($ours, $theirs) = @_;

	return "SELECT count(*) FROM ((($ours) EXCEPT ALL ($theirs)) UNION ALL (($theirs) EXCEPT ALL ($ours))) x";
}

# What a result must be, and what of it is compared: two queries
sub sides
{
	my ($self, $p) = @_;
	my $batch = "$p->{name}_batch";
	my $ended = $p->{when} eq 'ended' ? "WHERE window_end < '$ENDED'" : '';
	my $accumulation = $p->{accumulation} // 'accumulating';

	return ("SELECT * FROM $p->{name}", $p->{oracle}) if $p->{oracle};
	return map { "SELECT $self->{columns_of}{$batch} FROM $_ $ended" } $p->{name}, $batch if $accumulation eq 'accumulating';
	if ($accumulation eq 'discarding')
	{
		my $sums = join(', ', grep { $_ } $p->{sum_by}, 'sum(n)', 'sum(s)');
		my $by = $p->{sum_by} ? "GROUP BY $p->{sum_by}" : '';

		return map { "SELECT $sums FROM $_ $ended $by HAVING sum(n) <> 0" } $p->{name}, $batch;
	}
	# the rows that were said and not taken back; one that stands twice would have 2
	my $columns = $self->{columns_of}{$batch};

	return ("SELECT $columns, sum(op) FROM $p->{name} $ended GROUP BY $columns HAVING sum(op) <> 0", "SELECT $columns, 1::bigint FROM $batch $ended");
}

my %alone = (
	# each late row is one late event, each failing row one dead letter
	'a late event twice' => q{SELECT count(*) FROM (SELECT FROM beam.late_events WHERE pipeline = 'ins_late' GROUP BY data ->> 'id' HAVING count(*) > 1) x},
	'a late event of nothing' => q{SELECT count(*) FROM beam.late_events WHERE pipeline <> 'ins_late' OR (data ->> 'id')::bigint NOT IN (SELECT id FROM ins)},
	'dead letters' => q{SELECT count(*) FROM ((SELECT id FROM ins WHERE v = 0 EXCEPT ALL SELECT (data ->> 'id')::bigint FROM beam.dead_letters)
		UNION ALL (SELECT (data ->> 'id')::bigint FROM beam.dead_letters EXCEPT ALL SELECT id FROM ins WHERE v = 0)) x},
	'a failed group that nothing refuses' => q{SELECT count(*) FROM beam.failed_groups f WHERE pipeline = 'chg_refused'
		AND NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'chg_refused'::regclass AND conname = 'refuses')},
	'pipelines that do not run' => q{SELECT count(*) FROM beam.pipelines WHERE state <> 'running'});

# The figures of all comparisons, in one session: name => count
sub figures
{
	my ($self, @pipelines) = @_;
	my $sql = "SET timezone = 'UTC';\n";
	my %figures;

	$self->sql(join("\n", map { ("CALL beam.wait_for_alter('$_->{name}', '$WAIT');", "CALL beam.wait_for('$_->{name}', '$WAIT');") } @pipelines));
	# the columns of a batch view are those of the version that is in place
	$self->{columns_of} = { map { split /\|/ } split /\n/, $self->sql(q{SELECT c.relname, string_agg(quote_ident(attname), ', ' ORDER BY attnum)
		FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND attnum > 0 AND NOT attisdropped WHERE relname LIKE '%\_batch' AND relkind = 'v' GROUP BY 1}) };
	$sql .= sprintf("SELECT '%s', (%s);\n", $_->{name}, both_ways($self->sides($_))) for @pipelines;
	$sql .= sprintf("SELECT '%s', (%s);\n", $_, $alone{$_}) for sort keys %alone;
	for (split /\n/, $self->sql($sql))
	{
		$figures{$1} = $2 if /^(.*)\|(\d+)$/;
	}
	die 'not all was compared' unless keys %figures == @pipelines + keys %alone;
	return \%figures;
}

sub wrong
{
	my ($self) = @_;
	my $tries = 0;
	my %soon;

	for (;;)
	{
		my @pipelines;
		my $figures = eval { $self->mend; @pipelines = (@{ $self->{pipelines} }, $self->living_young); $self->figures(@pipelines) };

		return ("no answer: $@" . $self->unfinished) unless $figures;
		%soon = ('a failed group that nothing refuses' => 1, map { $_->{name} => 1 } grep { $_->{when} eq 'soon' } @pipelines);
		my @wrong = grep { $figures->{$_} } sort keys %$figures;
		# a delay that has not yet passed
		next if @wrong && ++$tries < 100 && !grep { !$soon{$_} } @wrong;
		return map { $self->describe($_, $figures->{$_}) } @wrong;
	}
}

# Where those stand that are waited for in vain
sub unfinished
{
	my ($self) = @_;

	return eval { $self->sql(q{SELECT name, version, stage, state, error_message FROM beam.pipeline_versions WHERE stage = 'building' OR state <> 'running'}) } // '';
}

# What there is: a test over nothing would prove nothing
sub summary
{
	my ($self) = @_;

	return "$self->{births} pipelines made over rows; " . $self->sql(q{SELECT format('%s rows inserted only, %s others; %s rows read, %s panes, %s late events, %s dead letters; %s versions', (SELECT count(*) FROM ins),
		(SELECT count(*) FROM chg) + (SELECT count(*) FROM par), sum(rows_in), sum(panes), sum(late_events), sum(dead_letters), (SELECT last_value FROM pg_get_serial_sequence('beam.pipeline', 'id') s, LATERAL (SELECT max(id) AS last_value FROM beam.pipeline) x)) FROM beam.stat_pipelines});
}

sub describe
{
	my ($self, $name, $count) = @_;
	my ($p) = grep { $_->{name} eq $name } @{ $self->{pipelines} }, values %{ $self->{young} };
	my ($ours, $theirs) = $p ? $self->sides($p) : ();

	return "$name: $count\n" . $self->sql('SELECT name, state, error_message FROM beam.pipelines WHERE state <> $$running$$') unless $p;
	return "$name ($p->{query}; " . $self->arguments($p) . "): $count rows differ\n" . $self->sql(
		qq{SET timezone = 'UTC'; (SELECT '+ ' || x::text FROM (($ours) EXCEPT ALL ($theirs)) x LIMIT 8) UNION ALL (SELECT '- ' || x::text FROM (($theirs) EXCEPT ALL ($ours)) x LIMIT 8)});
}

1;
