"""idle: CPU time of the launcher, the reader and the runner while nobody writes."""
import time

import sb_bench as sb

SECONDS = 30
QUERY = """
    SELECT w.window_start, w.window_end, e.key, count(*) AS n, sum(e.amount) AS total
      FROM ev e, beam.tumble(e.ts, '1 minute') w
     GROUP BY w.window_start, w.window_end, e.key"""


def run():
    with sb.database("idle") as db:
        sb.psql(db, f"CREATE TABLE ev {sb.EV}")
        sb.create_pipeline(db, "per_minute", QUERY)
        sb.fill_ev(db, 10_000)
        sb.wait_for(db, "per_minute")
        workers = {kind: sb.worker(db, kind) for kind in ("launcher", "reader", "runner")}
        before = {kind: sb.cpu_seconds(pid) for kind, pid in workers.items()}
        time.sleep(SECONDS)
        spent = {kind: 1000 * (sb.cpu_seconds(pid) - before[kind]) for kind, pid in workers.items()}
        if any(sb.worker(db, kind) != pid for kind, pid in workers.items()):
            raise sb.Failure("a worker has been started anew in between")
    yield sb.Row("idle", round(sum(spent.values()), 1), "ms CPU in 30 s", 60, "lower",
                 ", ".join(f"{kind} {ms:.1f}" for kind, ms in spent.items()) + "; open windows, measured from the last write on")
