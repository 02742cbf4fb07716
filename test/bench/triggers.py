"""triggers: catch-up with a trigger of each family beside catch-up with continuous(), of the same rows in the same table."""
import sb_bench as sb

ROWS = 1_000_000
ROUNDS = 3
# six hundred rows a group: those that count to a hundred are ready before the end of the window
QUERY = """
    SELECT w.window_start, w.window_end, e.key % 100 AS key, count(*) AS n, sum(e.amount) AS total
      FROM ev e, beam.tumble(e.ts, '1 minute') w
     GROUP BY w.window_start, w.window_end, e.key % 100"""
BASE = "continuous()"
FAMILIES = {
    "after_watermark": "after_watermark()",
    "early-late": "after_watermark(early => after_count(100), late => after_count(1))",
    "default": "default_trigger()",
    "after_count": "repeatedly(after_count(100))",
    "after_processing_time": "repeatedly(after_processing_time('1 s'))",
    "after_any": "repeatedly(after_any(after_count(100), after_processing_time('1 s')))",
    "after_all": "repeatedly(after_all(after_count(2), after_processing_time('10 ms')))",
    "after_each": "repeatedly(after_each(after_count(10), after_count(100)))",
    "or_finally": "or_finally(repeatedly(after_count(100)), after_watermark())",
    "never": "never()",
}


def one_round(db, trigger, base_first):
    """Seconds with continuous() and with the trigger, and the CPU seconds of both. Either is paused while the other works."""
    triggers = {"base": BASE, "other": trigger}
    sb.psql(db, f"CREATE TABLE ev {sb.EV} WITH (autovacuum_enabled = off)")
    for name, text in triggers.items():
        quoted = text.replace("'", "''")
        sb.create_pipeline(db, name, QUERY, f", trigger => '{quoted}', allow_unsafe_trigger => true")
        sb.psql(db, f"SELECT beam.pause_pipeline('{name}')")
    sb.fill_ev(db, ROWS)
    groups = int(sb.value(db, "SELECT count(*) FROM base_batch"))
    # the last row ends all windows, so that every trigger has shown all of them
    sb.psql(db, "INSERT INTO ev VALUES (-1, now() + interval '10 days', 0, 'far away', 0)", "ANALYZE ev")
    sb.settle(db)
    sb.worker(db, "reader")
    pid = sb.worker(db, "runner")
    seconds, cpu, panes = {}, {}, {}
    for name in triggers if base_first else reversed(triggers):
        before = sb.cpu_seconds(pid)
        seconds[name] = sb.resume_and_wait(db, name)
        cpu[name] = sb.cpu_seconds(pid) - before
        panes[name] = sb.value(db, f"SELECT panes FROM beam.stat_pipelines WHERE name = '{name}'")
        check(db, name, groups)
        sb.psql(db, f"SELECT beam.pause_pipeline('{name}')")
    for name in triggers:
        sb.psql(db, f"SELECT beam.drop_pipeline('{name}')")
    sb.psql(db, "DROP TABLE ev")
    return {"seconds": seconds, "cpu": cpu, "panes": panes, "groups": groups}


def check(db, name, groups):
    """All windows but that of the last row, which is open"""
    over = "window_end < now() + interval '1 day'"
    got = int(sb.value(db, f"SELECT count(*) FROM {name} WHERE {over}"))
    if got != groups:
        raise sb.Failure(f"the result of {name} has {got} rows, not {groups}")
    different = int(sb.value(db, f"SELECT count(*) FROM (SELECT * FROM {name}_batch WHERE {over} EXCEPT ALL TABLE {name}) d"))
    if different:
        raise sb.Failure(f"the result of {name} lacks {different} rows of its batch view")


def of(rounds, field, name):
    return sb.median([float(r[field][name]) for r in rounds])


def run():
    for family, trigger in FAMILIES.items():
        with sb.database("triggers") as db:
            rounds = [one_round(db, trigger, i % 2 == 0) for i in range(ROUNDS)]
        ratio = sb.median([r["seconds"]["base"] / r["seconds"]["other"] for r in rounds])
        yield sb.Row(f"trigger-{family}", round(ratio, 3), "ratio to continuous", 0.6, "higher",
                     f"{of(rounds, 'seconds', 'other'):.2f} s to {of(rounds, 'seconds', 'base'):.2f} s, runner "
                     f"{of(rounds, 'cpu', 'other'):.2f} s CPU to {of(rounds, 'cpu', 'base'):.2f} s, "
                     f"panes {of(rounds, 'panes', 'other'):.0f} to {of(rounds, 'panes', 'base'):.0f}, {rounds[0]['groups']} groups")
