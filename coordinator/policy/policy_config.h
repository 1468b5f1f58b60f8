/*
 * What the policy is told to keep to: limits, weights, retries.  In every limit
 * 0 means: none.  rgov.conf(5) has the words for people.
 */
#ifndef COORDINATOR_POLICY_CONFIG_H
#define COORDINATOR_POLICY_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the output tokens that requests really used (their 95th percentile, per
 * lane and user) replace. */
enum policy_learned {
	POLICY_LEARN_ORDER,   /* what the order charges before the end, and the
				 predicted wait */
	POLICY_LEARN_RESERVE, /* the reservation too */
	POLICY_LEARN_NOTHING,
};

/* A `model` block: the template of each lane whose model id it matches. */
struct policy_model {
	const char *pattern; /* fnmatch(3), no flags */
	uint32_t requests_per_minute;
	uint64_t tokens_per_minute;
	uint64_t tokens_per_day;
	uint32_t max_concurrent;
	uint32_t default_max_tokens; /* for a request that names no maximum */
	double output_burndown; /* settled output counts this many times; 0: 1
				 */
	bool reserve_with_burndown;
	bool smooth_starts; /* spread over the window, not all at once */
	enum policy_learned learned_output;
	/* Model ids to try when this one cannot answer, in this order. */
	const char *const *fallback;
	size_t n_fallback;
};

/* A `user` block.  Its budgets are the user's own, over all lanes. */
struct policy_user_rule {
	const char *pattern;     /* fnmatch(3) */
	double weight;           /* above 0 */
	uint32_t max_concurrent; /* 0: the general one */
	uint32_t max_queued;     /* 0: the general one */
	uint32_t requests_per_minute;
	uint64_t tokens_per_minute;
	uint64_t tokens_per_day;
};

/* An `application` block. */
struct policy_app_rule {
	const char *pattern; /* fnmatch(3), of policy_request.app */
	double weight;       /* above 0 */
};

struct policy_config {
	uint32_t max_concurrent;        /* host-wide; 0: none */
	uint32_t requests_per_minute;   /* host-wide; 0: none */
	uint64_t tokens_per_minute;     /* host-wide; 0: none */
	uint64_t tokens_per_day;        /* host-wide; 0: none */
	bool smooth_starts;             /* host-wide */
	bool refuse_late;               /* at enqueue, by the predicted wait */
	bool adaptive;                  /* a lane's rate falls when throttled */
	uint32_t max_requests_per_user; /* in flight; 0: none */
	uint32_t max_queued_per_user;   /* backing off included; 0: none */
	uint32_t max_queued;            /* the same, host-wide; 0: none */
	uint32_t max_lanes;             /* besides the default one; 0: none */
	uint64_t minute_ns;     /* the quota window: 60 s, less in tests */
	uint64_t guard_ns;      /* kept free after the window */
	uint64_t day_offset_ns; /* the day turns when now + this is a multiple
				   of 86,400 s */
	uint64_t age_after_ns; /* in one class, then the next class up; 0: never
				*/
	double batch_share; /* of the concurrency, host-wide and a lane's: batch
			       takes no more, but always one; 0 or 1: all */

	uint32_t max_attempts;      /* 0 or 1: no retries */
	uint64_t throttle_base_ns;  /* 1 s */
	uint64_t transient_base_ns; /* 50 ms */
	uint64_t backoff_cap_ns;    /* 20 s */
	uint64_t probe_ok_after_ns; /* 2 s */
	uint32_t retry_budget;      /* per lane: 500; 0: none */

	/* Of the jitter and of the name hashes: random in production.  Same
	 * seed and same calls, same trace. */
	uint64_t seed;

	const struct policy_model *models;
	size_t n_models;
	const struct policy_user_rule *users;
	size_t n_users;
	const struct policy_app_rule *apps;
	size_t n_apps;
	/* The one that is called: ARNs of it name the lanes of their ids.
	 * NULL: none. */
	const char *region;
};

#endif
