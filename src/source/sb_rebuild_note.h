/*
 * sb_rebuild_note.h: how a backend says in the WAL that rows have come to a source, or have left
 * it, without a change of their own.
 *
 * ATTACH, DETACH and DROP of a partition move rows that nobody inserts or deletes. The backend that
 * does it writes a logical message into the same transaction. Any role may write logical messages
 * with any prefix: a note carries a code that only this cluster's servers can make, over the
 * transaction's id too, and one that has not the right code is nothing.
 */
#ifndef SB_REBUILD_NOTE_H
#define SB_REBUILD_NOTE_H

#include "postgres.h"
#include "nodes/pg_list.h"
#include "source/sb_frame.h"

#define SB_REBUILD_PREFIX "stream_beam rebuild"

typedef struct SbRebuildNote
{
	uint8 code[32]; /* HMAC-SHA256 of what follows */
	uint32 cause;   /* SbRebuildCause */
	Oid database;
	TransactionId xid; /* of the transaction at the top */
	TransactionId subxid;
	Oid partition;
	NameData name; /* the partition's */
	uint32 nsources;
	Oid sources[FLEXIBLE_ARRAY_MEMBER];
} SbRebuildNote;

/*
 * Writes one: `sources` are the tables whose rows are concerned, whether or not a pipeline reads
 * them. Needs a transaction.
 */
extern void sb_rebuild_note_write(SbRebuildCause cause, Oid partition, const List *sources);
/* A copy in the current context; NULL: the message is not one of ours in transaction `xid`. */
extern const SbRebuildNote *sb_rebuild_note_read(const char *message, Size size, TransactionId xid);

#endif
