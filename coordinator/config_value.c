/*
 * One value: text to the field it belongs into, and back.  Strict: a number is
 * digits, a time has a unit or is seconds, nothing may follow.  How values of
 * several settings go together is config_check.c.
 */
#include "coordinator/config_private.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct unit {
	const char *name;
	uint64_t factor;
};

/* Largest first: the first that divides a value prints it. */
static const struct unit spans[] = {
	{"h", 3600000000000},
	{"m", 60000000000},
	{"s", 1000000000},
	{"ms", 1000000},
	{"us", 1000},
	{"ns", 1},
	{NULL, 0},
};
static const struct unit sizes[] = {
	{"T", (uint64_t)1 << 40},
	{"G", (uint64_t)1 << 30},
	{"M", (uint64_t)1 << 20},
	{"k", (uint64_t)1 << 10},
	{"", 1},
	{NULL, 0},
};

bool config_value_is_list(const struct config_key *key)
{
	return key->type == CONFIG_UIDS || key->type == CONFIG_GIDS ||
	       key->type == CONFIG_MODELS || key->type == CONFIG_URLS;
}

bool config_value_is_text(const struct config_key *key)
{
	switch (key->type) {
	case CONFIG_PRESET:
	case CONFIG_TEXT:
	case CONFIG_PATH:
	case CONFIG_FILE:
	case CONFIG_URL:
	case CONFIG_REDIS:
	case CONFIG_REGION:
		return true;
	case CONFIG_U32:
	case CONFIG_U64:
	case CONFIG_SIZE:
	case CONFIG_SPAN:
	case CONFIG_REAL:
	case CONFIG_BOOL:
	case CONFIG_CHOICE:
	case CONFIG_MODE:
	case CONFIG_UIDS:
	case CONFIG_GIDS:
	case CONFIG_MODELS:
	case CONFIG_URLS:
		return false;
	}
	return false;
}

const char *config_value_quote(
	const char *text, char ret_quoted[CONFIG_FOUND_BYTES])
{
	enum { SHOWN = CONFIG_FOUND_BYTES - 8 };
	size_t bytes = strnlen(text, SHOWN + 1);
	bool word = bytes > 0 && bytes <= SHOWN;
	size_t used = 0;

	for (size_t i = 0; i < bytes; i++)
		word = word && (isalnum((unsigned char)text[i]) ||
				       strchr("-_.:/", text[i]) != NULL);
	if (!word)
		ret_quoted[used++] = '"';
	for (size_t i = 0; i < bytes && i < SHOWN; i++) {
		unsigned char c = (unsigned char)text[i];

		ret_quoted[used++] = c >= 0x20 && c < 0x7f ? (char)c : '?';
	}
	if (!word)
		ret_quoted[used++] = '"';
	strcpy(ret_quoted + used, bytes > SHOWN ? "..." : "");
	return ret_quoted;
}

/* ------------------------------------------------------------ numbers */

/* Digits, at least one, to the first that is none. */
static bool read_digits(const char **text, uint64_t *ret_number)
{
	uint64_t number = 0;
	const char *at = *text;

	if (!isdigit((unsigned char)*at))
		return false;
	for (; isdigit((unsigned char)*at); at++)
		if (__builtin_mul_overflow(number, 10, &number) ||
			__builtin_add_overflow(
				number, (uint64_t)(*at - '0'), &number))
			return false;
	*text = at;
	*ret_number = number;
	return true;
}

bool config_value_whole(const char *text, uint64_t *ret_number)
{
	return read_digits(&text, ret_number) && *text == '\0';
}

static const struct unit *find_unit(
	const struct unit *units, const char *name, size_t bytes)
{
	for (; units->name != NULL; units++)
		if (strlen(units->name) == bytes &&
			strncasecmp(units->name, name, bytes) == 0)
			return units;
	return NULL;
}

/* "30s", "1.5m"; without a unit, seconds. */
static bool read_span(const char *text, uint64_t *ret_ns)
{
	const struct unit *unit;
	uint64_t whole, thousandths = 0, ns;

	if (!read_digits(&text, &whole))
		return false;
	if (*text == '.') {
		text++;
		for (uint64_t digit = 100; digit > 0; digit /= 10)
			if (isdigit((unsigned char)*text))
				thousandths +=
					digit * (uint64_t)(*text++ - '0');
			else if (digit == 100)
				return false;
	}
	unit = *text == '\0' ? find_unit(spans, "s", 1)
			     : find_unit(spans, text, strlen(text));
	if (unit == NULL || (thousandths > 0 && unit->factor < 1000) ||
		__builtin_mul_overflow(whole, unit->factor, &ns) ||
		__builtin_add_overflow(
			ns, unit->factor / 1000 * thousandths, &ns))
		return false;
	*ret_ns = ns;
	return true;
}

/* "512", "64k", "2M", "2MiB": powers of 1024. */
static bool read_size(const char *text, uint64_t *ret_bytes)
{
	const struct unit *unit;
	uint64_t whole;
	size_t letters;

	if (!read_digits(&text, &whole))
		return false;
	letters = strlen(text);
	if (letters == 3 && strcasecmp(text + 1, "iB") == 0)
		letters = 1;
	unit = find_unit(sizes, text, letters);
	return unit != NULL &&
	       !__builtin_mul_overflow(whole, unit->factor, ret_bytes);
}

/* Digits and at most one point: no sign, exponent, hexadecimal, nan. */
static bool read_real(const char *text, double *ret_number)
{
	char *end;

	if (!isdigit((unsigned char)text[0]) ||
		text[strspn(text, "0123456789.")] != '\0')
		return false;
	*ret_number = strtod(text, &end);
	return *end == '\0';
}

static bool read_mode(const char *text, uint64_t *ret_mode)
{
	size_t digits = strlen(text);

	if (digits < 3 || digits > 4 || strspn(text, "01234567") != digits)
		return false;
	*ret_mode = strtoul(text, NULL, 8);
	return true;
}

static bool read_bool(const char *text, bool *ret_truth)
{
	static const char *const words[] = {
		"false", "true", "no", "yes", "off", "on", "0", "1"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(text, words[i]) == 0) {
			*ret_truth = i % 2 == 1;
			return true;
		}
	return false;
}

/* The place of text in "a|b|c", or -1. */
static int choice_index(const char *words, const char *text)
{
	size_t bytes = strlen(text);

	for (int i = 0; words != NULL; i++) {
		if (bytes > 0 && strcspn(words, "|") == bytes &&
			strncmp(words, text, bytes) == 0)
			return i;
		words = strchr(words, '|');
		words = words == NULL ? NULL : words + 1;
	}
	return -1;
}

static void print_unit(
	const struct unit *units, uint64_t number, char *ret_text, size_t bytes)
{
	if (number == 0) {
		snprintf(ret_text, bytes, "0%s", units == spans ? "s" : "");
		return;
	}
	while (number % units->factor != 0)
		units++;
	snprintf(ret_text, bytes, "%llu%s",
		(unsigned long long)(number / units->factor), units->name);
}

static bool read_number(
	const struct config_key *key, const char *text, uint64_t *ret_number)
{
	bool ok;

	if (key->type == CONFIG_SPAN)
		ok = read_span(text, ret_number);
	else if (key->type == CONFIG_SIZE)
		ok = read_size(text, ret_number);
	else if (key->type == CONFIG_MODE)
		ok = read_mode(text, ret_number);
	else
		ok = config_value_whole(text, ret_number);
	return ok && (double)*ret_number >= key->least &&
	       (double)*ret_number <= key->most;
}

static void print_number(const struct config_key *key, uint64_t number,
	char *ret_text, size_t bytes)
{
	if (key->type == CONFIG_SPAN)
		print_unit(spans, number, ret_text, bytes);
	else if (key->type == CONFIG_SIZE)
		print_unit(sizes, number, ret_text, bytes);
	else if (key->type == CONFIG_MODE)
		snprintf(ret_text, bytes, "%04llo", (unsigned long long)number);
	else
		snprintf(ret_text, bytes, "%llu", (unsigned long long)number);
}

/* ------------------------------------------------------------ fields */

static bool refuse(struct config_draft *draft, const struct config_key *key,
	const char *expected, const char *text, const char *origin)
{
	char quoted[CONFIG_FOUND_BYTES];

	/* What stands before an @ may be a password. */
	if (key->type == CONFIG_REDIS || strchr(text, '@') != NULL)
		config_complain(
			draft, origin, "%s: expected %s", key->name, expected);
	else
		config_complain(draft, origin, "%s: expected %s, found %s",
			key->name, expected, config_value_quote(text, quoted));
	return false;
}

static bool set_number(struct config_draft *draft, const struct config_key *key,
	void *at, const char *text, const char *origin)
{
	char expected[96], least[40], most[40];
	uint64_t number;

	if (!read_number(key, text, &number)) {
		print_number(key, (uint64_t)key->least, least, sizeof(least));
		print_number(key, (uint64_t)key->most, most, sizeof(most));
		snprintf(expected, sizeof(expected), "%s to %s", least, most);
		return refuse(draft, key, expected, text, origin);
	}
	if (key->type == CONFIG_U32 || key->type == CONFIG_MODE)
		*(uint32_t *)at = (uint32_t)number;
	else
		*(uint64_t *)at = number;
	return true;
}

static bool set_real(struct config_draft *draft, const struct config_key *key,
	double *at, const char *text, const char *origin)
{
	char expected[64];
	double number;

	if (!read_real(text, &number) || number < key->least ||
		number > key->most) {
		snprintf(expected, sizeof(expected), "%g to %g", key->least,
			key->most);
		return refuse(draft, key, expected, text, origin);
	}
	*at = number;
	return true;
}

static bool set_choice(struct config_draft *draft, const struct config_key *key,
	int *at, const char *text, const char *origin)
{
	int chosen = choice_index(key->words, text);
	char expected[96];

	if (chosen < 0) {
		snprintf(expected, sizeof(expected), "one of %s", key->words);
		return refuse(draft, key, expected, text, origin);
	}
	*at = chosen;
	return true;
}

static bool set_preset(struct config_draft *draft, const struct config_key *key,
	const char **at, const char *text, const char *origin)
{
	const struct config_preset *preset = config_preset_find(text);
	char expected[160], names[128];

	if (preset == NULL) {
		snprintf(expected, sizeof(expected), "one of %s",
			config_preset_names(names));
		return refuse(draft, key, expected, text, origin);
	}
	*at = preset->name;
	return true;
}

static bool set_text(struct config_draft *draft, const struct config_key *key,
	const char **at, const char *text, const char *origin)
{
	const char *expected = config_judge_text(key, text);
	const char *kept;

	if (expected != NULL)
		return refuse(draft, key, expected, text, origin);
	kept = config_printf(draft, "%s", text);
	if (kept == NULL)
		return false;
	*at = kept;
	return true;
}

bool config_value_set(struct config_draft *draft, const struct config_key *key,
	void *base, const char *text, const char *origin)
{
	void *at = (char *)base + key->offset;

	switch (key->type) {
	case CONFIG_U32:
	case CONFIG_U64:
	case CONFIG_SIZE:
	case CONFIG_SPAN:
	case CONFIG_MODE:
		return set_number(draft, key, at, text, origin);
	case CONFIG_REAL:
		return set_real(draft, key, at, text, origin);
	case CONFIG_BOOL:
		return read_bool(text, at) ||
		       refuse(draft, key, "true or false", text, origin);
	case CONFIG_CHOICE:
		return set_choice(draft, key, at, text, origin);
	case CONFIG_PRESET:
		return set_preset(draft, key, at, text, origin);
	case CONFIG_TEXT:
	case CONFIG_PATH:
	case CONFIG_FILE:
	case CONFIG_URL:
	case CONFIG_REDIS:
	case CONFIG_REGION:
		return set_text(draft, key, at, text, origin);
	case CONFIG_UIDS:
	case CONFIG_GIDS:
		return config_ids_set(draft, key, at, text, origin);
	case CONFIG_MODELS:
	case CONFIG_URLS:
		return config_texts_set(draft, key, at, text, origin);
	}
	return false;
}

static void print_ids(
	const struct config_ids *ids, char *ret_text, size_t bytes)
{
	size_t used = 0;

	ret_text[0] = '\0';
	for (size_t i = 0; i < ids->n && used < bytes; i++)
		used += (size_t)snprintf(ret_text + used, bytes - used, "%s%u",
			i > 0 ? ", " : "", ids->ids[i]);
}

static void print_texts(
	const struct config_texts *list, char *ret_text, size_t bytes)
{
	size_t used = 0;

	ret_text[0] = '\0';
	for (size_t i = 0; i < list->n && used < bytes; i++)
		used += (size_t)snprintf(ret_text + used, bytes - used,
			"%s\"%s\"", i > 0 ? ", " : "", list->texts[i]);
}

static void print_choice(
	const char *words, int chosen, char *ret_text, size_t bytes)
{
	for (; chosen > 0; chosen--)
		words = strchr(words, '|') + 1;
	snprintf(ret_text, bytes, "%.*s", (int)strcspn(words, "|"), words);
}

void config_value_print(const struct config_key *key, const void *base,
	char *ret_text, size_t bytes)
{
	const void *at = (const char *)base + key->offset;

	switch (key->type) {
	case CONFIG_U32:
	case CONFIG_MODE:
		print_number(key, *(const uint32_t *)at, ret_text, bytes);
		break;
	case CONFIG_U64:
	case CONFIG_SIZE:
	case CONFIG_SPAN:
		print_number(key, *(const uint64_t *)at, ret_text, bytes);
		break;
	case CONFIG_REAL:
		snprintf(ret_text, bytes, "%.15g", *(const double *)at);
		break;
	case CONFIG_BOOL:
		snprintf(ret_text, bytes, "%s",
			*(const bool *)at ? "true" : "false");
		break;
	case CONFIG_CHOICE:
		print_choice(key->words, *(const int *)at, ret_text, bytes);
		break;
	case CONFIG_PRESET:
	case CONFIG_TEXT:
	case CONFIG_PATH:
	case CONFIG_FILE:
	case CONFIG_URL:
	case CONFIG_REDIS:
	case CONFIG_REGION: {
		const char *const *text = at;

		snprintf(ret_text, bytes, "%s", *text == NULL ? "" : *text);
		break;
	}
	case CONFIG_UIDS:
	case CONFIG_GIDS:
		print_ids(at, ret_text, bytes);
		break;
	case CONFIG_MODELS:
	case CONFIG_URLS:
		print_texts(at, ret_text, bytes);
		break;
	}
}
