/* How the value of one option is read. */
#include "tools/bedrock-sim/take.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bedrock-sim/options.h"

static bool whole_number(const char *text, uint64_t most, uint64_t *ret_number)
{
	char *end;
	unsigned long long number;

	/* strtoull alone would accept " 1", "+1" and "-1". */
	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (*end != '\0' || errno != 0 || number > most)
		return false;
	*ret_number = number;
	return true;
}

static bool decimal(
	const char *text, double low, double high, double *ret_number)
{
	char *end;
	double number;

	if (strspn(text, "0123456789.eE-") != strlen(text))
		return false;
	errno = 0;
	number = strtod(text, &end);
	if (end == text || *end != '\0' || errno != 0 || !isfinite(number) ||
		number < low || number > high)
		return false;
	*ret_number = number;
	return true;
}

const char *take_port(char *text, void *ret_value)
{
	uint64_t port;

	if (!whole_number(text, 65535, &port))
		return "must be a number from 0 to 65535";
	*(int *)ret_value = (int)port;
	return NULL;
}

const char *take_text(char *text, void *ret_value)
{
	if (*text == '\0')
		return "must be a text that is not empty";
	*(const char **)ret_value = text;
	return NULL;
}

/* One of two words. */
static bool choice(
	const char *text, const char *on, const char *off, void *ret_value)
{
	bool is_on = strcmp(text, on) == 0;

	if (!is_on && strcmp(text, off) != 0)
		return false;
	*(bool *)ret_value = is_on;
	return true;
}

const char *take_auth(char *text, void *ret_value)
{
	return choice(text, "strict", "none", ret_value)
		       ? NULL
		       : "must be strict or none";
}

const char *take_yes_no(char *text, void *ret_value)
{
	return choice(text, "yes", "no", ret_value) ? NULL
						    : "must be yes or no";
}

const char *take_latency_by(char *text, void *ret_value)
{
	return choice(text, "body", "arrival", ret_value)
		       ? NULL
		       : "must be arrival or body";
}

const char *take_flag(char *text, void *ret_value)
{
	(void)text;
	*(bool *)ret_value = true;
	return NULL;
}

const char *take_count(char *text, void *ret_value)
{
	if (!whole_number(text, 1000000000, ret_value))
		return "must be a number from 0 to 1000000000";
	return NULL;
}

const char *take_seed(char *text, void *ret_value)
{
	return whole_number(text, UINT64_MAX, ret_value)
		       ? NULL
		       : "must be a whole number";
}

const char *take_minute(char *text, void *ret_value)
{
	return decimal(text, 0.01, 86400.0, ret_value)
		       ? NULL
		       : "must be seconds from 0.01 to 86400";
}

/* Splits at the only comma; false: there is none, or more. */
static bool pair(char *text, char **ret_second)
{
	char *comma = strchr(text, ',');

	if (comma == NULL || strchr(comma + 1, ',') != NULL)
		return false;
	*comma = '\0';
	*ret_second = comma + 1;
	return true;
}

static bool latency_values(struct latency *latency, char *text)
{
	const double most = DICE_MOST_SECONDS;
	char *second = NULL;

	switch (latency->kind) {
	case LATENCY_FIXED:
		return decimal(text, 0.0, most, &latency->a);
	case LATENCY_EXP:
		return decimal(text, 1e-6, most, &latency->a);
	case LATENCY_UNIFORM:
		return pair(text, &second) &&
		       decimal(text, 0.0, most, &latency->a) &&
		       decimal(second, latency->a, most, &latency->b);
	case LATENCY_LOGNORMAL:
		return pair(text, &second) &&
		       decimal(text, 1e-6, most, &latency->a) &&
		       decimal(second, 0.0, 10.0, &latency->b);
	}
	return false;
}

const char *take_latency(char *text, void *ret_value)
{
	static const char *const names[] = {
		[LATENCY_FIXED] = "fixed:",
		[LATENCY_UNIFORM] = "uniform:",
		[LATENCY_EXP] = "exp:",
		[LATENCY_LOGNORMAL] = "lognormal:",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		struct latency latency = {.kind = (enum latency_kind)i};
		size_t length = strlen(names[i]);

		if (strncmp(text, names[i], length) != 0 ||
			!latency_values(&latency, text + length))
			continue;
		*(struct latency *)ret_value = latency;
		return NULL;
	}
	return "must be fixed:SECONDS, uniform:A,B with A <= B, exp:MEAN or "
	       "lognormal:MEDIAN,SIGMA, each at most 3600";
}

const char *take_range(char *text, void *ret_value)
{
	struct range range;
	char *second;

	if (!pair(text, &second) || !whole_number(text, 1000000, &range.low) ||
		!whole_number(second, 1000000, &range.high) || range.low < 1 ||
		range.low > range.high)
		return "must be MIN,MAX with 1 <= MIN <= MAX <= 1000000";
	*(struct range *)ret_value = range;
	return NULL;
}

const char *take_fault(char *text, void *ret_value)
{
	return fault_plan_add(ret_value, text);
}

const char *take_fault_model(char *text, void *ret_value)
{
	return fault_plan_add_model(ret_value, text);
}
