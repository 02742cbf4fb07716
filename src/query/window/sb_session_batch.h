/*
 * sb_session_batch.h: makes beam.session and beam.pane_timestamp right in a batch query.
 */
#ifndef SB_SESSION_BATCH_H
#define SB_SESSION_BATCH_H

/* Installs the planner hook, in front of what is there. Call once, from _PG_init. */
extern void sb_session_batch_install(void);

#endif
