/*
 * A bound that no schedule can beat.  Every question starts the moment it
 * comes, as if there were no limits: in this order of earliest arrivals, each
 * limit alone says when the last one can have ended at the earliest.
 */
#include "tools/rgov-plan/plan.h"
#include "tools/rgov-plan/source.h"

#include <errno.h>
#include <stdlib.h>

/* One limit's part, over all or of one lane; in seconds. */
struct bound {
	struct quota_limits limits; /* the loosest at any time */
	double window_s;
	double work_s;   /* when all work so far can be done by all slots */
	double tokens_s; /* when all tokens so far can have come */
	double *starts;  /* a ring: the earliest starts of the last requests */
	uint64_t n;
	double latest_s; /* the earliest end of all, by any of the limits */
};

static double later(double a, double b)
{
	return a > b ? a : b;
}

static double start_s(struct bound *bound, double at_s)
{
	double *place = &bound->starts[bound->n % bound->limits.requests];

	/* The one that came so many before must have left the window. */
	if (bound->n >= bound->limits.requests)
		at_s = later(at_s, *place + bound->window_s);
	*place = at_s;
	return at_s;
}

static void add(
	struct bound *bound, double at_s, double latency_s, double tokens)
{
	const struct quota_limits *limits = &bound->limits;

	bound->latest_s = later(bound->latest_s, at_s + latency_s);
	if (limits->concurrent > 0) {
		bound->work_s = later(bound->work_s, at_s) +
				latency_s / (double)limits->concurrent;
		bound->latest_s = later(bound->latest_s, bound->work_s);
	}
	if (limits->requests > 0)
		bound->latest_s = later(bound->latest_s, start_s(bound, at_s));
	if (limits->tokens > 0) {
		/* One window's tokens may come at once. */
		bound->tokens_s =
			later(bound->tokens_s, at_s) +
			tokens / (double)limits->tokens * bound->window_s;
		bound->latest_s = later(
			bound->latest_s, bound->tokens_s - bound->window_s);
	}
	bound->n++;
}

/* The loosest limit that ever held; 0 is the loosest of all. */
static uint64_t loosest(const struct load *load, uint64_t configured,
	uint64_t (*limit_of)(const struct load_provider *))
{
	uint64_t loose = 0;

	for (size_t i = 0; i < load->n_providers; i++) {
		uint64_t limit = limit_of(&load->providers[i]);

		if (limit == 0)
			return configured;
		if (limit > loose)
			loose = limit;
	}
	return loose > 0 && (configured == 0 || loose < configured)
		       ? loose
		       : configured;
}

static uint64_t requests_of(const struct load_provider *provider)
{
	return provider->requests_per_minute;
}

static uint64_t concurrent_of(const struct load_provider *provider)
{
	return provider->max_concurrent;
}

static uint64_t tokens_of(const struct load_provider *provider)
{
	return provider->tokens_per_minute;
}

static int prepare(const struct plan *plan, struct bound *bound,
	struct quota_limits limits, bool has_provider)
{
	const struct load *load = plan->load;

	bound->window_s = (double)plan->config.minute_ns / 1e9;
	if (load->n_providers > 0)
		bound->window_s = load->providers[0].window_s;
	bound->limits = limits;
	if (has_provider) {
		bound->limits.requests =
			loosest(load, limits.requests, requests_of);
		bound->limits.concurrent =
			loosest(load, limits.concurrent, concurrent_of);
		bound->limits.tokens = loosest(load, limits.tokens, tokens_of);
	}
	bound->starts =
		calloc(bound->limits.requests + 1, sizeof(*bound->starts));
	return bound->starts == NULL ? -ENOMEM : 0;
}

static int prepare_all(const struct plan *plan, struct bound *bounds)
{
	const struct policy_config *config = &plan->config;
	const struct load *load = plan->load;
	bool host_wide = load->n_providers > 0 && load->providers[0].host_wide;
	bool by_model = load->n_providers > 0 && !host_wide;

	if (prepare(plan, &bounds[0],
		    (struct quota_limits){config->requests_per_minute,
			    config->max_concurrent, config->tokens_per_minute,
			    config->tokens_per_day},
		    host_wide) < 0)
		return -ENOMEM;
	for (size_t m = 0; m < load->n_models; m++) {
		const struct policy_model *rule = plan->rules[m];
		struct quota_limits limits = {0};

		if (rule != NULL)
			limits = (struct quota_limits){
				rule->requests_per_minute, rule->max_concurrent,
				rule->tokens_per_minute, rule->tokens_per_day};
		if (prepare(plan, &bounds[m + 1], limits, by_model) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* As if there were no limits, each ends its latency after it came. */
static int take_all(
	const struct plan *plan, struct source *source, struct bound *bounds)
{
	struct events ends = {0};
	int rc = 0;

	while (rc == 0) {
		uint64_t next_ns = source_next_ns(source);
		struct load_question question;
		double at_s;

		if (events_next_ns(&ends) < next_ns) {
			uint64_t now_ns = events_next_ns(&ends);
			uint32_t user = (uint32_t)(uintptr_t)events_take(&ends);

			rc = source_ended(source, user, now_ns);
			continue;
		}
		if (next_ns == UINT64_MAX)
			break;
		rc = source_take(source, &question);
		if (rc != 0)
			break;
		at_s = (double)(question.arrival_ns - LOAD_BEGIN_NS) / 1e9;
		for (int i = 0; i < 2; i++)
			add(&bounds[i == 0 ? 0 : question.model + 1], at_s,
				(double)question.latency_ns / 1e9,
				(double)plan_uses(plan, &question));
		if (plan->load->trace == NULL)
			rc = events_add(&ends,
				question.arrival_ns + question.latency_ns,
				(void *)(uintptr_t)question.user);
	}
	events_free(&ends);
	return rc;
}

int plan_bound(
	const struct plan *plan, const uint64_t *asked, double *ret_total_s)
{
	size_t n = plan->load->n_models + 1;
	struct bound *bounds = calloc(n, sizeof(*bounds));
	struct source source = {0};
	double latest_s = 0, first_s = 0;
	int rc = bounds == NULL ? -ENOMEM : prepare_all(plan, bounds);

	if (rc == 0)
		rc = source_init(&source, plan->load, plan->timeout_ns, asked);
	if (rc == 0 && source_next_ns(&source) != UINT64_MAX) {
		first_s =
			(double)(source_next_ns(&source) - LOAD_BEGIN_NS) / 1e9;
		rc = take_all(plan, &source, bounds);
	}
	for (size_t i = 0; bounds != NULL && i < n; i++) {
		latest_s = later(latest_s, bounds[i].latest_s);
		free(bounds[i].starts);
	}
	free(bounds);
	source_fini(&source);
	if (rc == 0)
		*ret_total_s = latest_s - first_s;
	return rc;
}
