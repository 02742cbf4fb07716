# beam.test_stream() needs neither workers nor their set-up, and keeps to the budget for state.
use strict;
use warnings;
use Test::More;
use SbTest;

my $node = new_node('test_stream', conf => "stream_beam.state_memory = '1MB'\n");
my $script = q{'[{"rows": [{"ts": "2026-01-01Z", "k": 1}]}, {"watermark": "2026-01-01 00:01Z"}, "end"]'};
my $panes = qq{SELECT string_agg(timing || (data ->> 'n'), ' ') FROM beam.test_stream('counts', $script)};

make_source($node, 'ev');
create_pipeline($node, 'counts', tumble('ev'));

# So many keys, of which one comes again
sub keys_panes
{
	my ($count) = @_;

	return qq{
		SELECT count(*), sum((data ->> 'n')::int), min(step)
		  FROM beam.test_stream('counts', (
			SELECT jsonb_build_array(jsonb_build_object('rows', jsonb_agg(jsonb_build_object('ts', '2026-01-01Z', 'k', i))),
				'{"rows": [{"ts": "2026-01-01Z", "k": 1}]}'::jsonb, '"end"'::jsonb) FROM generate_series(1, $count) i))
		 WHERE timing = 'ON_TIME'};
}

promise 'more_cells_than_the_budget_are_refused' => sub {
	my (undef, undef, $error) = $node->psql('postgres', keys_panes(30000));

	like($error, qr/the cells of pipeline "counts" need more memory than stream_beam.state_memory/, 'there is no table that they could go to');
	is($node->safe_psql('postgres', keys_panes(1000)), '1000|1001|3', 'fewer are one pane a key, the one with two rows too');
};

promise 'without_workers_it_gives_the_same' => sub {
	my $with = $node->safe_psql('postgres', $panes);

	isnt($with, '', "panes: $with");
	$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
	$node->restart;
	is($node->safe_psql('postgres', q{SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'stream_beam%'}), 0, 'there are no workers');
	is($node->safe_psql('postgres', $panes), $with, 'the same panes');
	is($node->safe_psql('postgres', qq{SELECT beam.no_state_left('counts', $script)}), 'ok', 'and assertions');
};

done_testing();
