/*
 * What predictions are made from: smoothed figures that cost O(1) to keep.
 */
#ifndef COORDINATOR_POLICY_PREDICT_H
#define COORDINATOR_POLICY_PREDICT_H

#include <stdint.h>

/* The mean of the samples so far, later of about the last MEAN_OVER. */
enum { MEAN_OVER = 128 };

struct mean {
	double value;
	uint32_t n; /* at most MEAN_OVER; 0: nothing known */
};

void mean_add(struct mean *mean, double sample);

/* How often something happens: counts of this period and the last full one. */
struct pace {
	uint64_t period; /* number of the one that `now` counts */
	uint32_t now, before;
};

void pace_count(struct pace *pace, uint64_t period_ns, uint64_t now_ns);
/* Per nanosecond. */
double pace_rate(const struct pace *pace, uint64_t period_ns, uint64_t now_ns);

#endif
