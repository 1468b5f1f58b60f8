/* Copies and matches the configuration. */
#include "coordinator/policy/settings.h"

#include <assert.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

static void free_const(const void *ours)
{
	free((void *)(uintptr_t)ours);
}

static void free_fallback(const struct policy_model *model)
{
	for (size_t i = 0; i < model->n_fallback; i++)
		free_const(model->fallback[i]);
	free_const(model->fallback);
}

static void free_models(const struct policy_model *models, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free_fallback(&models[i]);
		free_const(models[i].pattern);
	}
	free_const(models);
}

static void free_users(const struct policy_user_rule *users, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free_const(users[i].pattern);
	free_const(users);
}

static void free_apps(const struct policy_app_rule *apps, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free_const(apps[i].pattern);
	free_const(apps);
}

/* Each field that is set is whole, so that free_models() can end it. */
static int copy_fallback(
	struct policy_model *to, const struct policy_model *from)
{
	const char **ids = calloc(from->n_fallback + 1, sizeof(*ids));

	to->n_fallback = 0;
	to->fallback = ids;
	if (ids == NULL)
		return -1;
	while (to->n_fallback < from->n_fallback) {
		ids[to->n_fallback] = strdup(from->fallback[to->n_fallback]);
		if (ids[to->n_fallback] == NULL)
			return -1;
		to->n_fallback++;
	}
	return 0;
}

static int copy_models(
	struct policy_config *to, const struct policy_config *from)
{
	struct policy_model *models =
		calloc(from->n_models + 1, sizeof(*models));

	if (models == NULL)
		return -1;
	to->models = models;
	while (to->n_models < from->n_models) {
		size_t i = to->n_models;

		models[i] = from->models[i];
		models[i].pattern = strdup(from->models[i].pattern);
		to->n_models++;
		if (copy_fallback(&models[i], &from->models[i]) != 0 ||
			models[i].pattern == NULL)
			return -1;
	}
	return 0;
}

static int copy_users(
	struct policy_config *to, const struct policy_config *from)
{
	struct policy_user_rule *users =
		calloc(from->n_users + 1, sizeof(*users));

	if (users == NULL)
		return -1;
	to->users = users;
	while (to->n_users < from->n_users) {
		size_t i = to->n_users;

		users[i] = from->users[i];
		users[i].pattern = strdup(from->users[i].pattern);
		if (users[i].pattern == NULL)
			return -1;
		to->n_users++;
	}
	return 0;
}

static int copy_apps(struct policy_config *to, const struct policy_config *from)
{
	struct policy_app_rule *apps = calloc(from->n_apps + 1, sizeof(*apps));

	if (apps == NULL)
		return -1;
	to->apps = apps;
	while (to->n_apps < from->n_apps) {
		size_t i = to->n_apps;

		apps[i] = from->apps[i];
		apps[i].pattern = strdup(from->apps[i].pattern);
		if (apps[i].pattern == NULL)
			return -1;
		to->n_apps++;
	}
	return 0;
}

static int copy_region(
	struct policy_config *to, const struct policy_config *from)
{
	if (from->region == NULL)
		return 0;
	to->region = strdup(from->region);
	return to->region ? 0 : -1;
}

struct settings *settings_create(const struct policy_config *config)
{
	struct settings *settings = calloc(1, sizeof(*settings));

	assert(config->minute_ns > 0);
	if (settings == NULL)
		return NULL;
	settings->config = *config;
	settings->config.models = NULL;
	settings->config.users = NULL;
	settings->config.apps = NULL;
	settings->config.region = NULL;
	settings->config.n_models = settings->config.n_users = 0;
	settings->config.n_apps = 0;
	if (copy_models(&settings->config, config) != 0 ||
		copy_users(&settings->config, config) != 0 ||
		copy_apps(&settings->config, config) != 0 ||
		copy_region(&settings->config, config) != 0) {
		settings_free(settings);
		return NULL;
	}
	return settings;
}

void settings_free(struct settings *settings)
{
	if (settings == NULL)
		return;
	free_models(settings->config.models, settings->config.n_models);
	free_users(settings->config.users, settings->config.n_users);
	free_apps(settings->config.apps, settings->config.n_apps);
	free_const(settings->config.region);
	free(settings);
}

const struct policy_model *settings_model(
	const struct settings *settings, const char *model_id)
{
	const struct policy_config *config = &settings->config;

	for (size_t i = 0; i < config->n_models; i++)
		if (fnmatch(config->models[i].pattern, model_id, 0) == 0)
			return &config->models[i];
	return NULL;
}

const struct policy_user_rule *settings_user(
	const struct settings *settings, const char *user)
{
	const struct policy_config *config = &settings->config;

	for (size_t i = 0; i < config->n_users; i++)
		if (fnmatch(config->users[i].pattern, user, 0) == 0)
			return &config->users[i];
	return NULL;
}

double settings_app_weight(const struct settings *settings, const char *app)
{
	const struct policy_config *config = &settings->config;

	for (size_t i = 0; i < config->n_apps; i++)
		if (fnmatch(config->apps[i].pattern, app, 0) == 0)
			return config->apps[i].weight > 0
				       ? config->apps[i].weight
				       : 1;
	return 1;
}

uint32_t settings_batch_limit(
	const struct settings *settings, uint32_t max_concurrent)
{
	double share = settings->config.batch_share;
	double limit = share * max_concurrent;

	if (max_concurrent == 0 || !(share > 0 && share < 1))
		return 0;
	return limit < 1 ? 1 : (uint32_t)limit;
}
