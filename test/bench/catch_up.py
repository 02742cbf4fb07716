"""catch-up: how fast a pipeline works off what has been written while it was paused, beside the batch answer of the same query."""
import sb_bench as sb

ROWS = 2_000_000
ROUNDS = 3
QUERY = """
    SELECT w.window_start, w.window_end, e.key, count(*) AS n, sum(e.amount) AS total
      FROM ev e, beam.tumble(e.ts, '1 minute') w
     GROUP BY w.window_start, w.window_end, e.key"""
# all columns are asked for: a plain count(*) would let the planner leave out the sums
BATCH = "SELECT count(window_start), count(window_end), count(key), sum(n), sum(total) FROM (TABLE per_minute_batch OFFSET 0) s"


def batch_seconds_of(db, query):
    """The same for a table without a pipeline yet"""
    batch = f"SELECT count(window_start), count(window_end), count(key), sum(n), sum(total) FROM ({query} OFFSET 0) s"
    return seconds(db, batch)


def batch_seconds(db):
    return seconds(db, BATCH)


def seconds(db, batch):
    settings = ("SET max_parallel_workers_per_gather = 0", "SET work_mem = '256MB'")
    times = sb.timed(db, *settings, batch, batch, batch, batch)
    return min(times[len(settings) + 1:])


def one_round(db):
    sb.psql(db, f"CREATE TABLE ev {sb.EV} WITH (autovacuum_enabled = off)")
    sb.create_pipeline(db, "per_minute", QUERY)
    sb.psql(db, "SELECT beam.pause_pipeline('per_minute')")
    sb.fill_ev(db, ROWS)
    sb.psql(db, "ANALYZE ev")
    sb.settle(db)
    batch = batch_seconds(db)
    sb.worker(db, "reader")
    pid = sb.worker(db, "runner")
    cpu = sb.cpu_seconds(pid)
    stream = sb.resume_and_wait(db, "per_minute")
    cpu = sb.cpu_seconds(pid) - cpu
    groups = int(sb.value(db, "SELECT count(*) FROM per_minute_batch"))
    bundles = int(sb.value(db, "SELECT bundles FROM beam.stat_pipelines WHERE name = 'per_minute'"))
    sb.check_equal(db, "per_minute", groups)
    sb.psql(db, "SELECT beam.drop_pipeline('per_minute')", "DROP TABLE ev")
    return {"batch": batch, "stream": stream, "cpu": cpu, "groups": groups, "bundles": bundles}


def run():
    with sb.database("catch_up") as db:
        rounds = [one_round(db) for _ in range(ROUNDS)]
    ratio = sb.median([r["batch"] / r["stream"] for r in rounds])
    stream = sb.median([r["stream"] for r in rounds])
    batch = sb.median([r["batch"] for r in rounds])
    yield sb.Row("catch-up", round(ratio, 3), "ratio to batch", 0.5, "higher",
                 f"{ROWS / stream / 1e6:.2f} M rows/s, batch {ROWS / batch / 1e6:.2f} M rows/s, {rounds[0]['groups']} groups; "
                 f"runner {sb.median([r['cpu'] for r in rounds]):.2f} s CPU of {stream:.2f} s, {sb.median([r['bundles'] for r in rounds]):.0f} bundles")
