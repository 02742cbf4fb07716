/*
 * sb_decode.h: the output plugin's callbacks: decoded changes become frames.
 *
 * Runs in the reader only, under historic snapshots. Any other process that loads the plugin is
 * refused.
 */
#ifndef SB_DECODE_H
#define SB_DECODE_H

#include "postgres.h"
#include "replication/logical.h"
#include "source/sb_ring.h"

typedef struct SbDecoder
{
	SbRingWriter *writer;
	/* is this relation a source; asked again when *wanted_version has changed */
	bool (*wanted)(Oid relation);
	pg_atomic_uint32 *wanted_version;
	/*
	 * A source was added after changes of it, in a transaction that has committed now, were left
	 * out: the session has to be begun again. Cleared by sb_decode_start_session().
	 */
	bool start_over;
	/* told before each change of a source is looked at, and after it (InvalidOid) */
	void (*at_work)(Oid relation, XLogRecPtr lsn);
	/* NULL, or says of a change why it cannot be read; that returns NULL: it can */
	const char *(*unreadable)(Oid relation, XLogRecPtr lsn);
} SbDecoder;

/* Declares this process a reader: the plugin's callbacks will write through `decoder`. */
extern void sb_decode_init(SbDecoder *decoder);
/* Forgets what the consumer was told: it has to be told again in a new session. */
extern void sb_decode_start_session(void);
extern void sb_decode_plugin_callbacks(OutputPluginCallbacks *callbacks);

extern void sb_decode_write_reset(uint64 epoch, XLogRecPtr start, XLogRecPtr reach);
/* Says that everything committed up to `position` has been sent, and publishes. */
extern void sb_decode_write_heartbeat(XLogRecPtr position, bool caught_up);

#endif
