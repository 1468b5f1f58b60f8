# rgov: build, test, demo.  `make help` lists what one can ask for.
#
# Every folder under tools/ with a main.c is one program, every file under tests/unit one
# test program, every file under tests/bin and bench one helper program: a new
# file needs no line here.

VERSION  := 0.1.0
BUILD    ?= build
PREFIX   ?= /usr/local
DESTDIR  ?=
PYTHON   ?= /usr/bin/python3
CC       ?= gcc
WERROR   ?=
SANITIZE ?=

DEPS := gcc make pkg-config liburing-dev libcurl4-openssl-dev libssl-dev \
	libjsmn-dev libconfuse-dev uthash-dev libncurses-dev \
	libmicrohttpd-dev libjansson-dev libcunit1-dev curl procps \
	libsqlite3-dev libhiredis-dev redis-server faketime strace \
	python3 python3-dev python3-setuptools python3-flask gunicorn \
	python3-boto3 python3-gevent python3-celery python3-redis openssl tmux \
	chromium chromium-driver python3-selenium
FAULT_DEPS := clang llvm spin faketime python3-h2 tinyproxy iproute2
EXPERIMENT_DEPS := python3-celery python3-redis redis-tools faketime
LINT_DEPS := clang clang-format clang-tidy cppcheck shellcheck mandoc

PKGS := liburing libcurl libssl libcrypto libconfuse sqlite3 hiredis
WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion \
	-Wcast-align -Wcast-qual -Wpointer-arith -Wformat=2 -Wundef -Wvla \
	-Wwrite-strings -Wstrict-prototypes -Wmissing-prototypes \
	-Wold-style-definition -Wswitch-enum -Wimplicit-fallthrough
TEST_WARN := -Wno-conversion
HARDEN := -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
ifneq ($(SANITIZE),)
HARDEN := -fsanitize=$(SANITIZE) -fno-omit-frame-pointer
LDFLAGS += -fsanitize=$(SANITIZE)
endif
CFLAGS ?= -O2 -g
ALL_CFLAGS = -std=gnu11 $(CFLAGS) $(WARN) $(WERROR) $(HARDEN) -fPIC \
	-fvisibility=hidden -D_GNU_SOURCE -DRGOV_VERSION='"$(VERSION)"' \
	-I. -MMD -MP
ALL_LDFLAGS = $(LDFLAGS) -Wl,-z,relro,-z,now

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' "$(1)" "$(2)")

objs = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
SHM_OBJS    := $(call objs,$(wildcard shm-layout/*.c))
CLIENT_OBJS := $(call objs,$(wildcard client-lib/*.c)) $(SHM_OBJS)
COORD_SRCS  := $(filter-out coordinator/main.c,\
	$(wildcard coordinator/*.c coordinator/*/*.c))
COORD_OBJS  := $(call objs,$(COORD_SRCS))
TOOL_NAMES  := $(patsubst tools/%/main.c,%,$(wildcard tools/*/main.c))
SHARED_OBJS := $(call objs,$(wildcard tools/board-view/*.c \
	tools/command-line/*.c))
UNIT_NAMES  := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/*.c))
TBIN_NAMES  := $(patsubst tests/bin/%.c,%,$(wildcard tests/bin/*.c))
BENCH_NAMES := $(patsubst bench/%.c,%,$(wildcard bench/*.c))
FAULT_NAMES := $(patsubst tests/fault/%.c,%,$(wildcard tests/fault/*.c))
FAULT_OBJS  := $(call objs,$(wildcard tests/fault/common/*.c)) $(SHM_OBJS)
PRELOADS    := $(patsubst tests/fault/preload/%.c,$(BUILD)/fault/%.so,\
	$(wildcard tests/fault/preload/*.c))

RGOVD     := $(BUILD)/rgovd
TOOLS     := $(TOOL_NAMES:%=$(BUILD)/%)
LIBS      := $(BUILD)/librgov.a $(BUILD)/librgov.so $(BUILD)/rgov.pc
PYEXT     := $(BUILD)/python/rgov/_rgov.abi3.so
UNIT_BINS := $(UNIT_NAMES:%=$(BUILD)/tests/unit/%)
TEST_BINS := $(TBIN_NAMES:%=$(BUILD)/tests/%)
FAULT_BINS := $(FAULT_NAMES:%=$(BUILD)/fault/%)
BENCHES   := $(BENCH_NAMES:%=$(BUILD)/bench/%)

COORD_LIBS := $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lpthread
TOOL_LIBS_rgov        := -ljansson -lm
TOOL_LIBS_rgov-top    := -lncursesw -ltinfo -ljansson -lm
TOOL_LIBS_rgov-plan   := -lconfuse -ljansson -lm
TOOL_LIBS_bedrock-sim := -lmicrohttpd -ljansson -lcrypto -lm -lpthread

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all help deps lint-deps fault-deps build-tests build-faults check \
	check-faults check-task-storm model fuzz soak demo demo-serve lint \
	asan tsan bench-handoff bench-compare experiment bench-policy \
	bench-tasks install clean

all: $(RGOVD) $(LIBS) $(TOOLS) $(PYEXT) ## build everything (default)

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | \
		column -t -s '|'

# ---------------------------------------------------------------- set-up

deps: ## install the missing Debian packages, by name
	@tools/install-deps $(DEPS)

fault-deps: ## install what `make check-faults` needs
	@tools/install-deps $(DEPS) $(FAULT_DEPS)

lint-deps: ## install what `make lint` needs
	@tools/install-deps $(DEPS) $(LINT_DEPS)

# ---------------------------------------------------------------- rules

$(BUILD)/obj/%.o: %.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(EXTRA_CFLAGS) -c $< -o $@

$(call objs,$(wildcard tests/*/*.c tests/*/*/*.c bench/*.c)): EXTRA_CFLAGS := $(TEST_WARN)

# The script is part of it.
$(BUILD)/obj/coordinator/cluster/wire.o: coordinator/cluster/lease.lua

$(RGOVD): $(BUILD)/obj/coordinator/main.o $(COORD_OBJS) $(SHM_OBJS)
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ -o $@ $(COORD_LIBS)

$(BUILD)/librgov.a: $(CLIENT_OBJS)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/librgov.so: $(CLIENT_OBJS) client-lib/librgov.map
	$(call say,LINK,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -shared -Wl,-soname,librgov.so.0 \
		-Wl,--version-script,client-lib/librgov.map \
		$(CLIENT_OBJS) -o $@ -lpthread
	$(Q)ln -sf librgov.so $(BUILD)/librgov.so.0

$(BUILD)/rgov.pc: client-lib/rgov.pc.in Makefile
	@mkdir -p $(@D)
	$(Q)sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' $< > $@

$(BUILD)/libtools.a: $(SHARED_OBJS)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

# Decisions of the policy, limits as rgovd reads them, and nothing else of it.
TOOL_OBJS_rgov-plan := $(call objs,$(wildcard coordinator/policy/*.c \
	coordinator/config*.c) coordinator/cluster/redis_url.c)

define tool_rule
$(BUILD)/$(1): $(call objs,$(wildcard tools/$(1)/*.c)) $(TOOL_OBJS_$(1)) \
		$(BUILD)/libtools.a $(BUILD)/librgov.a
	$$(call say,LINK,$$@)
	$$(Q)$$(CC) $$(ALL_LDFLAGS) $$^ -o $$@ $(TOOL_LIBS_$(1)) -lpthread
endef
$(foreach t,$(TOOL_NAMES),$(eval $(call tool_rule,$(t))))

$(UNIT_BINS): $(BUILD)/tests/unit/%: $(BUILD)/obj/tests/unit/%.o \
		$(COORD_OBJS) $(CLIENT_OBJS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) $(sort $^) -o $@ $(COORD_LIBS) -lm -lcunit

# The policy beside its reference.
$(BUILD)/tests/unit/policy_properties: \
	$(call objs,$(wildcard tests/unit/policy/*.c))

# The script is part of the program.
$(BUILD)/obj/coordinator/cluster/wire.o: coordinator/cluster/lease.lua

# Hosts in virtual time around a real Redis.
$(BUILD)/tests/unit/cluster_lease: \
	$(call objs,$(wildcard tests/unit/cluster/*.c))

# Both ends of the channel in one process get the same mapping of a file.
$(BUILD)/tests/unit/one_mapping_test: LDFLAGS += -Wl,--wrap=mmap,--wrap=munmap
$(BUILD)/tests/unit/task_id_test: LDFLAGS += -Wl,--wrap=clock_gettime

$(TEST_BINS): $(BUILD)/tests/%: $(BUILD)/obj/tests/bin/%.o \
		$(COORD_OBJS) $(CLIENT_OBJS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) $(sort $^) -o $@ $(COORD_LIBS) -ljansson

# The clients of the fault campaign use librgov.so as it is shipped.
$(FAULT_BINS): $(BUILD)/fault/%: $(BUILD)/obj/tests/fault/%.o $(FAULT_OBJS) \
		$(BUILD)/librgov.so
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) $(filter %.o,$^) -o $@ -L$(BUILD) -lrgov \
		-Wl,-rpath,$(abspath $(BUILD)) -lpthread

$(PRELOADS): $(BUILD)/fault/%.so: $(BUILD)/obj/tests/fault/preload/%.o
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -shared $^ -o $@ -ldl

$(BENCHES): $(BUILD)/bench/%: $(BUILD)/obj/bench/%.o $(COORD_OBJS) \
		$(CLIENT_OBJS)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) $(sort $^) -o $@ $(COORD_LIBS) -ljansson

-include client-lib/python/python.mk
include tests/fuzz/fuzz.mk

# ---------------------------------------------------------------- tests

build-tests: all $(UNIT_BINS) $(TEST_BINS)

FAULT_TSAN := one_mapping_test wake_test channel_test progress_test

# One rgovd of the campaign is sanitized: what a hostile client does to it shows;
# and some unit tests are, with both ends as threads of one process.
build-faults: build-tests $(FAULT_BINS) $(PRELOADS)
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/asan \
		SANITIZE=address,undefined CFLAGS='-O1 -g' $(BUILD)/asan/rgovd
	@$(MAKE) --no-print-directory BUILD=$(BUILD)/tsan \
		SANITIZE=thread CFLAGS='-O1 -g' \
		$(FAULT_TSAN:%=$(BUILD)/tsan/tests/unit/%)

check: ## everything a change must pass (installs what is missing first)
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory build-tests
	@BUILD=$(BUILD) PYTHON=$(PYTHON) tests/run

check-faults: ## the fault campaign: kill, scribble, exhaust; under 20 minutes
	@$(MAKE) --no-print-directory fault-deps
	@$(MAKE) --no-print-directory build-faults
	@BUILD=$(BUILD) PYTHON=$(PYTHON) tests/run --faults

check-task-storm: ## 200 kills over durable tasks; build/faults/tasks.json
	@$(MAKE) --no-print-directory fault-deps
	@$(MAKE) --no-print-directory build-faults
	@BUILD=$(BUILD) PYTHON=$(PYTHON) KILLS=200 tests/run --faults \
		fault/80-task-storm

model: ## explore the protocol exhaustively
	@$(MAKE) --no-print-directory fault-deps
	@BUILD=$(BUILD) tests/model/run

fuzz: ## a short run of every fuzzer (FUZZ_SECONDS=N each for longer ones)
	@$(MAKE) --no-print-directory fault-deps
	@BUILD=$(BUILD) tests/fuzz/run

MINUTES ?= 10
soak: ## mixed load and random faults for MINUTES=N; nothing may grow
	@$(MAKE) --no-print-directory fault-deps
	@$(MAKE) --no-print-directory build-faults
	@BUILD=$(BUILD) PYTHON=$(PYTHON) $(PYTHON) -B tests/fault/soak.py \
		--minutes $(MINUTES)

asan: ## the same tests under AddressSanitizer and UBSan
	@$(MAKE) --no-print-directory check BUILD=build/asan \
		SANITIZE=address,undefined CFLAGS='-O1 -g'

tsan: ## the same tests under ThreadSanitizer
	@$(MAKE) --no-print-directory check BUILD=build/tsan \
		SANITIZE=thread CFLAGS='-O1 -g'

lint: lint-deps ## format, analysers, include rule, manuals
	@BUILD=$(BUILD) tests/check/lint

bench-handoff: all $(BENCHES) ## measure the hand-over; build/bench/handoff.json
	@BUILD=$(BUILD) PYTHON=$(PYTHON) bench/handoff

bench-policy: $(BUILD)/bench/policy_growth ## cost of a decision as the queue grows; build/bench/policy.json
	@$(BUILD)/bench/policy_growth $(BUILD)/bench/policy.json

bench-tasks: all $(BENCHES) $(PRELOADS) ## measure durable tasks, also beside Celery; build/bench/tasks.json
	@tools/install-deps $(DEPS)
	@BUILD=$(BUILD) PYTHON=$(PYTHON) bench/tasks $(if $(QUICK),--quick)

AGAINST ?= HEAD^
bench-compare: all $(BENCHES) ## the same, beside another commit: AGAINST=COMMIT
	@BUILD=$(BUILD) PYTHON=$(PYTHON) bench/compare $(AGAINST)

QUICK ?=
PUBLISH ?=
experiment: ## what users wait, against what they have today; under 15 minutes
	@tools/install-deps $(DEPS) $(EXPERIMENT_DEPS)
	@$(MAKE) --no-print-directory all
	@BUILD=$(BUILD) PYTHON=$(PYTHON) bench/experiment/run \
		$(if $(QUICK),--quick) $(if $(PUBLISH),--publish)

# ---------------------------------------------------------------- demo

demo: ## simulator, rgovd, gunicorn; with and without rgov; under 2 minutes
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory all
	@BUILD=$(BUILD) PYTHON=$(PYTHON) examples/demo

demo-serve: ## the same, left running to look at
	@$(MAKE) --no-print-directory deps
	@$(MAKE) --no-print-directory all
	@BUILD=$(BUILD) PYTHON=$(PYTHON) examples/demo --serve

# ---------------------------------------------------------------- install

BIN := $(DESTDIR)$(PREFIX)/bin
LIB := $(DESTDIR)$(PREFIX)/lib
MAN := $(DESTDIR)$(PREFIX)/share/man
DOC := $(DESTDIR)$(PREFIX)/share/doc/rgov

# The Python package has an installer of its own: pip install ./client-lib/python
install: all ## into DESTDIR and PREFIX (/usr/local)
	install -d $(BIN) $(DESTDIR)$(PREFIX)/sbin $(LIB)/pkgconfig \
		$(DESTDIR)$(PREFIX)/include $(MAN)/man1 $(MAN)/man3 \
		$(MAN)/man5 $(MAN)/man8 $(DOC)
	install -m 755 $(RGOVD) $(DESTDIR)$(PREFIX)/sbin/rgovd
	install -m 755 $(TOOLS) $(BIN)
	install -m 644 $(BUILD)/librgov.a $(LIB)/librgov.a
	install -m 755 $(BUILD)/librgov.so $(LIB)/librgov.so.0
	ln -sf librgov.so.0 $(LIB)/librgov.so
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' \
		client-lib/rgov.pc.in > $(LIB)/pkgconfig/rgov.pc
	install -m 644 client-lib/rgov.h $(DESTDIR)$(PREFIX)/include/rgov.h
	for page in docs/man/*.[1358]; do \
		install -m 644 $$page $(MAN)/man$${page##*.}/ || exit 1; done
	install -m 644 README.md CHANGES.md LICENSE packaging/rgovd.conf \
		docs/reliability.md docs/policy.md $(DOC)
	sed 's|=/usr/\(s*bin\)/|=$(PREFIX)/\1/|' packaging/rgovd.service \
		> $(DOC)/rgovd.service
	chmod 644 $(LIB)/pkgconfig/rgov.pc $(DOC)/rgovd.service
	test -n "$(DESTDIR)" || ldconfig || true # the linker's cache: root's only

clean: ## remove build/
	$(Q)rm -rf build

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
