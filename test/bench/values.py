"""values: aggregates that keep the values of their rows: what one row writes, and how fast, in a group of many."""
import catch_up
import sb_bench as sb

MANY = 500_000
SOURCE = "(id bigint, key int, ts timestamptz, amount float8, visitor text, kind text)"
# what is asked of one group, and the WAL that an inserted row may make
SINGLE = {
    "max": ("max(amount) AS a", 2048),
    "min": ("min(amount) AS a", 2048),
    "count(DISTINCT)": ("count(DISTINCT visitor) AS a", 2048),
    "last": ("beam.last(amount, ts) AS a", 2048),
    "array_agg": ("(array_agg(amount ORDER BY ts DESC, id))[1] AS a", 4096),
    "string_agg(DISTINCT)": ("string_agg(DISTINCT kind, ',') AS a", 2048),
}
DELETES = 10_000


def make(db, rows, keys):
    """Rows of which each key has as many; a thousand a second of event time, the last one is about now"""
    sb.psql(db, f"CREATE TABLE vals {SOURCE}", "ALTER TABLE vals REPLICA IDENTITY FULL",
            f"""INSERT INTO vals SELECT -i, i % {keys}, date_trunc('minute', now()) - i * interval '1 ms', i * 7919::bigint % 1000003 + i % 7 / 8.0,
                       'v' || i * 104729::bigint % 200003, 'kind ' || i % 20
                  FROM generate_series(1, {rows}) i""", "ANALYZE vals")


def create(db, name, query):
    sb.psql(db, f"SELECT beam.create_pipeline('{name}', $q${query}$q$)", f"CALL beam.wait_for('{name}', '{sb.STATEMENT_SECONDS - 10} s')")


def wal_of(db, name, statement):
    """Bytes that a statement and what follows from it write; the middle of nine"""
    sizes = []
    for i in range(9):
        before = sb.value(db, "SELECT pg_current_wal_insert_lsn()")
        sb.psql(db, statement.format(i=i))
        sb.wait_for(db, name)
        sizes.append(int(sb.value(db, f"SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '{before}')")))
    return sb.median(sizes)


def run_wal():
    # pages that are written as a whole after a checkpoint belong to no row
    sb.psql("postgres", "ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()")
    try:
        with sb.database("vals_wal") as db:
            make(db, MANY, 1)
            for name, (aggregate, most) in SINGLE.items():
                create(db, "one", f"SELECT {aggregate}, count(*) AS n FROM vals")
                size = wal_of(db, "one", "INSERT INTO vals VALUES ({i}, 0, now(), 500000.5 + {i}, 'v new {i}', 'kind 3')")
                yield sb.Row(f"WAL of a row, {name}", round(size / 1024, 2), "kB", most / 1024, "lower", f"inserted into a group of {MANY} rows")
                if name == "max":
                    size = wal_of(db, "one", "UPDATE vals SET amount = 3000000 - {i} WHERE id = -1000 - {i}")
                    yield sb.Row("WAL of an update, max", round(size / 1024, 2), "kB", 2, "lower", "that moves the maximum")
                sb.check_equal(db, "one", 1)
                sb.psql(db, "SELECT beam.drop_pipeline('one')")
    finally:
        sb.psql("postgres", "ALTER SYSTEM RESET full_page_writes", "SELECT pg_reload_conf()")


def run_deletes():
    with sb.database("vals_deletes") as db:
        make(db, 1_000_000, 1)
        sb.psql(db, "CREATE INDEX ON vals (amount)")
        create(db, "one", "SELECT max(amount) AS a FROM vals")
        loop = f"""DO $$ BEGIN
                       FOR i IN 1 .. {DELETES} LOOP
                           DELETE FROM vals WHERE ctid = (SELECT ctid FROM vals ORDER BY amount DESC LIMIT 1);
                           COMMIT;
                       END LOOP;
                   END $$"""
        alone = sb.timed(db, "SET synchronous_commit = off", loop, "CALL beam.wait_for('one', '100 s')")
        sb.check_equal(db, "one", 1)
        yield sb.Row("deletes of the maximum", round(alone[1] + alone[2], 2), "s", 2, "lower",
                     f"{DELETES} transactions over 1000000 rows; {alone[2]:.2f} s of it after the last one")


def fill(db):
    """Two million rows of a thousand keys, in transactions of a thousand"""
    sb.psql(db, """CREATE OR REPLACE PROCEDURE fill() LANGUAGE plpgsql AS $p$
                   BEGIN
                       FOR part IN 0 .. 1999 LOOP
                           INSERT INTO vals SELECT i, i % 1000, now(), i * 7919::bigint % 1000003, 'v' || i * 104729::bigint % 200003, 'kind ' || i % 20
                             FROM generate_series(part * 1000, part * 1000 + 999) i;
                           COMMIT;
                       END LOOP;
                   END $p$""", "SET synchronous_commit = off", "CALL fill()", "ANALYZE vals")


def rounds_of(db, query):
    """Seconds of the batch, and of a pipeline that catches up with the same rows"""
    sb.psql(db, f"CREATE TABLE vals {SOURCE}", "ALTER TABLE vals REPLICA IDENTITY FULL",
            f"SELECT beam.create_pipeline('kept', $q${query}$q$)", "CALL beam.wait_for('kept')", "SELECT beam.pause_pipeline('kept')")
    fill(db)
    sb.settle(db)
    batch = catch_up.seconds(db, "SELECT count(x.a), count(x.b) FROM (TABLE kept_batch OFFSET 0) x")
    stream = sb.resume_and_wait(db, "kept")
    sb.check_equal(db, "kept", 1000)
    sb.psql(db, "SELECT beam.drop_pipeline('kept')", "DROP TABLE vals")
    return batch, stream


def run_catch_up():
    query = "SELECT key, max(amount) AS a, count(DISTINCT visitor) AS b FROM vals GROUP BY key"
    with sb.database("vals_catch_up") as db:
        rounds = [rounds_of(db, query) for _ in range(3)]
    batch, stream = (sb.median(side) for side in zip(*rounds))
    yield sb.Row("catch-up, max and DISTINCT", round(batch / stream, 3), "ratio to batch", 0.4, "higher",
                 f"2000000 rows in 1000 groups: {stream:.2f} s, batch {batch:.2f} s")


def run_percentile():
    """Many panes: bundles of a thousand rows"""
    query = """SELECT key, percentile_cont(0.95) WITHIN GROUP (ORDER BY amount) AS a, mode() WITHIN GROUP (ORDER BY amount) AS b
                 FROM vals GROUP BY key"""
    sb.psql("postgres", "ALTER SYSTEM SET stream_beam.bundle_rows = 1000", "SELECT pg_reload_conf()")
    try:
        with sb.database("vals_percentile") as db:
            sb.psql(db, f"CREATE TABLE vals {SOURCE}", "ALTER TABLE vals REPLICA IDENTITY FULL",
                    f"SELECT beam.create_pipeline('kept', $q${query}$q$)", "CALL beam.wait_for('kept')", "SELECT beam.pause_pipeline('kept')")
            fill(db)
            sb.settle(db)
            batch = catch_up.seconds(db, "SELECT count(x.a), count(x.b) FROM (TABLE kept_batch OFFSET 0) x")
            stream = sb.resume_and_wait(db, "kept")
            bundles = int(sb.value(db, "SELECT bundles FROM beam.stat_pipelines"))
            sb.check_equal(db, "kept", 1000)
    finally:
        sb.psql("postgres", "ALTER SYSTEM RESET stream_beam.bundle_rows", "SELECT pg_reload_conf()")
    yield sb.Row("percentile and mode", round(batch / stream, 3), "ratio to batch", 0.1, "higher",
                 f"{stream:.2f} s in {bundles} bundles, batch {batch:.2f} s")


def run():
    yield from run_wal()
    yield from run_deletes()
    yield from run_catch_up()
    yield from run_percentile()
