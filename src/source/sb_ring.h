/*
 * sb_ring.h: the byte ring in shared memory between one writer of frames and one consumer.
 *
 * Positions are 64-bit and only grow; the place in the ring is position modulo size. `written` is
 * moved by the writer alone, `freed` by the consumer alone, both after the bytes they speak of.
 * What lies between them is stable for the consumer. A full ring makes the writer wait:
 * back-pressure; the WAL waits in the slot.
 *
 * CRASH SAFETY. The ring outlives its users. A writer that starts anew goes on at `written`, with a
 * RESET frame; a half-written frame behind `written` was never seen. A consumer that starts anew
 * asks for a rewind and skips to the RESET frame that answers it.
 */
#ifndef SB_RING_H
#define SB_RING_H

#include "postgres.h"
#include "port/atomics.h"
#include "source/sb_frame.h"
#include "worker/sb_shmem.h"

typedef struct SbRing
{
	uint64 size; /* bytes of data, a multiple of 8; constant */
	pg_atomic_uint64 written;
	char pad[PG_CACHE_LINE_SIZE]; /* the two positions are on different cache lines */
	pg_atomic_uint64 freed;
	char pad2[PG_CACHE_LINE_SIZE];
	char data[FLEXIBLE_ARRAY_MEMBER];
} SbRing;

/*
 * The writer's own view. `wait` is called while the ring is full: it wakes the consumer and sleeps
 * until it may have moved.
 */
typedef struct SbRingWriter
{
	SbRing *ring;
	uint64 position; /* written, not all of it published */
	uint64 published;
	void (*wake)(void);
	void (*wait)(void);
} SbRingWriter;

/* That of a lane, mapped; the runner makes it where it is missing. */
extern SbRing *sb_ring_attach(SbLane *lane, bool create);

extern void sb_ring_writer_init(SbRingWriter *writer, SbRing *ring, void (*wake)(void),
                                void (*wait)(void));
/* the largest frame that reserve accepts */
extern Size sb_ring_max_frame(const SbRing *ring);
/* room for a frame of `size` bytes with its header filled in; waits while the ring is full */
extern void *sb_ring_reserve(SbRingWriter *writer, SbFrameType type, Size size);
/* the frame just reserved is complete */
extern void sb_ring_append(SbRingWriter *writer, const void *frame);
/* lets the consumer see all appended frames, and wakes it */
extern void sb_ring_publish(SbRingWriter *writer);

/*
 * The frame at *position (skipping padding, which moves *position), or NULL when it is not before
 * `end`.
 */
extern const SbFrame *sb_ring_frame(const SbRing *ring, uint64 *position, uint64 end);

#endif
