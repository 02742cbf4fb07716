/*
 * sb_bench_decode.c: an output plugin whose callbacks do nothing: what decoding costs by itself,
 * the yardstick of the benchmark "decode".
 */
#include "postgres.h"

#include "fmgr.h"
#include "replication/logical.h"
#include "replication/output_plugin.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_output_plugin_init(OutputPluginCallbacks *callbacks);

static void
bench_startup(LogicalDecodingContext *ctx, OutputPluginOptions *options, bool is_init)
{
	options->output_type = OUTPUT_PLUGIN_BINARY_OUTPUT;
	options->receive_rewrites = false;
}

static void
bench_begin(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
}

static void
bench_change(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, Relation relation,
             ReorderBufferChange *change)
{
}

static void
bench_commit(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr commit_lsn)
{
}

void
_PG_output_plugin_init(OutputPluginCallbacks *callbacks)
{
	callbacks->startup_cb = bench_startup;
	callbacks->begin_cb = bench_begin;
	callbacks->change_cb = bench_change;
	callbacks->commit_cb = bench_commit;
}
