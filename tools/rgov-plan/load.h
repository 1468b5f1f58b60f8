/*
 * The traffic of a plan, however it was described: users who ask questions.
 * Made once (scenario.c, trace.c), then only read; the same questions go
 * through every schedule (source.h).
 */
#ifndef PLAN_LOAD_H
#define PLAN_LOAD_H

#include "coordinator/policy/policy.h"
#include "tools/rgov-plan/draw.h"

#include <stdio.h>

/* The virtual clock begins at a midnight, so that windows have a past. */
#define LOAD_BEGIN_NS (86400 * DRAW_S)

enum { LOAD_ERROR_BYTES = 512, LOAD_MOST_USERS = 1000000 };

enum load_arrival {
	LOAD_POISSON, /* arrival_rate, a second */
	LOAD_EVERY,   /* arrival_s */
	LOAD_BURST,   /* arrival_n at once */
	LOAD_CLOSED,  /* arrival_s after the end of the last one */
};

/* `users` in a scenario. */
struct load_group {
	char *name;
	uint32_t count;
	double weight; /* 0: as the configuration says */
	char *app, *model;
	uint32_t model_index;
	enum policy_class class;
	bool is_permit;
	enum load_arrival arrival;
	double arrival_s, arrival_rate;
	uint64_t arrival_n;
	uint64_t requests; /* 0: no bound */
	double start_s;
	struct draw_spread latency, input_tokens, output_tokens;
	uint64_t max_tokens;
	double timeout_s; /* 0: default_timeout */
};

struct load_user {
	char *name, *app;
	uint32_t group; /* of a scenario */
};

/* One request, with what will become of it. */
struct load_question {
	uint64_t arrival_ns, latency_ns, timeout_ns;
	uint64_t number; /* of its user's */
	uint64_t input_tokens, max_tokens;
	struct policy_usage used;
	uint32_t user, model;
	enum policy_class class;
	bool is_permit;
};

/* The provider, from at_ns on. */
struct load_provider {
	uint64_t at_ns;
	uint32_t requests_per_minute, max_concurrent;
	uint64_t tokens_per_minute, tokens_per_day;
	double window_s, throttle, transient, error_latency_s;
	bool host_wide, throttled_count;
};

struct load_outage {
	uint64_t at_ns, until_ns;
};

struct load_setting {
	char *key, *value;
};

struct load {
	struct load_group *groups;
	size_t n_groups;
	struct load_user *users;
	size_t n_users;
	char **models;
	size_t n_models;
	struct load_question *trace; /* by arrival; NULL: a scenario */
	size_t n_trace;
	struct load_provider *providers; /* by time; the first from the start */
	size_t n_providers;
	struct load_outage *outages; /* by time */
	size_t n_outages;
	struct load_setting *settings; /* of a trace's header */
	size_t n_settings;
	double duration_s;
	uint64_t seed;
	uint64_t day_offset_ns; /* virtual midnight to the trace's */
	uint64_t bad_lines;     /* left out */
};

/* What a scenario says nothing about. */
void load_init(struct load *load);
void load_init_group(struct load_group *group);

/* The users of the groups.  0 or -ENOMEM. */
int load_make_users(struct load *load);

/* The index of a model, added where it is new; -ENOMEM. */
int load_model(struct load *load, const char *model, uint32_t *ret_index);

/* A longer array, doubled as it grows; NULL: no memory. */
void *load_grow(void *array, size_t n, size_t bytes);

void load_free(struct load *load);

#endif
