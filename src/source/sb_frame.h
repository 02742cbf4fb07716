/*
 * sb_frame.h: what travels through the ring.
 *
 * A frame is a header and its payload, contiguous, 8-byte aligned, its length a multiple of 8.
 * Everything of one source transaction stands between a BEGIN and its COMMIT frame, but for SCHEMA
 * frames, which may come at any time before the first row that names them. Transactions come in
 * commit order; those without a row for us send nothing. A row too large for one frame comes as
 * several ROW frames, all but the last flagged SB_FRAME_MORE; their payloads concatenated are one
 * SbRowFrame.
 */
#ifndef SB_FRAME_H
#define SB_FRAME_H

#include "postgres.h"
#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "source/sb_change.h"

typedef enum SbFrameType
{
	SB_FRAME_PAD = 1, /* skip to the ring's begin */
	SB_FRAME_RESET,   /* a new session of the reader: what is not committed is void */
	SB_FRAME_BEGIN,
	SB_FRAME_SCHEMA, /* layout of a relation's tuples from here on; the id is new each time */
	SB_FRAME_ROW,
	SB_FRAME_TRUNCATE,
	SB_FRAME_REBUILD,
	SB_FRAME_UNREADABLE,
	SB_FRAME_COMMIT,
	SB_FRAME_HEARTBEAT
} SbFrameType;

#define SB_FRAME_MORE 1

typedef struct SbFrame
{
	uint32 length; /* with this header */
	uint16 type;
	uint16 flags;
} SbFrame;

typedef struct SbResetFrame
{
	SbFrame head;
	uint64 epoch;     /* answers the rewind requests up to this number */
	XLogRecPtr start; /* every transaction whose commit record ends after this comes */
	XLogRecPtr reach; /* the slot could have begun here */
} SbResetFrame;

typedef struct SbBeginFrame
{
	SbFrame head;
	XLogRecPtr position; /* end of the commit record */
	TimestampTz commit_time;
	TransactionId xid;
} SbBeginFrame;

typedef struct SbCommitFrame
{
	SbFrame head;
	XLogRecPtr position;
} SbCommitFrame;

/* Everything committed up to `position` has been sent. */
typedef struct SbHeartbeatFrame
{
	SbFrame head;
	XLogRecPtr position;
	TimestampTz at;
	bool caught_up; /* the reader has come to the end of the WAL */
} SbHeartbeatFrame;

typedef struct SbSchemaColumn
{
	Oid type;
	int32 typmod;
	int16 length;
	bool by_value;
	bool dropped;
	bool in_old; /* old tuples have it: it is of the replica identity */
	char align;
} SbSchemaColumn;

typedef struct SbSchemaFrame
{
	SbFrame head;
	Oid relation;
	uint32 layout;
	int32 ncolumns;
	SbSchemaColumn columns[FLEXIBLE_ARRAY_MEMBER];
} SbSchemaFrame;

typedef struct SbTruncateFrame
{
	SbFrame head;
	Oid relation;
} SbTruncateFrame;

typedef struct SbRebuildFrame
{
	SbFrame head;
	Oid relation;
	uint32 cause;  /* an SbRebuildCause */
	Oid partition; /* it may be gone, hence its name */
	NameData name;
} SbRebuildFrame;

/* In the place of a change that cannot be decoded. */
typedef struct SbUnreadableFrame
{
	SbFrame head;
	Oid relation;
	uint32 length;
	char text[FLEXIBLE_ARRAY_MEMBER]; /* why: of `length` bytes, the last of which is 0 */
} SbUnreadableFrame;

/*
 * The payload of ROW frames: this header, the new tuple's bytes from t_data, aligned, the old
 * tuple's.
 */
typedef struct SbRowFrame
{
	Oid relation;
	uint32 layout;
	uint32 new_length; /* 0: none */
	uint32 old_length; /* 0: none */
	uint32 op;         /* an SbChangeOp */
	Oid partition;     /* the table that has the row: `relation` itself, or a partition of it */
	char data[FLEXIBLE_ARRAY_MEMBER];
} SbRowFrame;

#endif
