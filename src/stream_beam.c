/*
 * stream_beam.c: the library's entry points for the server.
 */
#include "postgres.h"

#include "base/sb_bracket.h"
#include "base/sb_guc.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "query/window/sb_session_batch.h"
#include "replication/output_plugin.h"
#include "server/sb_hooks.h"
#include "source/sb_decode.h"
#include "worker/sb_shmem.h"
#include "worker/sb_worker.h"

PG_MODULE_MAGIC;

extern PGDLLEXPORT void _PG_init(void);
extern PGDLLEXPORT void _PG_output_plugin_init(OutputPluginCallbacks *callbacks);

void
_PG_init(void)
{
	sb_guc_define();
	sb_bracket_install();
	sb_session_batch_install();
	/*
	 * pg_upgrade puts the extension together piece by piece, and copies the files when that is
	 * done: nobody is to look at it before
	 */
	if (!process_shared_preload_libraries_in_progress || IsBinaryUpgrade)
		return;
	sb_shmem_install();
	sb_hooks_install();
	sb_launcher_register();
}

void
_PG_output_plugin_init(OutputPluginCallbacks *callbacks)
{
	sb_decode_plugin_callbacks(callbacks);
}
