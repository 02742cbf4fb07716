"""Runs the benchmarks that are named, or all; a table to stdout, JSON to a file.

    python3 run.py FILE [NAME...]

The exit status is 0 if everything could be measured: a missed target is said, and no failure.
"""
import json
import os
import platform
import sys

import catch_up
import decode
import freshness
import history
import idle
import large_transaction
import map as mapping
import rest
import sb_bench as sb
import state
import timers
import triggers
import update_heavy
import values
import writers

BENCHES = {
    "catch-up": catch_up.run,
    "decode": decode.run,
    "history": history.run,
    "freshness": freshness.run,
    "laggard": freshness.run_laggard,
    "reader": freshness.run_reader,
    "writers": writers.run,
    "state": state.run_state,
    "state-over-budget": state.run_state_over_budget,
    "map": mapping.run,
    "triggers": triggers.run,
    "timers": timers.run,
    "rest": rest.run,
    "idle": idle.run,
    "large-transaction": large_transaction.run,
    "update-heavy": update_heavy.run,
    "values": values.run,
    "values-freshness": freshness.run_values,
}
SETTINGS = ("shared_buffers", "max_wal_size", "fsync", "synchronous_commit", "full_page_writes", "autovacuum", "jit",
            "stream_beam.ring_size", "stream_beam.state_memory")


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def load():
    return f"{os.getloadavg()[0]:.2f}"


def heading():
    print(sb.value("postgres", "SELECT split_part(version(), ' on ', 1)") + f", {os.cpu_count()} processors, {processor()}")
    print("settings: " + ", ".join(f"{name} = {sb.value('postgres', f'SHOW {name}')}" for name in SETTINGS))


def line(row):
    verdict = "ok" if row.met() else "MISS"
    sign = ">=" if row.better == "higher" else "<="
    return f"{row.name:<30} {row.value:>10g} {row.unit:<22} {sign} {row.target:<5g} {verdict}"


def table(rows):
    for row in rows:
        print(line(row))
        if row.note:
            print(f"    {row.note}")


def write_json(path, rows):
    with open(path + ".new", "w", encoding="ascii") as file:
        json.dump([row.json() for row in rows], file, indent=2)
        file.write("\n")
    os.replace(path + ".new", path)


def main(path, names):
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        sys.exit(f"error: there is no benchmark {unknown[0]}; there are: {' '.join(BENCHES)}")
    rows, failures = [], []
    heading()
    write_json(path, rows)
    for name in names or BENCHES:
        print(f"== {name} (load average {load()})", flush=True)
        try:
            measured = list(BENCHES[name]())
        except sb.Failure as failure:
            print(f"{name}: NOT MEASURED: {failure}", flush=True)
            failures.append(name)
            continue
        rows += measured
        table(measured)
        sys.stdout.flush()
        write_json(path, rows)
    if len(names or BENCHES) > 1:
        print("\n== all")
        for row in rows:
            print(line(row))
    for name in failures:
        print(f"{name}: NOT MEASURED")
    missed = sum(not row.met() for row in rows)
    print(f"{len(rows) - missed} met, {missed} missed, {len(failures)} not measured")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
