/* Which fault strikes which request. */
#include "tools/bedrock-sim/fault.h"

#include <errno.h>
#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bedrock-sim/dice.h"
#include "tools/bedrock-sim/memory.h"

static const struct fault_kind_facts kinds[] = {
	[FAULT_NONE] = {.name = ""},
#define FAULT(id, kind_name, kind_effect, kind_status, kind_type, text)        \
	[FAULT_##id] = {.name = kind_name,                                     \
		.effect = kind_effect,                                         \
		.status = kind_status,                                         \
		.type = kind_type,                                             \
		.message = text},
#include "tools/bedrock-sim/fault.def"
#undef FAULT
};

static const char unknown_kind[] = "no such fault (see --help)";
static const char too_many[] = "more than 64 faults";

const struct fault_kind_facts *fault_facts(enum fault_kind kind)
{
	return &kinds[kind];
}

static bool number_parse(
	const char *text, double low, double high, double *ret_number)
{
	char *end;
	double number;

	errno = 0;
	number = strtod(text, &end);
	if (end == text || *end != '\0' || errno != 0 || !isfinite(number) ||
		number < low || number > high)
		return false;
	*ret_number = number;
	return true;
}

bool fault_parse(const char *text, struct fault *ret_fault)
{
	const char *colon = strchr(text, ':');
	size_t length = colon ? (size_t)(colon - text) : strlen(text);

	for (size_t i = 1; i < sizeof(kinds) / sizeof(*kinds); i++) {
		struct fault fault = {.kind = (enum fault_kind)i};

		if (strlen(kinds[i].name) != length ||
			strncmp(kinds[i].name, text, length) != 0)
			continue;
		if ((kinds[i].effect == FAULT_DELAYS) != (colon != NULL))
			return false;
		if (colon != NULL && !number_parse(colon + 1, 0.0,
					     DICE_MOST_SECONDS, &fault.delay_s))
			return false;
		*ret_fault = fault;
		return true;
	}
	return false;
}

static const char *numbers_parse(char *list, struct fault_rule *rule)
{
	size_t capacity = 0;
	char *save = NULL;

	for (char *word = strtok_r(list, ",", &save); word != NULL;
		word = strtok_r(NULL, ",", &save)) {
		char *end;
		unsigned long long n;

		errno = 0;
		n = strtoull(word, &end, 10);
		if (*word < '0' || *word > '9' || *end != '\0' || errno != 0 ||
			n == 0)
			return "after @ come numbers of arrivals, from 1";
		rule->numbers = memory_grow(rule->numbers, &capacity,
			rule->numbers_count + 1, sizeof(*rule->numbers));
		rule->numbers[rule->numbers_count++] = n;
	}
	return rule->numbers_count ? NULL : "no number after @";
}

static const char *add_numbers(struct fault_plan *plan, char *text, char *at)
{
	struct fault_rule rule = {.by = FAULT_BY_NUMBER};
	const char *wrong;

	*at = '\0';
	if (!fault_parse(text, &rule.fault))
		return unknown_kind;
	wrong = numbers_parse(at + 1, &rule);
	if (wrong != NULL) {
		free(rule.numbers);
		return wrong;
	}
	plan->rules[plan->count++] = rule;
	return NULL;
}

const char *fault_plan_add(struct fault_plan *plan, char *text)
{
	struct fault_rule rule = {.by = FAULT_BY_CHANCE};
	char *at = strchr(text, '@');
	char *colon = strrchr(text, ':');

	if (plan->count == FAULT_RULES_MAX)
		return too_many;
	if (at != NULL)
		return add_numbers(plan, text, at);
	if (colon == NULL)
		return "neither KIND:PROBABILITY nor KIND@N";
	*colon = '\0';
	if (!fault_parse(text, &rule.fault))
		return unknown_kind;
	if (!number_parse(colon + 1, 0.0, 1.0, &rule.chance))
		return "a probability is a number from 0 to 1";
	plan->rules[plan->count++] = rule;
	return NULL;
}

const char *fault_plan_add_model(struct fault_plan *plan, char *text)
{
	struct fault_rule rule = {.by = FAULT_BY_MODEL, .pattern = text};
	char *equals = strrchr(text, '=');

	if (plan->count == FAULT_RULES_MAX)
		return too_many;
	if (equals == NULL || equals == text)
		return "not PATTERN=KIND";
	*equals = '\0';
	if (!fault_parse(equals + 1, &rule.fault))
		return unknown_kind;
	rule.fault.by_model = true;
	plan->rules[plan->count++] = rule;
	return NULL;
}

static bool rule_strikes(const struct fault_rule *rule, uint64_t seed,
	uint64_t purpose, uint64_t n, const char *model)
{
	switch (rule->by) {
	case FAULT_BY_MODEL:
		return fnmatch(rule->pattern, model, 0) == 0;
	case FAULT_BY_NUMBER:
		for (size_t i = 0; i < rule->numbers_count; i++)
			if (rule->numbers[i] == n)
				return true;
		return false;
	case FAULT_BY_CHANCE:
		return dice_fraction(seed, purpose, n) < rule->chance;
	}
	return false;
}

struct fault fault_choose(const struct fault_plan *plan, uint64_t seed,
	uint64_t n, const char *model)
{
	static const enum fault_by order[] = {
		FAULT_BY_MODEL, FAULT_BY_NUMBER, FAULT_BY_CHANCE};

	for (size_t o = 0; o < sizeof(order) / sizeof(*order); o++)
		for (size_t i = 0; i < plan->count; i++)
			if (plan->rules[i].by == order[o] &&
				rule_strikes(&plan->rules[i], seed,
					DICE_FAULT + i, n, model))
				return plan->rules[i].fault;
	return (struct fault){.kind = FAULT_NONE};
}
