# A standby that synchronizes the slot goes on when it is promoted, without a resync: PostgreSQL 17 and later.
use strict;
use warnings;
use Test::More;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use SbTest;

my $node = new_node('primary', conf => "max_wal_senders = 5\n");
my $major = int($node->safe_psql('postgres', 'SHOW server_version_num') / 10000);
if ($major < 17)
{
	$node->stop;
	plan skip_all => 'slots are synchronized from PostgreSQL 17 on';
}

# NAME: follows the primary, by the name of its slot, and synchronizes slots
sub standby
{
	my ($name) = @_;
	my $standby = PostgreSQL::Test::Cluster->new($name);

	$node->safe_psql('postgres', "SELECT pg_create_physical_replication_slot('$name')");
	$node->backup($name);
	$standby->init_from_backup($node, $name, has_streaming => 1);
	$standby->append_conf('postgresql.conf', "primary_slot_name = '$name'\nhot_standby_feedback = on\nsync_replication_slots = on\nsynchronized_standby_slots = ''\nprimary_conninfo = 'host=" . $node->host . ' port=' . $node->port . " dbname=postgres'");
	$standby->start;
	return $standby;
}

my $synced = q{SELECT count(*) = 1 FROM pg_replication_slots WHERE slot_name LIKE 'stream\_beam\_%' AND synced AND NOT temporary};

make_source($node, 'e');
make_source($node, 'e_paused');
create_pipeline($node, 'per_minute', tumble('e'));
create_pipeline($node, 'of_minutes', 'SELECT count(*) AS minutes, sum(n) AS n FROM per_minute');
create_pipeline($node, 'paused', tumble('e_paused'));
wait_for($node, 'of_minutes');

promise 'promoted_standby_goes_on_where_it_was' => sub {
	my $standby = standby('standby');
	$node->append_conf('postgresql.conf', "synchronized_standby_slots = 'standby'");
	$node->reload;
	# rows without end, in which the primary dies
	my $load = start_load($node, "\\set id random(1, 1000000)\nINSERT INTO e VALUES (:id, '2026-01-01'::timestamptz + :id * interval '1 s', :id % 7, '')");
	# the slot has to come by the place where the standby begins
	wait_until($standby, $synced);
	$node->safe_psql('postgres', q{INSERT INTO e_paused VALUES (1, '2026-01-01', 1, ''); CALL beam.wait_for('paused'); SELECT beam.pause_pipeline('paused'); INSERT INTO e_paused VALUES (2, '2026-01-01', 1, '')});
	my $rows = $node->safe_psql('postgres', 'SELECT count(*) FROM e');
	wait_until($standby, "SELECT count(*) > $rows + 1000 FROM e");
	$node->stop('immediate');
	finish_load($load, 0);
	$standby->promote;
	is($standby->safe_psql('postgres', q{SELECT string_agg(name || ' ' || state, ', ' ORDER BY name) FROM beam.pipelines}), 'of_minutes running, paused paused, per_minute running', 'all are as they were');
	equal_to_batch($standby, $_) for qw(per_minute of_minutes);
	$standby->safe_psql('postgres', q{SELECT beam.resume_pipeline('paused'); INSERT INTO e VALUES (0, '2026-01-01', 1, '')});
	equal_to_batch($standby, $_) for qw(paused per_minute of_minutes);
	like(slurp_file($standby->logfile), qr/goes on with the replication slot that it has synchronized/, 'and the log says so');
	$standby->restart;
	$standby->safe_psql('postgres', q{INSERT INTO e VALUES (-1, '2026-01-01', 1, '')});
	equal_to_batch($standby, 'of_minutes', 'a restart later is none of that');
	$standby->stop;
};

promise 'slot_is_not_confirmed_beyond_what_the_standbys_have' => sub {
	my $slot = q{SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name LIKE 'stream\_beam\_%'};
	my $before;

	# nobody follows any more
	$node->start;
	wait_for($node, 'per_minute');
	$before = $node->safe_psql('postgres', $slot);
	$node->safe_psql('postgres', q{INSERT INTO e SELECT i, '2026-01-01', i % 7, repeat(md5(i::text), 20) FROM generate_series(1, 50000) i});
	wait_for($node, 'of_minutes');
	$node->safe_psql('postgres', 'CHECKPOINT');
	is($node->safe_psql('postgres', $slot), $before, 'it waits for the standby that is away');
	$node->append_conf('postgresql.conf', "synchronized_standby_slots = ''");
	$node->reload;
	$node->safe_psql('postgres', q{INSERT INTO e VALUES (-2, '2026-01-01', 1, '')});
	wait_until($node, "SELECT ($slot) > '$before'");
	equal_to_batch($node, $_) for qw(per_minute of_minutes);
	$node->stop;
};

done_testing();
