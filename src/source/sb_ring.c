/*
 * sb_ring.c: see sb_ring.h.
 */
#include "postgres.h"

#include "base/sb_guc.h"
#include "base/sb_kill_point.h"
#include "miscadmin.h"
#include "source/sb_ring.h"

/*
 * Published at the latest after so many bytes, so that a consumer works while a large transaction
 * is still being decoded.
 */
#define SB_RING_PUBLISH_BYTES (64 * 1024)

static void
ring_init(SbRing *ring, Size data_size)
{
	ring->size = data_size;
	pg_atomic_init_u64(&ring->written, 0);
	pg_atomic_init_u64(&ring->freed, 0);
}

void
sb_ring_writer_init(SbRingWriter *writer, SbRing *ring, void (*wake)(void), void (*wait)(void))
{
	writer->ring = ring;
	writer->position = pg_atomic_read_u64(&ring->written);
	writer->published = writer->position;
	writer->wake = wake;
	writer->wait = wait;
}

/*
 * An eighth of the ring: a frame and the padding before it always fit into an empty ring, with room
 * for the consumer's bundle.
 */
Size
sb_ring_max_frame(const SbRing *ring)
{
	return (ring->size / 8) & ~(Size) 7;
}

static void
ring_wait_for_room(SbRingWriter *writer, Size size)
{
	SbRing *ring = writer->ring;

	while (writer->position + size - pg_atomic_read_u64(&ring->freed) > ring->size)
	{
		sb_ring_publish(writer);
		writer->wait();
	}
	/* what the consumer read there, it has read */
	pg_memory_barrier();
}

void *
sb_ring_reserve(SbRingWriter *writer, SbFrameType type, Size size)
{
	SbRing *ring = writer->ring;
	Size length = MAXALIGN(size);
	uint64 offset = writer->position % ring->size;
	Size tail = ring->size - offset;
	SbFrame *frame;

	Assert(length <= sb_ring_max_frame(ring));
	if (tail < length)
	{
		ring_wait_for_room(writer, tail);
		frame = (SbFrame *) (ring->data + offset);
		frame->length = tail;
		frame->type = SB_FRAME_PAD;
		frame->flags = 0;
		writer->position += tail;
		offset = 0;
	}
	ring_wait_for_room(writer, length);
	frame = (SbFrame *) (ring->data + offset);
	frame->length = length;
	frame->type = type;
	frame->flags = 0;
	return frame;
}

void
sb_ring_append(SbRingWriter *writer, const void *frame)
{
	writer->position += ((const SbFrame *) frame)->length;
	if (writer->position - writer->published > SB_RING_PUBLISH_BYTES)
		sb_ring_publish(writer);
}

void
sb_ring_publish(SbRingWriter *writer)
{
	if (writer->published == writer->position)
		return;
	SB_KILL_POINT("before_publish");
	pg_write_barrier();
	pg_atomic_write_u64(&writer->ring->written, writer->position);
	writer->published = writer->position;
	SB_KILL_POINT("after_publish");
	writer->wake();
}

const SbFrame *
sb_ring_frame(const SbRing *ring, uint64 *position, uint64 end)
{
	while (*position < end)
	{
		const SbFrame *frame = (const SbFrame *) (ring->data + *position % ring->size);

		if (frame->type != SB_FRAME_PAD)
			return frame;
		*position += frame->length;
	}
	return NULL;
}

/* ---- where it is ---- */

/*
 * Outside any resource owner the mapping stays until the process exits. The segment is pinned: it
 * outlives its workers, so that they come and go without agreeing on who makes it.
 */
SbRing *
sb_ring_attach(SbLane *lane, bool create)
{
	Size data_size = (Size) sb_guc_ring_size_kb * 1024;
	dsm_segment *segment;
	SbRing *ring;

	if (lane->ring == 0)
	{
		if (!create)
			return NULL;
		segment = dsm_create(offsetof(SbRing, data) + data_size, 0);
		dsm_pin_mapping(segment);
		ring = dsm_segment_address(segment);
		ring_init(ring, data_size);
		dsm_pin_segment(segment);
		lane->ring = dsm_segment_handle(segment);
		return ring;
	}
	segment = dsm_attach(lane->ring);
	if (segment == NULL)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
		                errmsg("could not map the ring of database %u", MyDatabaseId)));
	dsm_pin_mapping(segment);
	return dsm_segment_address(segment);
}
