"""rest: a pipeline with millions of windows that have ended is opened, by a resume and by a new runner. Neither time nor memory is to grow with them."""
import sb_bench as sb

WINDOWS = 5_000_000
STEP = 500_000
FIRST = "timestamptz '2026-01-01 00:00:00+00'"
QUERY = """
    SELECT w.window_start, w.window_end, count(*) AS n, sum(e.amount) AS total
      FROM ev e, beam.tumble(e.ts, '1 second') w
     GROUP BY w.window_start, w.window_end"""


def fill(db):
    sb.psql(db, "SET synchronous_commit = off",
            *(f"INSERT INTO ev SELECT i, {FIRST} + i * interval '1 s', 0, 'here', i % 1000 FROM generate_series({at}, {at + STEP - 1}) i"
              for at in range(0, WINDOWS, STEP)))


def new_runner(db):
    """The memory of a runner that has just opened the pipeline"""
    old = sb.worker(db, "runner")
    sb.psql(db, f"SELECT pg_terminate_backend({old})")
    sb.until("the old runner to go", lambda: sb.value(db, f"SELECT count(*) FROM pg_stat_activity WHERE pid = {old}") == "0")
    sb.wait_for(db, "seconds")
    return sb.private_mb(sb.worker(db, "runner"))


def opened(db):
    sb.psql(db, "SELECT beam.pause_pipeline('seconds')")
    return sb.resume_and_wait(db, "seconds")


def run():
    with sb.database("rest") as db:
        sb.psql(db, f"CREATE TABLE ev {sb.EV} WITH (autovacuum_enabled = off)")
        sb.create_pipeline(db, "seconds", QUERY, ", allowed_lateness => NULL")
        sb.wait_for(db, "seconds")
        none = new_runner(db)
        empty = sb.median([opened(db) for _ in range(5)])
        fill(db)
        sb.wait_for(db, "seconds")
        cells = int(sb.value(db, "SELECT cells FROM beam.stat_pipelines WHERE name = 'seconds'"))
        if cells != WINDOWS:
            raise sb.Failure(f"there are {cells} cells, not {WINDOWS}")
        sb.settle(db)
        memory = new_runner(db)
        seconds = sb.median([opened(db) for _ in range(5)])
        late = sum(sb.timed(db, f"INSERT INTO ev VALUES (-1, {FIRST}, 0, 'late', 1)", "CALL beam.wait_for('seconds', '1 minute')"))
        if sb.value(db, f"SELECT n FROM seconds WHERE window_start = {FIRST}") != "2":
            raise sb.Failure("the late row is not counted")
    yield sb.Row("rest", round(seconds, 3), "s to open", 1, "lower", f"{WINDOWS} windows that have ended, {empty:.3f} s without them; a row for the first one is in the result after {late:.3f} s")
    yield sb.Row("rest, memory", round(memory - none, 1), "MB", 10, "lower", f"more than the {none:.1f} MB of a runner without them")
