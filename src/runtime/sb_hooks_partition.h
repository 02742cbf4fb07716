/*
 * sb_hooks_partition.h: notes into the WAL when rows come to a table, or leave it, without a change of their own.
 */
#ifndef SB_HOOKS_PARTITION_H
#define SB_HOOKS_PARTITION_H

#include "postgres.h"
#include "catalog/objectaccess.h"
#include "nodes/nodes.h"

/* An object_access_hook. */
extern void sb_partition_object_access(ObjectAccessType access, Oid class, Oid object, int sub, void *arg);
/* The unlogged table that a command is about to make a logged one, or InvalidOid; and what is to be done after the command. */
extern Oid sb_partition_before_set_logged(const Node *statement);
extern void sb_partition_after_set_logged(Oid relation);

#endif
