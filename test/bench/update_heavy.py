"""update-heavy: how fast a pipeline works off a stream of updates and deletes, beside one of as many inserted rows."""
import sb_bench as sb

ROWS = 200_000
CHANGES = 600_000
PER_TRANSACTION = 1000
ROUNDS = 3
QUERY = """
    SELECT w.window_start, w.window_end, e.key, count(*) AS n, sum(e.amount) AS total, avg(e.id) AS mean
      FROM ev e, beam.tumble(e.ts, '1 minute') w
     GROUP BY w.window_start, w.window_end, e.key"""


def create(db):
    sb.psql(db, f"CREATE TABLE ev {sb.EV} WITH (autovacuum_enabled = off)", "ALTER TABLE ev REPLICA IDENTITY FULL",
            "CREATE INDEX ON ev (id)")
    sb.psql(db, f"SELECT beam.create_pipeline('per_minute', $q${QUERY}$q$)")


def drop(db):
    sb.psql(db, "SELECT beam.drop_pipeline('per_minute')", "DROP TABLE ev")


def change(db):
    """Of ten changed rows six get another amount, two move to another minute, one to another key, and one goes and comes back"""
    sb.psql(db,
            f"""CREATE OR REPLACE PROCEDURE change(total int, size int) LANGUAGE plpgsql AS $p$
                DECLARE a int; b int; gone ev[];
                BEGIN
                    FOR part IN 0 .. total / size - 1 LOOP
                        a := (part * size) % {ROWS};
                        b := a + size - 1;
                        UPDATE ev SET amount = amount + 1 WHERE id BETWEEN a AND b AND id % 10 < 6;
                        UPDATE ev SET ts = ts + interval '40 s' WHERE id BETWEEN a AND b AND id % 10 IN (6, 7);
                        UPDATE ev SET key = (key + 1) % 1000 WHERE id BETWEEN a AND b AND id % 10 = 8;
                        WITH d AS (DELETE FROM ev WHERE id BETWEEN a AND b AND id % 10 = 9 RETURNING ev) SELECT array_agg(ev) INTO gone FROM d;
                        INSERT INTO ev SELECT (g).* FROM unnest(gone) g;
                        COMMIT;
                    END LOOP;
                END $p$""",
            "SET synchronous_commit = off", f"CALL change({CHANGES}, {PER_TRANSACTION})")


def catch_up(db, load):
    sb.psql(db, "SELECT beam.pause_pipeline('per_minute')")
    load(db)
    sb.settle(db)
    pids = [sb.worker(db, kind) for kind in ("reader", "runner")]
    before = [sb.cpu_seconds(pid) for pid in pids]
    seconds = sb.resume_and_wait(db, "per_minute")
    cpu = [sb.cpu_seconds(pid) - was for pid, was in zip(pids, before)]
    sb.check_equal(db, "per_minute", int(sb.value(db, "SELECT count(*) FROM per_minute_batch")))
    return {"seconds": seconds, "reader": cpu[0], "runner": cpu[1]}


def one_round(db):
    create(db)
    inserts = catch_up(db, lambda d: sb.fill_ev(d, CHANGES, PER_TRANSACTION))
    drop(db)
    create(db)
    sb.fill_ev(db, ROWS, PER_TRANSACTION)
    sb.wait_for(db, "per_minute")
    sb.psql(db, "VACUUM ANALYZE ev")
    changes = catch_up(db, change)
    drop(db)
    return {"inserts": inserts, "changes": changes}


def run():
    with sb.database("update_heavy") as db:
        rounds = [one_round(db) for _ in range(ROUNDS)]
    ratio = sb.median([r["inserts"]["seconds"] / r["changes"]["seconds"] for r in rounds])
    inserts, changes = ({what: sb.median([r[load][what] for r in rounds]) for what in ("seconds", "reader", "runner")}
                        for load in ("inserts", "changes"))
    yield sb.Row("update-heavy", round(ratio, 3), "ratio to inserts", 0.4, "higher",
                 f"{CHANGES / changes['seconds'] / 1e6:.2f} M changed rows/s, {CHANGES / inserts['seconds'] / 1e6:.2f} M inserted rows/s; CPU of the reader "
                 f"{changes['reader']:.2f} and {inserts['reader']:.2f} s, of the runner {changes['runner']:.2f} and {inserts['runner']:.2f} s")
