/*
 * sb_frame_spool.h: frames of a large transaction that is still in progress, in a temporary file,
 * until its commit puts them into the ring.
 *
 * Without it the decoder would retain all changes of the transaction, one by one, until it commits.
 * A subtransaction that aborts is cut off: all that was written after its first frame is its own or
 * its children's.
 *
 * MEMORY. A context of its own, and one buffer. The file is gone with the spool, or with the
 * process. Reader only.
 */
#ifndef SB_FRAME_SPOOL_H
#define SB_FRAME_SPOOL_H

#include "postgres.h"
#include "source/sb_ring.h"

typedef struct SbFrameSpool SbFrameSpool;

/* the largest frame that a spool takes */
#define SB_SPOOL_MAX_FRAME (1024 * 1024)

extern SbFrameSpool *sb_frame_spool_create(TransactionId xid);
extern SbFrameSpool *sb_frame_spool_find(TransactionId xid);
extern void sb_frame_spool_free(SbFrameSpool *spool);
extern void sb_frame_spool_free_all(void);

/* Room for a frame of `size` bytes with its header filled in; `subxid` writes it. */
extern void *sb_frame_spool_reserve(SbFrameSpool *spool, TransactionId subxid, SbFrameType type,
                                    Size size);
/* the frame just reserved is complete */
extern void sb_frame_spool_append(SbFrameSpool *spool, const void *frame);
extern void sb_frame_spool_abort_subxact(SbFrameSpool *spool, TransactionId subxid);
/*
 * Puts the frames into the ring, but for those of subtransactions that are not among the committed
 * ones, which are sorted here: PostgreSQL does not tell of the abort of one whose changes it had
 * put aside on disk before it streamed them.
 */
extern void sb_frame_spool_copy(SbFrameSpool *spool, SbRingWriter *writer, TransactionId *committed,
                                int ncommitted);
extern bool sb_frame_spool_is_empty(const SbFrameSpool *spool);

/* Relations whose rows were left out, to be asked about again at the commit. */
extern void sb_frame_spool_left_out(SbFrameSpool *spool, Oid relation);
extern bool sb_frame_spool_any_left_out(SbFrameSpool *spool, bool (*test)(Oid relation));

#endif
