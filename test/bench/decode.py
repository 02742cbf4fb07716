"""decode: the reader, with a pipeline that takes no row, beside an in-process decode of the same WAL with callbacks that do nothing."""
import sb_bench as sb

ROWS = 2_000_000
ROUNDS = 4
QUERY = "SELECT e.key, count(*) AS n FROM ev e WHERE false GROUP BY e.key"


def empty_decode(db):
    settings = ["SET logical_decoding_work_mem = '256MB'"]
    if sb.value(db, "SELECT count(*) FROM pg_settings WHERE name = 'output_plugin_libraries'") == "1":
        settings.append("SET output_plugin_libraries = 'sb_bench_decode'")
    return sb.timed(db, *settings, "SELECT count(*) FROM pg_logical_slot_get_binary_changes('bench_decode', NULL, NULL)")[-1]


def create_slot(db):
    settings = []
    if sb.value(db, "SELECT count(*) FROM pg_settings WHERE name = 'output_plugin_libraries'") == "1":
        settings.append("SET output_plugin_libraries = 'sb_bench_decode'")
    sb.psql(db, *settings, "SELECT pg_create_logical_replication_slot('bench_decode', 'sb_bench_decode')")


def one_round(db, reader_first):
    sb.psql(db, "SELECT beam.pause_pipeline('nothing')")
    sb.fill_ev(db, ROWS)
    sb.settle(db)
    pid = sb.worker(db, "reader")
    if not reader_first:
        empty = empty_decode(db)
    cpu = sb.cpu_seconds(pid)
    reader = sb.resume_and_wait(db, "nothing")
    cpu = sb.cpu_seconds(pid) - cpu
    if reader_first:
        empty = empty_decode(db)
    return {"empty": empty, "reader": reader, "cpu": cpu}


def run():
    with sb.database("decode") as db:
        sb.psql(db, f"CREATE TABLE ev {sb.EV} WITH (autovacuum_enabled = off)")
        sb.create_pipeline(db, "nothing", QUERY)
        create_slot(db)
        try:
            rounds = [one_round(db, number % 2 == 0) for number in range(ROUNDS)]
        finally:
            sb.psql(db, "SELECT pg_drop_replication_slot('bench_decode')")
        if sb.value(db, "SELECT rows_in FROM beam.stat_pipelines WHERE name = 'nothing'") != str(ROWS * ROUNDS):
            raise sb.Failure("not all rows have reached the runner")
    reader = sb.median([r["reader"] for r in rounds])
    empty = sb.median([r["empty"] for r in rounds])
    yield sb.Row("decode", round(sb.median([r["empty"] / r["reader"] for r in rounds]), 3), "ratio to empty decode", 0.7, "higher",
                 f"reader {ROWS / reader / 1e6:.2f} M rows/s, {sb.median([r['cpu'] for r in rounds]):.2f} s CPU of {reader:.2f} s; "
                 f"empty decode {ROWS / empty / 1e6:.2f} M rows/s")
