/*
 * Predicted waits: who goes before (ahead.c), and when that many have started,
 * by every limit on the way; docs/policy.md, section 10.
 */
#include "coordinator/policy/predict.h"

#include "coordinator/policy/ahead.h"
#include "coordinator/policy/inside.h"

#define LEAST_NS 1e6 /* 0 would mean: no use */
#define NEVER_NS 9e18

enum { ROUNDS = 6 };

void mean_add(struct mean *mean, double sample)
{
	if (mean->n < MEAN_OVER)
		mean->n++;
	mean->value += (sample - mean->value) / mean->n;
}

static void pace_turn(struct pace *pace, uint64_t period)
{
	if (period == pace->period)
		return;
	pace->before = period == pace->period + 1 ? pace->now : 0;
	pace->now = 0;
	pace->period = period;
}

void pace_count(struct pace *pace, uint64_t period_ns, uint64_t now_ns)
{
	pace_turn(pace, now_ns / period_ns);
	pace->now++;
}

double pace_rate(const struct pace *pace, uint64_t period_ns, uint64_t now_ns)
{
	struct pace copy = *pace;
	double part = (double)(now_ns % period_ns) / (double)period_ns;

	pace_turn(&copy, now_ns / period_ns);
	return (copy.now + copy.before * (1 - part)) / (double)period_ns;
}

static double most(double a, double b)
{
	return a > b ? a : b;
}

/* How long one runs; before any has ended, as long again as the first has run
 * by now: that is the least that can be said. */
static double hold_ns(const struct policy *policy, const struct mean *of_lane,
	uint64_t now_ns)
{
	if (of_lane->n != 0)
		return of_lane->value;
	if (policy->hold_ns.n != 0)
		return policy->hold_ns.value;
	return policy->first_ns != 0 ? (double)(now_ns - policy->first_ns) : 0;
}

/* n starts into the future, with `running` of `limit` places taken. */
static double places_ns(
	double n, uint32_t running, uint32_t limit, double one_ns)
{
	double free = (double)limit - running;

	if (limit == 0 || n <= free)
		return 0;
	return (n - free) * one_ns / limit;
}

static double window_ns(const struct window *window, double n, uint64_t now_ns)
{
	return (double)(window_nth(window, (uint64_t)(n + 0.5), now_ns) -
			now_ns);
}

/* `before` of the mean cost, then one of `own`. */
static double tokens_ns(const struct tokens *tokens, double before,
	const struct mean *cost, uint64_t own, uint64_t now_ns)
{
	double need = before * (cost->n ? cost->value : (double)own);

	if (need > (double)TOKENS_MAX)
		need = (double)TOKENS_MAX;
	return (double)(tokens_in(tokens, (uint64_t)need + own, now_ns) -
			now_ns);
}

/* What the adapted rate of starts keeps from the limit. */
static double kept_starts(const struct policy_lane *lane, uint64_t now_ns)
{
	const struct rate *rate = &lane->adapt.starts;

	return (double)(rate->limit - rate_now(rate, now_ns));
}

/* How much longer than at its limit tokens take at the adapted rate. */
static double slower(const struct policy_lane *lane, uint64_t now_ns)
{
	const struct rate *rate = &lane->adapt.tokens;

	if (rate->limit == 0)
		return 1;
	return (double)rate->limit / (double)rate_now(rate, now_ns);
}

/* Until its pace lets anybody start, and what else of it was found to hold the
 * first. */
static double rate_ns(const struct policy_lane *lane, uint64_t now_ns)
{
	uint64_t until_ns = lane->adapt.paced_ns;

	if (lane->why.reason == POLICY_WAIT_LANE_RATE &&
		lane->why.until_ns != UINT64_MAX &&
		lane->why.until_ns > until_ns)
		until_ns = lane->why.until_ns;
	return until_ns > now_ns ? (double)(until_ns - now_ns) : 0;
}

/* What the account has for this host besides what others have now, at once and
 * then in every window. */
static double lease_ns(const struct policy *policy, const struct lease *lease,
	const struct window *window, double n, uint64_t now_ns)
{
	double free, rate;

	if (policy->share == NULL ||
		!lease_outlook(
			lease, policy->share, window, now_ns, &free, &rate) ||
		n <= free)
		return 0;
	return (n - free) * (double)window->span_ns / rate;
}

/* When the lane and the host have started `before`, and can start this one. */
static double starts_ns(const struct policy *policy,
	const struct policy_request *request, double before, uint64_t now_ns)
{
	const struct policy_lane *lane = request->lane;
	const struct policy_config *config = &policy->settings->config;
	double all = before + ahead_elsewhere(policy, request, before), ns;
	uint64_t own = lane_reservation(lane, request);

	ns = places_ns(before + 1, lane->running, lane->max_concurrent,
		hold_ns(policy, &lane->hold_ns, now_ns));
	ns = most(ns, window_ns(&lane->window,
			      before + 1 + kept_starts(lane, now_ns), now_ns));
	ns = most(ns, slower(lane, now_ns) * tokens_ns(&lane->tokens, before,
						     &lane->cost, own, now_ns));
	ns = most(ns, rate_ns(lane, now_ns));
	ns = most(ns, lease_ns(policy, &lane->lease, &lane->window, before + 1,
			      now_ns));
	ns = most(ns, lease_ns(policy, &policy->lease, &policy->window, all + 1,
			      now_ns));
	ns = most(
		ns, places_ns(all + 1, policy->running, config->max_concurrent,
			    hold_ns(policy, &policy->hold_ns, now_ns)));
	ns = most(ns, window_ns(&policy->window, all + 1, now_ns));
	return most(ns,
		tokens_ns(&policy->tokens, all, &policy->cost, own, now_ns));
}

/* Its user's own requests before it, by its user's own limits. */
static double own_ns(
	const struct policy_request *request, double before, uint64_t now_ns)
{
	const struct policy_user *user = request->user_entry;
	const struct budget *budget = user->budget;
	double ns = places_ns(before + 1, user->running, user->max_running,
		hold_ns(request->lane->policy, &request->lane->hold_ns,
			now_ns));

	if (budget == NULL)
		return ns;
	ns = most(ns, window_ns(&budget->window, before + 1, now_ns));
	return most(
		ns, tokens_ns(&budget->tokens, before, &request->p.seat->cost,
			    lane_reservation(request->lane, request), now_ns));
}

/* Nobody passes before a probe that is out is through; one that is not sent yet
 * takes no less. */
static double gate_ns(const struct policy *policy,
	const struct policy_request *request, uint64_t now_ns)
{
	uint64_t ok_after_ns = policy->settings->config.probe_ok_after_ns;
	struct gate gate = request->lane->gate;
	uint64_t until_ns = gate_wait(&gate, ok_after_ns, now_ns);

	if (until_ns == UINT64_MAX)
		return (double)ok_after_ns;
	return until_ns > now_ns ? (double)(until_ns - now_ns) : 0;
}

static double backoff_ns(const struct policy *policy,
	const struct policy_request *request, uint64_t now_ns)
{
	uint64_t due_ns;

	if (request->state != POLICY_BACKOFF)
		return 0;
	due_ns = policy->due.cells[request->p.due_place].key.first;
	return due_ns > now_ns ? (double)(due_ns - now_ns) : 0;
}

/*
 * More go before it the longer it waits, so the wait is what it takes to start
 * those that come before or during it: from below, until it stands still.
 */
void predict(const struct policy *policy, const struct policy_request *request,
	uint64_t now_ns, uint32_t *ret_position, uint64_t *ret_ns)
{
	struct ahead ahead;
	double wait_ns, before, held_ns;

	if (now_ns < policy->now_ns)
		now_ns = policy->now_ns;
	ahead_look(&ahead, request, now_ns);
	before = ahead_count(&ahead, 0);
	*ret_position = 1 + (uint32_t)(before + 0.5);
	held_ns = most(gate_ns(policy, request, now_ns),
		backoff_ns(policy, request, now_ns));
	wait_ns = own_ns(request, ahead.own, now_ns);
	for (int i = 0; i < ROUNDS; i++) {
		double last_ns = wait_ns;

		before = ahead_count(&ahead, wait_ns);
		wait_ns = most(
			wait_ns, starts_ns(policy, request, before, now_ns));
		if (wait_ns <= last_ns * 1.02)
			break;
	}
	wait_ns = most(wait_ns + held_ns, LEAST_NS);
	*ret_ns = wait_ns < NEVER_NS ? (uint64_t)wait_ns : UINT64_MAX;
}

uint64_t policy_predict_ns(const struct policy *policy,
	const struct policy_request *request, uint64_t now_ns)
{
	uint32_t position;
	uint64_t ns;

	predict(policy, request, now_ns, &position, &ns);
	return ns;
}

/* The next end of one of its user's makes room. */
uint64_t predict_place_ns(const struct policy *policy,
	const struct policy_request *request, uint64_t now_ns)
{
	double ns = most(starts_ns(policy, request, 0, now_ns),
		own_ns(request, 0, now_ns));

	ns = most(ns + gate_ns(policy, request, now_ns), LEAST_NS);
	return ns < NEVER_NS ? (uint64_t)ns : UINT64_MAX;
}

uint64_t predict_host_ns(const struct policy *policy)
{
	uint32_t limit = policy->settings->config.max_concurrent;
	double ns = most(window_ns(&policy->window, 1, policy->now_ns),
		places_ns(1, policy->running, limit,
			hold_ns(policy, &policy->hold_ns, policy->now_ns)));

	return (uint64_t)most(ns, LEAST_NS);
}
