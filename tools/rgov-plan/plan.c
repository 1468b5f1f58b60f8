#include "tools/rgov-plan/plan.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

static const struct policy_user_rule *user_rule(
	const struct policy_config *config, const char *name)
{
	for (size_t i = 0; i < config->n_users; i++)
		if (fnmatch(config->users[i].pattern, name, 0) == 0)
			return &config->users[i];
	return NULL;
}

/* The rules of the configuration, with each user whose weight the scenario
 * says before them. */
static int add_weights(struct plan *plan)
{
	const struct load *load = plan->load;
	struct policy_config *config = &plan->config;
	size_t n = 0;

	plan->users = calloc(
		load->n_users + config->n_users + 1, sizeof(*plan->users));
	if (plan->users == NULL)
		return -ENOMEM;
	for (size_t i = 0; load->trace == NULL && i < load->n_users; i++) {
		const struct load_user *user = &load->users[i];
		double weight = load->groups[user->group].weight;
		const struct policy_user_rule *rule =
			user_rule(config, user->name);

		if (weight == 0)
			continue;
		if (rule != NULL)
			plan->users[n] = *rule;
		plan->users[n].pattern = user->name;
		plan->users[n++].weight = weight;
	}
	if (n == 0)
		return 0;
	if (config->n_users > 0)
		memcpy(plan->users + n, config->users,
			config->n_users * sizeof(*plan->users));
	config->users = plan->users;
	config->n_users += n;
	return 0;
}

static int find_rules(struct plan *plan)
{
	const struct load *load = plan->load;
	const struct policy_config *config = &plan->config;

	plan->rules = calloc(load->n_models + 1, sizeof(const void *));
	plan->weights = calloc(load->n_users + 1, sizeof(*plan->weights));
	if (plan->rules == NULL || plan->weights == NULL)
		return -ENOMEM;
	for (size_t m = 0; m < load->n_models; m++)
		for (size_t i = config->n_models; i-- > 0;)
			if (fnmatch(config->models[i].pattern, load->models[m],
				    0) == 0)
				plan->rules[m] = &config->models[i];
	for (size_t u = 0; u < load->n_users; u++) {
		const struct policy_user_rule *rule =
			user_rule(config, load->users[u].name);

		plan->weights[u] = rule != NULL ? rule->weight : 1;
	}
	return 0;
}

int plan_init(struct plan *plan, const struct load *load,
	const struct policy_config *config, uint64_t timeout_ns)
{
	*plan = (struct plan){
		.load = load, .config = *config, .timeout_ns = timeout_ns};
	plan->config.seed = load->seed;
	plan->config.day_offset_ns = load->day_offset_ns;
	if (add_weights(plan) < 0 || find_rules(plan) < 0)
		return -ENOMEM;
	return 0;
}

void plan_fini(struct plan *plan)
{
	free(plan->users);
	free(plan->rules);
	free(plan->weights);
}

/* ------------------------------------------------------------ tokens */

uint64_t plan_reserves(
	const struct plan *plan, const struct load_question *question)
{
	const struct policy_model *rule = plan->rules[question->model];
	double output = (double)question->max_tokens;

	if (output == 0 && rule != NULL)
		output = rule->default_max_tokens;
	if (rule != NULL && rule->reserve_with_burndown)
		output *= rule->output_burndown;
	return question->input_tokens + (uint64_t)output;
}

uint64_t plan_uses(
	const struct plan *plan, const struct load_question *question)
{
	const struct policy_model *rule = plan->rules[question->model];
	const struct policy_usage *used = &question->used;
	double burndown = rule != NULL && rule->output_burndown > 0
				  ? rule->output_burndown
				  : 1;
	double tokens = 0;

	if (used->output_tokens < 0)
		return plan_reserves(plan, question);
	tokens += used->input_tokens < 0 ? (double)question->input_tokens
					 : (double)used->input_tokens;
	if (used->cache_write_tokens > 0)
		tokens += (double)used->cache_write_tokens;
	tokens += (double)used->output_tokens * burndown;
	return (uint64_t)tokens;
}

/* ------------------------------------------------------------ provider */

const struct load_provider *plan_provider(
	const struct load *load, uint64_t now_ns, uint64_t *ret_until_ns)
{
	size_t i = 0;

	*ret_until_ns = UINT64_MAX;
	if (load->n_providers == 0)
		return NULL;
	while (i + 1 < load->n_providers &&
		load->providers[i + 1].at_ns <= now_ns)
		i++;
	if (i + 1 < load->n_providers)
		*ret_until_ns = load->providers[i + 1].at_ns;
	return &load->providers[i];
}

bool plan_is_out(
	const struct load *load, uint64_t now_ns, uint64_t *ret_until_ns)
{
	*ret_until_ns = UINT64_MAX;
	for (size_t i = 0; i < load->n_outages; i++) {
		const struct load_outage *outage = &load->outages[i];

		if (now_ns < outage->at_ns && outage->at_ns < *ret_until_ns)
			*ret_until_ns = outage->at_ns;
		if (outage->at_ns <= now_ns && now_ns < outage->until_ns) {
			*ret_until_ns = outage->until_ns;
			return true;
		}
	}
	return false;
}

/* ------------------------------------------------------------ rows */

int plan_wait(struct plan_row *row, double wait_s)
{
	float *waits = load_grow(row->waits, row->n_waits, sizeof(*row->waits));

	if (waits == NULL)
		return -ENOMEM;
	row->waits = waits;
	waits[row->n_waits++] = (float)wait_s;
	row->sum_s += wait_s;
	return 0;
}

static int compare(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

void plan_sort(struct plan_row *row)
{
	if (row->n_waits > 0)
		qsort(row->waits, row->n_waits, sizeof(*row->waits), compare);
}

double plan_average_s(const struct plan_row *row)
{
	return row->n_waits ? row->sum_s / (double)row->n_waits : 0;
}

double plan_quantile_s(const struct plan_row *row, double part)
{
	size_t rank;

	if (row->n_waits == 0)
		return 0;
	rank = (size_t)(part * (double)row->n_waits + 0.999999);
	rank = rank < 1 ? 1 : rank;
	rank = rank > row->n_waits ? row->n_waits : rank;
	return (double)row->waits[rank - 1];
}

void plan_result_fini(struct plan_result *result, size_t n_users)
{
	free(result->all.waits);
	for (int c = 0; c < POLICY_CLASSES; c++)
		free(result->classes[c].waits);
	for (size_t i = 0; result->users != NULL && i < n_users; i++)
		free(result->users[i].waits);
	free(result->users);
	free(result->asked);
	measure_fini(&result->measure);
}
