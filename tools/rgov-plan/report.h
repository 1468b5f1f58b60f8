/* What a plan says: as text, as JSON, as a picture. */
#ifndef PLAN_REPORT_H
#define PLAN_REPORT_H

#include "tools/rgov-plan/plan.h"

#include <stdio.h>

/* One run, and what it is compared with. */
struct report_run {
	const struct plan *plan;
	struct plan_result result;
	struct plan_ideal ideals[PLAN_SCHEDULES];
};

/* Over the shorter of the two ideals, over the bound; waits over the fair and
 * the FIFO ones.  Negative: there is nothing to divide by. */
struct report_ratios {
	double total_over_ideal, total_over_bound, wait_over_fair,
		wait_over_fifo;
};

struct report_ratios report_ratios(const struct report_run *run);
extern const char *const report_limit_names[MEASURE_LIMITS];
extern const char *const report_class_names[POLICY_CLASSES];

/* One run, or two, before and after `what`. */
void report_text(
	const struct report_run *runs, size_t n, const char *what, FILE *out);
/* 0 or -ENOMEM. */
int report_json(
	const struct report_run *runs, size_t n, const char *what, FILE *out);
/* Of runs that have samples. */
void report_svg(
	const struct report_run *runs, size_t n, const char *what, FILE *out);

#endif
