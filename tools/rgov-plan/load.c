#include "tools/rgov-plan/load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void load_init(struct load *load)
{
	*load = (struct load){.duration_s = 3600, .seed = 1};
}

void load_init_group(struct load_group *group)
{
	*group = (struct load_group){
		.count = 1,
		.class = POLICY_NORMAL,
		.arrival = LOAD_CLOSED,
		.latency = {DRAW_FIXED, 5, 0},
		.input_tokens = {DRAW_FIXED, 500, 500},
		.output_tokens = {DRAW_UNIFORM, 20, 200},
	};
}

void *load_grow(void *array, size_t n, size_t bytes)
{
	/* At 0, 1, 2, 4, ...: the room doubles. */
	if ((n & (n - 1)) != 0)
		return array;
	return reallocarray(array, n == 0 ? 1 : 2 * n, bytes);
}

int load_model(struct load *load, const char *model, uint32_t *ret_index)
{
	char **models;

	for (size_t i = 0; i < load->n_models; i++)
		if (strcmp(load->models[i], model) == 0) {
			*ret_index = (uint32_t)i;
			return 0;
		}
	models = load_grow(load->models, load->n_models, sizeof(*models));
	if (models == NULL)
		return -ENOMEM;
	load->models = models;
	models[load->n_models] = strdup(model);
	if (models[load->n_models] == NULL)
		return -ENOMEM;
	*ret_index = (uint32_t)load->n_models++;
	return 0;
}

/* "clerk", or "clerk-7" of several. */
static char *name_of(const struct load_group *group, uint32_t number)
{
	char *name = NULL;

	if (group->count == 1)
		return strdup(group->name);
	return asprintf(&name, "%s-%u", group->name, number + 1) < 0 ? NULL
								     : name;
}

int load_make_users(struct load *load)
{
	size_t n = 0;

	for (size_t g = 0; g < load->n_groups; g++)
		n += load->groups[g].count;
	load->users = calloc(n + 1, sizeof(*load->users));
	if (load->users == NULL)
		return -ENOMEM;
	for (size_t g = 0; g < load->n_groups; g++) {
		struct load_group *group = &load->groups[g];

		if (load_model(load, group->model ? group->model : "model",
			    &group->model_index) < 0)
			return -ENOMEM;
		for (uint32_t i = 0; i < group->count; i++) {
			struct load_user *user = &load->users[load->n_users];

			user->name = name_of(group, i);
			user->app = strdup(group->app ? group->app : "");
			user->group = (uint32_t)g;
			load->n_users++;
			if (user->name == NULL || user->app == NULL)
				return -ENOMEM;
		}
	}
	return 0;
}

void load_free(struct load *load)
{
	for (size_t i = 0; i < load->n_groups; i++) {
		free(load->groups[i].name);
		free(load->groups[i].app);
		free(load->groups[i].model);
	}
	for (size_t i = 0; i < load->n_users; i++) {
		free(load->users[i].name);
		free(load->users[i].app);
	}
	for (size_t i = 0; i < load->n_models; i++)
		free(load->models[i]);
	for (size_t i = 0; i < load->n_settings; i++) {
		free(load->settings[i].key);
		free(load->settings[i].value);
	}
	free(load->groups);
	free(load->users);
	free(load->models);
	free(load->trace);
	free(load->providers);
	free(load->outages);
	free(load->settings);
	*load = (struct load){0};
}
