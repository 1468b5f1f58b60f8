/*
 * The gate of a lane.  One throttle closes it for everyone for the backoff
 * time; then one probe goes; the gate opens when the probe was not throttled,
 * in the end or within probe_ok_after of its start.  A probe that tells nothing
 * hands its part to the next request.
 *
 *   OPEN --throttled--> CLOSED --admit, when due--> PROBING --passed--> OPEN
 *                         ^                            |
 *                         +------- throttled, lost ----+
 *
 * `epoch` counts the closings.  What was admitted in an earlier epoch has no
 * say.
 */
#ifndef COORDINATOR_POLICY_GATE_H
#define COORDINATOR_POLICY_GATE_H

#include <stdbool.h>
#include <stdint.h>

struct policy_request;

struct gate {
	bool is_closed;
	bool is_day;       /* closed by the daily quota */
	uint32_t failures; /* throttles in a row, since it was open */
	uint64_t opens_ns; /* closed: when the probe may go */
	uint64_t epoch;    /* how often it was closed */
	uint64_t probes;   /* passed while it was closed */
	const struct policy_request *probe; /* running; NULL: none */
};

/* Opens the gate when the probe has lasted long enough.  That is a matter of
 * time alone: to be called before anything else is asked of it or told to it.
 */
void gate_look(struct gate *gate, uint64_t ok_after_ns, uint64_t now_ns);
/* When a request may pass: 0 now, else the time; UINT64_MAX: not before the
 * probe says something. */
uint64_t gate_wait(struct gate *gate, uint64_t ok_after_ns, uint64_t now_ns);
/* The request is admitted; it is the probe if the gate is closed. */
void gate_pass(struct gate *gate, struct policy_request *request);

/* Has a throttle of this request a say? */
bool gate_hears(const struct gate *gate, const struct policy_request *request);
/* It was throttled (and has a say): closed until then. */
void gate_close(struct gate *gate, uint64_t until_ns);
/* It ended without a throttle; is_proof: it was answered. */
void gate_passed(
	struct gate *gate, const struct policy_request *request, bool is_proof);

#endif
