/*
 * sb_rebuild_note.c: see sb_rebuild_note.h.
 *
 * The key is the random number that initdb put into pg_control so that failing authentications can
 * look like others: it never leaves the server, and outlives restarts and promotion, as the WAL
 * with our notes does.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "base/sb_compat.h"
#include "catalog/pg_control.h"
#include "common/hmac.h"
#include "common/sha2.h"
#include "miscadmin.h"
#include "source/sb_rebuild_note.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

StaticAssertDecl(sizeof(((SbRebuildNote *) NULL)->code) == PG_SHA256_DIGEST_LENGTH,
                 "the code is a SHA-256");

static Size
note_size(uint32 nsources)
{
	return offsetof(SbRebuildNote, sources) + sizeof(Oid) * nsources;
}

static void
note_code(const SbRebuildNote *note, uint8 *code)
{
	const uint8 *body = (const uint8 *) note + offsetof(SbRebuildNote, cause);
	pg_hmac_ctx *hmac = pg_hmac_create(PG_SHA256);

	if (hmac == NULL ||
	    pg_hmac_init(hmac, (uint8 *) GetMockAuthenticationNonce(), MOCK_AUTH_NONCE_LEN) < 0 ||
	    pg_hmac_update(hmac, (const uint8 *) SB_REBUILD_PREFIX, strlen(SB_REBUILD_PREFIX)) < 0 ||
	    pg_hmac_update(hmac, body, note_size(note->nsources) - offsetof(SbRebuildNote, cause)) <
	        0 ||
	    pg_hmac_final(hmac, code, PG_SHA256_DIGEST_LENGTH) < 0)
		elog(ERROR, "could not compute the code of a note: %s", pg_hmac_error(hmac));
	pg_hmac_free(hmac);
}

void
sb_rebuild_note_write(SbRebuildCause cause, Oid partition, const List *sources)
{
	SbRebuildNote *note = palloc0(note_size(list_length(sources)));
	ListCell *lc;

	note->subxid = GetCurrentTransactionId();
	note->xid = GetTopTransactionId();
	note->cause = cause;
	note->database = MyDatabaseId;
	note->partition = partition;
	namestrcpy(&note->name, get_rel_name(partition));
	foreach (lc, sources)
		note->sources[note->nsources++] = lfirst_oid(lc);
	note_code(note, note->code);
	(void) sb_log_message(SB_REBUILD_PREFIX, (const char *) note, note_size(note->nsources), true);
	pfree(note);
}

const SbRebuildNote *
sb_rebuild_note_read(const char *message, Size size, TransactionId xid)
{
	SbRebuildNote *note = palloc(Max(size, note_size(0)));
	uint8 code[PG_SHA256_DIGEST_LENGTH];

	memcpy(note, message, size);
	if (size < note_size(0) || note->nsources > size / sizeof(Oid) ||
	    size != note_size(note->nsources))
		return NULL;
	note_code(note, code);
	if (memcmp(code, note->code, sizeof(code)) != 0 || note->xid != xid ||
	    note->database != MyDatabaseId)
		return NULL;
	return note;
}
