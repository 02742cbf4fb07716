/*
 * sb_partition.h: what has to be known of partitioned tables and their partitions.
 */
#ifndef SB_PARTITION_H
#define SB_PARTITION_H

#include "postgres.h"
#include "nodes/pg_list.h"
#include "storage/lockdefs.h"
#include "utils/rel.h"

/*
 * The relation, and of a partitioned table all its partitions at every level, each locked in `mode`
 * until the end of the transaction.
 */
extern List *sb_partition_tree(Oid relation, LOCKMODE mode);
/*
 * The tables that have the rows of a partition among theirs: its parent, and so on upwards; NIL: it
 * is no partition.
 */
extern List *sb_partition_ancestors(Oid relation);
/*
 * True: this process knows of every partition, at every level, that was attached by a transaction
 * which a snapshot taken before sees. Who attaches one leaves the transactions that snapshots name
 * before it tells others of the partition, and holds its lock until then. False: somebody has a
 * lock of that kind now. Nobody is waited for, and nothing stays locked.
 */
extern bool sb_partition_knows_all(Oid relation);
/*
 * Do old tuples of a table in the WAL have a column? By its replica identity; partitions may have
 * the column elsewhere, hence the name.
 */
extern bool sb_partition_old_has(Relation rel, const char *column);
/* The same of a relation and all its partitions. */
extern bool sb_partition_all_old_have(Oid relation, const char *column);
/*
 * Is there a row in the relation or in one of its partitions, counting what this transaction has
 * done? With a ShareLock on each table, so that the answer stays true for what others do.
 */
extern bool sb_partition_has_rows(Oid relation);

#endif
