# The Python package in $(BUILD)/python: PYTHONPATH=$(BUILD)/python is enough to
# use it.  Included by the Makefile at the root; `pip install` has setup.py.
#
# A plain interpreter cannot load a library that needs a sanitizer's run-time, and
# gunicorn, multiprocessing and the rest all start plain interpreters.  So the
# extension is built from objects of its own, which are never sanitized; librgov
# itself is, in every test that is written in C.

PY_DIR  := client-lib/python
PY_SRCS := $(wildcard $(PY_DIR)/ext/*.c) $(wildcard client-lib/*.c) \
	$(wildcard shm-layout/*.c)
PY_OBJS := $(PY_SRCS:%.c=$(BUILD)/obj/for-python/%.o)
PY_FILES := $(patsubst $(PY_DIR)/rgov/%,$(BUILD)/python/rgov/%,\
	$(wildcard $(PY_DIR)/rgov/*.py $(PY_DIR)/rgov/*.pyi) \
	$(PY_DIR)/rgov/py.typed)

# Asked late: before `make deps` there may be no interpreter.
PY_INCLUDE = $(shell $(PYTHON) -c \
	'import sysconfig; print(sysconfig.get_path("include"))' 2>/dev/null)
PY_HARDEN := -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
# The limited API passes functions as void pointers, which ISO C has no word for.
PY_WARN := -Wno-pedantic
# -O2: fortify needs an optimizer, whatever the sanitizer build asks for.
PY_CFLAGS = $(filter-out $(HARDEN),$(ALL_CFLAGS)) -O2 $(PY_HARDEN) $(PY_WARN) \
	-DPy_LIMITED_API=0x030A0000 -isystem $(PY_INCLUDE)
PY_LDFLAGS = $(filter-out -fsanitize=%,$(ALL_LDFLAGS))

$(BUILD)/obj/for-python/%.o: %.c
	$(call say,CC,$< (python))
	@mkdir -p $(@D)
	$(Q)$(CC) $(PY_CFLAGS) -c $< -o $@

$(PYEXT): $(PY_OBJS) $(PY_DIR)/ext/ext.map | $(PY_FILES)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(PY_LDFLAGS) -shared \
		-Wl,--version-script,$(PY_DIR)/ext/ext.map $(PY_OBJS) -o $@ \
		-lm -lpthread

$(PY_FILES): $(BUILD)/python/rgov/%: $(PY_DIR)/rgov/%
	@mkdir -p $(@D)
	$(Q)cp $< $@

# A changed .py alone must be copied too.
all: $(PY_FILES)
