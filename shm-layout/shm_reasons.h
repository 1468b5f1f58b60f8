/* What a request waits for, as numbers that pass between processes, and their
 * names.  Which one it is the policy says. */
#ifndef SHM_REASONS_H
#define SHM_REASONS_H

#include "shm-layout/shm_limits.h"

#include <assert.h>

enum shm_reason {
#define REASON(NAME, name, words) SHM_WAIT_##NAME,
#include "shm-layout/shm_reasons.def"
#undef REASON
	SHM_REASONS
};
static_assert(
	(int)SHM_REASONS <= (int)SHM_REASONS_MAX, "a table has room for all");

/* "host_requests", and "requests_per_minute"; of no reason "". */
const char *shm_reason_name(unsigned int reason);
const char *shm_reason_text(unsigned int reason);

#endif
