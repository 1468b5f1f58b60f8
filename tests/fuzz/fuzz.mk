# The fuzz targets: `make fuzz` (tests/fuzz/run) builds them with clang's
# libFuzzer in a folder of their own.  Each links the objects of the product as
# they are.  bedrock-sim, rgov-top and rgov-plan have names in common with rgovd, so
# theirs come first for the targets called sim_*, top_* and plan_*.

FUZZ_NAMES := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c))
FUZZ_BINS  := $(FUZZ_NAMES:%=$(BUILD)/targets/%)
FUZZ_LIBS  := $(COORD_LIBS) -lmicrohttpd -ljansson -lconfuse -lncursesw -ltinfo -lm

fuzz_archive = $(BUILD)/fuzz-$(1).a
$(call fuzz_archive,rgovd): $(COORD_OBJS) $(CLIENT_OBJS)
$(call fuzz_archive,sim): $(call objs,$(filter-out %/main.c,\
	$(wildcard tools/bedrock-sim/*.c)))
$(call fuzz_archive,top): $(call objs,$(filter-out %/main.c,\
	$(wildcard tools/rgov-top/*.c))) $(SHARED_OBJS)
$(call fuzz_archive,plan): $(call objs,$(filter-out %/main.c,\
	$(wildcard tools/rgov-plan/*.c)))
FUZZ_ARCHIVES := $(foreach a,rgovd top sim plan,$(call fuzz_archive,$(a)))

$(FUZZ_ARCHIVES):
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/targets/sim_%: FUZZ_FIRST := $(call fuzz_archive,sim)
$(BUILD)/targets/top_%: FUZZ_FIRST := $(call fuzz_archive,top)
$(BUILD)/targets/plan_%: FUZZ_FIRST := $(call fuzz_archive,plan)
$(FUZZ_BINS): $(BUILD)/targets/%: $(BUILD)/obj/tests/fuzz/%.o $(FUZZ_ARCHIVES)
	$(call say,LINK,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) -fsanitize=fuzzer $< -Wl,--start-group \
		$(FUZZ_FIRST) $(FUZZ_ARCHIVES) -Wl,--end-group -o $@ \
		$(FUZZ_LIBS) $(FUZZ_WRAP)

$(BUILD)/targets/sim_options: FUZZ_WRAP := -Wl,--wrap=exit

build-fuzz: $(FUZZ_BINS)
.PHONY: build-fuzz
