/*
 * sb_work.c: the file of who is at work on what; see sb_work.h.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/sb_guc.h"
#include "common/file_perm.h"
#include "libpq/pqsignal.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/fd.h"
#include "storage/ipc.h"
#include "worker/sb_work.h"

#define SB_WORK_FILE "stream_beam.work"
#define SB_WORK_MAGIC UINT64CONST(0x6b726f772e62732e)
#define SB_WORK_VERSION 2
#define SB_MAX_BLAMES 32

typedef struct SbBlame
{
	int32 kind; /* SB_WORK_NONE: free */
	uint32 what;
	uint64 at;
	int32 role; /* of SB_WORK_OTHER; SB_NROLES: whoever it was */
	int32 count;
	char text[SB_WORK_TEXT];
} SbBlame;

typedef struct SbWorkOfDatabase
{
	Oid dbid;
	SbWork places[SB_NROLES];
	SbBlame blames[SB_MAX_BLAMES];
} SbWorkOfDatabase;

typedef struct SbWorkFile
{
	uint64 magic;
	uint32 version;
	int32 ndatabases;
	SbWork launcher;
	int32 launcher_crashes;
	SbWorkOfDatabase databases[FLEXIBLE_ARRAY_MEMBER];
} SbWorkFile;

static SbWork nobody;
SbWork *sb_work = &nobody;

static SbWorkFile *work_file;
static SbWorkOfDatabase *my_database;

/* ---- the file ---- */

static Size
work_size(void)
{
	return offsetof(SbWorkFile, databases) + sizeof(SbWorkOfDatabase) * sb_guc_max_databases;
}

/* MAP_FAILED, and errno: it cannot be had. */
static void *
work_map_file(void)
{
	int fd = BasicOpenFilePerm(SB_WORK_FILE, O_RDWR | O_CREAT | PG_BINARY, pg_file_create_mode);
	void *map = MAP_FAILED;
	int error;

	if (fd < 0)
		return MAP_FAILED;
	/* a page that cannot be written later would end the process that stores into it */
	error = posix_fallocate(fd, 0, work_size());
	if (error == 0 && ftruncate(fd, work_size()) != 0)
		error = errno;
	if (error == 0)
	{
		map = mmap(NULL, work_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		error = errno;
	}
	close(fd);
	errno = error;
	return map;
}

void
sb_work_map(void)
{
	void *map;

	if (work_file)
		return;
	map = work_map_file();
	if (map == MAP_FAILED)
	{
		ereport(LOG, (errcode_for_file_access(),
		              errmsg("stream_beam: could not map file \"%s\": %m", SB_WORK_FILE),
		              errdetail("What made workers crash is forgotten when the server stops.")));
		map = mmap(NULL, work_size(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	}
	if (map == MAP_FAILED)
		ereport(FATAL, (errcode(ERRCODE_OUT_OF_MEMORY),
		                errmsg("could not map shared memory for stream_beam: %m")));
	work_file = map;
	if (work_file->magic == SB_WORK_MAGIC && work_file->version == SB_WORK_VERSION &&
	    work_file->ndatabases == sb_guc_max_databases)
		return;
	memset(work_file, 0, work_size());
	work_file->magic = SB_WORK_MAGIC;
	work_file->version = SB_WORK_VERSION;
	work_file->ndatabases = sb_guc_max_databases;
}

static SbWorkOfDatabase *
work_find(Oid dbid)
{
	for (int i = 0; i < work_file->ndatabases; i++)
	{
		if (work_file->databases[i].dbid == dbid)
			return &work_file->databases[i];
	}
	return NULL;
}

/* An entry that no database has, or one whose database has no pipelines any more. */
static SbWorkOfDatabase *
work_make(Oid dbid)
{
	SbWorkOfDatabase *made = work_find(InvalidOid);

	for (int i = 0; made == NULL && i < work_file->ndatabases; i++)
	{
		if (sb_database_find(work_file->databases[i].dbid) == NULL)
			made = &work_file->databases[i];
	}
	if (made == NULL)
		return NULL;
	memset(made, 0, sizeof(SbWorkOfDatabase));
	made->dbid = dbid;
	return made;
}

/* ---- blames ---- */

/* Of a relation each change is blamed by itself; of all else the last place counts. */
static SbBlame *
blame_find(SbWorkOfDatabase *database, int32 role, int32 kind, uint32 what, uint64 at)
{
	for (int i = 0; i < SB_MAX_BLAMES; i++)
	{
		SbBlame *blame = &database->blames[i];

		if (blame->kind == kind && blame->what == what && blame->role == role &&
		    (kind != SB_WORK_CHANGE || blame->at == at))
			return blame;
	}
	return NULL;
}

/* A free one, or the one with the fewest crashes. */
static SbBlame *
blame_make(SbWorkOfDatabase *database)
{
	SbBlame *made = &database->blames[0];

	for (int i = 0; i < SB_MAX_BLAMES && made->kind != SB_WORK_NONE; i++)
	{
		if (database->blames[i].kind == SB_WORK_NONE || database->blames[i].count < made->count)
			made = &database->blames[i];
	}
	memset(made, 0, sizeof(SbBlame));
	return made;
}

static void
work_blame(SbWorkOfDatabase *database, int32 role, const SbWork *work)
{
	int32 whose = work->kind == SB_WORK_OTHER ? role : SB_NROLES;
	SbBlame *blame = blame_find(database, whose, work->kind, work->what, work->at);

	if (blame == NULL)
		blame = blame_make(database);
	/* a crash loses the last commits, so that what comes again may begin earlier */
	if (blame->kind == SB_WORK_NONE || work->at > blame->at)
		*blame = (SbBlame){.kind = work->kind, .what = work->what, .at = work->at, .role = whose};
	blame->count += work->stubborn ? SB_CRASHES : 1;
	strlcpy(blame->text, work->failed ? work->text : "", SB_WORK_TEXT);
}

/* ---- for the launcher ---- */

static bool
work_crashed(SbWork *work)
{
	bool crashed = work->kind != SB_WORK_NONE && !work->innocent;

	work->innocent = false;
	return crashed;
}

SbWork *
sb_work_place(Oid dbid, SbRole role)
{
	SbWorkOfDatabase *database = work_find(dbid);

	if (database == NULL)
		database = work_make(dbid);
	return database ? &database->places[role] : NULL;
}

bool
sb_work_judge(Oid dbid, SbRole role)
{
	SbWorkOfDatabase *database = work_find(dbid);
	SbWork *work = database ? &database->places[role] : NULL;
	bool crashed = work && work_crashed(work);

	if (crashed)
		work_blame(database, role, work);
	if (work)
		work->kind = SB_WORK_NONE;
	return crashed;
}

bool
sb_work_is_hopeless(Oid dbid, SbRole role)
{
	SbWorkOfDatabase *database = work_find(dbid);
	SbBlame *blame = database ? blame_find(database, role, SB_WORK_OTHER, 0, 0) : NULL;

	return blame && blame->count >= SB_CRASHES_OF_OURS;
}

void
sb_work_hope_again(void)
{
	for (int i = 0; i < work_file->ndatabases; i++)
	{
		for (int role = 0; role < SB_NROLES; role++)
		{
			SbBlame *blame = blame_find(&work_file->databases[i], role, SB_WORK_OTHER, 0, 0);

			if (blame)
				blame->kind = SB_WORK_NONE;
		}
	}
	work_file->launcher_crashes = 0;
}

/* ---- for the worker ---- */

/* The postmaster ends all since one process has crashed: that was another one. */
static void
work_quit(SIGNAL_ARGS)
{
	sb_work->innocent = true;
	SignalHandlerForCrashExit(postgres_signal_arg);
}

static void
work_end(int code, Datum arg)
{
	if (!sb_work->failed)
		sb_work_rest();
	/*
	 * the next worker may have the place before this process is gone: what a signal says of this
	 * one is not to be said of that
	 */
	sb_work = &nobody;
}

void
sb_work_fail(const char *text)
{
	int length = pg_mbcliplen(text, strlen(text), SB_WORK_TEXT - 1);

	memcpy(sb_work->text, text, length);
	sb_work->text[length] = '\0';
	sb_work->failed = true;
}

static void
work_take_place(SbWork *work)
{
	work->kind = SB_WORK_NONE;
	work->innocent = work->failed = work->stubborn = false;
	sb_work = work;
	pqsignal(SIGQUIT, work_quit);
	before_shmem_exit(work_end, (Datum) 0);
	sb_work_on_other();
}

int
sb_work_begin_launcher(void)
{
	if (work_crashed(&work_file->launcher))
		work_file->launcher_crashes++;
	work_take_place(&work_file->launcher);
	return work_file->launcher_crashes;
}

void
sb_work_launcher_is_well(void)
{
	work_file->launcher_crashes = 0;
}

void
sb_work_begin(Oid dbid, SbRole role)
{
	my_database = work_find(dbid);
	/* the launcher had no room for one */
	if (my_database)
		work_take_place(&my_database->places[role]);
}

void
sb_work_goes_well(void)
{
	sb_work->failures = 0;
}

List *
sb_work_suspects(Oid dbid)
{
	SbWorkOfDatabase *database = work_find(dbid);
	List *suspects = NIL;

	for (int i = 0; database && i < SB_MAX_BLAMES; i++)
	{
		const SbBlame *blame = &database->blames[i];

		if (sb_work_is_of_pipeline(blame->kind) && blame->count >= SB_CRASHES)
			suspects = list_append_unique_int(suspects, blame->what);
	}
	return suspects;
}

char *
sb_work_blame_text(Oid dbid, int32 pipeline)
{
	SbWorkOfDatabase *database = work_find(dbid);

	for (int i = 0; database && i < SB_MAX_BLAMES; i++)
	{
		const SbBlame *blame = &database->blames[i];

		if (sb_work_is_of_pipeline(blame->kind) && blame->what == pipeline && *blame->text)
			return pstrdup(blame->text);
	}
	return NULL;
}

void
sb_work_forgive(Oid dbid, int32 pipeline)
{
	SbWorkOfDatabase *database = work_find(dbid);

	for (int i = 0; database && i < SB_MAX_BLAMES; i++)
	{
		SbBlame *blame = &database->blames[i];

		if (sb_work_is_of_pipeline(blame->kind) && blame->what == pipeline)
			blame->kind = SB_WORK_NONE;
	}
}

static SbBlame *
work_find_bad_change(Oid relation, XLogRecPtr lsn)
{
	for (int i = 0; my_database && i < SB_MAX_BLAMES; i++)
	{
		SbBlame *blame = &my_database->blames[i];

		if (blame->kind == SB_WORK_CHANGE && blame->count >= SB_CRASHES &&
		    (!OidIsValid(relation) || (blame->what == relation && blame->at == lsn)))
			return blame;
	}
	return NULL;
}

bool
sb_work_has_bad_changes(void)
{
	return work_find_bad_change(InvalidOid, InvalidXLogRecPtr) != NULL;
}

const char *
sb_work_bad_change(Oid relation, XLogRecPtr lsn)
{
	SbBlame *blame = work_find_bad_change(relation, lsn);

	if (blame == NULL)
		return NULL;
	return *blame->text ? pstrdup(blame->text)
	                    : psprintf("the reader has crashed at it %d times", SB_CRASHES);
}
