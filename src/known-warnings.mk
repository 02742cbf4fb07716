# Included after PGXS. The flags are those that PostgreSQL was built with, maybe by a newer compiler: warnings that ours has not heard of are left out.
UNKNOWN_WARNINGS := $(shell LC_ALL=C $(CC) $(CFLAGS) -E -x c /dev/null 2>&1 | \
	sed -nE "s/.*(unrecognized command-line|unknown warning) option '(-W[^']*)'.*/\2/p")
override CFLAGS := $(filter-out $(UNKNOWN_WARNINGS),$(CFLAGS))
