/*
 * The door and the hand-made client of the unit tests (tests/unit/door_rig.h,
 * raw_client.h), without CUnit: what they expect must hold.
 */
#ifndef TESTS_FUZZ_RIG_H
#define TESTS_FUZZ_RIG_H

#include "tests/fuzz/fuzz.h"

#define TESTS_UNIT_SUITE_H /* in its place: */
#define CU_ASSERT_FATAL(condition) MUST(condition)
#define CU_ASSERT_EQUAL_FATAL(a, b) MUST((a) == (b))
#define CU_ASSERT_PTR_NOT_NULL_FATAL(a) MUST((a) != NULL)

#include "tests/unit/raw_client.h"

/* One rgovd for all runs, with one honest session beside the hostile ones. */
static struct rig *rig;
static struct raw honest;
static int descriptors; /* of this process, before the run */

static void rig_remove(void)
{
	raw_close(&honest);
	rig_stop(rig);
}

static void rig_prepare(uint32_t slots_per_session)
{
	if (rig == NULL) {
		rig = rig_start();
		door_set_limits(rig->door, slots_per_session, 0);
		raw_open(rig, &honest, 1);
		(void)atexit(rig_remove);
	}
	descriptors = open_descriptors();
}

static void rig_be_honest(void)
{
	static const char body[] = "honest";
	uint32_t generation =
		shm_next_generation(shm_generation(raw_answer(&honest, 0)));
	uint32_t done = shm_word(generation, SHM_DONE);
	char reply[sizeof(body)];

	MUST(pwrite(honest.fds[WIRE_FD_CLIENT_BODIES], body, sizeof(body), 0) ==
		sizeof(body));
	raw_describe(&honest, 0, SHM_CALL, "echo")->body_bytes = sizeof(body);
	raw_command(&honest, 0, generation, SHM_SUBMIT);
	RIG_UNTIL(rig, raw_answer(&honest, 0) == done);
	MUST(raw_result(&honest, 0) == SHM_OK);
	MUST(pread(honest.fds[WIRE_FD_DAEMON_BODIES], reply, sizeof(reply),
		     0) == sizeof(reply) &&
		memcmp(reply, body, sizeof(body)) == 0);
}

/* The hostile ones have closed all they had: nothing of them is left, and the
 * honest session is served as ever. */
static void rig_judge(void)
{
	RIG_UNTIL(rig, rig_stats(rig).sessions == 1);
	for (int i = 0; i < RIG_HELD; i++)
		MUST(rig->held[i].slot == NULL);
	RIG_REST(rig); /* what is closed may be given back a step later */
	RIG_UNTIL(rig, open_descriptors() <= descriptors);
	rig_be_honest();
}

/* A successor takes over; the honest session comes back at once. */
__attribute__((unused)) static void rig_replace(void)
{
	rig_restart(rig);
	/* The slots' limit is the door's own. */
	door_set_limits(rig->door, 8, 0);
	MUST(raw_reattach(rig, &honest) == WIRE_REATTACHED);
}

#endif
