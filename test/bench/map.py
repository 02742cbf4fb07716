"""map: how fast a pipeline without groups works off what has been written while it was paused, beside INSERT ... SELECT of the same query."""
import sb_bench as sb

ROWS = 2_000_000
ROUNDS = 3
QUERY = "SELECT id, upper(region) AS region, amount * 2 AS amount FROM ev WHERE key % 4 <> 0"
# how the source is made and the pipeline is; what it is to reach
KINDS = {
    "append": ("", "source_mode => 'append_only', accumulation => 'discarding'", 0.5),
    "changes": ("ALTER TABLE ev REPLICA IDENTITY FULL", "source_mode => 'changes'", 0.25),
    "by key": ("ALTER TABLE ev REPLICA IDENTITY FULL, ADD PRIMARY KEY (id)", "source_mode => 'changes'", 0.25),
}


def insert_seconds(db):
    """Into a table that is like the result, with its index"""
    times = sb.timed(db, "SET max_parallel_workers_per_gather = 0", "CREATE TABLE copied (LIKE mapped INCLUDING ALL)", f"INSERT INTO copied {QUERY}",
                     "DROP TABLE copied")
    return times[2]


def one_round(db, prepare, arguments):
    sb.psql(db, f"CREATE TABLE ev {sb.EV} WITH (autovacuum_enabled = off)", prepare or "SELECT 1")
    sb.psql(db, f"SELECT beam.create_pipeline('mapped', $q${QUERY}$q$, {arguments})", "SELECT beam.pause_pipeline('mapped')")
    sb.fill_ev(db, ROWS)
    sb.psql(db, "ANALYZE ev")
    sb.settle(db)
    insert = sb.median([insert_seconds(db) for _ in range(3)])
    sb.worker(db, "reader")
    stream = sb.resume_and_wait(db, "mapped")
    rows = int(sb.value(db, "SELECT count(*) FROM mapped_batch"))
    sb.check_equal(db, "mapped", rows)
    sb.psql(db, "SELECT beam.drop_pipeline('mapped')", "DROP TABLE ev")
    return {"insert": insert, "stream": stream, "rows": rows}


def run():
    for name, (prepare, arguments, target) in KINDS.items():
        with sb.database("map") as db:
            rounds = [one_round(db, prepare, arguments) for _ in range(ROUNDS)]
        stream = sb.median([r["stream"] for r in rounds])
        yield sb.Row(f"map, {name}", round(sb.median([r["insert"] / r["stream"] for r in rounds]), 3), "ratio to INSERT", target, "higher",
                     f"{ROWS / stream / 1e6:.2f} M rows/s, INSERT ... SELECT {ROWS / sb.median([r['insert'] for r in rounds]) / 1e6:.2f} M rows/s, {rounds[0]['rows']} rows")
