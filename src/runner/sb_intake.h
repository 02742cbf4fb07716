/*
 * sb_intake.h: the runner's end of the ring: frames become messages.
 *
 * The messages of a bundle are an array, whose tuples are in the ring. They stay readable until
 * sb_intake_release(), so that a bundle that fails can be run again. A transaction that does not
 * fit into the ring goes to a temporary file, part by part.
 */
#ifndef SB_INTAKE_H
#define SB_INTAKE_H

#include "postgres.h"
#include "source/sb_change.h"
#include "source/sb_ring.h"
#include "worker/sb_shmem.h"

typedef enum SbIntakeStop
{
	SB_INTAKE_EMPTY,  /* no more frames, between two transactions */
	SB_INTAKE_WAIT,   /* no more frames, within a transaction: more will come */
	SB_INTAKE_CHUNK,  /* the array has got many messages, within a transaction */
	SB_INTAKE_COMMIT, /* the array has got many messages, between two transactions */
	SB_INTAKE_RELOAD, /* pipelines have changed: nothing further is taken */
	/* a RESET frame comes next; what is taken of an unfinished transaction is void */
	SB_INTAKE_RESET
} SbIntakeStop;

typedef struct SbIntake
{
	SbRing *ring;
	SbLane *lane; /* whose reader writes into it */
	pg_atomic_uint32 *generation;
	pg_atomic_uint32 *creations;
	uint32 seen_generation; /* the one that the pipelines in memory are of */
	uint64 read;            /* ring position of the next frame */
	bool in_transaction;
	XLogRecPtr transaction; /* position of the current one */
	TransactionId xid;      /* likewise */
	TimestampTz commit_time;

	XLogRecPtr position; /* everything up to here has been taken, and is in the bundle */
	TimestampTz last_commit_time;
	bool caught_up; /* the last frame said that the WAL has been read to its end */

	SbMessage *messages; /* of the bundle, but for those that are spooled */
	int n;
	int max;
	int64 total; /* of the bundle, spooled ones included */

	MemoryContext context;  /* of the bundle: split rows, rows read back */
	MemoryContext retained; /* of the process */
	MemoryContext part;     /* of the rows of a spooled part */
	struct SbLayoutMap *layouts;
	struct SbSpool *spool; /* NULL: the whole bundle is in the ring */
	char *split;           /* a row in parts, so far; NULL: none */
	Size split_size;
} SbIntake;

/* The two words: of the database's entry in the registry. */
extern SbIntake *sb_intake_create(SbLane *lane, pg_atomic_uint32 *generation,
                                  pg_atomic_uint32 *creations, MemoryContext retained);
/*
 * Is all that is committed read, as far as one can tell? False, too, while there is no reader, or
 * it has much to read.
 */
extern bool sb_intake_has_read_all(SbIntake *intake);
/* The catalog has changed since the pipelines in memory were opened. */
extern bool sb_intake_is_stale(const SbIntake *intake);

/* Is there a frame that may be taken? */
extern bool sb_intake_has_frames(const SbIntake *intake);

/* Adds messages to the array until it has to stop; SB_CHUNK_MESSAGES at the most. */
extern SbIntakeStop sb_intake_take(SbIntake *intake);
/* Does the bundle hold so much of the ring that it should end with this transaction? */
extern bool sb_intake_is_large(const SbIntake *intake);
/*
 * Does it hold so much, within a transaction, that it has to be spooled for the rest to have room?
 */
extern bool sb_intake_is_full(const SbIntake *intake);
/*
 * Within a transaction: moves the messages of the array, which have been processed, to the spool,
 * and gives their part of the ring back.
 */
extern void sb_intake_spool(SbIntake *intake);
/* The bundle is over: gives its part of the ring back and drops its memory. */
extern void sb_intake_release(SbIntake *intake);

/*
 * Runs through all messages of the bundle again, from the first, array by array: false when there
 * is none left. *part starts as 0. The messages are good until the next call.
 */
extern bool sb_intake_replay(SbIntake *intake, int *part, SbMessage **messages, int *n);

/*
 * Skips frames up to the RESET that answers `epoch`; true when it has come: *start is where the
 * session starts.
 */
extern bool sb_intake_skip_to_reset(SbIntake *intake, uint64 epoch, XLogRecPtr *start,
                                    XLogRecPtr *reach);

#endif
