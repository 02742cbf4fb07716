EXTENSION = stream_beam
EXTVERSION = 0.2.0
MODULE_big = stream_beam
PG_CONFIG ?= pg_config

SRCS = $(wildcard src/*.c src/*/*.c src/*/*/*.c)
OBJS = $(SRCS:.c=.o)
INSTALL_PARTS = $(sort $(wildcard src/install/[0-9]*.sql))

DATA = $(wildcard src/install/$(EXTENSION)--*--*.sql)
DATA_built = $(EXTENSION)--$(EXTVERSION).sql
EXTRA_CLEAN = $(EXTENSION)--$(EXTVERSION).sql $(OBJS:.o=.bc)

REGRESS = $(patsubst sql/%.sql,%,$(sort $(wildcard sql/*.sql)))
REGRESS_OPTS = --inputdir=. --load-extension=stream_beam

PG_CPPFLAGS = -I$(srcdir)/src -DPGDLLEXPORT='__attribute__((visibility("default")))'
PG_CFLAGS = -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers -Wno-declaration-after-statement -fvisibility=hidden
ifdef SB_ASSERT
PG_CFLAGS += -DUSE_ASSERT_CHECKING
endif

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)
include $(srcdir)/src/known-warnings.mk

# The install script is the parts of src/install in the order of their numbers.
$(EXTENSION)--$(EXTVERSION).sql: $(INSTALL_PARTS)
	cat $^ > $@

# Every object depends on every header: the tree is small, and a stale object costs more than it saves.
$(OBJS): $(wildcard src/*.h src/*/*.h src/*/*/*.h)

.PHONY: bench dist
bench:
	./scripts/bench $(BENCH)

# What PGXN takes: the files of a commit, and META.json at the top.
DIST_COMMIT = HEAD
DIST_DIR = .
dist:
	./scripts/check-meta . $(EXTVERSION)
	git archive --format=zip --prefix=$(EXTENSION)-$(EXTVERSION)/ -o $(DIST_DIR)/$(EXTENSION)-$(EXTVERSION).zip $(DIST_COMMIT)
