"""history: how fast a pipeline takes in the rows that its table has, beside the batch answer of the same query: newest first, by an index on the event time."""
import catch_up
import sb_bench as sb

ROWS = 2_000_000
ROUNDS = 3


def one_round(db, mode):
    sb.psql(db, f"CREATE TABLE ev {sb.EV} WITH (autovacuum_enabled = off)", "ALTER TABLE ev REPLICA IDENTITY FULL", "CREATE INDEX ON ev (ts)")
    sb.fill_ev(db, ROWS)
    sb.psql(db, "VACUUM ANALYZE ev")
    sb.settle(db)
    batch = catch_up.batch_seconds_of(db, catch_up.QUERY)
    stream = sum(sb.timed(db, f"SELECT beam.create_pipeline('per_minute', $q${catch_up.QUERY}$q$, source_mode => '{mode}')",
                          f"CALL beam.wait_for('per_minute', '{sb.STATEMENT_SECONDS - 10} s')"))
    groups = int(sb.value(db, "SELECT count(*) FROM per_minute_batch"))
    chunks = int(sb.value(db, "SELECT chunks FROM beam.stat_backfill"))
    sb.check_equal(db, "per_minute", groups)
    sb.psql(db, "SELECT beam.drop_pipeline('per_minute')", "DROP TABLE ev")
    return {"batch": batch, "stream": stream, "chunks": chunks, "groups": groups}


def row(db, name, mode):
    rounds = [one_round(db, mode) for _ in range(ROUNDS)]
    stream = sb.median([r["stream"] for r in rounds])
    batch = sb.median([r["batch"] for r in rounds])
    return sb.Row(name, round(sb.median([r["batch"] / r["stream"] for r in rounds]), 3), "ratio to batch", 0.5, "higher",
                  f"{ROWS / stream / 1e6:.2f} M rows/s, batch {ROWS / batch / 1e6:.2f} M rows/s, {rounds[0]['groups']} groups, "
                  f"{sb.median([r['chunks'] for r in rounds]):.0f} chunks")


def run():
    with sb.database("history") as db:
        yield row(db, "history, append-only", "append_only")
        yield row(db, "history, changes", "changes")
