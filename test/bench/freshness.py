"""freshness: from the return of a commit to its effect being visible in the result, with a thousand single-row transactions a second."""
import contextlib
import os
import re
import subprocess

import sb_bench as sb

RATE = 1000
SECONDS = 20
QUERY = """
    SELECT w.window_start, w.window_end, s.key, count(*) AS n, sum(s.amount) AS total, max(s.id) AS last
      FROM source s, beam.tumble(s.ts, '1 minute') w
     GROUP BY w.window_start, w.window_end, s.key"""


def measure(db, rate, seconds):
    """p50, p99, maximum and time between two reads in microseconds, the rate reached and the rows."""
    text = sb.program([os.path.join(os.environ["SB_BENCH_BUILT"], "sb_bench_freshness"), str(rate), str(seconds)],
                      timeout=seconds + 60, env={**os.environ, "PGDATABASE": db})
    found = re.match(r"rows (\d+) rate (\d+) p50 (\d+) p99 (\d+) max (\d+) read (\d+)", text)
    if not found:
        raise sb.Failure(f"sb_bench_freshness said: {text}")
    rows, reached, p50, p99, most, read = (int(x) for x in found.groups())
    if reached < 0.95 * rate:
        raise sb.Failure(f"the writers reached only {reached} of {rate} transactions a second: the machine is too busy")
    return p50, p99, most, read, reached, rows


def run():
    with sb.database("freshness") as db:
        sb.psql(db, "CREATE TABLE source (id bigint, ts timestamptz, key int, amount float8)")
        sb.create_pipeline(db, "result", QUERY)
        sb.wait_for(db, "result")
        workers = {kind: sb.worker(db, kind) for kind in ("reader", "runner")}
        before = {kind: sb.cpu_seconds(pid) for kind, pid in workers.items()}
        p50, p99, most, read, rate, rows = measure(db, RATE, SECONDS)
        cpu = {kind: 100 * (sb.cpu_seconds(pid) - before[kind]) / SECONDS for kind, pid in workers.items()}
        if sb.differences(db, "result"):
            raise sb.Failure("the result differs from its batch view")
    yield sb.Row("freshness p50", p50 / 1000, "ms", 1, "lower", f"{rows} rows, {rate}/s; read every {read} us, counted in full")
    yield sb.Row("freshness p99", p99 / 1000, "ms", 5, "lower",
                 f"maximum {most / 1000:.1f} ms; reader {cpu['reader']:.0f} %, runner {cpu['runner']:.0f} % of a core")


VALUES_MANY = 500_000
VALUES_QUERY = """
    SELECT s.key, max(s.id) AS last, max(s.amount) AS most, count(DISTINCT s.id % 100000) AS d, beam.last(s.amount, s.ts) AS latest
      FROM source s GROUP BY s.key"""


def measure_values(query, rate):
    """A writer's group has many rows, whose values are kept: the delays, and MB of WAL a second"""
    with sb.database("values_freshness") as db:
        sb.psql(db, "CREATE TABLE source (id bigint, ts timestamptz, key int, amount float8)", "ALTER TABLE source REPLICA IDENTITY FULL",
                f"INSERT INTO source SELECT -i, now() - i * interval '1 ms', i % 4, i % 100003 FROM generate_series(1, {4 * VALUES_MANY}) i")
        sb.psql(db, f"SELECT beam.create_pipeline('result', $q${query}$q$)")
        sb.wait_for(db, "result")
        sb.settle(db)
        before = sb.value(db, "SELECT pg_current_wal_insert_lsn()")
        measured = measure(db, rate, SECONDS)
        written = int(sb.value(db, f"SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '{before}')"))
        if sb.differences(db, "result"):
            raise sb.Failure("the result differs from its batch view")
        return measured, written / 1048576 / SECONDS


def run_values():
    (p50, p99, most, read, rate, rows), _ = measure_values(VALUES_QUERY, 500)
    yield sb.Row("values, freshness p50", p50 / 1000, "ms", 1, "lower", f"{rows} rows, {rate}/s, groups of {VALUES_MANY}; read every {read} us")
    yield sb.Row("values, freshness p99", p99 / 1000, "ms", 5, "lower", f"maximum {most / 1000:.1f} ms")
    # pages that are written as a whole after a checkpoint belong to no row
    sb.psql("postgres", "ALTER SYSTEM SET full_page_writes = off", "SELECT pg_reload_conf()")
    try:
        (_, _, _, _, rate, _), written = measure_values("SELECT s.key, max(s.id) AS last FROM source s GROUP BY s.key", 1000)
    finally:
        sb.psql("postgres", "ALTER SYSTEM RESET full_page_writes", "SELECT pg_reload_conf()")
    yield sb.Row("values, WAL of max", round(written, 2), "MB/s", 4, "lower", f"{rate} transactions a second")


LAG_RATE = 500
LAG_ROWS = 1_000_000
LAG_PAD = 1800


def run_laggard():
    """Another pipeline was paused for 2 GB of WAL, and is resumed when the measurement begins."""
    with sb.database("laggard") as db:
        sb.psql(db, "CREATE TABLE source (id bigint, ts timestamptz, key int, amount float8)",
                "CREATE TABLE behind (id bigint, ts timestamptz, key int, pad text)",
                "ALTER TABLE behind ALTER pad SET STORAGE EXTERNAL")
        sb.create_pipeline(db, "result", QUERY)
        sb.create_pipeline(db, "lagging", "SELECT b.key, count(*) AS n, max(b.id) AS last FROM behind b GROUP BY b.key")
        sb.wait_for(db, "lagging")
        sb.psql(db, "SELECT beam.pause_pipeline('lagging')")
        start = sb.value(db, "SELECT pg_current_wal_lsn()")
        sb.psql(db, f"INSERT INTO behind SELECT i, '2026-01-01', i % 1000, repeat('x', {LAG_PAD}) FROM generate_series(1, {LAG_ROWS}) i")
        written = float(sb.value(db, f"SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '{start}') / 1024 / 1024"))
        sb.wait_for(db, "result")
        sb.psql(db, "SELECT beam.resume_pipeline('lagging')")
        p50, p99, most, _, rate, rows = measure(db, LAG_RATE, SECONDS)
        sb.wait_for(db, "lagging")
        for pipeline in ("result", "lagging"):
            if sb.differences(db, pipeline):
                raise sb.Failure(f"{pipeline} differs from its batch view")
    yield sb.Row("freshness beside a laggard p99", p99 / 1000, "ms", 10, "lower",
                 f"p50 {p50 / 1000:.2f} ms, maximum {most / 1000:.1f} ms; {rows} rows, {rate}/s; {written:.0f} MB behind")


QUEUE_ROWS = 500_000
SLOW_ROWS = 30_000
READER = "SELECT slow(u.key) AS key, sum(u.n) AS n, max(u.id) AS last FROM upstream u GROUP BY 1"


def reader_case(what, note, begin):
    """A pipeline that reads the result of another, and what begin(db) does with it: a context within which it is measured"""
    with sb.database("reader") as db:
        sb.psql(db, "CREATE TABLE source (id bigint, ts timestamptz, key int, amount float8)", "CREATE TABLE behind (id bigint, key int)",
                "CREATE FUNCTION slow(key int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN IF key < 0 THEN PERFORM pg_sleep(0.001); END IF; RETURN key; END'")
        sb.create_pipeline(db, "result", QUERY)
        sb.create_pipeline(db, "upstream", "SELECT b.id, b.key, count(*) AS n FROM behind b GROUP BY b.id, b.key")
        sb.psql(db, f"SELECT beam.create_pipeline('reader', '{READER}')")
        sb.wait_for(db, "reader")
        with begin(db):
            p50, p99, most, _, rate, rows = measure(db, LAG_RATE, SECONDS)
        for pipeline in ("result", "upstream", "reader"):
            sb.wait_for(db, pipeline)
            if sb.differences(db, pipeline):
                raise sb.Failure(f"{pipeline} differs from its batch view")
    return sb.Row(f"freshness beside a reader p99, {what}", p99 / 1000, "ms", 10, "lower", f"p50 {p50 / 1000:.2f} ms, maximum {most / 1000:.1f} ms; {rows} rows, {rate}/s; {note}")


@contextlib.contextmanager
def resumed(db, rows, key):
    """It was paused meanwhile"""
    sb.psql(db, "SELECT beam.pause_pipeline('reader')", f"INSERT INTO behind SELECT i, {key} FROM generate_series(1, {rows}) i")
    # what upstream has written for them is read and passed over, too
    for pipeline in ("upstream", "result"):
        sb.wait_for(db, pipeline)
    sb.psql(db, "SELECT beam.resume_pipeline('reader')")
    yield


@contextlib.contextmanager
def locked(db):
    """Somebody has locked its result, and it has been put aside for that"""
    session = subprocess.Popen(["psql", "-X", "-q", "-d", db], stdin=subprocess.PIPE, text=True)
    try:
        session.stdin.write("BEGIN; LOCK TABLE reader IN SHARE MODE;\n")
        session.stdin.flush()
        sb.until("the lock", lambda: sb.value(db, "SELECT count(*) FROM pg_locks WHERE relation = 'reader'::regclass AND mode = 'ShareLock'") == "1")
        sb.psql(db, "INSERT INTO behind VALUES (1, 1)")
        sb.until("the reader to be put aside", lambda: sb.value(db, "SELECT state FROM beam.pipelines WHERE name = 'reader'") == "retrying")
        yield
    finally:
        session.communicate("ROLLBACK;\n")


def run_reader():
    """A pipeline that reads the result of another is behind alone: with much in its queue, slow, or with a result that is locked."""
    yield reader_case("queue", f"{QUEUE_ROWS} rows in its queue", lambda db: resumed(db, QUEUE_ROWS, "i % 1000"))
    yield reader_case("slow", f"{SLOW_ROWS} rows, a millisecond each", lambda db: resumed(db, SLOW_ROWS, "-1 - i % 1000"))
    yield reader_case("lock", "its result is locked", locked)
