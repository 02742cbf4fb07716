# Somebody publishes results, or all tables: no pipeline fails, and a subscriber has what the result has.
use strict;
use warnings;
use Test::More;
use SbTest;

my $node = new_node('publisher');
my $subscriber = new_node('subscriber', extension => 0);
my @pipelines = qw(nullable keyed windows one net bag by_key chained);

$node->safe_psql('postgres', q{
	CREATE SCHEMA results;
	CREATE TABLE s (id int PRIMARY KEY, k int, c text NOT NULL, v int, ts timestamptz NOT NULL DEFAULT '2026-01-01');
	ALTER TABLE s REPLICA IDENTITY FULL;
	SELECT beam.create_pipeline('results.nullable', 'SELECT k, sum(v) AS s, count(*) AS n FROM s GROUP BY k');
	SELECT beam.create_pipeline('results.keyed', 'SELECT c, sum(v) AS s, count(*) AS n FROM s GROUP BY c');
	SELECT beam.create_pipeline('results.windows', $$SELECT w.window_start, w.window_end, count(*) AS n FROM s, beam.tumble(ts, '1 hour') w GROUP BY 1, 2$$, allowed_lateness => '10000 days');
	SELECT beam.create_pipeline('results.one', 'SELECT sum(v) AS s FROM s');
	SELECT beam.create_pipeline('results.net', 'SELECT k, sum(v) AS s FROM s GROUP BY k', accumulation => 'retracting');
	SELECT beam.create_pipeline('results.bag', 'SELECT c, v FROM s');
	SELECT beam.create_pipeline('results.by_key', 'SELECT id, c, v FROM s');
	SELECT beam.create_pipeline('results.chained', 'SELECT c, max(s) AS s FROM results.keyed GROUP BY c');
	INSERT INTO s SELECT i, nullif(i % 5, 0), 'c' || i % 3, i FROM generate_series(1, 100) i});

sub change
{
	$node->safe_psql('postgres', q{
		INSERT INTO s SELECT max(id) + 1, NULL, 'new', 1 FROM s;
		UPDATE s SET k = (k + 1) % 5, v = v + 1 WHERE id % 2 = 0;
		UPDATE s SET c = c || 'x', ts = ts + interval '1 hour' WHERE id % 7 = 0;
		DELETE FROM s WHERE id IN (SELECT id FROM s ORDER BY id LIMIT 3)});
}

sub all_run
{
	my ($what) = @_;

	wait_for($node, $_) for @pipelines;
	is($node->safe_psql('postgres', q{SELECT count(*) FROM beam.pipelines WHERE state = 'running'}), scalar(@pipelines), "$what: all pipelines run");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM beam.dead_letters'), 0, "$what: no row failed");
	is($node->safe_psql('postgres', join(' UNION ALL ', map { "SELECT '$_' FROM beam.verify('$_')" } @pipelines)), '', "$what: all results are right");
}

sub identity_of
{
	return $node->safe_psql('postgres', "SELECT relreplident FROM pg_class WHERE oid = 'results.$_[0]'::regclass");
}

sub content
{
	my ($at, $table) = @_;

	return $at->safe_psql('postgres', "SELECT x::text FROM results.$table x ORDER BY 1");
}

sub subscriber_has_the_same
{
	my ($what) = @_;

	$node->wait_for_catchup('sub');
	is(content($subscriber, $_), content($node, $_), "$what: $_") for @pipelines;
}

promise 'every_table_has_a_replica_identity' => sub {
	is($node->safe_psql('postgres', q{SELECT c.oid::regclass FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace IN ('beam'::regnamespace, 'beam_state'::regnamespace, 'results'::regnamespace)
		AND NOT (c.relreplident = 'f' OR EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND (i.indisreplident OR c.relreplident = 'd' AND i.indisprimary)))}),
		'', 'none is without');
	is(join('', map { identity_of($_) } @pipelines), 'fiifffii', 'FULL is that of those whose rows need not have a key');
};

promise 'publication_of_all_tables_stops_no_pipeline' => sub {
	$node->safe_psql('postgres', 'CREATE PUBLICATION everything FOR ALL TABLES');
	change() for 1 .. 2;
	all_run('changes');
	$node->safe_psql('postgres', q{SELECT beam.resync_pipeline('keyed'); SELECT beam.alter_pipeline('nullable', accumulation => 'retracting')});
	$node->safe_psql('postgres', "CALL beam.wait_for_alter('$_')") for qw(keyed nullable);
	$node->safe_psql('postgres', q{SELECT beam.rollback_pipeline('nullable', keep => NULL)});
	$node->safe_psql('postgres', q{CALL beam.wait_for_alter('nullable')});
	$node->safe_psql('postgres', q{CALL beam.backfill('windows')});
	change();
	all_run('commands');
	crash_and_start($node);
	change();
	all_run('crash');
	$node->safe_psql('postgres', 'DROP PUBLICATION everything');
};

promise 'subscriber_has_what_the_result_has' => sub {
	my $connection = $node->connstr . ' dbname=postgres';

	for my $table (@pipelines)
	{
		my $columns = $node->safe_psql('postgres', qq{SELECT string_agg(quote_ident(attname) || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
			FROM pg_attribute WHERE attrelid = 'results.$table'::regclass AND attnum > 0 AND NOT attisdropped});

		$subscriber->safe_psql('postgres', "CREATE SCHEMA IF NOT EXISTS results; CREATE TABLE results.$table ($columns)");
		my $key = $node->safe_psql('postgres', qq{SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_index i
			JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) WHERE i.indrelid = 'results.$table'::regclass AND i.indisreplident});

		$subscriber->safe_psql('postgres', "ALTER TABLE results.$table " . ($key ? "ADD PRIMARY KEY ($key)" : 'REPLICA IDENTITY FULL'));
	}
	$node->safe_psql('postgres', 'CREATE PUBLICATION results FOR TABLES IN SCHEMA results');
	$subscriber->safe_psql('postgres', "CREATE SUBSCRIPTION sub CONNECTION '$connection' PUBLICATION results");
	$subscriber->wait_for_subscription_sync($node, 'sub');
	change() for 1 .. 3;
	all_run('published');
	subscriber_has_the_same('changes');
	$node->safe_psql('postgres', 'TRUNCATE s');
	all_run('truncated');
	subscriber_has_the_same('TRUNCATE');
};

promise 'key_that_may_be_null_from_now_on_is_taken' => sub {
	$node->safe_psql('postgres', q{INSERT INTO s SELECT i, i, 'c' || i % 3, i FROM generate_series(1001, 1010) i});
	all_run('before');
	is(identity_of('keyed'), 'i', 'no key is null');
	subscriber_has_the_same('before');
	$subscriber->safe_psql('postgres', "ALTER TABLE results.$_ DROP CONSTRAINT ${_}_pkey, ALTER c DROP NOT NULL, REPLICA IDENTITY FULL") for qw(keyed chained);
	$node->safe_psql('postgres', q{ALTER TABLE s ALTER c DROP NOT NULL; INSERT INTO s VALUES (2000, 1, NULL, 7), (2001, 1, NULL, 8)});
	all_run('null');
	is(identity_of('keyed') . identity_of('chained'), 'ff', 'a key is null');
	is($node->safe_psql('postgres', 'SELECT s FROM results.keyed WHERE c IS NULL'), 15, 'its row is there');
	subscriber_has_the_same('null');
	$node->safe_psql('postgres', 'DELETE FROM s WHERE c IS NULL');
	all_run('without');
	subscriber_has_the_same('without');
};

promise 'result_of_before_gets_an_identity_when_it_is_opened' => sub {
	$node->safe_psql('postgres', "ALTER TABLE results.$_ REPLICA IDENTITY DEFAULT") for qw(nullable windows);
	$node->safe_psql('postgres', q{ALTER TABLE results.one REPLICA IDENTITY NOTHING});
	$node->restart;
	all_run('restart');
	is(identity_of($_), 'f', $_) for qw(nullable windows);
	is(identity_of('one'), 'n', 'what a user has chosen stays');
};

$node->stop;
$subscriber->stop;
done_testing();
