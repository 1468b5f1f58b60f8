/* How a client learns where its request stands, and what it waited for. */
#include "client-lib/handle.h"
#include "client-lib/rgov.h"
#include "tests/unit/door_rig.h"

#define S_NS UINT64_C(1000000000)

static struct rig *rig;
static struct rgov *gov;

static void start(void)
{
	struct rgov_options options = {
		.size = sizeof(options), .app = "progress", .slots = 4};

	rig = rig_run(0);
	options.socket_path = rig->path;
	CU_ASSERT_EQUAL_FATAL(rgov_open(&options, &gov), 0);
}

static void stop(void)
{
	rgov_close(gov);
	rig_end_run(rig);
}

static struct rgov_progress look(
	const struct rgov_ticket *ticket, uint64_t max_age_ms)
{
	struct rgov_progress found = {.size = sizeof(found)};

	CU_ASSERT_EQUAL(rgov_progress(gov, ticket, max_age_ms, &found), 0);
	return found;
}

/* One that the rig keeps; its number there is 1 for the first. */
static struct rgov_ticket submit(const char *user)
{
	struct rgov_request request = {.size = sizeof(request),
		.model_id = "hold",
		.user = user,
		.body = "{}",
		.body_bytes = 2};
	struct rgov_ticket ticket;

	CU_ASSERT_EQUAL_FATAL(rgov_submit(gov, &request, &ticket), 0);
	while (look(&ticket, UINT64_MAX).state == RGOV_S_SUBMITTED)
		(void)sched_yield();
	return ticket;
}

static void say_third(struct rig *of)
{
	door_show_place(
		of->held[0].slot, &(struct door_place){.request = 1,
					  .reason = SHM_WAIT_HOST_REQUESTS,
					  .position = 3,
					  .as_of_ns = loop_now_ns(),
					  .until_ns = loop_now_ns() + 50 * S_NS,
					  .predicted_ns = 100 * S_NS,
					  .is_first = true});
}

static void end_with_waits(struct rig *of)
{
	uint64_t waited_ns[SHM_REASONS_MAX] = {0};
	struct door_reply reply = rig_reply(SHM_OK);
	struct door_slot *slot = of->held[0].slot;

	waited_ns[SHM_WAIT_TURN] = 5;
	waited_ns[SHM_WAIT_USER_DAY] = 7;
	reply.waited_ns = waited_ns;
	reply.model = "another";
	rig_drop(slot);
	door_complete(slot, &reply);
}

static void end_plainly(struct rig *of)
{
	(void)rig_finish(of, SHM_OK);
}

static void a_place_is_read_from_memory_or_asked_for(void)
{
	/* Nothing was said: only the state.  What was said is there without a
	 * message; where it is too old, rgovd is asked.  Over: no ticket. */
	struct rgov_ticket ticket;
	struct rgov_progress found;
	struct rgov_reply reply = {.size = sizeof(reply)};

	start();
	ticket = submit("alice");
	found = look(&ticket, 0);
	CU_ASSERT_EQUAL(found.state, RGOV_S_QUEUED);
	CU_ASSERT_EQUAL(found.request, 0);
	CU_ASSERT_EQUAL(found.position, 0);
	rig_do(rig, say_third);
	found = look(&ticket, UINT64_MAX);
	CU_ASSERT_EQUAL(found.request, 1);
	CU_ASSERT_EQUAL(found.position, 3);
	CU_ASSERT_EQUAL(found.reason, RGOV_W_HOST_REQUESTS);
	CU_ASSERT(found.predicted_ns > 90 * S_NS);
	CU_ASSERT(found.predicted_ns + found.age_ns <= 100 * S_NS);
	CU_ASSERT(found.until_ns > 40 * S_NS && found.until_ns < 51 * S_NS);
	(void)look(&ticket, 60000);
	CU_ASSERT_EQUAL(rig->explained, 0);
	found = look(&ticket, 0);
	CU_ASSERT_EQUAL(rig->explained, 1);
	CU_ASSERT_EQUAL(found.position, 1);
	CU_ASSERT_EQUAL(found.reason, RGOV_W_TURN);
	CU_ASSERT_EQUAL(found.until_ns, UINT64_MAX);
	rig_do(rig, end_plainly);
	CU_ASSERT_EQUAL(look(&ticket, 0).state, RGOV_S_ENDED);
	CU_ASSERT_EQUAL(rgov_wait(gov, &ticket, 10000, &reply), 0);
	CU_ASSERT_EQUAL(rgov_progress(gov, &ticket, 0, &found), 0);
	CU_ASSERT_EQUAL(found.state, RGOV_S_ENDED);
	rgov_reply_fini(&reply);
	stop();
}

static void a_reply_tells_what_it_waited_for(void)
{
	/* Reasons, the model that answered, its first place; and nothing of it
	 * is left for the next one in the slot. */
	struct rgov_ticket ticket;
	struct rgov_reply reply = {.size = sizeof(reply)};

	start();
	ticket = submit("alice");
	rig_do(rig, say_third);
	(void)look(&ticket, 0); /* renewed: the first stays */
	rig_do(rig, end_with_waits);
	CU_ASSERT_EQUAL(rgov_wait(gov, &ticket, 10000, &reply), 0);
	CU_ASSERT_STRING_EQUAL(reply.model, "another");
	CU_ASSERT_EQUAL(reply.queue_position, 3);
	CU_ASSERT_EQUAL(reply.predicted_wait_ns, 100 * S_NS);
	for (int i = 0; i < RGOV_REASONS_ROOM; i++)
		CU_ASSERT_EQUAL(reply.waited_ns[i], i == RGOV_W_TURN       ? 5
						    : i == RGOV_W_USER_DAY ? 7
									   : 0);
	rgov_reply_fini(&reply);
	ticket = submit("alice");
	CU_ASSERT_EQUAL(look(&ticket, 0).request, 0);
	rig_do(rig, end_plainly);
	CU_ASSERT_EQUAL(rgov_wait(gov, &ticket, 10000, &reply), 0);
	CU_ASSERT_STRING_EQUAL(reply.model, "hold");
	CU_ASSERT_EQUAL(reply.queue_position, 0);
	for (int i = 0; i < RGOV_REASONS_ROOM; i++)
		CU_ASSERT_EQUAL(reply.waited_ns[i], 0);
	rgov_reply_fini(&reply);
	stop();
}

static void what_is_out_is_listed(void)
{
	/* Whose it is, and a ticket that can be looked at; nothing before the
	 * first and after the last. */
	struct rgov_outstanding *out;
	struct rgov_ticket tickets[2];
	struct rgov_reply reply = {.size = sizeof(reply)};

	start();
	CU_ASSERT_EQUAL(rgov_outstanding(gov, &out), 0);
	CU_ASSERT_PTR_NULL(out);
	tickets[0] = submit("alice");
	tickets[1] = submit("bob");
	CU_ASSERT_EQUAL(rgov_outstanding(gov, &out), 2);
	for (int i = 0; i < 2; i++) {
		CU_ASSERT_STRING_EQUAL(out[i].user, i == 0 ? "alice" : "bob");
		CU_ASSERT_STRING_EQUAL(out[i].model_id, "hold");
		CU_ASSERT_EQUAL(look(&out[i].ticket, 0).state, RGOV_S_QUEUED);
	}
	free(out);
	rig_do(rig, end_plainly);
	for (int i = 0; i < 2; i++)
		CU_ASSERT_EQUAL(rgov_wait(gov, &tickets[i], 10000, &reply), 0);
	CU_ASSERT_EQUAL(rgov_outstanding(gov, &out), 0);
	free(out);
	stop();
}

/* Number and place go together. */
static void say_much(struct rig *of)
{
	for (uint32_t i = 1; i < 200000; i++)
		door_show_place(
			of->held[0].slot, &(struct door_place){.request = i,
						  .position = i,
						  .as_of_ns = loop_now_ns(),
						  .until_ns = i});
}

static void a_place_does_not_tear(void)
{
	/* Read while rgovd writes it over and over: one of those that were
	 * written, or nothing, never a mixture. */
	struct rgov_ticket ticket;
	unsigned int seen = 0;

	start();
	ticket = submit("alice");
	rig->errand = say_much;
	loop_wake(rig->loop);
	while (rig->errand != NULL) {
		struct rgov_progress found = look(&ticket, UINT64_MAX);

		CU_ASSERT_EQUAL_FATAL(found.request, found.position);
		seen += found.request != 0;
	}
	CU_ASSERT(seen > 0);
	rig_do(rig, end_plainly);
	stop();
}

static void a_number_is_explained_or_not(void)
{
	/* Found; another uid's. */
	struct rgov_explanation found = {.size = sizeof(found)};

	start();
	rig->is_ungoverned = true;
	CU_ASSERT_EQUAL(rgov_explain(gov, 5, &found), 0);
	CU_ASSERT_EQUAL(found.request, 5);
	CU_ASSERT_EQUAL(rgov_explain(gov, 500, &found), -EPERM);
	CU_ASSERT_PTR_NOT_NULL(strstr(rgov_why(), "request 500"));
	found.size--;
	CU_ASSERT_EQUAL(rgov_explain(gov, 5, &found), -EINVAL);
	stop();
}

SUITE("progress", T(a_place_is_read_from_memory_or_asked_for),
	T(a_reply_tells_what_it_waited_for), T(what_is_out_is_listed),
	T(a_place_does_not_tear), T(a_number_is_explained_or_not))
