"""freshness: from the return of a commit to its effect being visible in the result, with a thousand single-row transactions a second."""
import os
import re

import sb_bench as sb

RATE = 1000
SECONDS = 20
QUERY = """
    SELECT w.window_start, w.window_end, s.key, count(*) AS n, sum(s.amount) AS total, max(s.id) AS last
      FROM source s, beam.tumble(s.ts, '1 minute') w
     GROUP BY w.window_start, w.window_end, s.key"""


def run():
    with sb.database("freshness") as db:
        sb.psql(db, "CREATE TABLE source (id bigint, ts timestamptz, key int, amount float8)")
        sb.create_pipeline(db, "result", QUERY)
        sb.wait_for(db, "result")
        workers = {kind: sb.worker(db, kind) for kind in ("reader", "runner")}
        before = {kind: sb.cpu_seconds(pid) for kind, pid in workers.items()}
        text = sb.program([os.path.join(os.environ["SB_BENCH_BUILT"], "sb_bench_freshness"), str(RATE), str(SECONDS)],
                          timeout=SECONDS + 60, env={**os.environ, "PGDATABASE": db})
        cpu = {kind: 100 * (sb.cpu_seconds(pid) - before[kind]) / SECONDS for kind, pid in workers.items()}
        if sb.differences(db, "result"):
            raise sb.Failure("the result differs from its batch view")
    found = re.match(r"rows (\d+) rate (\d+) p50 (\d+) p99 (\d+) max (\d+) read (\d+)", text)
    if not found:
        raise sb.Failure(f"sb_bench_freshness said: {text}")
    rows, rate, p50, p99, most, read = (int(x) for x in found.groups())
    if rate < 0.95 * RATE:
        raise sb.Failure(f"the writers reached only {rate} of {RATE} transactions a second: the machine is too busy")
    yield sb.Row("freshness p50", p50 / 1000, "ms", 1, "lower", f"{rows} rows, {rate}/s; read every {read} us, counted in full")
    yield sb.Row("freshness p99", p99 / 1000, "ms", 5, "lower",
                 f"maximum {most / 1000:.1f} ms; reader {cpu['reader']:.0f} %, runner {cpu['runner']:.0f} % of a core")
