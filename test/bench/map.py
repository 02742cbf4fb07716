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


def make(db, prepare, arguments):
    sb.psql(db, f"CREATE TABLE ev {sb.EV} WITH (autovacuum_enabled = off)", prepare or "SELECT 1")
    sb.psql(db, f"SELECT beam.create_pipeline('mapped', $q${QUERY}$q$, {arguments})")


def fill(db):
    sb.fill_ev(db, ROWS)
    sb.psql(db, "ANALYZE ev")
    sb.settle(db)


def insert_seconds(db, prepare, arguments):
    """Into a table that is like the result, with its index; before there is a pipeline whose reader would have to decode that"""
    make(db, prepare, arguments)
    sb.psql(db, "CREATE TABLE copied (LIKE mapped INCLUDING ALL)", "SELECT beam.drop_pipeline('mapped')")
    fill(db)
    times = [sb.timed(db, "SET max_parallel_workers_per_gather = 0", "TRUNCATE copied", f"INSERT INTO copied {QUERY}")[2] for _ in range(3)]
    sb.psql(db, "DROP TABLE ev, copied")
    return sb.median(times)


def stream_seconds(db, prepare, arguments):
    make(db, prepare, arguments)
    sb.psql(db, "SELECT beam.pause_pipeline('mapped')")
    fill(db)
    sb.worker(db, "reader")
    seconds = sb.resume_and_wait(db, "mapped")
    rows = int(sb.value(db, "SELECT count(*) FROM mapped_batch"))
    sb.check_equal(db, "mapped", rows)
    sb.psql(db, "SELECT beam.drop_pipeline('mapped')", "DROP TABLE ev")
    return seconds, rows


def run():
    for name, (prepare, arguments, target) in KINDS.items():
        with sb.database("map") as db:
            insert = insert_seconds(db, prepare, arguments)
            rounds = [stream_seconds(db, prepare, arguments) for _ in range(ROUNDS)]
        stream = sb.median([seconds for seconds, _ in rounds])
        yield sb.Row(f"map, {name}", round(insert / stream, 3), "ratio to INSERT", target, "higher",
                     f"{ROWS / stream / 1e6:.2f} M rows/s, INSERT ... SELECT {ROWS / insert / 1e6:.2f} M rows/s, {rounds[0][1]} rows")
