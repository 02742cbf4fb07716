/*
 * sb_queue_table.h: the table beam_state.queue_N, in which rows wait for a downstream pipeline that
 * does not run now.
 *
 * It has the number of a row, 1 or -1 (the row is taken back), and a column for each of the
 * source's.
 */
#ifndef SB_QUEUE_TABLE_H
#define SB_QUEUE_TABLE_H

#include "postgres.h"
#include "access/htup.h"
#include "access/tupdesc.h"
#include "catalog/pg_attribute.h"

typedef struct SbQueueTable SbQueueTable;

extern char *sb_queue_table_name(int32 pipeline);
/* InvalidOid: it is gone. */
extern Oid sb_queue_table_relid(int32 pipeline);
/* The SQL that makes it for a pipeline that is planned over this relation. */
extern char *sb_queue_table_sql(const char *table, Oid source);
/*
 * The number of the source's column that one of the table stands for; InvalidAttrNumber: for none.
 */
extern AttrNumber sb_queue_table_attno(Form_pg_attribute att);

/* The column of this name and type; InvalidAttrNumber: there is none. */
extern AttrNumber sb_column_number(TupleDesc layout, const char *name, Oid type);

/*
 * To write to it, in the current context; `before`: the rows come before all that are there. NULL:
 * it is gone, and the downstream pipeline with it.
 */
extern SbQueueTable *sb_queue_table_open(int32 downstream, bool before);
/* Is it still there, until the transaction ends? The pipeline may have been dropped since. */
extern bool sb_queue_table_is_there(const SbQueueTable *queue);
/*
 * A row, laid out as the source: the columns that the table has, with the types that it has them
 * with.
 */
extern void sb_queue_table_put(SbQueueTable *queue, HeapTuple tuple, TupleDesc layout, int op);
/* So many have been put that are not written. */
extern int64 sb_queue_table_rows(const SbQueueTable *queue);
extern void sb_queue_table_write(SbQueueTable *queue);

#endif
