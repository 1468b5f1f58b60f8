/*
 * Quotas and injected faults: what a valid, signed request meets.
 *
 * Both are called with the simulation's lock held.
 */
#ifndef SIM_ADMIT_H
#define SIM_ADMIT_H

#include "tools/bedrock-sim/sim.h"

/*
 * Accepts the request, which then has its number among the accepted, from 1;
 * or refuses it with 0, and its outcome and reply are filled.  An accepted one
 * may have got a fault.
 */
uint64_t admit(struct exchange *exchange, const struct body_facts *facts);
/* It was refused before it came to that; outcome says why. */
void admit_refused(struct exchange *exchange);

#endif
