/*
 * What the patterns of blocks hide from each other: the first block that
 * matches counts, so that a block can stand where nothing ever reaches it; and
 * a model that would fall back to itself.
 */
#include "coordinator/config_private.h"

#include <fnmatch.h>
#include <string.h>

/* ------------------------------------------------------------ one hides one */

/* The bytes of the element of a pattern that begins here: a character, with its
 * backslash, or a whole bracket expression. */
static size_t element_bytes(const char *at)
{
	const char *end;

	if (at[0] == '\\' && at[1] != '\0')
		return 2;
	if (at[0] != '[')
		return 1;
	end = strchr(at + 1 + (at[1] == '!' || at[1] == '^') + 1, ']');
	return end == NULL ? 1 : (size_t)(end + 1 - at);
}

static bool is_literal(const char *at)
{
	return strchr("*?[", at[0]) == NULL;
}

/* Does an element that is no star match all that another one does? */
static bool covers(const char *one, const char *other)
{
	char character[2] = {*other == '\\' ? other[1] : other[0]};
	char element[64];
	size_t bytes = element_bytes(one);

	if (*one == '?')
		return *other != '*';
	if (bytes == element_bytes(other) && strncmp(one, other, bytes) == 0)
		return true;
	if (!is_literal(other) || bytes >= sizeof(element))
		return false;
	(void)memcpy(element, one, bytes);
	element[bytes] = '\0';
	return fnmatch(element, character, 0) == 0;
}

/*
 * Does the first pattern match everything that the second one does?  Sure when
 * true; sets of characters are not compared with each other.  It is the usual
 * match with wildcards, with the second pattern's elements as the characters.
 */
static bool hides(const char *first, const char *second)
{
	const char *star = NULL, *taken = NULL;

	while (*second != '\0') {
		if (*first == '*') {
			star = ++first;
			taken = second;
		} else if (*first != '\0' && covers(first, second)) {
			first += element_bytes(first);
			second += element_bytes(second);
		} else if (star != NULL) {
			first = star;
			taken += element_bytes(taken);
			second = taken;
		} else {
			return false;
		}
	}
	return first[strspn(first, "*")] == '\0';
}

/* ------------------------------------------------------------ blocks */

static void check_reach(
	struct config_draft *draft, const struct config_block *block)
{
	for (const struct config_block *before = draft->config->own->blocks;
		before != block; before = before->next)
		if (before->scope == block->scope &&
			hides(before->title, block->title)) {
			config_complain(draft, block->origin,
				"%s \"%s\": nothing reaches it: \"%s\" (%s) "
				"stands before it and matches all that it does",
				config_scope_name(block->scope), block->title,
				before->title, before->origin);
			return;
		}
}

static void check_fallback(
	struct config_draft *draft, const struct config_block *block)
{
	const struct policy_model *model = block->values;

	for (size_t i = 0; i < model->n_fallback; i++)
		if (fnmatch(model->pattern, model->fallback[i], 0) == 0)
			config_complain(draft,
				block->origins[CONFIG_K_MODEL_fallback].text,
				"model \"%s\": fallback: expected models of "
				"other blocks, found %s, which this one "
				"matches",
				block->title, model->fallback[i]);
}

void config_check_patterns(struct config_draft *draft)
{
	for (const struct config_block *block = draft->config->own->blocks;
		block != NULL; block = block->next) {
		if (block->scope == CONFIG_MODEL ||
			block->scope == CONFIG_USER ||
			block->scope == CONFIG_APPLICATION)
			check_reach(draft, block);
		if (block->scope == CONFIG_MODEL)
			check_fallback(draft, block);
	}
}
