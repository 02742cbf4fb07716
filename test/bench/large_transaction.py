"""large_transaction: how fast one transaction of millions of rows is worked off, beside the same rows in small transactions.

Both halves are written while the pipeline is paused, so that only the catching up is measured. The memory of both workers is looked at
meanwhile: it must not grow with the transaction.
"""
import threading
import time

import sb_bench as sb

ROWS = 5_000_000
SMALL = 1000
ROUNDS = 1
QUERY = """
    SELECT w.window_start, w.window_end, e.key, count(*) AS n, sum(e.amount) AS total
      FROM ev e, beam.tumble(e.ts, '1 minute') w
     GROUP BY w.window_start, w.window_end, e.key"""


class Peak(threading.Thread):
    """The most private memory that processes have had since it was started"""

    def __init__(self, pids):
        super().__init__(daemon=True)
        self.peak = {pid: 0 for pid in pids}
        self.over = threading.Event()

    def run(self):
        while not self.over.wait(0.2):
            for pid in self.peak:
                try:
                    self.peak[pid] = max(self.peak[pid], sb.private_mb(pid))
                except (sb.Failure, AttributeError):
                    pass

    def end(self):
        self.over.set()
        self.join()
        return list(self.peak.values())


def catch_up(db, per_transaction):
    sb.psql(db, f"CREATE TABLE ev {sb.EV} WITH (autovacuum_enabled = off)", "ALTER TABLE ev REPLICA IDENTITY FULL")
    sb.create_pipeline(db, "per_minute", QUERY)
    sb.psql(db, "SELECT beam.pause_pipeline('per_minute')")
    sb.fill_ev(db, ROWS, per_transaction)
    sb.settle(db)
    peak = Peak([sb.worker(db, "reader"), sb.worker(db, "runner")])
    peak.start()
    start = time.monotonic()
    sb.resume_and_wait(db, "per_minute")
    seconds = time.monotonic() - start
    memory = peak.end()
    groups = int(sb.value(db, "SELECT count(*) FROM per_minute_batch"))
    sb.check_equal(db, "per_minute", groups)
    sb.psql(db, "SELECT beam.drop_pipeline('per_minute')", "DROP TABLE ev")
    return seconds, memory


def run():
    with sb.database("large_transaction") as db:
        rounds = [(catch_up(db, SMALL), catch_up(db, ROWS)) for _ in range(ROUNDS)]
    small = sb.median([r[0][0] for r in rounds])
    large = sb.median([r[1][0] for r in rounds])
    reader, runner = (max(r[1][1][i] for r in rounds) for i in range(2))
    yield sb.Row("large_transaction", round(small / large, 3), "ratio to small ones", 0.3, "higher",
                 f"{ROWS / 1e6:g} M rows: {ROWS / large / 1e6:.2f} M rows/s in one transaction, {ROWS / small / 1e6:.2f} in transactions of {SMALL}; "
                 f"at most {reader:.0f} MB in the reader, {runner:.0f} MB in the runner")
