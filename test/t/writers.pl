# Who writes, and how: whatever made the change, the pipeline applies what was committed.
use strict;
use warnings;
use Test::More;
use SbTest;

my $node = new_node('writers', conf => "stream_beam.ring_size = '1MB'\nmax_logical_replication_workers = 8\n");
my $late = q{allowed_lateness => '10000 days'};
my $db = 'postgres';

sub run
{
	return $node->safe_psql($db, $_[0]);
}

promise 'long_transaction_that_commits_after_thousands_of_later_ones' => sub {
	make_source($node, 'ev');
	create_pipeline($node, 'sums', tumble('ev'));
	my $long = $node->background_psql($db, on_error_stop => 1);
	$long->query_safe(q{BEGIN; INSERT INTO ev SELECT i, '2026-01-01', i % 7, 'old' FROM generate_series(1, 100) i});
	my $load = start_load($node, q{INSERT INTO ev VALUES (1, '2026-01-01', 1, 'x')}, $db, qw(-c 4 -t 1000));
	finish_load($load, 0);
	equal_to_batch($node, 'sums', 'while it is open');
	is(run('SELECT sum(n) FROM sums'), 4000, 'the later ones');
	$long->query_safe(q{INSERT INTO ev SELECT i, '2026-01-01', i % 7, 'old' FROM generate_series(1, 100) i; UPDATE ev SET k = 3 WHERE v = 'x'; COMMIT});
	$long->quit;
	equal_to_batch($node, 'sums', 'committed');
	is(run('SELECT sum(n) FROM sums'), 4200, 'all of them');
};

promise 'on_conflict' => sub {
	run(q{CREATE TABLE oc (id int PRIMARY KEY, ts timestamptz, k int, v text); ALTER TABLE oc REPLICA IDENTITY FULL});
	create_pipeline($node, 'of_oc', tumble('oc'));
	run(q{INSERT INTO oc SELECT i % 50, '2026-01-01'::timestamptz + i * interval '1 s', i % 7, 'v' FROM generate_series(1, 500) i ON CONFLICT DO NOTHING});
	run(qq{INSERT INTO oc SELECT i % 50, '2026-01-01'::timestamptz + i * interval '1 s', i % 7, 'v' FROM generate_series($_ * 10, $_ * 10 + 15) i
		ON CONFLICT (id) DO UPDATE SET k = oc.k + excluded.k, ts = excluded.ts}) for 1 .. 20;
	equal_to_batch($node, 'of_oc', 'in turn');
	# speculative insertions that lose
	my $load = start_load($node, q{\set i random(1, 60)
		INSERT INTO oc VALUES (:i, '2026-01-01', :i, 'v') ON CONFLICT (id) DO UPDATE SET k = oc.k + 1;
		DELETE FROM oc WHERE id = :i + 1;}, $db, qw(-c 6 -t 200));
	finish_load($load, 0);
	equal_to_batch($node, 'of_oc', 'against each other');
};

promise 'merge' => sub {
	make_source($node, 'me');
	create_pipeline($node, 'of_me', tumble('me'));
	run(qq{MERGE INTO me USING (SELECT i AS id, '2026-01-01'::timestamptz + i * interval '1 s' AS ts, i % 7 AS k FROM generate_series($_ * 10, $_ * 10 + 40) i) n ON me.id = n.id
		WHEN MATCHED AND n.id % 5 = 0 THEN DELETE
		WHEN MATCHED THEN UPDATE SET k = me.k + 1, ts = me.ts + interval '30 s'
		WHEN NOT MATCHED THEN INSERT VALUES (n.id, n.ts, n.k, 'merged')}) for 1 .. 20;
	equal_to_batch($node, 'of_me');
};

promise 'foreign_keys_that_cascade' => sub {
	run(q{CREATE TABLE fk_a (id int PRIMARY KEY);
		CREATE TABLE fk_b (id int PRIMARY KEY, a int REFERENCES fk_a ON DELETE CASCADE ON UPDATE CASCADE, ts timestamptz DEFAULT '2026-01-01');
		CREATE TABLE fk_c (id int, b int REFERENCES fk_b ON DELETE SET NULL, ts timestamptz DEFAULT '2026-01-01');
		ALTER TABLE fk_b REPLICA IDENTITY FULL; ALTER TABLE fk_c REPLICA IDENTITY FULL});
	create_pipeline($node, 'of_b', 'SELECT a, count(*) AS n, sum(id) AS s FROM fk_b GROUP BY a');
	create_pipeline($node, 'of_c', 'SELECT b, count(*) AS n FROM fk_c GROUP BY b');
	run(q{INSERT INTO fk_a SELECT generate_series(1, 20); INSERT INTO fk_b SELECT i, i % 20 + 1 FROM generate_series(1, 200) i;
		INSERT INTO fk_c SELECT i, i % 200 + 1 FROM generate_series(1, 1000) i});
	run(q{UPDATE fk_a SET id = id + 100 WHERE id % 2 = 0});
	run(q{DELETE FROM fk_a WHERE id % 3 = 0});
	equal_to_batch($node, $_, $_) for qw(of_b of_c);
};

promise 'deferred_constraints_and_triggers' => sub {
	run(q{CREATE TABLE de (id int UNIQUE DEFERRABLE INITIALLY DEFERRED, k int, ts timestamptz DEFAULT '2026-01-01'); ALTER TABLE de REPLICA IDENTITY FULL;
		CREATE TABLE audit (k int, n int); ALTER TABLE audit REPLICA IDENTITY FULL;
		CREATE FUNCTION de_audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit VALUES (new.k, 1); RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER later AFTER INSERT ON de DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION de_audit()});
	create_pipeline($node, 'of_de', 'SELECT k, count(*) AS n, sum(id) AS s FROM de GROUP BY k');
	create_pipeline($node, 'of_audit', 'SELECT k, count(*) AS n FROM audit GROUP BY k');
	run(q{INSERT INTO de SELECT i, i % 5 FROM generate_series(1, 100) i});
	run(q{BEGIN; UPDATE de SET id = id + 1; UPDATE de SET id = 101 - id; COMMIT});
	my ($rc) = $node->psql($db, q{BEGIN; INSERT INTO de VALUES (5, 1); COMMIT});
	isnt($rc, 0, 'one fails at its commit');
	run(q{INSERT INTO de VALUES (500, 1)});
	equal_to_batch($node, $_, $_) for qw(of_de of_audit);
	is(run('SELECT sum(n) FROM of_audit'), 101, 'what the triggers wrote');
};

promise 'cursors_triggers_and_functions' => sub {
	make_source($node, 'fn');
	create_pipeline($node, 'of_fn', tumble('fn'));
	run(q{CREATE FUNCTION fn_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN new.k := new.k * 2; RETURN CASE WHEN new.id % 9 = 0 THEN NULL ELSE new END; END $$;
		CREATE TRIGGER change BEFORE INSERT OR UPDATE ON fn FOR EACH ROW EXECUTE FUNCTION fn_change()});
	run(q{INSERT INTO fn SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 7, 'v' FROM generate_series(1, 300) i});
	run(q{DO $$ DECLARE c CURSOR FOR SELECT * FROM fn WHERE id % 4 = 0 FOR UPDATE; BEGIN
		FOR r IN c LOOP IF r.id % 8 = 0 THEN DELETE FROM fn WHERE CURRENT OF c; ELSE UPDATE fn SET k = 1 WHERE CURRENT OF c; END IF; END LOOP; END $$});
	run(q{WITH gone AS (DELETE FROM fn WHERE id < 50 RETURNING *) INSERT INTO fn SELECT id + 1000, ts, k, v FROM gone});
	run(q{CREATE PROCEDURE fn_many() LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1 .. 30 LOOP INSERT INTO fn VALUES (i, '2026-01-01', i, 'p');
		IF i % 3 = 0 THEN ROLLBACK; ELSE COMMIT; END IF; END LOOP; END $$; CALL fn_many()});
	equal_to_batch($node, 'of_fn');
};

promise 'a_subscription_writes' => sub {
	run('CREATE DATABASE origin');
	$node->safe_psql('origin', q{CREATE TABLE lr (id int PRIMARY KEY, ts timestamptz, k int, v text); ALTER TABLE lr REPLICA IDENTITY FULL; ALTER TABLE lr ALTER v SET STORAGE EXTERNAL;
		INSERT INTO lr SELECT i, '2026-01-01', i % 7, 'before' FROM generate_series(1, 100) i; CREATE PUBLICATION pub FOR TABLE lr});
	# a subscription within one server cannot make its slot itself
	$node->safe_psql('origin', q{SELECT pg_create_logical_replication_slot('sub', 'pgoutput')});
	run(q{CREATE TABLE lr (k int, id int PRIMARY KEY, more int DEFAULT 3, v text, ts timestamptz); ALTER TABLE lr REPLICA IDENTITY FULL; ALTER TABLE lr ALTER v SET STORAGE EXTERNAL});
	create_pipeline($node, 'of_lr', 'SELECT k, count(*) AS n, sum(id) AS s, sum(length(v)) AS bytes, min(v) AS v FROM lr GROUP BY k');
	run(qq{CREATE SUBSCRIPTION sub CONNECTION '@{[$node->connstr]} dbname=origin' PUBLICATION pub WITH (create_slot = false, streaming = on)});
	wait_until($node, 'SELECT count(*) = 100 FROM lr');
	equal_to_batch($node, 'of_lr', 'the first copy');
	$node->safe_psql('origin', q{INSERT INTO lr SELECT i, '2026-01-01', i % 7, repeat('v', 5000) FROM generate_series(101, 200) i;
		UPDATE lr SET k = k + 1 WHERE id % 3 = 0; DELETE FROM lr WHERE id % 5 = 0;
		BEGIN; INSERT INTO lr SELECT i, '2026-01-01', i % 7, 'v' FROM generate_series(201, 20000) i; SAVEPOINT a; DELETE FROM lr; ROLLBACK TO a; COMMIT;
		INSERT INTO lr VALUES (30000, '2026-01-01', 1, 'last')});
	wait_until($node, 'SELECT count(*) = 1 FROM lr WHERE id = 30000');
	equal_to_batch($node, 'of_lr', 'changes');
	$node->safe_psql('origin', q{TRUNCATE lr; INSERT INTO lr VALUES (40000, '2026-01-01', 1, 'after')});
	wait_until($node, 'SELECT count(*) = 1 FROM lr WHERE id = 40000');
	equal_to_batch($node, 'of_lr', 'TRUNCATE');
	run('ALTER SUBSCRIPTION sub DISABLE; ALTER SUBSCRIPTION sub SET (slot_name = NONE); DROP SUBSCRIPTION sub');
	wait_until($node, q{SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'sub'});
	$node->safe_psql('origin', q{SELECT pg_drop_replication_slot('sub')});
};

$node->stop;
done_testing();
