"""What the benchmarks share: one database each on a throw-away server, statements with a bound, the processes' memory and CPU time.

The server is found in the PG variables (scripts/bench starts it). Every statement has a timeout, every wait an end: a benchmark
that cannot measure raises Failure and says why.
"""
import contextlib
import os
import re
import statistics
import subprocess
import time

STATEMENT_SECONDS = 300
WORKER_SECONDS = 30
EV = "(id bigint, ts timestamptz, key int, region text, amount float8)"


class Failure(Exception):
    """A benchmark that could not measure"""


class Row:
    """A line of the table and an object of the JSON"""

    def __init__(self, name, value, unit, target, better, note=""):
        self.name, self.value, self.unit, self.target, self.better, self.note = name, value, unit, target, better, note

    def met(self):
        return self.value >= self.target if self.better == "higher" else self.value <= self.target

    def json(self):
        return {"name": self.name, "value": self.value, "unit": self.unit, "target": self.target, "better": self.better}


def program(args, timeout=STATEMENT_SECONDS, **kwargs):
    try:
        done = subprocess.run(args, stdin=kwargs.pop("stdin", subprocess.DEVNULL), capture_output=True, text=True, timeout=timeout, **kwargs)
    except subprocess.TimeoutExpired as expired:
        raise Failure(f"{args[0]} has not ended after {timeout} s") from expired
    if done.returncode != 0:
        raise Failure(f"{os.path.basename(args[0])}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def psql(database, *statements, options=()):
    """Runs statements in one session, one after the other, and gives their output"""
    args = ["psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", database, *options]
    for statement in (f"SET statement_timeout = '{STATEMENT_SECONDS}s'", "SET client_min_messages = warning", *statements):
        args += ["-c", statement]
    return program(args, timeout=STATEMENT_SECONDS * len(statements) + 10).strip()


def timed(database, *statements):
    """The same, and gives the seconds that each statement took"""
    text = psql(database, "\\timing on", *statements)
    times = [float(ms) / 1000 for ms in re.findall(r"^Time: ([\d.]+) ms", text, re.MULTILINE)]
    if len(times) != len(statements):
        raise Failure(f"psql gave {len(times)} times for {len(statements)} statements")
    return times


def value(database, query):
    return psql(database, query)


@contextlib.contextmanager
def database(name):
    """A database with the extension, which is gone afterwards: its workers and its slot would cost the next benchmark time"""
    psql("postgres", f"CREATE DATABASE {name}")
    try:
        psql(name, "CREATE EXTENSION stream_beam")
        yield name
    finally:
        with contextlib.suppress(Failure):
            drop_extension(name)
        with contextlib.suppress(Failure):
            psql("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def drop_extension(name):
    psql(name, "DROP EXTENSION IF EXISTS stream_beam CASCADE")
    until(f"the slot of database {name} to go",
          lambda: value("postgres", f"SELECT count(*) FROM pg_replication_slots WHERE database = '{name}'") == "0")


def until(what, condition, seconds=WORKER_SECONDS):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failure(f"waited {seconds} s for {what}")
        time.sleep(0.1)


def create_pipeline(db, name, query, more=""):
    psql(db, f"SELECT beam.create_pipeline('{name}', $q${query}$q$, source_mode => 'append_only'{more})")


def wait_for(db, pipeline):
    psql(db, f"CALL beam.wait_for('{pipeline}', '{STATEMENT_SECONDS - 10} s')")


def resume_and_wait(db, pipeline):
    """Seconds from the call of resume_pipeline until all that is committed is in the result"""
    return sum(timed(db, f"SELECT beam.resume_pipeline('{pipeline}')",
                     f"CALL beam.wait_for('{pipeline}', '{STATEMENT_SECONDS - 10} s')"))


def differences(db, pipeline):
    """The number of rows in which a result and its batch view differ"""
    return int(value(db, f"""
        SELECT (SELECT count(*) FROM (TABLE {pipeline} EXCEPT ALL TABLE {pipeline}_batch) a)
             + (SELECT count(*) FROM (TABLE {pipeline}_batch EXCEPT ALL TABLE {pipeline}) b)"""))


def check_equal(db, pipeline, rows):
    """A figure for a wrong result is worth nothing"""
    got = int(value(db, f"SELECT count(*) FROM {pipeline}"))
    if got != rows:
        raise Failure(f"the result of {pipeline} has {got} rows, not {rows}")
    different = differences(db, pipeline)
    if different:
        raise Failure(f"the result of {pipeline} differs from its batch view in {different} rows")


def worker(db, kind):
    """The process id of a worker, which is waited for"""
    pid = [""]

    def there():
        where = f"backend_type = 'stream_beam {kind}'" + ("" if kind == "launcher" else f" AND datname = '{db}'")
        pid[0] = value("postgres", f"SELECT min(pid) FROM pg_stat_activity WHERE {where}")
        return pid[0] != ""

    until(f"the {kind} of database {db}: is it running? see the server's log", there)
    return int(pid[0])


def fill_ev(db, rows, per_transaction=1000, table="ev"):
    """Rows in transactions of equal size. A thousand a second of event time, up to two seconds out of order; the last one is about now."""
    psql(db,
         f"""CREATE OR REPLACE PROCEDURE fill(total int, size int) LANGUAGE plpgsql AS $p$
             DECLARE first timestamptz := date_trunc('minute', now()) - total * interval '1 ms';
             BEGIN
                 FOR part IN 0 .. total / size - 1 LOOP
                     INSERT INTO {table}
                     SELECT i, first + i * interval '1 ms' - random() * interval '2 s', (i::bigint * 7919) % 1000,
                            'region ' || i % 7, i % 1000
                       FROM generate_series(part * size, part * size + size - 1) i;
                     COMMIT;
                 END LOOP;
             END $p$""",
         "SET synchronous_commit = off",
         f"CALL fill({rows}, {per_transaction})")


def settle(db):
    """The load's dirty pages and hint bits are not to be paid by what is measured"""
    psql(db, "CHECKPOINT")


def cpu_seconds(pid):
    """CPU time of a process, in nanoseconds' resolution"""
    try:
        with open(f"/proc/{pid}/schedstat", encoding="ascii") as file:
            return int(file.read().split()[0]) / 1e9
    except OSError as error:
        raise Failure(f"process {pid} is gone: {error}") from error


def private_mb(pid):
    """Private memory of a process: anonymous pages. Shared buffers and the ring are shared memory, and in nobody's figure."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            return int(re.search(r"^Anonymous:\s+(\d+) kB", file.read(), re.MULTILINE).group(1)) / 1024
    except OSError as error:
        raise Failure(f"process {pid} is gone: {error}") from error


def idle_share(before):
    """The part of the processors' time that was idle since `before`, and the new reading"""
    with open("/proc/stat", encoding="ascii") as file:
        now = [int(x) for x in file.readline().split()[1:]]
    if before is None:
        return 0.0, now
    spent = [b - a for a, b in zip(before, now)]
    return (spent[3] + spent[4]) / max(1, sum(spent[:8])), now


median = statistics.median
