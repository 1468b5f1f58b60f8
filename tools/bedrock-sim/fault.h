/*
 * Which fault strikes which request.  It decides only; wire.h and reply.h do.
 */
#ifndef SIM_FAULT_H
#define SIM_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fault_effect {
	FAULT_ANSWERS,   /* with an error */
	FAULT_RESETS,    /* RST instead of an answer */
	FAULT_TRUNCATES, /* Content-Length promises more than is sent */
	FAULT_DELAYS,    /* the answer, headers too, comes later */
	FAULT_GARBLES,   /* what is sent is not HTTP */
	FAULT_CLOSES,    /* a kept-alive connection ends without an answer */
	FAULT_HANGS,     /* no answer, the connection stays open */
};

enum fault_kind {
	FAULT_NONE,
#define FAULT(id, name, effect, status, type, message) FAULT_##id,
#include "tools/bedrock-sim/fault.def"
#undef FAULT
};

struct fault {
	enum fault_kind kind;
	bool by_model;  /* chosen by --fault-model: for this model only */
	bool at_once;   /* not after the latency */
	double delay_s; /* of slow-headers */
};

struct fault_kind_facts {
	const char *name;
	enum fault_effect effect;
	int status;
	const char *type, *message;
};

enum fault_by { FAULT_BY_CHANCE, FAULT_BY_NUMBER, FAULT_BY_MODEL };

struct fault_rule {
	struct fault fault;
	enum fault_by by;
	double chance;
	uint64_t *numbers; /* of arrivals, from 1; in any order */
	size_t numbers_count;
	const char *pattern; /* fnmatch, points into argv */
};

enum { FAULT_RULES_MAX = 64 };

struct fault_plan {
	struct fault_rule rules[FAULT_RULES_MAX];
	size_t count;
};

/* kind is not FAULT_NONE. */
const struct fault_kind_facts *fault_facts(enum fault_kind kind);

/* KIND or slow-headers:SECONDS.  False: not a fault. */
bool fault_parse(const char *text, struct fault *ret_fault);
/*
 * KIND:PROBABILITY or KIND@N[,N...]; PATTERN=KIND for the model's rule.
 * Returns NULL, or what is wrong.
 */
const char *fault_plan_add(struct fault_plan *plan, char *text);
const char *fault_plan_add_model(struct fault_plan *plan, char *text);

/*
 * The fault of the n-th arrival, which is for this model.  A rule for the
 * model comes first, then numbers, then chances, each in the order given.
 */
struct fault fault_choose(const struct fault_plan *plan, uint64_t seed,
	uint64_t n, const char *model);

#endif
