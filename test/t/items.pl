# Values that aggregates keep are rows of a table of their own: what one row changes is written, whatever dies and however little memory there is.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use SbTest;

my $node = new_node('items', conf => "stream_beam.bundle_time = '20ms'\nstream_beam.state_memory = '1MB'\nautovacuum = off\nfull_page_writes = off\n");
my %query = (
	extreme => 'SELECT k, max(v) AS most, min(t) AS least, beam.last(t, id) AS l FROM kept GROUP BY k',
	distinct_values => 'SELECT k, count(DISTINCT v) AS d, count(DISTINCT t) AS e, string_agg(DISTINCT s, \',\') AS s FROM kept GROUP BY k',
	percentile => 'SELECT k, percentile_cont(0.95) WITHIN GROUP (ORDER BY v) AS p, mode() WITHIN GROUP (ORDER BY id % 50) AS m FROM kept GROUP BY k',
	windowed => q{SELECT w.window_start, w.window_end, max(v) AS most, count(DISTINCT t) AS d FROM kept, beam.tumble(at, '1 hour') w GROUP BY 1, 2});

sub run { return $node->safe_psql('postgres', $_[0]) }

# What is written for one statement, between two marks; the middle of five.
sub wal_of
{
	my ($pipeline, $sql) = @_;
	my @bytes;

	for my $i (1 .. 5)
	{
		my $before = run('SELECT pg_current_wal_insert_lsn()');

		run(sprintf $sql, $i);
		wait_for($node, $pipeline);
		push @bytes, run("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '$before')");
	}
	return (sort { $a <=> $b } @bytes)[2];
}

# Leaves that no cell has
sub strays
{
	my $strays = 0;

	for my $id (split /\n/, run('SELECT id FROM beam.pipeline'))
	{
		$strays += run("SELECT count(*) FROM beam_state.items_$id i WHERE NOT EXISTS (SELECT FROM beam_state.cells_$id c WHERE i.tree = ANY (c.items))");
	}
	return $strays;
}

run(q{CREATE TABLE kept (id bigint PRIMARY KEY, k int, at timestamptz, v float8, t text, s text); ALTER TABLE kept REPLICA IDENTITY FULL});
create_pipeline($node, $_, $query{$_}) for sort keys %query;

promise 'one_row_writes_what_it_changes_and_not_the_group' => sub {
	run(q{INSERT INTO kept SELECT i, 0, '2026-01-01'::timestamptz + i * interval '0.1 s', i * 7919 % 100003, 't' || i * 31 % 70001, 's' || i % 20 FROM generate_series(1, 60000) i});
	for my $pipeline (sort keys %query)
	{
		equal_to_batch($node, $pipeline, "$pipeline: many rows in one group");
		run("SELECT beam.pause_pipeline('$_')") for grep { $_ ne $pipeline } sort keys %query;
		# a leaf of each aggregate, the cell, the result and the row itself
		cmp_ok(wal_of($pipeline, q{INSERT INTO kept VALUES (100000 + %1$d, 0, '2026-01-01 01:00', 50000.5 + %1$d, 'tt', 's1')}), '<', 5000, "$pipeline: of an insert");
		cmp_ok(wal_of($pipeline, q{UPDATE kept SET v = 200000 - %1$d WHERE id = 70 + %1$d}), '<', 8000, "$pipeline: of an update that moves the extreme");
		run('DELETE FROM kept WHERE id > 100000');
		run("SELECT beam.resume_pipeline('$_')") for grep { $_ ne $pipeline } sort keys %query;
	}
	equal_to_batch($node, $_, "$_: after these") for sort keys %query;
};

promise 'beyond_the_memory_and_whatever_dies_the_results_are_right' => sub {
	run('CREATE SEQUENCE more START 1000000');
	for my $round (1 .. 8)
	{
		my $load = start_load($node, q{\set i random(1, 60000)
			INSERT INTO kept SELECT nextval('more'), :i % 7, '2026-01-01'::timestamptz + :i * interval '1 s', :i, 'u' || :i % 999, 's' || :i % 30 FROM generate_series(1, 20);
			UPDATE kept SET v = v + 1, t = 'w' || id % 500, k = id % 3 WHERE id BETWEEN :i AND :i + 5;
			DELETE FROM kept WHERE id BETWEEN :i + 100 AND :i + 110;});
		my $rows = run(q{SELECT sum(n_tup_ins) FROM pg_stat_all_tables WHERE relname = 'kept'});

		wait_until($node, "SELECT sum(n_tup_ins) > $rows + 3000 FROM pg_stat_all_tables WHERE relname = 'kept'");
		# the server, and with it the load, goes with them
		$round % 4 == 0 ? crash_and_start($node) : kill9($node, $round % 2 ? 'runner' : 'reader');
		finish_load($load);
		equal_to_batch($node, $_, "$_: round $round") for sort keys %query;
		is(strays(), 0, "no leaf is left of what is over, round $round");
	}
};

promise 'windows_that_are_computed_anew_leave_no_leaf_behind' => sub {
	$node->safe_psql('postgres', q{CALL beam.backfill('windowed', '2026-01-01 01:00', '2026-01-01 05:00')});
	equal_to_batch($node, 'windowed', 'a range, while others are not in memory');
	is(strays(), 0, 'no leaf is left');
	run(q{DELETE FROM kept WHERE at < '2026-01-01 03:00'});
	equal_to_batch($node, 'windowed', 'windows without rows');
	is(strays(), 0, 'no leaf is left of them');
};

promise 'a_leaf_that_is_damaged_is_an_error_and_not_a_result' => sub {
	my $id = run(q{SELECT id FROM beam.pipeline WHERE name = 'extreme'});

	run(qq{UPDATE beam_state.items_$id SET data = set_byte(data, 3, (get_byte(data, 3) + 1) % 256)});
	kill9($node, 'runner');
	run('UPDATE kept SET v = v + 1 WHERE k = 0');
	wait_until($node, q{SELECT state = 'failed' FROM beam.pipelines WHERE name = 'extreme'});
	like(run(q{SELECT error_message FROM beam.pipelines WHERE name = 'extreme'}), qr/corrupted/, 'it is said');
	run(q{SELECT beam.resync_pipeline('extreme')});
	equal_to_batch($node, 'extreme', 'mended by a resync');
	equal_to_batch($node, 'percentile', 'others are not affected');
};

done_testing();
