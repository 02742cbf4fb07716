"""timers: many open windows, a timer each, and one row that fires them all. The time is to grow with their number, not faster."""
import sb_bench as sb

SMALL = 100_000
LARGE = 1_000_000
ROUNDS = 3
# A window a second. The watermark stays before the first one until the row that lies beyond all of them.
QUERY = """
    SELECT w.window_start, w.window_end, count(*) AS n, sum(e.amount) AS total
      FROM ev e, beam.tumble(e.ts, '1 second') w
     GROUP BY w.window_start, w.window_end"""
MORE = ", trigger => 'after_watermark()', watermark => '30 days', idle_timeout => NULL, allow_unsafe_trigger => true"
FIRST = "timestamptz '2024-01-01 00:00:00+00'"
FAR = f"{FIRST} + interval '100 days'"


def fire(windows):
    with sb.database("timers") as db:
        sb.psql(db, f"CREATE TABLE ev {sb.EV} WITH (autovacuum_enabled = off)")
        sb.create_pipeline(db, "timed", QUERY, MORE)
        sb.psql(db, f"""INSERT INTO ev SELECT i, {FIRST} + i * interval '1 s', 0, 'here', i % 1000
                          FROM generate_series(0, {windows} - 1) i""", "ANALYZE ev")
        sb.wait_for(db, "timed")
        early = int(sb.value(db, "SELECT count(*) FROM timed"))
        if early:
            raise sb.Failure(f"{early} windows have fired before their time")
        sb.settle(db)
        pid = sb.worker(db, "runner")
        cpu = sb.cpu_seconds(pid)
        seconds = sum(sb.timed(db, f"INSERT INTO ev VALUES (-1, {FAR}, 0, 'far away', 0)",
                               f"CALL beam.wait_for('timed', '{sb.STATEMENT_SECONDS - 10} s')"))
        cpu = sb.cpu_seconds(pid) - cpu
        fired = int(sb.value(db, "SELECT count(*) FROM timed"))
        if fired != windows:
            raise sb.Failure(f"{fired} windows have fired, not {windows}")
    return seconds, cpu


def best(windows):
    """What disturbs a run makes it slower, never faster"""
    return min(fire(windows) for _ in range(ROUNDS))


def run():
    small, large = best(SMALL), best(LARGE)
    yield sb.Row("timers-linear", round(large[0] / small[0], 2), "ratio 1 M to 100 k", 12, "lower",
                 f"1 M in {large[0]:.2f} s (runner {large[1]:.2f} s CPU), 100 k in {small[0]:.2f} s (runner {small[1]:.2f} s CPU)")
