/*
 * sb_error.c: what an error is to be blamed on; see sb_error.h.
 */
#include "postgres.h"

#include "base/sb_error.h"

/*
 * A function in PL/pgSQL has said RAISE: whatever code it says, it means what it was called with.
 */
static bool
error_is_raised(const ErrorData *error)
{
	return error->funcname && strcmp(error->funcname, "exec_stmt_raise") == 0;
}

bool
sb_error_is_of_server(const ErrorData *error)
{
	return !error_is_raised(error) &&
	       ERRCODE_TO_CATEGORY(error->sqlerrcode) == MAKE_SQLSTATE('5', '7', '0', '0', '0') &&
	       error->sqlerrcode != ERRCODE_QUERY_CANCELED;
}

bool
sb_error_is_of_machine(const ErrorData *error)
{
	if (error_is_raised(error))
		return false;
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case MAKE_SQLSTATE('0', '8', '0', '0', '0'):
		case MAKE_SQLSTATE('5', '8', '0', '0', '0'):
			return true;
		default:
			return error->sqlerrcode == ERRCODE_DISK_FULL ||
			       error->sqlerrcode == ERRCODE_TOO_MANY_CONNECTIONS;
	}
}

bool
sb_error_is_transient(int sqlerrcode)
{
	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
		case MAKE_SQLSTATE('0', '8', '0', '0', '0'):
		case MAKE_SQLSTATE('4', '0', '0', '0', '0'):
		case MAKE_SQLSTATE('5', '3', '0', '0', '0'):
		case MAKE_SQLSTATE('5', '7', '0', '0', '0'):
		case MAKE_SQLSTATE('5', '8', '0', '0', '0'):
			return true;
		default:
			return sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE;
	}
}

bool
sb_error_is_of_data(const ErrorData *error, bool strict)
{
	if (error_is_raised(error))
		return true;
	if (sb_error_is_of_server(error) || sb_error_is_of_machine(error))
		return false;
	if (sb_error_is_transient(error->sqlerrcode))
		return strict;
	switch (ERRCODE_TO_CATEGORY(error->sqlerrcode))
	{
		case MAKE_SQLSTATE('0', 'A', '0', '0', '0'):
		case MAKE_SQLSTATE('2', '5', '0', '0', '0'):
		case MAKE_SQLSTATE('2', '8', '0', '0', '0'):
		case MAKE_SQLSTATE('4', '2', '0', '0', '0'):
		case MAKE_SQLSTATE('5', '5', '0', '0', '0'):
		case MAKE_SQLSTATE('X', 'X', '0', '0', '0'):
			return false;
		default:
			return true;
	}
}
