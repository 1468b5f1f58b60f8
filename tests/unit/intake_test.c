/* Bodies that nobody wants any more: given up at once, not when their turn
 * comes.  Real bodies, the real helper thread; the door is a descriptor. */
#include "coordinator/door/inside.h"
#include "coordinator/intake.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <sys/mman.h>

enum { JOBS = 12, BODY_BYTES = 20 * 1000 * 1000 };

struct rig {
	struct loop *loop;
	struct intake *intake;
	struct door_session session;
	struct door_slot slot;
	struct intake_job jobs[JOBS];
	int ended; /* calls of done() */
};

static void on_done(struct intake_job *job)
{
	((struct rig *)job->owner)->ended++;
}

static void rig_init(struct rig *rig)
{
	*rig = (struct rig){.session.client_bodies_fd = memfd_create("b", 0)};
	rig->slot.session = &rig->session;
	if (ftruncate(rig->session.client_bodies_fd, BODY_BYTES) != 0 ||
		loop_create(LOOP_EPOLL, &rig->loop) != 0 ||
		intake_create(rig->loop, &rig->intake) != 0)
		abort();
	for (int i = 0; i < JOBS; i++) {
		rig->jobs[i] = (struct intake_job){.done = on_done,
			.owner = rig,
			.body_bytes = BODY_BYTES,
			.is_scanned = true};
		intake_start(rig->intake, &rig->jobs[i], &rig->slot);
	}
}

static void rig_fini(struct rig *rig)
{
	intake_free(rig->intake);
	loop_free(rig->loop);
	close(rig->session.client_bodies_fd);
}

/* Until `wanted` jobs have ended; the helper wakes the loop. */
static void collect(struct rig *rig, int wanted)
{
	while (rig->ended < wanted) {
		loop_step(rig->loop, loop_now_ns() + 1000000000u);
		intake_collect(rig->intake);
	}
}

static void the_dropped_end_before_their_turn(void)
{
	struct rig rig;
	int canceled = 0;

	rig_init(&rig);
	for (int i = JOBS - 1; i >= 0; i--)
		intake_drop(rig.intake, &rig.jobs[i]);
	/* All but those that the helper was at while we got here. */
	CU_ASSERT(rig.ended >= JOBS - 2);
	collect(&rig, JOBS);
	for (int i = 0; i < JOBS; i++)
		canceled += rig.jobs[i].result.error == -ECANCELED;
	CU_ASSERT(canceled >= JOBS - 1);
	rig_fini(&rig);
}

static void the_others_keep_their_turn(void)
{
	struct rig rig;

	rig_init(&rig);
	intake_drop(rig.intake, &rig.jobs[JOBS - 1]); /* the last of the list */
	intake_drop(rig.intake, &rig.jobs[4]);
	rig.jobs[4].done = NULL; /* never again */
	intake_start(rig.intake, &rig.jobs[JOBS - 1], &rig.slot);
	collect(&rig, JOBS + 1);
	CU_ASSERT_EQUAL(rig.jobs[4].result.error, -ECANCELED);
	for (int i = 0; i < JOBS; i++)
		if (i != 4) /* zeros are no JSON */
			CU_ASSERT_EQUAL(rig.jobs[i].result.error, -EINVAL);
	rig_fini(&rig);
}

SUITE("intake", T(the_dropped_end_before_their_turn),
	T(the_others_keep_their_turn))
