/* What each job of the store does, on a real file. */
#include "coordinator/store/inside.h"
#include "tests/unit/store_rig.h"

static void a_task_from_its_submission_to_its_reply(void)
{
	struct rig rig;
	struct store_record record = task_record(1, 5), *found;
	struct store_job put = put_job(&record, "hello");
	struct store_job begin = op_job(STORE_BEGIN, 1);
	struct store_job look = op_job(STORE_LOOK, 1);
	char body[5];

	rig_init(&rig);
	rig_open(&rig);
	record.key = "key-1";
	record.callback = "http://127.0.0.1/x";
	record.headers = "X-A: b\n";
	CU_ASSERT_EQUAL(rig_run(&rig, &put), 0);
	CU_ASSERT_EQUAL(put.outcome, STORE_DONE);
	begin.begin.at_ns = 77;
	begin.begin.into = body;
	begin.begin.into_bytes = sizeof(body);
	CU_ASSERT_EQUAL(rig_run(&rig, &begin), 0);
	CU_ASSERT_EQUAL(memcmp(body, "hello", 5), 0);
	found = look_at(&rig, 1);
	CU_ASSERT_EQUAL(found->state, STORE_RUNNING);
	CU_ASSERT_EQUAL(found->runs, 1);
	CU_ASSERT_EQUAL(found->started_ns, 77);
	free(found);
	CU_ASSERT_EQUAL(end_task(&rig, 1, STORE_SUCCEEDED, "the reply"), 0);

	look.look.wants_reply = true;
	CU_ASSERT_EQUAL(rig_run(&rig, &look), 0);
	found = look.record;
	CU_ASSERT_EQUAL_FATAL(look.outcome, STORE_DONE);
	CU_ASSERT_EQUAL(found->state, STORE_SUCCEEDED);
	CU_ASSERT_EQUAL(memcmp(found->id, record.id, STORE_ID_BYTES), 0);
	CU_ASSERT_EQUAL(found->uid, 1000);
	CU_ASSERT_STRING_EQUAL(found->model, record.model);
	CU_ASSERT_STRING_EQUAL(found->user, "alice");
	CU_ASSERT_STRING_EQUAL(found->app, "web");
	CU_ASSERT_STRING_EQUAL(found->headers, "X-A: b\n");
	CU_ASSERT_STRING_EQUAL(found->key, "key-1");
	CU_ASSERT_STRING_EQUAL(found->callback, "http://127.0.0.1/x");
	CU_ASSERT_EQUAL(found->digest[31], 1);
	CU_ASSERT_EQUAL(found->body_sha256[0], 7);
	CU_ASSERT(found->is_idempotent);
	CU_ASSERT_EQUAL(found->body_bytes, 5);
	CU_ASSERT_EQUAL(found->submitted_ns, record.submitted_ns);
	CU_ASSERT_EQUAL(found->deadline_ns, record.deadline_ns);
	CU_ASSERT_EQUAL(found->input_tokens, 1200);
	CU_ASSERT_EQUAL(found->output_tokens, 4096);
	CU_ASSERT_EQUAL(found->ended_ns, rig.wall_ns);
	CU_ASSERT_EQUAL(found->ending.http_status, 200);
	CU_ASSERT_EQUAL(found->ending.attempts, 2);
	CU_ASSERT_EQUAL(found->ending.input_tokens, 11);
	CU_ASSERT_EQUAL(found->ending.output_tokens, 22);
	CU_ASSERT_EQUAL(found->ending.cache_read_tokens, -1);
	CU_ASSERT_EQUAL(found->ending.queued_ns, 5);
	CU_ASSERT_EQUAL(found->ending.executing_ns, 6);
	CU_ASSERT_STRING_EQUAL(found->ending.request_id, "r-1");
	CU_ASSERT_STRING_EQUAL(found->ending.model, "m");
	CU_ASSERT_EQUAL(found->reply_state, STORE_REPLY_HELD);
	CU_ASSERT_EQUAL_FATAL(found->reply_bytes, 9);
	CU_ASSERT_EQUAL(memcmp(look.reply, "the reply", 9), 0);
	CU_ASSERT_EQUAL(found->callback_state, STORE_CALLBACK_PENDING);
	store_job_fini(&look);
	rig_fini(&rig);
}

static void a_task_ends_once(void)
{
	struct rig rig;
	struct store_job twice[2], begin = op_job(STORE_BEGIN, 1);
	struct store_record *found;

	rig_init(&rig);
	rig_open(&rig);
	CU_ASSERT_EQUAL(put_task(&rig, 1, "body"), 0);
	twice[0] = end_job(&rig, 1, STORE_CANCELLED, NULL);
	twice[1] = end_job(&rig, 1, STORE_SUCCEEDED, "late");
	rig_run_all(&rig, twice, 2); /* in one batch, even */
	CU_ASSERT_EQUAL(twice[0].outcome, STORE_DONE);
	CU_ASSERT_EQUAL(twice[1].error, 0);
	CU_ASSERT_EQUAL(twice[1].outcome, STORE_ALREADY);
	CU_ASSERT_EQUAL(twice[1].existing.state, STORE_CANCELLED);
	found = look_at(&rig, 1);
	CU_ASSERT_EQUAL(found->state, STORE_CANCELLED);
	CU_ASSERT_EQUAL(found->reply_state, STORE_REPLY_NONE);
	free(found);
	CU_ASSERT_EQUAL(rig_run(&rig, &begin), 0);
	CU_ASSERT_EQUAL(begin.outcome, STORE_ALREADY);
	CU_ASSERT_EQUAL(begin.existing.state, STORE_CANCELLED);
	twice[0].end.state = STORE_RUNNING;
	CU_ASSERT_EQUAL(rig_run(&rig, &twice[0]), -EINVAL);
	rig_fini(&rig);
}

static void the_same_request_is_stored_once(void)
{
	static const struct {
		uint64_t id;
		const char *key;
		int digest;
		uint32_t uid;
		enum store_outcome outcome;
		uint64_t existing;
	} cases[] = {
		{1, "k", 1, 1000, STORE_DONE, 0},
		{1, "k", 1, 1000, STORE_ALREADY, 1}, /* repeated */
		{2, "k", 1, 1000, STORE_ALREADY, 1}, /* another id */
		{3, "k", 2, 1000, STORE_KEY_TAKEN, 0},
		{4, "k", 2, 1001, STORE_DONE, 0}, /* another uid's key */
		{1, "", 2, 1000, STORE_ID_TAKEN, 0},
		{1, "", 1, 1001, STORE_ID_TAKEN, 0}, /* nothing is told of it */
		{5, "", 1, 1000, STORE_DONE, 0},
		{6, "", 1, 1000, STORE_DONE, 0}, /* no key: no two are one */
	};
	enum { N = sizeof(cases) / sizeof(cases[0]) };
	struct store_record records[N];
	struct store_job jobs[N];
	struct rig rig;

	for (int in_one_batch = 0; in_one_batch < 2; in_one_batch++) {
		rig_init(&rig);
		rig_open(&rig);
		for (int i = 0; i < N; i++) {
			records[i] = task_record(cases[i].id, 0);
			records[i].key = cases[i].key;
			records[i].uid = cases[i].uid;
			memset(records[i].digest, cases[i].digest, 32);
			jobs[i] = put_job(&records[i], NULL);
			if (!in_one_batch)
				rig_run(&rig, &jobs[i]);
		}
		if (in_one_batch)
			rig_run_all(&rig, jobs, N);
		for (int i = 0; i < N; i++) {
			CU_ASSERT_EQUAL(jobs[i].error, 0);
			CU_ASSERT_EQUAL(jobs[i].outcome, cases[i].outcome);
			CU_ASSERT_EQUAL(task_number(jobs[i].existing.id),
				cases[i].existing);
		}
		rig_fini(&rig);
	}
}

static void an_unknown_id_is_told_as_such(void)
{
	static const enum store_op ops[] = {STORE_BEGIN, STORE_END, STORE_NOTE,
		STORE_CALLBACK_DONE, STORE_LOOK, STORE_HISTORY};
	struct rig rig;

	rig_init(&rig);
	rig_open(&rig);
	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		struct store_job job = op_job(ops[i], 9);

		if (ops[i] == STORE_END)
			job = end_job(&rig, 9, STORE_FAILED, "x");
		CU_ASSERT_EQUAL(rig_run(&rig, &job), 0);
		CU_ASSERT_EQUAL(job.outcome, STORE_UNKNOWN);
		store_job_fini(&job);
	}
	rig_fini(&rig);
}

static void the_largest_bodies_come_back_as_they_were(void)
{
	static const size_t sizes[] = {
		0, 1, 4096, 262143, 262144, 262145, 25000000, STORE_BODY_MAX};
	char *body = malloc(STORE_BODY_MAX + 1), *into = malloc(STORE_BODY_MAX);
	struct rig rig;

	rig_init(&rig);
	rig_open(&rig);
	for (size_t i = 0; i < STORE_BODY_MAX + 1; i++)
		body[i] = (char)(i * 2654435761u >> 13);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct store_record record = task_record(i + 1, sizes[i]);
		struct store_job put = put_job(&record, body);
		struct store_job begin = op_job(STORE_BEGIN, i + 1);
		struct store_job end =
			end_job(&rig, i + 1, STORE_SUCCEEDED, NULL);
		struct store_job look = op_job(STORE_LOOK, i + 1);

		CU_ASSERT_EQUAL(rig_run(&rig, &put), 0);
		begin.begin.into = into;
		begin.begin.into_bytes = sizes[i];
		CU_ASSERT_EQUAL(rig_run(&rig, &begin), 0);
		CU_ASSERT_EQUAL(memcmp(into, body, sizes[i]), 0);
		end.end.reply = body + 1;
		end.end.reply_bytes = sizes[i];
		CU_ASSERT_EQUAL(rig_run(&rig, &end), 0);
		look.look.wants_reply = true;
		CU_ASSERT_EQUAL(rig_run(&rig, &look), 0);
		CU_ASSERT_EQUAL(look.record->reply_bytes, sizes[i]);
		CU_ASSERT_EQUAL(look.record->reply_state,
			sizes[i] > 0 ? STORE_REPLY_HELD : STORE_REPLY_NONE);
		if (sizes[i] > 0)
			CU_ASSERT_EQUAL(
				memcmp(look.reply, body + 1, sizes[i]), 0);
		store_job_fini(&look);
	}
	free(body);
	free(into);
	rig_fini(&rig);
}

static void a_bad_job_does_not_fail_its_neighbours(void)
{
	struct store_record records[3];
	struct store_job jobs[5];
	char *body = calloc(1, STORE_BODY_MAX + 1), into[4];
	struct rig rig;

	rig_init(&rig);
	rig_open(&rig);
	for (int i = 0; i < 3; i++) {
		records[i] = task_record(
			(uint64_t)i + 1, i == 1 ? STORE_BODY_MAX + 1 : 3);
		jobs[i] = put_job(&records[i], i == 1 ? body : "abc");
	}
	jobs[3] = op_job(STORE_BEGIN, 1);
	jobs[3].begin.into = into;
	jobs[3].begin.into_bytes = 4; /* it has three */
	jobs[4] = op_job(STORE_BEGIN, 3);
	jobs[4].begin.into = into;
	jobs[4].begin.into_bytes = 3;
	rig_run_all(&rig, jobs, 5);
	CU_ASSERT_EQUAL(jobs[0].error, 0);
	CU_ASSERT_EQUAL(jobs[1].error, -EFBIG);
	CU_ASSERT(jobs[1].why[0] != '\0');
	CU_ASSERT_EQUAL(jobs[2].error, 0);
	CU_ASSERT_EQUAL(jobs[3].error, -EINVAL);
	CU_ASSERT_EQUAL(jobs[4].error, 0);
	for (uint64_t i = 1; i <= 3; i++) {
		struct store_record *found = look_at(&rig, i);

		CU_ASSERT_EQUAL(found != NULL, i != 2);
		/* What the failed one had begun is undone. */
		if (found != NULL)
			CU_ASSERT_EQUAL(found->runs, i == 3);
		free(found);
	}
	free(body);
	rig_fini(&rig);
}

static void the_history_says_what_happened(void)
{
	struct rig rig;
	struct store_job begin = op_job(STORE_BEGIN, 1);
	struct store_job note = op_job(STORE_NOTE, 1);
	struct store_job history = op_job(STORE_HISTORY, 1);
	struct store_record *found;

	rig_init(&rig);
	rig_open(&rig);
	put_task(&rig, 1, "x");
	rig_run(&rig, &begin);
	note.note.event = STORE_EVENT_REISSUED;
	note.note.at_ns = 50;
	note.note.text = "rgovd died";
	note.note.is_queued = true;
	CU_ASSERT_EQUAL(rig_run(&rig, &note), 0);
	found = look_at(&rig, 1);
	CU_ASSERT_EQUAL(found->state, STORE_QUEUED);
	free(found);
	rig_run(&rig, &begin);
	/* More than is kept: the end is in it all the same. */
	note.note.event = STORE_EVENT_RETRIED;
	note.note.is_queued = false;
	for (int i = 0; i < 2 * STORE_EVENTS_MAX; i++)
		CU_ASSERT_EQUAL(rig_run(&rig, &note), 0);
	CU_ASSERT_EQUAL(end_task(&rig, 1, STORE_FAILED, NULL), 0);
	CU_ASSERT_EQUAL(rig_run(&rig, &history), 0);
	CU_ASSERT_EQUAL_FATAL(history.n_rows, STORE_EVENTS_MAX + 2);
	CU_ASSERT_EQUAL(history.events[0].event, STORE_EVENT_SUBMITTED);
	CU_ASSERT_EQUAL(history.events[0].at_ns, 1000 * HOUR_NS + 1);
	CU_ASSERT_EQUAL(history.events[1].event, STORE_EVENT_STARTED);
	CU_ASSERT_EQUAL(history.events[1].detail, 1);
	CU_ASSERT_EQUAL(history.events[2].event, STORE_EVENT_REISSUED);
	CU_ASSERT_STRING_EQUAL(history.events[2].text, "rgovd died");
	CU_ASSERT_EQUAL(history.events[3].detail, 2);
	CU_ASSERT_EQUAL(
		history.events[history.n_rows - 1].event, STORE_EVENT_ENDED);
	CU_ASSERT_EQUAL(
		history.events[history.n_rows - 1].detail, STORE_FAILED);
	store_job_fini(&history);
	rig_fini(&rig);
}

static int count_record(const struct store_record *record, void *arg)
{
	uint64_t *last = arg;

	CU_ASSERT(task_number(record->id) > last[0]);
	last[0] = task_number(record->id);
	last[1]++;
	last[2] += record->state == STORE_RUNNING;
	return 0;
}

static void callbacks_are_pending_until_they_are_done(void)
{
	struct rig rig;
	struct store_job done = op_job(STORE_CALLBACK_DONE, 2);
	uint64_t seen[3] = {0};
	struct store_record *found;

	rig_init(&rig);
	rig_open(&rig);
	for (uint64_t i = 1; i <= 4; i++) {
		struct store_record record = task_record(i, 0);
		struct store_job put = put_job(&record, NULL);

		record.callback = i < 4 ? "http://localhost/" : "";
		rig_run(&rig, &put);
		if (i != 3)
			end_task(&rig, i, STORE_FAILED, NULL);
	}
	rig_close(&rig);
	rig_open(&rig);
	CU_ASSERT_EQUAL(
		store_recover_callbacks(rig.store, count_record, seen, rig.why),
		0);
	CU_ASSERT_EQUAL(seen[1], 2);
	done.callback.is_delivered = true;
	CU_ASSERT_EQUAL(rig_run(&rig, &done), 0);
	CU_ASSERT_EQUAL(done.outcome, STORE_DONE);
	CU_ASSERT_EQUAL(rig_run(&rig, &done), 0);
	CU_ASSERT_EQUAL(done.outcome, STORE_ALREADY);
	found = look_at(&rig, 2);
	CU_ASSERT_EQUAL(found->callback_state, STORE_CALLBACK_DELIVERED);
	free(found);
	memset(seen, 0, sizeof(seen));
	CU_ASSERT_EQUAL(
		store_recover_callbacks(rig.store, count_record, seen, rig.why),
		0);
	CU_ASSERT_EQUAL(seen[1], 1);
	rig_fini(&rig);
}

static void what_has_not_ended_is_told_in_order(void)
{
	struct rig rig;
	uint64_t seen[3] = {0};

	rig_init(&rig);
	rig_open(&rig);
	for (uint64_t i = 1; i <= 30; i++) {
		struct store_job begin = op_job(STORE_BEGIN, i);

		put_task(&rig, i, "x");
		if (i % 3 == 0)
			rig_run(&rig, &begin);
		if (i % 2 == 0)
			end_task(&rig, i, STORE_SUCCEEDED, "y");
	}
	for (int again = 0; again < 2; again++) {
		memset(seen, 0, sizeof(seen));
		CU_ASSERT_EQUAL(
			store_recover(rig.store, count_record, seen, rig.why),
			0);
		CU_ASSERT_EQUAL(seen[1], 15);
		CU_ASSERT_EQUAL(seen[2], 5); /* 3, 9, 15, 21, 27 */
		rig_close(&rig);
		rig_open(&rig);
	}
	rig_fini(&rig);
}

enum { ASKED = 200 };

struct asking {
	struct rig *rig;
	struct store_job jobs[2 * ASKED];
	int n, done;
};

/* As rgovd does: what was running is noted, what is to be told is looked at. */
static int ask_meanwhile(const struct store_record *record, void *arg)
{
	struct asking *asking = arg;

	for (int i = 0; i < 2; i++) {
		struct store_job *job = &asking->jobs[asking->n++];

		*job = op_job(i == 0 ? STORE_LOOK : STORE_NOTE, 1);
		memcpy(job->id, record->id, STORE_ID_BYTES);
		job->done = rig_done;
		job->owner = &asking->done;
		store_submit(asking->rig->store, job);
	}
	return 0;
}

static void who_is_told_may_ask_at_once(void)
{
	static struct asking asking;
	struct rig rig;

	rig_init(&rig);
	rig_open(&rig);
	for (uint64_t i = 1; i <= ASKED; i++)
		put_task(&rig, i, "x");
	rig_close(&rig);
	rig_open(&rig);
	asking = (struct asking){.rig = &rig};
	CU_ASSERT_EQUAL(
		store_recover(rig.store, ask_meanwhile, &asking, rig.why), 0);
	CU_ASSERT_EQUAL(asking.n, 2 * ASKED);
	while (asking.done < asking.n) {
		loop_step(rig.loop, loop_now_ns() + 1000000000u);
		store_collect(rig.store);
	}
	for (int i = 0; i < asking.n; i++) {
		CU_ASSERT_EQUAL(asking.jobs[i].error, 0);
		CU_ASSERT_EQUAL(asking.jobs[i].outcome, STORE_DONE);
		store_job_fini(&asking.jobs[i]);
	}
	rig_fini(&rig);
}

/* A part of the file is looked through at a time. */
enum { MANY = 9000 };

static void fill_list(struct rig *rig)
{
	static struct store_record records[MANY];
	static struct store_job jobs[MANY];

	for (int i = 0; i < MANY; i++) {
		records[i] = task_record((uint64_t)i + 1, 0);
		records[i].uid = i % 100 == 7 ? 7 : 1000;
		records[i].user = i == 40 ? "bob" : "alice";
		records[i].key = i == 50 ? "needle-in-key" : "";
		jobs[i] = put_job(&records[i], NULL);
	}
	rig_run_all(rig, jobs, MANY);
}

static void a_list_is_filtered_and_paged(void)
{
	struct rig rig;
	struct store_job list = {.op = STORE_LIST};
	unsigned int pages = 0, total = 0;
	uint64_t last = UINT64_MAX;

	rig_init(&rig);
	rig_open(&rig);
	fill_list(&rig);
	end_task(&rig, 8, STORE_FAILED, NULL);

	list.list =
		(struct store_filter){.has_uid = true, .uid = 7, .limit = 40};
	do {
		CU_ASSERT_EQUAL(rig_run(&rig, &list), 0);
		for (unsigned int i = 0; i < list.n_rows; i++) {
			CU_ASSERT_EQUAL(list.rows[i]->uid, 7);
			CU_ASSERT(task_number(list.rows[i]->id) < last);
			last = task_number(list.rows[i]->id);
		}
		list.list.has_after = true;
		memcpy(list.list.after, list.rows[list.n_rows - 1]->id, 16);
		total += list.n_rows;
		pages++;
		store_job_fini(&list);
	} while (list.is_more);
	CU_ASSERT_EQUAL(total, MANY / 100);
	CU_ASSERT_EQUAL(pages, 3);

	list.list = (struct store_filter){.user = "bob", .limit = 5000};
	CU_ASSERT_EQUAL(rig_run(&rig, &list), 0);
	CU_ASSERT_EQUAL_FATAL(list.n_rows, 1);
	CU_ASSERT_EQUAL(task_number(list.rows[0]->id), 41);
	CU_ASSERT(!list.is_more);
	store_job_fini(&list);
	list.list = (struct store_filter){.text = "needle", .limit = 10};
	CU_ASSERT_EQUAL(rig_run(&rig, &list), 0);
	CU_ASSERT_EQUAL_FATAL(list.n_rows, 1);
	CU_ASSERT_EQUAL(task_number(list.rows[0]->id), 51);
	store_job_fini(&list);
	list.list = (struct store_filter){
		.states = 1u << STORE_FAILED, .limit = 10};
	CU_ASSERT_EQUAL(rig_run(&rig, &list), 0);
	CU_ASSERT_EQUAL_FATAL(list.n_rows, 1);
	CU_ASSERT_EQUAL(task_number(list.rows[0]->id), 8);
	store_job_fini(&list);
	list.list = (struct store_filter){.limit = 5000};
	CU_ASSERT_EQUAL(rig_run(&rig, &list), 0);
	CU_ASSERT_EQUAL(list.n_rows, STORE_LIST_MAX);
	CU_ASSERT(list.is_more);
	store_job_fini(&list);
	list.list = (struct store_filter){.limit = 0};
	CU_ASSERT_EQUAL(rig_run(&rig, &list), 0);
	CU_ASSERT_EQUAL(list.n_rows, 0);
	store_job_fini(&list);
	rig_fini(&rig);
}

static int64_t count_rows(struct rig *rig, const char *select)
{
	sqlite3 *db;
	sqlite3_stmt *count;
	int64_t n = -1;

	if (sqlite3_open(rig->path, &db) != SQLITE_OK ||
		sqlite3_prepare_v2(db, select, -1, &count, NULL) != SQLITE_OK)
		abort();
	if (sqlite3_step(count) == SQLITE_ROW)
		n = sqlite3_column_int64(count, 0);
	sqlite3_finalize(count);
	sqlite3_close(db);
	return n;
}

/* A prompt is kept no longer than it is needed. */
static void the_body_goes_with_the_end(void)
{
	struct rig rig;

	rig_init(&rig);
	rig_open(&rig);
	for (uint64_t i = 1; i <= 6; i++)
		put_task(&rig, i, "a prompt");
	for (uint64_t i = 1; i <= 4; i++)
		end_task(&rig, i, (enum store_state)(STORE_SUCCEEDED + i - 1),
			"a reply");
	CU_ASSERT_EQUAL(
		count_rows(&rig, "SELECT count(*) FROM request_part"), 2);
	CU_ASSERT_EQUAL(count_rows(&rig, "SELECT count(*) FROM reply_part"), 4);
	rig_fini(&rig);
}

static void who_is_alone_never_waits_for_others(void)
{
	struct rig rig;

	rig_init(&rig);
	rig_open(&rig);
	for (uint64_t i = 1; i <= 50; i++) {
		CU_ASSERT_EQUAL(put_task(&rig, i, "x"), 0);
		/* How many it expects to come together. */
		CU_ASSERT(rig.store->crowd <= 1);
	}
	rig_fini(&rig);
}

static void closing_does_what_was_submitted(void)
{
	enum { N = 2000 };
	static struct store_record records[N];
	static struct store_job jobs[N];
	struct rig rig;
	int done = 0;
	uint64_t seen[3] = {0};

	rig_init(&rig);
	rig_open(&rig);
	for (int i = 0; i < N; i++) {
		records[i] = task_record((uint64_t)i + 1, 2);
		jobs[i] = put_job(&records[i], "{}");
		jobs[i].done = rig_done;
		jobs[i].owner = &done;
		store_submit(rig.store, &jobs[i]);
	}
	rig_close(&rig);
	CU_ASSERT_EQUAL(done, N);
	rig_open(&rig);
	store_recover(rig.store, count_record, seen, rig.why);
	CU_ASSERT_EQUAL(seen[1], N);
	rig_fini(&rig);
}

SUITE("store jobs", T(a_task_from_its_submission_to_its_reply),
	T(a_task_ends_once), T(the_same_request_is_stored_once),
	T(an_unknown_id_is_told_as_such),
	T(the_largest_bodies_come_back_as_they_were),
	T(a_bad_job_does_not_fail_its_neighbours),
	T(the_history_says_what_happened),
	T(callbacks_are_pending_until_they_are_done),
	T(what_has_not_ended_is_told_in_order), T(who_is_told_may_ask_at_once),
	T(a_list_is_filtered_and_paged), T(the_body_goes_with_the_end),
	T(who_is_alone_never_waits_for_others),
	T(closing_does_what_was_submitted))
