/*
 * sb_bench_freshness.c: from the return of a commit to its effect being visible in the result of a
 * pipeline.
 *
 *   sb_bench_freshness RATE SECONDS
 *
 * Writers, each with a connection and a key of its own, insert rows in single-row transactions into
 * `source (id, ts, key, amount)` on a fixed schedule, and note when each commit has returned. One
 * more connection reads `SELECT key, max(last) FROM result` again and again; a row is visible when
 * an answer that holds its id, or a later one of its key, has arrived. Every row is measured. The
 * pause between two reads and the read itself count as delay: the figures are upper bounds.
 *
 * Prints one line: rows, the rate reached, p50, p99 and maximum in microseconds, and the mean time
 * between two reads.
 */
#include <errno.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WRITERS 4
#define READ_PAUSE_NS 50000
/* After the last commit the results are awaited so long. */
#define GIVE_UP_NS INT64_C(20000000000)

typedef struct Writer
{
	int key;
	int nrows;
	int64_t period_ns;
	int64_t start_ns;
	_Atomic int64_t *committed_at; /* by id; 0: not yet */
	int64_t end_ns;
	atomic_bool done;
} Writer;

static int64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t) t.tv_sec * 1000000000 + t.tv_nsec;
}

static void
sleep_until(int64_t ns)
{
	struct timespec t = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
		;
}

static void
check(PGconn *conn, PGresult *result, ExecStatusType wanted)
{
	if (PQresultStatus(result) == wanted)
		return;
	fprintf(stderr, "sb_bench_freshness: %s", PQerrorMessage(conn));
	exit(1);
}

static PGconn *
open_connection(const char *name, const char *statement)
{
	PGconn *conn = PQconnectdb("");
	PGresult *result;

	if (PQstatus(conn) != CONNECTION_OK)
	{
		fprintf(stderr, "sb_bench_freshness: %s", PQerrorMessage(conn));
		exit(1);
	}
	result = PQprepare(conn, name, statement, 0, NULL);
	check(conn, result, PGRES_COMMAND_OK);
	PQclear(result);
	return conn;
}

static void *
write_rows(void *arg)
{
	Writer *writer = arg;
	PGconn *conn = open_connection(
	    "w", "INSERT INTO source (id, ts, key, amount) VALUES ($1, clock_timestamp(), $2, 1)");
	char id[16], key[16];
	const char *values[] = {id, key};

	snprintf(key, sizeof(key), "%d", writer->key);
	for (int i = 1; i <= writer->nrows; i++)
	{
		PGresult *result;

		sleep_until(writer->start_ns + (i - 1) * writer->period_ns);
		snprintf(id, sizeof(id), "%d", i);
		result = PQexecPrepared(conn, "w", 2, values, NULL, NULL, 0);
		atomic_store(&writer->committed_at[i], now_ns());
		check(conn, result, PGRES_COMMAND_OK);
		PQclear(result);
	}
	writer->end_ns = now_ns();
	atomic_store(&writer->done, true);
	PQfinish(conn);
	return NULL;
}

static int
compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *) a, y = *(const int64_t *) b;

	return (x > y) - (x < y);
}

/* Notes the delay of each row that an answer shows for the first time. */
static int
take_answer(PGresult *result, int64_t at, Writer *writers, int *seen, int64_t *delays)
{
	int n = 0;

	for (int row = 0; row < PQntuples(result); row++)
	{
		int key = atoi(PQgetvalue(result, row, 0));
		int last = atoi(PQgetvalue(result, row, 1));

		for (; seen[key] < last; seen[key]++)
		{
			int64_t committed = atomic_load(&writers[key].committed_at[seen[key] + 1]);

			/* visible before the writer has got its answer */
			delays[n++] = committed == 0 || committed > at ? 0 : at - committed;
		}
	}
	return n;
}

static void
give_up_if_over(Writer *writers, int measured)
{
	for (int i = 0; i < WRITERS; i++)
	{
		if (!atomic_load(&writers[i].done) || now_ns() - writers[i].end_ns < GIVE_UP_NS)
			return;
	}
	fprintf(stderr, "sb_bench_freshness: only %d rows have reached the result\n", measured);
	exit(1);
}

int
main(int argc, char **argv)
{
	int rate = argc == 3 ? atoi(argv[1]) : 0;
	int seconds = argc == 3 ? atoi(argv[2]) : 0;
	int each = rate * seconds / WRITERS;
	int total = each * WRITERS;
	Writer writers[WRITERS];
	pthread_t threads[WRITERS];
	int seen[WRITERS] = {0};
	int64_t *delays;
	int64_t start, end = 0, reads = 0, reading;
	int measured = 0;
	PGconn *conn;

	if (each <= 0)
	{
		fprintf(stderr, "usage: sb_bench_freshness RATE SECONDS\n");
		return 1;
	}
	delays = calloc(total, sizeof(int64_t));
	conn = open_connection("r", "SELECT key, max(last) FROM result GROUP BY key");
	start = now_ns() + 500000000;
	for (int i = 0; i < WRITERS; i++)
	{
		memset(&writers[i], 0, sizeof(Writer));
		writers[i].key = i;
		writers[i].nrows = each;
		writers[i].period_ns = INT64_C(1000000000) * WRITERS / rate;
		writers[i].start_ns = start + writers[i].period_ns * i / WRITERS;
		writers[i].committed_at = calloc(each + 1, sizeof(_Atomic int64_t));
		if (pthread_create(&threads[i], NULL, write_rows, &writers[i]) != 0)
			return 1;
	}
	sleep_until(start);
	reading = now_ns();
	while (measured < total)
	{
		PGresult *result = PQexecPrepared(conn, "r", 0, NULL, NULL, NULL, 0);

		check(conn, result, PGRES_TUPLES_OK);
		measured += take_answer(result, now_ns(), writers, seen, delays + measured);
		PQclear(result);
		reads++;
		give_up_if_over(writers, measured);
		sleep_until(now_ns() + READ_PAUSE_NS);
	}
	reading = now_ns() - reading;
	for (int i = 0; i < WRITERS; i++)
	{
		pthread_join(threads[i], NULL);
		end = writers[i].end_ns > end ? writers[i].end_ns : end;
	}
	PQfinish(conn);
	qsort(delays, total, sizeof(int64_t), compare);
	printf("rows %d rate %.0f p50 %.0f p99 %.0f max %.0f read %.0f\n", total,
	       total / ((end - start) / 1e9), delays[total / 2] / 1e3,
	       delays[(int) (total * 0.99)] / 1e3, delays[total - 1] / 1e3, reading / 1e3 / reads);
	return 0;
}
