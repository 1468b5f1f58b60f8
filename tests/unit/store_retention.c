/* What expires, when, in which steps, and what becomes of the space. */
#include "coordinator/store/inside.h"
#include "tests/unit/store_rig.h"

/* Waits until a figure has got there; the store's thread works by itself. */
static bool wait_for(struct rig *rig, const uint64_t *figure,
	struct store_stats *stats, uint64_t least)
{
	for (int i = 0; i < 2000; i++) {
		store_read_stats(rig->store, stats);
		if (*figure >= least)
			return true;
		usleep(10000);
	}
	return false;
}

static void go_to(struct rig *rig, int64_t wall_ns)
{
	rig->wall_ns = wall_ns;
	store_set_ttl(rig->store, rig->config.result_ttl_ns,
		rig->config.record_ttl_ns);
}

static void put_and_end(struct rig *rig, uint64_t from, int n,
	const char *reply, size_t reply_bytes)
{
	struct store_record *records = calloc((size_t)n, sizeof(*records));
	struct store_job *jobs = calloc((size_t)n, sizeof(*jobs));

	for (int i = 0; i < n; i++) {
		records[i] = task_record(from + (uint64_t)i, 2);
		records[i].key = i == 0 ? "the-first-key" : "";
		jobs[i] = put_job(&records[i], "{}");
	}
	rig_run_all(rig, jobs, n);
	for (int i = 0; i < n; i++) {
		jobs[i] =
			end_job(rig, from + (uint64_t)i, STORE_SUCCEEDED, NULL);
		jobs[i].end.reply = reply;
		jobs[i].end.reply_bytes = reply_bytes;
	}
	rig_run_all(rig, jobs, n);
	free(records);
	free(jobs);
}

static void a_reply_goes_then_its_record(void)
{
	struct rig rig;
	struct store_stats stats;
	struct store_job look = op_job(STORE_LOOK, 1);
	struct store_job history = op_job(STORE_HISTORY, 1);
	struct store_record *found;
	const int64_t ended_ns = 1000 * HOUR_NS;

	rig_init(&rig);
	rig_open(&rig);
	put_and_end(&rig, 1, 1, "reply", 5);
	put_task(&rig, 2, "waits for ever");

	go_to(&rig, ended_ns + rig.config.result_ttl_ns - 1);
	found = look_at(&rig, 1);
	CU_ASSERT_EQUAL(found->reply_state, STORE_REPLY_HELD);
	free(found);
	go_to(&rig, ended_ns + rig.config.result_ttl_ns);
	CU_ASSERT(wait_for(&rig, &stats.replies_expired, &stats, 1));
	look.look.wants_reply = true;
	CU_ASSERT_EQUAL(rig_run(&rig, &look), 0);
	CU_ASSERT_EQUAL(look.record->reply_state, STORE_REPLY_GONE);
	CU_ASSERT_EQUAL(look.record->state, STORE_SUCCEEDED);
	CU_ASSERT_EQUAL(look.record->reply_bytes, 5);
	CU_ASSERT_EQUAL(look.record->ending.output_tokens, 22);
	CU_ASSERT_PTR_NULL(look.reply);
	store_job_fini(&look);

	go_to(&rig, ended_ns + rig.config.record_ttl_ns);
	CU_ASSERT(wait_for(&rig, &stats.records_expired, &stats, 1));
	CU_ASSERT_EQUAL(rig_run(&rig, &look), 0);
	CU_ASSERT_EQUAL(look.outcome, STORE_UNKNOWN);
	CU_ASSERT_EQUAL(rig_run(&rig, &history), 0);
	CU_ASSERT_EQUAL(history.outcome, STORE_UNKNOWN);
	/* Its key is free again; what has not ended does not expire. */
	put_and_end(&rig, 3, 1, NULL, 0);
	found = look_at(&rig, 3);
	CU_ASSERT_PTR_NOT_NULL(found);
	free(found);
	found = look_at(&rig, 2);
	CU_ASSERT_PTR_NOT_NULL(found);
	free(found);
	rig_fini(&rig);
}

static void what_expired_while_nobody_ran_goes_at_the_start(void)
{
	struct rig rig;
	struct store_stats stats;

	rig_init(&rig);
	rig_open(&rig);
	put_and_end(&rig, 1, 1000, "reply", 5);
	rig_close(&rig);
	rig.wall_ns += rig.config.record_ttl_ns + 1;
	rig_open(&rig);
	CU_ASSERT(wait_for(&rig, &stats.records_expired, &stats, 1000));
	rig_fini(&rig);
}

/* In the time of the store's own clock: no word from the loop. */
static void it_goes_by_itself_when_its_time_comes(void)
{
	struct rig rig;
	struct store_stats stats;

	rig_init(&rig);
	rig.config.wall_now_ns = NULL;
	rig.config.result_ttl_ns = 1500000000;
	rig_open(&rig);
	rig.wall_ns = store_wall_ns(rig.store);
	put_and_end(&rig, 1, 10, "reply", 5);
	store_read_stats(rig.store, &stats);
	CU_ASSERT_EQUAL(stats.replies_expired, 0);
	CU_ASSERT(wait_for(&rig, &stats.replies_expired, &stats, 10));
	rig_fini(&rig);
}

static void nothing_to_expire_is_no_timer(void)
{
	struct rig rig;
	struct store_stats stats;

	rig_init(&rig);
	rig_open(&rig);
	put_task(&rig, 1, "waits");
	/* The first look round is over as soon as a second one is asked for. */
	go_to(&rig, rig.wall_ns);
	CU_ASSERT_EQUAL(put_task(&rig, 2, "waits"), 0);
	store_read_stats(rig.store, &stats);
	CU_ASSERT_EQUAL(rig.store->tending.due_ns, INT64_MAX);
	rig_fini(&rig);
}

/* 40 MB of replies go: the file gets smaller, in steps, and jobs are done in
 * between. */
static void space_is_given_back(void)
{
	enum { N = 160, BYTES = 256 << 10 };
	char *reply = calloc(1, BYTES);
	struct rig rig;
	struct store_stats full, stats;
	uint64_t number = 1000;

	rig_init(&rig);
	rig_open(&rig);
	put_and_end(&rig, 1, N, reply, BYTES);
	rig_close(&rig);
	rig_open(&rig);
	store_read_stats(rig.store, &full);
	CU_ASSERT(full.file_bytes > (uint64_t)N * BYTES);
	go_to(&rig, rig.wall_ns + rig.config.record_ttl_ns);
	for (int i = 0; i < 2000; i++) {
		CU_ASSERT_EQUAL(put_task(&rig, number++, "x"), 0);
		store_read_stats(rig.store, &stats);
		if (stats.records_expired == N &&
			stats.file_bytes < full.file_bytes / 2 + (4 << 20))
			break;
		usleep(5000);
	}
	CU_ASSERT_EQUAL(stats.records_expired, N);
	/* What is kept for new ones: 16 MiB, and a quarter. */
	CU_ASSERT(stats.file_bytes < full.file_bytes / 2 + (4 << 20));
	free(reply);
	rig_fini(&rig);
}

static void the_log_stays_short(void)
{
	enum { BYTES = 1 << 20 };
	char *body = calloc(1, BYTES);
	struct rig rig;
	struct store_stats stats;
	uint64_t longest = 0;

	rig_init(&rig);
	rig_open(&rig);
	for (uint64_t i = 1; i <= 60; i++) {
		struct store_record record = task_record(i, BYTES);
		struct store_job put = put_job(&record, body);

		CU_ASSERT_EQUAL(rig_run(&rig, &put), 0);
		store_read_stats(rig.store, &stats);
		if (stats.wal_bytes > longest)
			longest = stats.wal_bytes;
	}
	CU_ASSERT(stats.checkpoints > 5);
	CU_ASSERT(longest < 16 << 20);
	free(body);
	rig_fini(&rig);
}

SUITE("store retention", T(a_reply_goes_then_its_record),
	T(what_expired_while_nobody_ran_goes_at_the_start),
	T(it_goes_by_itself_when_its_time_comes),
	T(nothing_to_expire_is_no_timer), T(space_is_given_back),
	T(the_log_stays_short))
