/*
 * Puts tasks into a store that no rgovd has, as if one had accepted them.
 *
 * usage: task_fill FILE COUNT UID MODEL BODY
 */
#include "coordinator/store/store.h"
#include "coordinator/upstream/digest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

static int64_t now_wall_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void on_done(struct store_job *job)
{
	*(int *)job->owner = 1;
}

static void make_id(int number, uint8_t ret_id[STORE_ID_BYTES])
{
	uint64_t ms = (uint64_t)now_wall_ns() / 1000000;

	memset(ret_id, 0, STORE_ID_BYTES);
	for (int i = 0; i < 6; i++)
		ret_id[i] = (uint8_t)(ms >> (40 - 8 * i));
	ret_id[6] = 0x70;
	ret_id[8] = 0x80;
	for (int i = 0; i < 4; i++)
		ret_id[12 + i] = (uint8_t)(number >> (24 - 8 * i));
}

static int put(struct store *store, struct loop *loop,
	const struct store_record *record, const char *body)
{
	int is_done = 0;
	struct store_job job = {.op = STORE_PUT,
		.done = on_done,
		.owner = &is_done,
		.put = {.record = record, .body = body}};

	store_submit(store, &job);
	while (!is_done) {
		(void)loop_step(loop, loop_now_ns() + 1000000000u);
		(void)store_collect(store);
	}
	if (job.error != 0)
		(void)fprintf(stderr, "task_fill: %s\n", job.why);
	return job.error;
}

int main(int argc, char **argv)
{
	const struct store_config config = {
		.result_ttl_ns = INT64_C(86400000000000),
		.record_ttl_ns = INT64_C(7) * 86400000000000};
	struct digest *digest = digest_create();
	struct store *store;
	struct loop *loop;
	char why[STORE_WHY_BYTES] = "no event loop";
	int rc = 0;

	if (argc != 6)
		return EX_USAGE;
	if (loop_create(LOOP_AUTO, &loop) != 0 ||
		store_open(argv[1], &config, loop, &store, why) != 0) {
		(void)fprintf(stderr, "task_fill: %s\n", why);
		return EX_CANTCREAT;
	}
	for (int i = 0; rc == 0 && i < atoi(argv[2]); i++) {
		struct store_record record = {.uid = (uint32_t)atoi(argv[3]),
			.model = argv[4],
			.user = "filled",
			.app = "task_fill",
			.class = 1,
			.is_idempotent = true,
			.body_bytes = strlen(argv[5]),
			.submitted_ns = now_wall_ns(),
			.deadline_ns = now_wall_ns() + INT64_C(3600000000000),
			.input_tokens = 10,
			.output_tokens = 10};

		make_id(i, record.id);
		if (digest_sha256(digest, argv[5], record.body_bytes,
			    record.body_sha256) != 0)
			return EX_OSERR;
		rc = put(store, loop, &record, argv[5]);
	}
	store_close(store);
	loop_free(loop);
	digest_free(digest);
	return rc == 0 ? 0 : EX_IOERR;
}
