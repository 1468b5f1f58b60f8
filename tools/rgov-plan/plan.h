/*
 * One plan: a load under a configuration.  simulate.c runs it through the
 * policy, ideal.c through the schedules that it is compared with.
 */
#ifndef PLAN_PLAN_H
#define PLAN_PLAN_H

#include "tools/rgov-plan/load.h"
#include "tools/rgov-plan/measure.h"
#include "tools/rgov-plan/quota.h"

struct plan {
	const struct load *load;
	struct policy_config config; /* with the weights of the load */
	uint64_t timeout_ns;         /* default_timeout */
	struct policy_user_rule *users;
	const struct policy_model **rules; /* of each model; NULL: default */
	double *weights;                   /* of each user */
};

/* config and load must stay.  0 or -ENOMEM. */
int plan_init(struct plan *plan, const struct load *load,
	const struct policy_config *config, uint64_t timeout_ns);
void plan_fini(struct plan *plan);

/* What it reserves; what it uses: as the policy charges it. */
uint64_t plan_reserves(
	const struct plan *plan, const struct load_question *question);
uint64_t plan_uses(
	const struct plan *plan, const struct load_question *question);

/* The provider at a moment, and when it next changes. */
const struct load_provider *plan_provider(
	const struct load *load, uint64_t now_ns, uint64_t *ret_until_ns);
/* Is there an outage, and until when is that so? */
bool plan_is_out(
	const struct load *load, uint64_t now_ns, uint64_t *ret_until_ns);

/* Waits of some requests, from arrival to first start. */
struct plan_row {
	const char *name, *app;
	uint64_t requests, refused, deadline, failed, throttled;
	float *waits; /* seconds; sorted at the end */
	size_t n_waits;
	double sum_s;
};

double plan_average_s(const struct plan_row *row);
/* Of sorted waits: what `part` of them did not exceed. */
double plan_quantile_s(const struct plan_row *row, double part);

struct plan_result {
	struct plan_row all, classes[POLICY_CLASSES];
	struct plan_row *users; /* load->n_users */
	uint64_t throttled, retries, probes;
	double jain; /* negative: there was no such moment */
	double total_s;
	uint64_t *asked; /* of each user */
	struct measure measure;
};

/* A schedule that the policy is compared with. */
enum plan_schedule { PLAN_FIFO, PLAN_FAIR, PLAN_BOUND, PLAN_SCHEDULES };

struct plan_ideal {
	struct plan_row all; /* PLAN_BOUND: no waits */
	double total_s;
};

/* Through the policy; n_samples 0: no series.  0 or -ENOMEM; then, too,
 * plan_result_fini() ends it. */
int plan_simulate(const struct plan *plan, size_t n_samples,
	struct plan_result *ret_result);
void plan_result_fini(struct plan_result *result, size_t n_users);

/* Through one of the others, each user asking as often as it did there. */
int plan_idealize(const struct plan *plan, enum plan_schedule schedule,
	const uint64_t *asked, struct plan_ideal *ret_ideal);

/* The bound's total; bound.c. */
int plan_bound(
	const struct plan *plan, const uint64_t *asked, double *ret_total_s);

/* Adds a wait.  0 or -ENOMEM. */
int plan_wait(struct plan_row *row, double wait_s);
void plan_sort(struct plan_row *row);

#endif
