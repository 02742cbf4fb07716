/*
 * sb_sessions.c: what is different about cells of merging windows: those of a key stand in a list,
 * and each retains a little more.
 *
 * THE LIST of a key's cells is in the order of their windows (start, then end); the hash leads to
 * its first one. A search starts from where the last one ended, so that a batch of cells or rows in
 * their order finds each place at once, however many sessions are open.
 *
 * MEMORY. An SbSession lies in the entry's chunk; what it points to is in the context of values and
 * counted with them.
 */
#include "postgres.h"

#include "state/sb_cells_private.h"
#include "utils/memutils.h"

static SbWindow
window_of(const SbCells *cells, SbEntry *entry)
{
	return sb_cells_cell(cells, entry)->window;
}

static int
window_compare(SbWindow a, SbWindow b)
{
	if (a.start != b.start)
		return a.start < b.start ? -1 : 1;
	return a.end < b.end ? -1 : a.end > b.end;
}

/* ---- the list ---- */

SbEntry *
sb_list_seek(SbCells *cells, SbEntry *first, SbWindow window)
{
	SbEntry *at = first;

	/* one list has one hash and number */
	if (cells->last_seek && cells->last_seek->key_hash == first->key_hash &&
	    cells->last_seek->seq == first->seq)
		at = cells->last_seek;
	while (at && window_compare(window_of(cells, at), window) > 0)
		at = at->prev_of_key;
	if (at == NULL)
		return NULL;
	while (at->next_of_key && window_compare(window_of(cells, at->next_of_key), window) <= 0)
		at = at->next_of_key;
	cells->last_seek = at;
	return at;
}

bool
sb_list_add(SbCells *cells, SbEntry *first, SbEntry *entry)
{
	SbEntry *before = sb_list_seek(cells, first, window_of(cells, entry));

	entry->prev_of_key = before;
	entry->next_of_key = before ? before->next_of_key : first;
	if (before)
		before->next_of_key = entry;
	if (entry->next_of_key)
		entry->next_of_key->prev_of_key = entry;
	cells->last_seek = entry;
	return before == NULL;
}

void
sb_list_remove(SbCells *cells, SbEntry *entry)
{
	if (cells->last_seek == entry)
		cells->last_seek = entry->prev_of_key ? entry->prev_of_key : entry->next_of_key;
	if (entry->next_of_key)
		entry->next_of_key->prev_of_key = entry->prev_of_key;
	if (entry->prev_of_key)
		entry->prev_of_key->next_of_key = entry->next_of_key;
}

SbEntry *
sb_cells_of_key(SbCells *cells, uint64 key_hash, const Datum *keys, const bool *nulls,
                TimestampTz start)
{
	SbEntry *first = sb_cells_first_of_key(cells, key_hash, keys, nulls);
	SbEntry *entry;

	if (first == NULL)
		return NULL;
	entry = sb_list_seek(cells, first, (SbWindow){.start = start, .end = SB_TIME_MAX});
	return entry ? entry : first;
}

/* ---- what a session retains ---- */

SbSession *
sb_cells_session(const SbCells *cells, SbEntry *entry)
{
	return cells->merging ? (SbSession *) ((char *) entry + cells->session_offset) : NULL;
}

void
sb_cells_set_elements(SbCells *cells, SbEntry *entry, const bytea *elements)
{
	SbSession *session = sb_cells_session(cells, entry);

	if (session->elements)
		pfree(session->elements);
	session->elements = NULL;
	if (elements)
	{
		session->elements = MemoryContextAlloc(cells->values, VARSIZE(elements));
		memcpy(session->elements, elements, VARSIZE(elements));
	}
	sb_entry_count_bytes(cells, entry);
}

void
sb_cells_add_removed(SbCells *cells, SbEntry *entry, SbWindow window)
{
	SbSession *session = sb_cells_session(cells, entry);
	Size size = sizeof(SbWindow) * (session->nremoved + 1);

	session->removed = session->removed ? repalloc(session->removed, size)
	                                    : MemoryContextAlloc(cells->values, size);
	session->removed[session->nremoved++] = window;
}

void
sb_cells_clear_removed(SbCells *cells, SbEntry *entry)
{
	SbSession *session = sb_cells_session(cells, entry);

	if (session->removed)
		pfree(session->removed);
	session->removed = NULL;
	session->nremoved = 0;
}

Size
sb_session_bytes(const SbSession *session)
{
	Size bytes = 0;

	if (session->elements)
		bytes += sb_cells_chunk_bytes(VARSIZE(session->elements));
	if (session->removed)
		bytes += sb_cells_chunk_bytes(sizeof(SbWindow) * session->nremoved);
	return bytes;
}

void
sb_session_free(SbCells *cells, SbEntry *entry)
{
	SbSession *session = sb_cells_session(cells, entry);

	if (session->elements)
		pfree(session->elements);
	session->elements = NULL;
	sb_cells_clear_removed(cells, entry);
}

/*
 * ---- bytes: what is there, as the flags of the state say, each part with its size in front ----
 */

int
sb_session_flags(const SbSession *session)
{
	return (session->removed ? SB_STATE_REMOVED : 0) | (session->elements ? SB_STATE_ELEMENTS : 0);
}

static void
session_encode_part(StringInfo out, const char *data, uint32 size)
{
	appendBinaryStringInfo(out, (char *) &size, sizeof(size));
	appendBinaryStringInfo(out, data, size);
}

void
sb_session_encode(const SbSession *session, StringInfo out)
{
	if (session->removed)
		session_encode_part(out, (char *) session->removed, sizeof(SbWindow) * session->nremoved);
	if (session->elements)
		session_encode_part(out, VARDATA(session->elements), VARSIZE(session->elements) - VARHDRSZ);
}

void
sb_session_decode(SbCells *cells, SbEntry *entry, int flags, const char **data, const char *end)
{
	SbSession *session = sb_cells_session(cells, entry);
	const char *part;
	uint32 size;

	if (flags & SB_STATE_REMOVED)
	{
		part = sb_bytes_take_sized(data, end, &size);
		if (size == 0 || size % sizeof(SbWindow) != 0)
			sb_bytes_corrupted("A session has a part of a window.");
		session->nremoved = size / sizeof(SbWindow);
		session->removed = MemoryContextAlloc(cells->values, size);
		memcpy(session->removed, part, size);
	}
	if (flags & SB_STATE_ELEMENTS)
	{
		part = sb_bytes_take_sized(data, end, &size);
		session->elements = MemoryContextAlloc(cells->values, VARHDRSZ + size);
		SET_VARSIZE(session->elements, VARHDRSZ + size);
		memcpy(VARDATA(session->elements), part, size);
	}
}
