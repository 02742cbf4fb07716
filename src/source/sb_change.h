/*
 * sb_change.h: what a source tells its pipelines, one message after the other: changes of its rows,
 * and control messages.
 *
 * A change is what happened to a row: its tuple, or the old and the new one. Pipelines take it
 * apart into rows: an UPDATE is the old tuple with the weight -1, then the new one with the
 * weight 1.
 *
 * MEMORY. Tuples, layouts and control messages belong to whoever made the message: the ring, a
 * scan, a chain. A message is good as long as they are.
 */
#ifndef SB_CHANGE_H
#define SB_CHANGE_H

#include "postgres.h"
#include "access/htup.h"
#include "access/htup_details.h"
#include "access/tupdesc.h"
#include "access/xlogdefs.h"

/* How the tuples of a change are laid out: as of their time. */
typedef struct SbLayout
{
	TupleDesc desc; /* only attlen, attalign, attbyval and attisdropped are to be trusted */
	/* of each attribute: do old tuples have it? NULL: they have all */
	const bool *in_old;
} SbLayout;

/* In the current context: a copy of the descriptor; old tuples have all columns. */
static inline SbLayout *
sb_layout_create(TupleDesc desc)
{
	SbLayout *layout = palloc(sizeof(SbLayout));

	*layout = (SbLayout){.desc = CreateTupleDescCopy(desc)};
	return layout;
}

typedef enum SbChangeOp
{
	SB_CHANGE_INSERT = 1,
	SB_CHANGE_UPDATE,
	SB_CHANGE_DELETE
} SbChangeOp;

typedef struct SbChange
{
	SbChangeOp op;
	Oid table; /* that has the row: the source, or a partition of it; 0: it is not known */
	HeapTupleHeader old; /* NULL: none, or the replica identity has stayed the same */
	HeapTupleHeader new; /* NULL: none */
	uint32 old_length, new_length;
	const SbLayout *layout; /* of both */
} SbChange;

typedef enum SbControlKind
{
	SB_CONTROL_TRUNCATE = 1,
	SB_CONTROL_REBUILD,   /* the source's rows are others than its changes say */
	SB_CONTROL_UNREADABLE /* in the place of a change that cannot be decoded */
} SbControlKind;

/* Why a source's rows are others than its changes say. */
typedef enum SbRebuildCause
{
	SB_REBUILD_ATTACH = 1, /* rows came with a partition */
	SB_REBUILD_DETACH,     /* they left with one */
	SB_REBUILD_DROP,
	SB_REBUILD_TRUNCATE, /* of a partition by itself */
	SB_REBUILD_LOGGED    /* of a table whose changes have not been in the WAL for some time */
} SbRebuildCause;

typedef struct SbControl
{
	SbControlKind kind;
	SbRebuildCause cause; /* of SB_CONTROL_REBUILD */
	/* the partition's name; why the change cannot be decoded; else NULL */
	const char *text;
} SbControl;

typedef struct SbMessage
{
	Oid source;
	/* the top transaction's; invalid: it has not come through the ring */
	TransactionId xid;
	XLogRecPtr position;      /* of the transaction; invalid: it has none of its own */
	const SbControl *control; /* NULL: it is a change */
	/*
	 * It was a dead letter, and is older than what has come since: what it is known by, of those
	 * left out; 0: it is not among them. NULL: it was none.
	 */
	const uint64 *letter;
	SbChange change;
} SbMessage;

/* One tuple of a change, as it counts. */
typedef struct SbRow
{
	HeapTupleHeader tuple;
	uint32 length;
	int32 weight; /* -1: it is taken back */
	const SbLayout *layout;
	/* of its message */
	XLogRecPtr position;
	const uint64 *letter;
	TransactionId xid;
	SbChangeOp op;
} SbRow;

static inline SbRow
sb_message_old_row(const SbMessage *message)
{
	return (SbRow){.tuple = message->change.old,
	               .length = message->change.old_length,
	               .weight = -1,
	               .layout = message->change.layout,
	               .position = message->position,
	               .letter = message->letter,
	               .xid = message->xid,
	               .op = message->change.op};
}

static inline SbRow
sb_message_new_row(const SbMessage *message)
{
	return (SbRow){.tuple = message->change.new,
	               .length = message->change.new_length,
	               .weight = 1,
	               .layout = message->change.layout,
	               .position = message->position,
	               .letter = message->letter,
	               .xid = message->xid,
	               .op = message->change.op};
}

/* A row that has come (weight 1) or gone (-1), in a message without a position. */
static inline SbMessage
sb_message_of_tuple(Oid source, const SbLayout *layout, HeapTuple tuple, int weight)
{
	SbMessage message = {.source = source, .change = {.layout = layout}};

	if (weight > 0)
	{
		message.change.op = SB_CHANGE_INSERT;
		message.change.new = tuple->t_data;
		message.change.new_length = tuple->t_len;
	}
	else
	{
		message.change.op = SB_CHANGE_DELETE;
		message.change.old = tuple->t_data;
		message.change.old_length = tuple->t_len;
	}
	return message;
}

#endif
