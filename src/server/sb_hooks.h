/*
 * sb_hooks.h: what stream_beam does in the backends of others.
 */
#ifndef SB_HOOKS_H
#define SB_HOOKS_H

#include "postgres.h"

extern void sb_hooks_install(void);

#endif
