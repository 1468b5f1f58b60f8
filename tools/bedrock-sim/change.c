/* POST /_sim/set. */
#include "tools/bedrock-sim/change.h"

#include <stddef.h>
#include <string.h>

#include "tools/bedrock-sim/take.h"

struct change {
	struct quota_limits limits;
	struct fault outage;
};

static const char *take_outage(char *text, void *ret_value)
{
	struct fault fault = {.kind = FAULT_NONE};

	if (strcmp(text, "none") != 0 && !fault_parse(text, &fault))
		return "outage: not a kind of fault, nor none";
	fault.at_once = true;
	*(struct fault *)ret_value = fault;
	return NULL;
}

static const char *change_one(
	struct change *change, const char *name, char *value)
{
	static const struct {
		const char *name;
		take_function *take;
		size_t offset;
	} names[] = {
		{"requests-per-minute", take_count,
			offsetof(struct change, limits.requests)},
		{"tokens-per-minute", take_count,
			offsetof(struct change, limits.tokens)},
		{"concurrency", take_count,
			offsetof(struct change, limits.concurrency)},
		{"outage", take_outage, offsetof(struct change, outage)},
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strcmp(name, names[i].name) == 0)
			return names[i].take(value,
				(unsigned char *)change + names[i].offset);
	return "unknown name";
}

const char *change_apply(struct sim *sim, char *query)
{
	struct change change = {sim->quota.limits, sim->outage};
	char *rest = query, *part;

	while ((part = strsep(&rest, "&")) != NULL) {
		char *value = strchr(part, '=');
		const char *wrong = "not NAME=VALUE";

		if (value != NULL) {
			*value = '\0';
			wrong = change_one(&change, part, value + 1);
		}
		if (wrong != NULL)
			return wrong;
	}
	sim->quota.limits = change.limits;
	sim->outage = change.outage;
	return NULL;
}
