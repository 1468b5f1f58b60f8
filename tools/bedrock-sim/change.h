/*
 * What can be changed while it runs: the quotas, and a fault that strikes every
 * request (an outage).
 */
#ifndef SIM_CHANGE_H
#define SIM_CHANGE_H

#include "tools/bedrock-sim/sim.h"

/*
 * `query`: NAME=VALUE, joined by '&'; it is cut into pieces.  NULL, or what is
 * wrong, and then nothing has changed.  The simulation's lock is held.
 */
const char *change_apply(struct sim *sim, char *query);

#endif
