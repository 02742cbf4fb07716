/*
 * sb_state_table.c: the table behind the cells: load what is missed, write what changed, delete
 * what is over; set-based.
 *
 * The table is keyed by (window, hash of the key, number): narrow, whatever the keys are; the
 * number tells apart different keys that share a hash. The key itself and the state are opaque
 * bytes, each with a version in front. Behind the state is a seal of the whole row.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "state/sb_cells_private.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Cells brought in by one query: bounds the memory of its result. */
#define SB_LOAD_BATCH 10000
/* Rows written by one statement. */
#define SB_WRITE_BATCH 20000

char *
sb_cells_table_sql(const char *state_table, const SbPlan *plan, const SbStrategy *strategy,
                   bool items)
{
	/*
	 * cells of a window stand together and change together, at the latest when it ends: a page has
	 * room for all of its rows once more
	 */
	const char *columns =
	    "CREATE TABLE %s (window_end pg_catalog.int8 NOT NULL, window_start pg_catalog.int8 NOT NULL, key_hash pg_catalog.int8 NOT NULL,"
	    " key_seq pg_catalog.int2 NOT NULL, processing_timer pg_catalog.int8, hold pg_catalog.int8, key pg_catalog.bytea NOT NULL, state pg_catalog.bytea NOT NULL,%s"
	    " PRIMARY KEY (%s)) WITH (fillfactor = 50);"
	    "ALTER TABLE %s ALTER COLUMN state SET STORAGE EXTERNAL; REVOKE ALL ON %s FROM PUBLIC;";
	StringInfoData sql;

	initStringInfo(&sql);
	/*
	 * sessions are looked for by key, other windows by window: what is looked for together stands
	 * together
	 */
	appendStringInfo(&sql, columns, state_table, items ? " items pg_catalog.int8[]," : "",
	                 sb_plan_merges(plan) ? "key_hash, key_seq, window_end, window_start"
	                                      : "window_end, window_start, key_hash, key_seq",
	                 state_table, state_table);
	/* event timers follow from the end of the window */
	if (sb_plan_merges(plan))
		appendStringInfo(&sql, "CREATE INDEX ON %s (window_end, window_start, key_hash, key_seq);",
		                 state_table);
	/* only where there are such: a change of an indexed column makes an update dearer */
	if (sb_trigger_uses_processing_time(strategy->trigger))
		appendStringInfo(&sql,
		                 "CREATE INDEX ON %s (processing_timer) WHERE processing_timer IS NOT NULL;",
		                 state_table);
	if (sb_cells_hold(strategy))
		appendStringInfo(&sql, "CREATE INDEX ON %s (window_end) WHERE hold IS NOT NULL;",
		                 state_table);
	return sql.data;
}

static TupleDesc
state_row_desc(bool items)
{
	TupleDesc desc = CreateTemplateTupleDesc(items ? SB_STATE_NCOLUMNS : SB_STATE_ITEMS);

	TupleDescInitEntry(desc, SB_STATE_WINDOW_END + 1, "window_end", INT8OID, -1, 0);
	TupleDescInitEntry(desc, SB_STATE_WINDOW_START + 1, "window_start", INT8OID, -1, 0);
	TupleDescInitEntry(desc, SB_STATE_KEY_HASH + 1, "key_hash", INT8OID, -1, 0);
	TupleDescInitEntry(desc, SB_STATE_KEY_SEQ + 1, "key_seq", INT2OID, -1, 0);
	TupleDescInitEntry(desc, SB_STATE_PROCESSING_TIMER + 1, "processing_timer", INT8OID, -1, 0);
	TupleDescInitEntry(desc, SB_STATE_HOLD + 1, "hold", INT8OID, -1, 0);
	TupleDescInitEntry(desc, SB_STATE_KEY + 1, "key", BYTEAOID, -1, 0);
	TupleDescInitEntry(desc, SB_STATE_STATE + 1, "state", BYTEAOID, -1, 0);
	if (items)
		TupleDescInitEntry(desc, SB_STATE_ITEMS + 1, "items", INT8ARRAYOID, -1, 0);
	return desc;
}

#define SB_STATE_ROW \
	"s.window_end, s.window_start, s.key_hash, s.key_seq, s.processing_timer, s.hold, s.key, s.state"
#define SB_STATE_SAME \
	"s.window_end OPERATOR(pg_catalog.=) r.window_end AND s.window_start OPERATOR(pg_catalog.=) r.window_start " \
	"AND s.key_hash OPERATOR(pg_catalog.=) r.key_hash"

static SbStatement *
state_statement(const char *sql, TupleDesc rows, int nargs, const Oid *types)
{
	SbStatement *statement = sb_statement_create(sql, rows, nargs, types);

	sb_statement_elevate(statement);
	return statement;
}

#define SB_STATE_LOAD "SELECT " SB_STATE_ROW " FROM %s s JOIN rows r ON " SB_STATE_SAME

/*
 * Sessions that overlap those of the rows; of each key one that tells its number; and all where
 * several keys have one hash.
 */
#define SB_STATE_LOAD_SESSIONS \
	"SELECT " SB_STATE_ROW \
	" FROM %s s JOIN rows r ON s.key_hash OPERATOR(pg_catalog.=) r.key_hash" \
	" AND s.key_seq OPERATOR(pg_catalog.=) 0::pg_catalog.int2 AND s.window_end OPERATOR(pg_catalog.>) r.window_start" \
	" AND s.window_start OPERATOR(pg_catalog.<) r.window_end" \
	" UNION ALL SELECT " SB_STATE_ROW \
	" FROM (SELECT DISTINCT key_hash FROM rows) r CROSS JOIN LATERAL (SELECT * FROM %s t" \
	" WHERE t.key_hash OPERATOR(pg_catalog.=) r.key_hash AND t.key_seq OPERATOR(pg_catalog.=) 0::pg_catalog.int2" \
	" ORDER BY t.window_end DESC, t.window_start DESC LIMIT 1) s" \
	" UNION ALL SELECT " SB_STATE_ROW " FROM (SELECT DISTINCT key_hash FROM rows) r JOIN %s s" \
	" ON s.key_hash OPERATOR(pg_catalog.=) r.key_hash AND s.key_seq OPERATOR(pg_catalog.>) 0::pg_catalog.int2"

/* The statements that look for what is due. */
static void
state_prepare_timers(SbCells *cells, const char *table)
{
	Oid types[] = {INT8OID, INT8OID, INT8OID, INT2OID, INT8OID, INT8OID, INT8OID};

	cells->load_ended = state_statement(
	    psprintf("SELECT " SB_STATE_ROW " FROM %s s"
	             " WHERE ROW(s.window_end, s.window_start, s.key_hash, s.key_seq) OPERATOR(pg_catalog.>) ROW($1, $2, $3, $4)"
	             " AND s.window_end OPERATOR(pg_catalog.<=) $5"
	             " AND s.window_start OPERATOR(pg_catalog.>=) $6 AND s.window_start OPERATOR(pg_catalog.<) $7"
	             " ORDER BY s.window_end, s.window_start, s.key_hash, s.key_seq LIMIT %d",
	             table, SB_LOAD_BATCH),
	    NULL, 7, types);
	cells->load_processing =
	    state_statement(psprintf("SELECT " SB_STATE_ROW
	                             " FROM %s s WHERE s.processing_timer OPERATOR(pg_catalog.<) $1",
	                             table),
	                    NULL, 1, types);
	cells->bounds = state_statement(psprintf("SELECT (SELECT pg_catalog.min(window_end) FROM %s),"
	                                         " (SELECT pg_catalog.max(window_end) FROM %s)",
	                                         table, table),
	                                NULL, 0, NULL);
	cells->next_end =
	    state_statement(psprintf("SELECT window_end FROM %s WHERE window_end OPERATOR(pg_catalog.>) $1"
	                             " ORDER BY window_end LIMIT 1",
	                             table),
	                    NULL, 1, types);
	cells->next_processing = state_statement(
	    psprintf("SELECT (SELECT pg_catalog.min(processing_timer) FROM %s WHERE processing_timer OPERATOR(pg_catalog.>=) $1),"
	             " (SELECT pg_catalog.max(processing_timer) FROM %s)",
	             table, table),
	    NULL, 1, types);
	cells->holds_of_windows =
	    state_statement(psprintf("SELECT window_end, window_start, pg_catalog.count(*), pg_catalog.min(hold)"
	                             " FROM %s WHERE hold IS NOT NULL GROUP BY 1, 2",
	                             table),
	                    NULL, 0, NULL);
	sb_statement_by_index(cells->load_ended);
	sb_statement_by_index(cells->load_processing);
	sb_statement_by_index(cells->bounds);
	sb_statement_by_index(cells->next_end);
	sb_statement_by_index(cells->next_processing);
	sb_statement_by_index(cells->holds_of_windows);
}

void
sb_state_prepare(SbCells *cells, const char *table)
{
	TupleDesc row = state_row_desc(cells->items != NULL);
	Oid range_args[] = {INT8OID, INT8OID, INT8OID};

	cells->insert =
	    state_statement(psprintf("INSERT INTO %s SELECT * FROM rows", table), row, 0, NULL);
	cells->update = state_statement(
	    psprintf(
	        cells->items
	            ? "UPDATE %s s SET processing_timer = r.processing_timer, hold = r.hold, state = r.state, items = r.items FROM rows r WHERE " SB_STATE_SAME
	              " AND s.key_seq OPERATOR(pg_catalog.=) r.key_seq"
	            : "UPDATE %s s SET processing_timer = r.processing_timer, hold = r.hold, state = r.state FROM rows r WHERE " SB_STATE_SAME
	              " AND s.key_seq OPERATOR(pg_catalog.=) r.key_seq",
	        table),
	    row, 0, NULL);
	cells->delete = state_statement(psprintf("DELETE FROM %s s USING rows r WHERE " SB_STATE_SAME
	                                         " AND s.key_seq OPERATOR(pg_catalog.=) r.key_seq",
	                                         table),
	                                row, 0, NULL);
	cells->load_missed =
	    state_statement(psprintf(cells->merging ? SB_STATE_LOAD_SESSIONS : SB_STATE_LOAD, table,
	                             table, table),
	                    row, 0, NULL);
	sb_statement_by_index(cells->update);
	sb_statement_by_index(cells->delete);
	sb_statement_by_index(cells->load_missed);
	state_prepare_timers(cells, table);
	cells->clear_all = state_statement(psprintf("DELETE FROM %s", table), NULL, 0, NULL);
	cells->clear_inside =
	    state_statement(psprintf("DELETE FROM %s WHERE " SB_STATE_IN_RANGE, table), NULL,
	                    lengthof(range_args), range_args);
	cells->clear_outside =
	    state_statement(psprintf("DELETE FROM %s WHERE NOT (" SB_STATE_IN_RANGE ")", table), NULL,
	                    lengthof(range_args), range_args);
}

static Datum
state_get(HeapTuple tuple, int column, bool *isnull)
{
	return SPI_getbinval(tuple, SPI_tuptable->tupdesc, column + 1, isnull);
}

static int64
state_get_int8(HeapTuple tuple, int column)
{
	bool isnull;

	return DatumGetInt64(state_get(tuple, column, &isnull));
}

/* Before anything is read: a cell that was removed must not come back. */
static void
state_flush_deletions(SbCells *cells)
{
	sb_statement_flush(cells->delete, 1);
}

/* A column of the only row; where it is null, or there is no row, `missing`. */
static int64
state_get_bound(int column, int64 missing)
{
	bool isnull = true;
	Datum value = (Datum) 0;

	if (SPI_processed > 0)
		value = state_get(SPI_tuptable->vals[0], column, &isnull);
	return isnull ? missing : DatumGetInt64(value);
}

TimestampTz
sb_state_next_end(SbCells *cells, TimestampTz end)
{
	Datum args[] = {Int64GetDatum(end)};
	TimestampTz next;

	sb_statement_run(cells->next_end, args, NULL);
	next = SPI_processed > 0
	           ? sb_window_max_timestamp((SbWindow){.end = state_get_bound(0, SB_TIME_MAX)})
	           : SB_TIME_MAX;
	SPI_freetuptable(SPI_tuptable);
	return next;
}

/* The bounds of processing timers at or after the clock. */
static void
state_look_at_processing(SbCells *cells, TimestampTz clock)
{
	Datum args[] = {Int64GetDatum(clock)};

	sb_statement_run(cells->next_processing, args, NULL);
	cells->stored_processing = state_get_bound(0, SB_TIME_MAX);
	cells->stored_processing_last = state_get_bound(1, SB_TIME_MIN);
	SPI_freetuptable(SPI_tuptable);
}

/* The windows that hold the output watermark, but for the cells that are in memory. */
static void
state_look_at_holds(SbCells *cells)
{
	dlist_iter iter;

	sb_statement_run(cells->holds_of_windows, NULL, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		SbWindow window = {.end = state_get_int8(tuple, 0), .start = state_get_int8(tuple, 1)};

		sb_stored_add_hold(cells, window, state_get_int8(tuple, 2), state_get_int8(tuple, 3));
	}
	SPI_freetuptable(SPI_tuptable);
	dlist_foreach(iter, &cells->lru)
	{
		SbEntry *entry = dlist_container(SbEntry, lru_node, iter.cur);

		if (entry->stored)
			sb_stored_came(cells, entry, sb_cells_cell(cells, entry)->window);
	}
}

void
sb_state_look(SbCells *cells)
{
	/* the clocks may have moved since: what they have passed is still to be asked */
	TimestampTz watermark = cells->asked_watermark;

	state_flush_deletions(cells);
	sb_statement_run(cells->bounds, NULL, NULL);
	cells->stored_low = state_get_bound(0, SB_TIME_MAX);
	cells->stored_high = cells->stored_last = state_get_bound(1, SB_TIME_MIN);
	SPI_freetuptable(SPI_tuptable);
	if (cells->stored_high == SB_TIME_MIN)
		return;
	cells->expiries.next = sb_window_max_timestamp((SbWindow){.end = cells->stored_low});
	if (cells->stored_low > watermark)
		cells->ends.next = cells->expiries.next;
	else if (cells->stored_high > watermark)
		cells->ends.next = sb_state_next_end(cells, watermark);
	if (cells->processing)
		state_look_at_processing(cells, SB_TIME_MIN);
	if (cells->holds)
		state_look_at_holds(cells);
}

/*
 * What the seal of a state is made of beside it: a state belongs to its key and window, whose bytes
 * are none of its own.
 */
static pg_crc32c
state_seal_place(SbWindow window, uint64 key_hash, int16 seq, const bytea *key)
{
	int64 place[] = {window.end, window.start, (int64) key_hash, seq};

	return sb_bytes_seal(sb_bytes_seal(0, place, sizeof(place)), VARDATA_ANY(key),
	                     VARSIZE_ANY_EXHDR(key));
}

/*
 * Fills a cell that is not linked yet. The seal is right; what cannot have been written so is an
 * error all the same.
 */
static void
state_decode(SbCells *cells, SbEntry *entry, SbWindow window, const char *data, const char *end)
{
	int flags = (uint8) *sb_bytes_take(&data, end, 1);

	int known = SB_STATE_ALL_FLAGS;

	if (!cells->merging)
		known &= ~(SB_STATE_REMOVED | SB_STATE_ELEMENTS);
	if (flags & ~known)
		sb_bytes_corrupted("The state of a cell has unknown parts.");
	memcpy(&entry->rows, sb_bytes_take(&data, end, sizeof(entry->rows)), sizeof(entry->rows));
	entry->emitted = (flags & SB_STATE_EMITTED) != 0;
	entry->failed = (flags & SB_STATE_FAILED) != 0;
	if (flags & SB_STATE_EMITTED_ROWS)
	{
		uint32 size;
		const char *part = sb_bytes_take_sized(&data, end, &size);

		sb_cells_add_emitted_rows(cells, entry, part, size);
	}
	if (cells->merging)
		sb_session_decode(cells, entry, flags, &data, end);
	sb_cell_decode(cells->strategy, sb_cells_cell(cells, entry), window, &data, end);
	sb_query_acc_decode(cells->query, sb_cells_accs(cells, entry), &data, end);
	if (data != end)
		sb_bytes_corrupted("The state of a cell is longer than it should be.");
}

/* The timer by which a cell that has come in is asked, if its own is later. */
static TimestampTz
state_arrival_timer(SbArrival arrival, SbWindow window)
{
	switch (arrival)
	{
		case SB_MISSED:
			break;
		case SB_AT_ITS_END:
			return sb_window_max_timestamp(window);
		case SB_HASTENED:
			return SB_TIME_MIN;
	}
	return SB_TIME_MAX;
}

/* A row of the table becomes a cell in memory, if it is not there already. */
static void
state_take(SbCells *cells, HeapTuple tuple, SbArrival arrival)
{
	SbWindow window = {.end = state_get_int8(tuple, SB_STATE_WINDOW_END),
	                   .start = state_get_int8(tuple, SB_STATE_WINDOW_START)};
	uint64 key_hash = (uint64) state_get_int8(tuple, SB_STATE_KEY_HASH);
	Datum *keys = palloc(sizeof(Datum) * (cells->nkeys + 1));
	bool *nulls = palloc(sizeof(bool) * (cells->nkeys + 1));
	bool isnull;
	int16 seq = DatumGetInt16(state_get(tuple, SB_STATE_KEY_SEQ, &isnull));
	bytea *key = DatumGetByteaPP(state_get(tuple, SB_STATE_KEY, &isnull));
	bytea *state = DatumGetByteaPP(state_get(tuple, SB_STATE_STATE, &isnull));
	const char *data = VARDATA_ANY(state);
	const char *end = data + VARSIZE_ANY_EXHDR(state);
	SbEntry *entry;

	sb_bytes_check_seal(state_seal_place(window, key_hash, seq, key), data, &end);
	sb_query_keys_decode(cells->query, key, keys, nulls);
	if (sb_cells_find(cells, key_hash, keys, nulls, window) != NULL)
		return;
	entry = sb_entry_make(cells, key_hash, keys, nulls, window);
	entry->seq = seq;
	entry->stored = true;
	state_decode(cells, entry, window, data, end);
	sb_entry_link(cells, entry);
	sb_entry_came(cells, entry);
	sb_cells_set_timers(cells, entry, false);
	sb_entry_hasten(cells, entry, state_arrival_timer(arrival, window));
	sb_stored_came(cells, entry, window);
}

static void
state_take_all(SbCells *cells, SbArrival arrival)
{
	MemoryContext old = MemoryContextSwitchTo(cells->scratch);

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		CHECK_FOR_INTERRUPTS();
		state_take(cells, SPI_tuptable->vals[i], arrival);
		MemoryContextReset(cells->scratch);
	}
	MemoryContextSwitchTo(old);
	SPI_freetuptable(SPI_tuptable);
}

static void
state_put_place(SbStatement *statement, SbWindow window, uint64 key_hash, int16 seq)
{
	Datum values[SB_STATE_NCOLUMNS] = {0};
	bool nulls[SB_STATE_NCOLUMNS];

	memset(nulls, true, sizeof(nulls));
	values[SB_STATE_WINDOW_END] = Int64GetDatum(window.end);
	values[SB_STATE_WINDOW_START] = Int64GetDatum(window.start);
	values[SB_STATE_KEY_HASH] = Int64GetDatum((int64) key_hash);
	values[SB_STATE_KEY_SEQ] = Int16GetDatum(seq);
	nulls[SB_STATE_WINDOW_END] = nulls[SB_STATE_WINDOW_START] = nulls[SB_STATE_KEY_HASH] =
	    nulls[SB_STATE_KEY_SEQ] = false;
	sb_statement_put(statement, values, nulls);
}

void
sb_cells_load(SbCells *cells, const SbMiss *misses, int n)
{
	if (n > 0)
		state_flush_deletions(cells);
	for (int i = 0; i < n; i++)
	{
		state_put_place(cells->load_missed, misses[i].window, misses[i].key_hash, 0);
		if (sb_statement_rows(cells->load_missed) >= SB_LOAD_BATCH || i == n - 1)
		{
			sb_statement_run(cells->load_missed, NULL, NULL);
			state_take_all(cells, SB_MISSED);
		}
	}
}

bool
sb_state_load_ended(SbCells *cells, SbStoredScan *scan, const SbWindowRange *range,
                    TimestampTz last_end, SbArrival arrival)
{
	Datum args[] = {Int64GetDatum(scan->window.end), Int64GetDatum(scan->window.start),
	                Int64GetDatum(scan->hash),       Int16GetDatum(scan->seq),
	                Int64GetDatum(last_end),         Int64GetDatum(range->lo),
	                Int64GetDatum(range->hi)};
	uint64 n;

	state_flush_deletions(cells);
	n = sb_statement_run(cells->load_ended, args, NULL);
	if (n > 0)
	{
		bool isnull;
		HeapTuple last = SPI_tuptable->vals[n - 1];

		scan->window.end = state_get_int8(last, SB_STATE_WINDOW_END);
		scan->window.start = state_get_int8(last, SB_STATE_WINDOW_START);
		scan->hash = state_get_int8(last, SB_STATE_KEY_HASH);
		scan->seq = DatumGetInt16(state_get(last, SB_STATE_KEY_SEQ, &isnull));
	}
	state_take_all(cells, arrival);
	return n == SB_LOAD_BATCH;
}

void
sb_state_load_processing(SbCells *cells)
{
	TimestampTz clock = cells->clocks->processing_time;
	Datum args[] = {Int64GetDatum(clock)};

	state_flush_deletions(cells);
	sb_statement_run(cells->load_processing, args, NULL);
	state_take_all(cells, SB_MISSED);
	/* those of cells in memory are there too: only as long as one of the others is left */
	if (cells->stored_processing_last < clock)
		cells->stored_processing = SB_TIME_MAX;
	else
	{
		TimestampTz last = cells->stored_processing_last;

		state_look_at_processing(cells, clock);
		cells->stored_processing_last = last;
		if (cells->stored_processing > last)
			cells->stored_processing = SB_TIME_MAX;
	}
}

void
sb_state_delete(SbCells *cells, SbEntry *entry)
{
	state_put_place(cells->delete, sb_cells_cell(cells, entry)->window, entry->key_hash,
	                entry->seq);
}

int64
sb_state_clear(SbCells *cells, const SbWindowRange *range, bool inside)
{
	Datum args[] = {Int64GetDatum(range->from), Int64GetDatum(range->lo), Int64GetDatum(range->hi)};

	/* first: the cells say which trees are theirs */
	if (cells->items)
		sb_items_table_clear(cells->items, range, inside);
	if (sb_window_range_is_all(range))
		return sb_statement_run(cells->clear_all, NULL, NULL);
	return sb_statement_run(inside ? cells->clear_inside : cells->clear_outside, args, NULL);
}

/* The trees of a cell's items as an array, once they are written; 0: it has none. */
static Datum
state_trees(SbCells *cells, SbEntry *entry)
{
	int64 *trees = palloc(sizeof(int64) * (cells->naggs + 1));
	int n = sb_query_acc_trees(cells->query, sb_cells_accs(cells, entry), trees);
	Datum *elements = palloc(sizeof(Datum) * (n + 1));

	for (int i = 0; i < n; i++)
		elements[i] = Int64GetDatum(trees[i]);
	return n == 0 ? (Datum) 0
	              : PointerGetDatum(construct_array(elements, n, INT8OID, sizeof(int64), true,
	                                                TYPALIGN_DOUBLE));
}

/* The cell as a row to be inserted, or updated if it is stored. Its accumulators must be parked. */
static void
state_put_entry(SbCells *cells, SbEntry *entry)
{
	SbCell *cell = sb_cells_cell(cells, entry);
	TimestampTz processing = sb_reduce_processing_timer(cells->strategy, cell);
	const bool *key_nulls;
	Datum *keys = sb_cells_keys(cells, entry, &key_nulls);
	Datum values[SB_STATE_NCOLUMNS];
	bool nulls[SB_STATE_NCOLUMNS] = {false};
	Datum items = (Datum) 0;
	SbSession *session = sb_cells_session(cells, entry);
	bytea *key = sb_query_keys_encode(cells->query, keys, key_nulls);
	StringInfoData state;
	pg_crc32c seal;

	initStringInfo(&state);
	appendStringInfoSpaces(&state, VARHDRSZ);
	appendStringInfoChar(&state, (entry->emitted ? SB_STATE_EMITTED : 0) |
	                                 (entry->failed ? SB_STATE_FAILED : 0) |
	                                 (entry->emitted_rows ? SB_STATE_EMITTED_ROWS : 0) |
	                                 (session ? sb_session_flags(session) : 0));
	appendBinaryStringInfo(&state, (char *) &entry->rows, sizeof(entry->rows));
	if (entry->emitted_rows)
	{
		uint32 size = VARSIZE(entry->emitted_rows) - VARHDRSZ;

		appendBinaryStringInfo(&state, (char *) &size, sizeof(size));
		appendBinaryStringInfo(&state, VARDATA(entry->emitted_rows), size);
	}
	if (session)
		sb_session_encode(session, &state);
	sb_cell_encode(cells->strategy, cell, &state);
	sb_query_acc_encode(cells->query, sb_cells_accs(cells, entry), &state);
	if (cells->items)
		items = state_trees(cells, entry);
	seal = sb_bytes_seal(state_seal_place(cell->window, entry->key_hash, entry->seq, key),
	                     state.data + VARHDRSZ, state.len - VARHDRSZ);
	appendBinaryStringInfo(&state, (char *) &seal, SB_SEAL_SIZE);
	SET_VARSIZE(state.data, state.len);

	values[SB_STATE_WINDOW_END] = Int64GetDatum(cell->window.end);
	values[SB_STATE_WINDOW_START] = Int64GetDatum(cell->window.start);
	values[SB_STATE_KEY_HASH] = Int64GetDatum((int64) entry->key_hash);
	values[SB_STATE_KEY_SEQ] = Int16GetDatum(entry->seq);
	values[SB_STATE_PROCESSING_TIMER] = Int64GetDatum(processing);
	nulls[SB_STATE_PROCESSING_TIMER] = processing == SB_TIME_MAX;
	values[SB_STATE_HOLD] = Int64GetDatum(entry->hold);
	nulls[SB_STATE_HOLD] = entry->hold == SB_TIME_MAX;
	values[SB_STATE_KEY] = PointerGetDatum(key);
	values[SB_STATE_STATE] = PointerGetDatum(state.data);
	values[SB_STATE_ITEMS] = items;
	nulls[SB_STATE_ITEMS] = items == (Datum) 0;
	sb_statement_put(entry->stored ? cells->update : cells->insert, values, nulls);
}

/* There is no table: the cells are only parked. */
static void
state_write_nothing(SbCells *cells)
{
	dlist_iter iter;

	dlist_foreach(iter, &cells->changed)
	{
		SbEntry *entry = dlist_container(SbEntry, changed_node, iter.cur);

		CHECK_FOR_INTERRUPTS();
		sb_query_acc_park(cells->query, sb_cells_accs(cells, entry));
		entry->dirty = false;
	}
}

void
sb_cells_write(SbCells *cells)
{
	MemoryContext old;
	dlist_iter iter;

	if (cells->in_memory)
	{
		state_write_nothing(cells);
		return;
	}
	old = MemoryContextSwitchTo(cells->scratch);
	/* first the deletions: a window that merged away may be there again */
	state_flush_deletions(cells);
	if (cells->items)
		sb_items_table_drop(cells->items);
	dlist_foreach(iter, &cells->changed)
	{
		SbEntry *entry = dlist_container(SbEntry, changed_node, iter.cur);

		if (!entry->dirty)
			continue;
		CHECK_FOR_INTERRUPTS();
		sb_query_acc_park(cells->query, sb_cells_accs(cells, entry));
		sb_entry_count_bytes(cells, entry);
		state_put_entry(cells, entry);
		MemoryContextReset(cells->scratch);
		entry->dirty = false;
		entry->stored = true;
		sb_statement_flush(cells->insert, SB_WRITE_BATCH);
		sb_statement_flush(cells->update, SB_WRITE_BATCH);
	}
	sb_statement_flush(cells->insert, 1);
	sb_statement_flush(cells->update, 1);
	if (cells->items)
		sb_items_table_write(cells->items);
	MemoryContextSwitchTo(old);
}
