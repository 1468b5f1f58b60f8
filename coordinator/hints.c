#include "coordinator/hints.h"

#include "coordinator/governor.h"
#include "coordinator/log.h"

#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

/* The next block from i on that matches; n_models: none. */
static size_t next_match(
	const struct config *config, size_t i, const char *lane_name)
{
	while (i < config->policy.n_models &&
		fnmatch(config->policy.models[i].pattern, lane_name, 0) != 0)
		i++;
	return i;
}

/* "model ID: block "A" (FILE:LINE) counts, "B" (FILE:LINE) matches as well" */
static bool say_overlap(const struct config *config, const char *lane_name,
	char *ret_text, size_t bytes)
{
	/* The default lane is what no block matches. */
	size_t first = strcmp(lane_name, "default") == 0
			       ? config->policy.n_models
			       : next_match(config, 0, lane_name);
	size_t second = next_match(config, first + 1, lane_name);

	if (second >= config->policy.n_models)
		return false;
	(void)snprintf(ret_text, bytes,
		"model %.200s: the block \"%.200s\" (%.200s) counts; "
		"\"%.200s\" (%.200s) matches as well",
		lane_name, config->policy.models[first].pattern,
		config_model_origin(config, first),
		config->policy.models[second].pattern,
		config_model_origin(config, second));
	return true;
}

void hints_note_lane(const struct governor *governor, const char *lane_name)
{
	char text[1100];

	if (say_overlap(governor->config, lane_name, text, sizeof(text)))
		LOG(LOG_INFO, "config.overlap", text);
}

/* ------------------------------------------------------------ the list */

struct list {
	const struct config *config;
	char *text;
	size_t bytes, used;
	const char *pattern; /* looked for among the lanes */
	bool is_found;
};

static void add(struct list *list, const char *line)
{
	size_t bytes = strlen(line);

	if (list->used + bytes + 2 > list->bytes)
		return;
	memcpy(list->text + list->used, line, bytes);
	list->used += bytes;
	list->text[list->used++] = '\n';
	list->text[list->used] = '\0';
}

static bool add_overlap(const struct policy_lane_view *view, void *argument)
{
	struct list *list = argument;
	char text[1100];

	if (say_overlap(list->config, view->name, text, sizeof(text)))
		add(list, text);
	return true;
}

static bool look_for(const struct policy_lane_view *view, void *argument)
{
	struct list *list = argument;

	list->is_found |= strcmp(view->pattern, list->pattern) == 0;
	return !list->is_found;
}

static void add_unused(struct list *list, const struct policy *policy, size_t i)
{
	char text[512];

	list->pattern = list->config->policy.models[i].pattern;
	list->is_found = false;
	policy_each_lane(policy, loop_now_ns(), look_for, list);
	if (list->is_found)
		return;
	(void)snprintf(text, sizeof(text),
		"the block model \"%.200s\" (%.200s) has counted for no model "
		"so far",
		list->pattern, config_model_origin(list->config, i));
	add(list, text);
}

void hints_list(const struct governor *governor, char *ret_text, size_t bytes)
{
	struct list list = {
		.config = governor->config, .text = ret_text, .bytes = bytes};

	ret_text[0] = '\0';
	for (size_t i = 0; i < list.config->policy.n_models; i++)
		add_unused(&list, governor->policy, i);
	policy_each_lane(governor->policy, loop_now_ns(), add_overlap, &list);
}
