"""state: the runner's private memory with a million live cells; and the same work under a budget that they do not fit into."""
import threading

import sb_bench as sb

CELLS = 1_000_000
BUDGET_MB = 64
QUERY = """
    SELECT w.window_start, w.window_end, e.key, count(*) AS n, sum(e.amount) AS total
      FROM ev e, beam.tumble(e.ts, '1 day') w
     GROUP BY w.window_start, w.window_end, e.key"""


class Peak(threading.Thread):
    """Reads a process's private memory until it is told to stop, and keeps the most"""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.most, self.over, self.error = pid, 0.0, threading.Event(), None

    def run(self):
        try:
            while not self.over.wait(0.02):
                self.most = max(self.most, sb.private_mb(self.pid))
        except sb.Failure as failure:
            self.error = failure

    def stop(self):
        self.over.set()
        self.join()
        if self.error:
            raise self.error
        return self.most


def fill(db):
    """Two rows for each cell: all keys in order, then all again in another order"""
    sb.psql(db,
            f"""CREATE PROCEDURE fill_cells(step int) LANGUAGE plpgsql AS $p$
                BEGIN
                    FOR part IN 0 .. {CELLS} / 10000 - 1 LOOP
                        INSERT INTO ev
                        SELECT i, date_trunc('day', now()) + i * interval '1 ms', (i::bigint * step) % {CELLS}, 'here', i % 1000
                          FROM generate_series(part * 10000, part * 10000 + 9999) i;
                        COMMIT;
                    END LOOP;
                END $p$""",
            "SET synchronous_commit = off", "CALL fill_cells(1)", "CALL fill_cells(387913)")


def measure(name):
    with sb.database(name) as db:
        sb.psql(db, f"CREATE TABLE ev {sb.EV} WITH (autovacuum_enabled = off)")
        sb.create_pipeline(db, "cells", QUERY)
        sb.wait_for(db, "cells")
        pid = sb.worker(db, "runner")
        before = sb.private_mb(pid)
        peak = Peak(pid)
        peak.start()
        try:
            fill(db)
            behind = sb.timed(db, f"CALL beam.wait_for('cells', '{sb.STATEMENT_SECONDS - 10} s')")[0]
        finally:
            peak.over.set()
        most = peak.stop()
        after = sb.private_mb(pid)
        if sb.worker(db, "runner") != pid:
            raise sb.Failure("the runner has been started anew in between")
        sb.psql(db, "ANALYZE ev", "ANALYZE cells")
        cells = int(sb.value(db, "SELECT cells FROM beam.stat_pipelines WHERE name = 'cells'"))
        rows = int(sb.value(db, "SELECT count(*) FROM cells"))
        return {"before": before, "grown": after - before, "peak": most - before, "cells": cells, "rows": rows,
                "different": sb.differences(db, "cells"), "behind": behind}


def run_state():
    m = measure("state")
    if m["cells"] != CELLS or m["different"]:
        raise sb.Failure(f"{m['cells']} cells, and {m['different']} rows differ from the batch view")
    yield sb.Row("state", round(m["grown"]), "MB", 400, "lower",
                 f"private (anonymous) memory, from {m['before']:.0f} MB; {m['grown'] * 1048576 / CELLS:.0f} bytes a cell")
    yield sb.Row("state peak", round(m["peak"]), "MB", 400, "lower", "the most that was seen while the cells came")


def run_state_over_budget():
    reload = "SELECT pg_reload_conf()"
    sb.psql("postgres", f"ALTER SYSTEM SET stream_beam.state_memory = '{BUDGET_MB}MB'", reload)
    try:
        m = measure("state_over_budget")
    finally:
        sb.psql("postgres", "ALTER SYSTEM RESET stream_beam.state_memory", reload)
    yield sb.Row("state over budget", round(m["peak"] / BUDGET_MB, 2), "x budget", 1.5, "lower",
                 f"at most {m['peak']:.0f} MB, afterwards {m['grown']:.0f} MB over {m['before']:.0f} MB; budget {BUDGET_MB} MB; "
                 f"{m['behind']:.1f} s behind at the end of the load")
    yield sb.Row("state over budget, wrong rows", m["different"] + abs(CELLS - m["rows"]), "rows", 0, "lower", f"of {m['rows']}")
