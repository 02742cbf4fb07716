/*
 * sb_hooks_partition.h: notes into the WAL when rows come to a table, or leave it, without a change
 * of their own, and a warning when a partition comes whose changes could not be taken back.
 */
#ifndef SB_HOOKS_PARTITION_H
#define SB_HOOKS_PARTITION_H

#include "postgres.h"
#include "catalog/objectaccess.h"
#include "nodes/nodes.h"

/* An object_access_hook. */
extern void sb_partition_object_access(ObjectAccessType access, Oid class, Oid object, int sub,
                                       void *arg);
/*
 * A partition that the running statement attaches to a table that is watched (InvalidOid: none);
 * and a warning after it, if UPDATE or DELETE would stop pipelines.
 */
extern void sb_partition_note_attached(Oid partition);
extern bool sb_partition_is_attached(void);
/* Wants SPI connected and the rights of the extension's owner. */
extern void sb_partition_warn_attached(void);
/*
 * The unlogged table that a command is about to make a logged one, or InvalidOid; and what is to be
 * done after the command.
 */
extern Oid sb_partition_before_set_logged(const Node *statement);
extern void sb_partition_after_set_logged(Oid relation);

#endif
