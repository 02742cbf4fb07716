"""writers: single-row inserts by pgbench on all processors, with a running pipeline and without the extension, in turn."""
import os
import re
import tempfile

import sb_bench as sb

ROUNDS = 3
SECONDS = 10
CLIENTS = 4
SCRIPT = r"""
\set key random(1, 1000)
\set amount random(1, 1000)
INSERT INTO ev (id, ts, key, region, amount) VALUES (:client_id, clock_timestamp(), :key, 'here', :amount);
"""
QUERY = """
    SELECT w.window_start, w.window_end, e.key, count(*) AS n, sum(e.amount) AS total
      FROM ev e, beam.tumble(e.ts, '1 minute') w
     GROUP BY w.window_start, w.window_end, e.key"""


def pgbench(db, script):
    """Transactions a second. Commits are asynchronous: with a disk to wait for, the processors would not be busy."""
    _, before = sb.idle_share(None)
    text = sb.program(["pgbench", "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2", "-T", str(SECONDS), "-f", script, db],
                      timeout=SECONDS + 60, env={**os.environ, "PGOPTIONS": "-c synchronous_commit=off"})
    idle, _ = sb.idle_share(before)
    found = re.search(r"^tps = ([\d.]+)", text, re.MULTILINE)
    if not found:
        raise sb.Failure(f"pgbench said: {text}")
    return float(found.group(1)), idle


def plain(db, script):
    sb.psql(db, f"CREATE TABLE ev {sb.EV}")
    sb.settle(db)
    tps, idle = pgbench(db, script)
    sb.psql(db, "DROP TABLE ev")
    return {"tps": tps, "idle": idle}


def with_pipeline(db, script):
    sb.psql(db, f"CREATE TABLE ev {sb.EV}", "CREATE EXTENSION stream_beam")
    sb.create_pipeline(db, "per_minute", QUERY)
    workers = {kind: sb.worker(db, kind) for kind in ("reader", "runner")}
    sb.wait_for(db, "per_minute")
    sb.settle(db)
    before = {kind: sb.cpu_seconds(pid) for kind, pid in workers.items()}
    tps, idle = pgbench(db, script)
    cpu = {kind: 100 * (sb.cpu_seconds(pid) - before[kind]) / SECONDS for kind, pid in workers.items()}
    behind = sb.timed(db, "CALL beam.wait_for('per_minute')")[0]
    if sb.differences(db, "per_minute"):
        raise sb.Failure("the result differs from its batch view")
    sb.psql(db, "SELECT beam.drop_pipeline('per_minute')", "DROP TABLE ev")
    sb.drop_extension(db)
    return {"tps": tps, "idle": idle, "behind": behind, "cpu": cpu}


def run():
    with sb.database("writers") as db, tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(SCRIPT)
        script.flush()
        sb.drop_extension(db)
        without, withs = [], []
        for _ in range(ROUNDS):
            without.append(plain(db, script.name))
            withs.append(with_pipeline(db, script.name))
    a = sb.median([r["tps"] for r in without])
    b = sb.median([r["tps"] for r in withs])
    yield sb.Row("writers", round(b / a, 3), "ratio to no pipeline", 0.8, "higher",
                 f"{b:.0f} of {a:.0f} transactions/s; processors idle {100 * sb.median([r['idle'] for r in without]):.0f} % without, "
                 f"{100 * sb.median([r['idle'] for r in withs]):.0f} % with; reader {sb.median([r['cpu']['reader'] for r in withs]):.0f} %, "
                 f"runner {sb.median([r['cpu']['runner'] for r in withs]):.0f} % of a core; {1000 * max(r['behind'] for r in withs):.0f} ms behind at the end")
