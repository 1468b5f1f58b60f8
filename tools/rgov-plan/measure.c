#include "tools/rgov-plan/measure.h"

#include <errno.h>
#include <stdlib.h>

int measure_init(struct measure *measure, size_t n_scopes, uint64_t window_ns,
	uint64_t begin_ns, size_t room)
{
	*measure = (struct measure){.n_scopes = n_scopes,
		.now_ns = begin_ns,
		.begin_ns = begin_ns,
		.next_ns = room > 0 ? begin_ns : UINT64_MAX,
		.step_ns = DRAW_S / 100,
		.room = room};
	measure->scopes = calloc(n_scopes, sizeof(*measure->scopes));
	if (measure->scopes == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n_scopes; i++)
		measure->scopes[i].quota.window_ns = window_ns;
	if (room > 0) {
		measure->samples = calloc(room, sizeof(*measure->samples));
		if (measure->samples == NULL)
			return -ENOMEM;
	}
	return 0;
}

void measure_fini(struct measure *measure)
{
	for (size_t i = 0; measure->scopes != NULL && i < measure->n_scopes;
		i++)
		quota_free(&measure->scopes[i].quota);
	free(measure->scopes);
	free(measure->samples);
}

uint64_t measure_limit(
	const struct measure_scope *scope, enum measure_limit limit)
{
	switch (limit) {
	case MEASURE_CONCURRENT:
		return scope->limits.concurrent;
	case MEASURE_REQUESTS:
		return scope->limits.requests;
	case MEASURE_TOKENS:
		return scope->limits.tokens;
	case MEASURE_LIMITS:
		break;
	}
	return 0;
}

static double share(const struct measure_scope *scope, enum measure_limit limit)
{
	const uint64_t used[MEASURE_LIMITS] = {
		scope->quota.running, scope->quota.n, scope->quota.tokens};
	uint64_t most = measure_limit(scope, limit);

	return most == 0 ? 0 : (double)used[limit] / (double)most;
}

double measure_use(const struct measure_scope *scope, enum measure_limit limit)
{
	return scope->wanted_s > 0 ? scope->used_s[limit] / scope->wanted_s : 0;
}

static void integrate(
	struct measure_scope *scope, uint64_t from_ns, uint64_t to_ns)
{
	double s = (double)(to_ns - from_ns) / 1e9;

	if (scope->queued == 0 || to_ns == from_ns)
		return;
	scope->wanted_s += s;
	for (int i = 0; i < MEASURE_LIMITS; i++)
		scope->used_s[i] += s * share(scope, (enum measure_limit)i);
}

static void pass(struct measure_scope *scope, uint64_t from_ns, uint64_t to_ns)
{
	uint64_t left_ns;

	/* As it was until the oldest start left the window, and so on. */
	while (scope->quota.n > 0 &&
		scope->quota.entries[scope->quota.first].at_ns +
				scope->quota.window_ns <=
			to_ns) {
		left_ns = scope->quota.entries[scope->quota.first].at_ns +
			  scope->quota.window_ns;
		integrate(scope, from_ns, left_ns);
		(void)quota_forget(&scope->quota, to_ns, &left_ns);
		from_ns = left_ns;
	}
	integrate(scope, from_ns, to_ns);
}

static void pass_all(struct measure *measure, uint64_t now_ns)
{
	for (size_t i = 0; i < measure->n_scopes; i++)
		pass(&measure->scopes[i], measure->now_ns, now_ns);
	measure->now_ns = now_ns;
}

/* ------------------------------------------------------------ samples */

/* Every second one goes, and from now on they are taken half as often. */
static void thin_out(struct measure *measure)
{
	for (size_t i = 0; 2 * i < measure->n_samples; i++)
		measure->samples[i] = measure->samples[2 * i];
	measure->n_samples = (measure->n_samples + 1) / 2;
	measure->step_ns *= 2;
	measure->next_ns =
		measure->begin_ns + measure->n_samples * measure->step_ns;
}

static void take_sample(struct measure *measure)
{
	const struct measure_scope *host = &measure->scopes[0];
	struct measure_sample *sample = &measure->samples[measure->n_samples++];

	*sample = (struct measure_sample){
		.at_s = (double)(measure->next_ns - measure->begin_ns) / 1e9,
		.queued = (double)host->queued,
		.running = (double)host->quota.running,
	};
	for (size_t i = 0; i < measure->n_scopes; i++)
		for (int l = 0; l < MEASURE_LIMITS; l++) {
			double s = share(
				&measure->scopes[i], (enum measure_limit)l);

			if (s > sample->share[l])
				sample->share[l] = s;
		}
	measure->next_ns += measure->step_ns;
	if (measure->n_samples == measure->room)
		thin_out(measure);
}

void measure_advance(struct measure *measure, uint64_t now_ns)
{
	while (measure->next_ns < now_ns) {
		pass_all(measure, measure->next_ns);
		take_sample(measure);
	}
	pass_all(measure, now_ns);
}

/* ------------------------------------------------------------ changes */

void measure_queued(struct measure *measure, size_t scope, int change)
{
	measure->scopes[0].queued += (uint64_t)change;
	if (scope != 0)
		measure->scopes[scope].queued += (uint64_t)change;
}

int measure_start(struct measure *measure, size_t scope, uint64_t tokens,
	struct measure_ticket *ret_ticket)
{
	ret_ticket->reserved = tokens;
	if (quota_start(&measure->scopes[0].quota, tokens, measure->now_ns,
		    &ret_ticket->host) < 0)
		return -ENOMEM;
	if (scope == 0)
		return 0;
	return quota_start(&measure->scopes[scope].quota, tokens,
		measure->now_ns, &ret_ticket->model);
}

void measure_end(struct measure *measure, size_t scope,
	const struct measure_ticket *ticket, uint64_t used)
{
	quota_end(&measure->scopes[0].quota, ticket->host, ticket->reserved,
		used);
	if (scope != 0)
		quota_end(&measure->scopes[scope].quota, ticket->model,
			ticket->reserved, used);
}
