#include "tools/rgov-plan/source.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

struct source_asker {
	uint64_t next_ns; /* of what does not depend on an end */
	uint64_t asked, most;
	bool is_bound; /* by what another run asked, not by time */
};

static uint64_t ns_of(double s)
{
	return (uint64_t)(s * 1e9);
}

static uint64_t end_ns(const struct load *load)
{
	return LOAD_BEGIN_NS + ns_of(load->duration_s);
}

static const struct load_group *group_of(
	const struct source *source, uint32_t user)
{
	return &source->load->groups[source->load->users[user].group];
}

static struct draw_stream stream_of(const struct source *source, uint32_t user)
{
	return (struct draw_stream){source->load->seed, user};
}

/* Time to the next arrival of an open group. */
static uint64_t gap_ns(const struct source *source, uint32_t user)
{
	const struct load_group *group = group_of(source, user);
	double u;

	switch (group->arrival) {
	case LOAD_POISSON:
		u = draw_fraction(stream_of(source, user), DRAW_ARRIVAL,
			source->askers[user].asked);
		return ns_of(fmin(-log(u) / group->arrival_rate, DRAW_MOST_S));
	case LOAD_EVERY:
		return ns_of(group->arrival_s);
	case LOAD_BURST:
	case LOAD_CLOSED:
		break;
	}
	return 0;
}

/* Its next question comes then, if there is one. */
static int plan_next(struct source *source, uint32_t user, uint64_t at_ns)
{
	struct source_asker *asker = &source->askers[user];

	if (asker->asked >= asker->most ||
		(!asker->is_bound && at_ns > end_ns(source->load)))
		return 0;
	asker->next_ns = at_ns;
	return events_add(&source->next, at_ns, asker);
}

static uint64_t most_of(const struct load_group *group)
{
	uint64_t most = group->requests ? group->requests : UINT64_MAX;

	if (group->arrival == LOAD_BURST && group->arrival_n < most)
		most = group->arrival_n;
	return most;
}

int source_init(struct source *source, const struct load *load,
	uint64_t timeout_ns, const uint64_t *asked)
{
	*source = (struct source){.load = load, .timeout_ns = timeout_ns};
	source->askers = calloc(load->n_users + 1, sizeof(*source->askers));
	if (source->askers == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; load->trace == NULL && i < load->n_users; i++) {
		const struct load_group *group = group_of(source, i);
		struct source_asker *asker = &source->askers[i];
		uint64_t at_ns = LOAD_BEGIN_NS + ns_of(group->start_s);

		asker->most = asked ? asked[i] : most_of(group);
		asker->is_bound = asked != NULL;
		if (group->arrival == LOAD_POISSON)
			at_ns += gap_ns(source, i);
		if (plan_next(source, i, at_ns) < 0)
			return -ENOMEM;
	}
	return 0;
}

void source_fini(struct source *source)
{
	events_free(&source->next);
	free(source->askers);
}

uint64_t source_next_ns(const struct source *source)
{
	if (source->load->trace == NULL)
		return events_next_ns(&source->next);
	return source->trace_at < source->load->n_trace
		       ? source->load->trace[source->trace_at].arrival_ns
		       : UINT64_MAX;
}

static void invent(
	const struct source *source, uint32_t user, struct load_question *ret)
{
	const struct load_group *group = group_of(source, user);
	const struct source_asker *asker = &source->askers[user];
	struct draw_stream stream = stream_of(source, user);
	uint64_t n = asker->asked;

	*ret = (struct load_question){
		.arrival_ns = asker->next_ns,
		.latency_ns = draw_time_ns(&group->latency, stream, n),
		.timeout_ns = group->timeout_s > 0 ? ns_of(group->timeout_s)
						   : source->timeout_ns,
		.number = n,
		.input_tokens = draw_tokens(
			&group->input_tokens, stream, DRAW_INPUT, n),
		.max_tokens = group->max_tokens,
		.used = {-1, -1, -1, -1},
		.user = user,
		.model = group->model_index,
		.class = group->class,
		.is_permit = group->is_permit,
	};
	ret->used.input_tokens = (int64_t)ret->input_tokens;
	ret->used.output_tokens = (int64_t)draw_tokens(
		&group->output_tokens, stream, DRAW_OUTPUT, n);
	if (group->max_tokens > 0 &&
		ret->used.output_tokens > (int64_t)group->max_tokens)
		ret->used.output_tokens = (int64_t)group->max_tokens;
}

int source_take(struct source *source, struct load_question *ret_question)
{
	const struct load *load = source->load;
	struct source_asker *asker;
	uint32_t user;

	if (load->trace != NULL) {
		*ret_question = load->trace[source->trace_at++];
		if (ret_question->timeout_ns == 0)
			ret_question->timeout_ns = source->timeout_ns;
		source->askers[ret_question->user].asked++;
		return 0;
	}
	asker = events_take(&source->next);
	user = (uint32_t)(asker - source->askers);
	invent(source, user, ret_question);
	asker->asked++;
	if (group_of(source, user)->arrival == LOAD_CLOSED)
		return 0;
	return plan_next(
		source, user, ret_question->arrival_ns + gap_ns(source, user));
}

int source_ended(struct source *source, uint32_t user, uint64_t now_ns)
{
	const struct load_group *group;

	if (source->load->trace != NULL)
		return 0;
	group = group_of(source, user);
	if (group->arrival != LOAD_CLOSED)
		return 0;
	return plan_next(source, user, now_ns + ns_of(group->arrival_s));
}

uint64_t source_asked(const struct source *source, uint32_t user)
{
	return source->askers[user].asked;
}
