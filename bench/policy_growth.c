/*
 * What a decision of the policy costs as the queue grows: 1,000 requests of 100
 * users against 1,000,000 of 100,000, in turn, in one process; and the memory
 * that a queued request takes beside its body, with rgovd's own object.
 *
 * One cycle, with every kind of limit set and the concurrency full: a request
 * ends with its usage, its user's next one is enqueued, the next in order is
 * admitted, and the question after it says "nobody".
 *
 * usage: policy_growth FILE.json
 */
#include "bench/measure.h"
#include "coordinator/request.h"

#include <malloc.h>

enum { ROUNDS = 9, CYCLES = 40000, WARM_UP = 10000, CONCURRENT = 64 };

#define COST_BOUND 3.0
#define BYTES_BOUND 512.0

struct scale {
	uint32_t requests, users;
	struct policy *policy;
	struct request *all;
	struct request *running[CONCURRENT];
	uint64_t now_ns, random;
	double bytes_per_request, bytes_per_user;
	double cycle_ns[ROUNDS];
};

static uint32_t draw(struct scale *scale, uint32_t below)
{
	scale->random =
		scale->random * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)((scale->random >> 33) % below);
}

/* Limits that are looked at and do not bind: the concurrency does. */
static void create_policy(struct scale *scale)
{
	static const struct policy_model model = {.pattern = "m*",
		.requests_per_minute = 60000,
		.tokens_per_minute = UINT64_C(1) << 38,
		.tokens_per_day = UINT64_C(1) << 48,
		.max_concurrent = 10 * CONCURRENT,
		.default_max_tokens = 4096,
		.output_burndown = 5};
	struct policy_config config = {
		.max_concurrent = CONCURRENT,
		.requests_per_minute = 60000,
		.tokens_per_minute = UINT64_C(1) << 39,
		.max_requests_per_user = 2,
		.max_queued = UINT32_MAX,
		.minute_ns = 60000000000,
		.guard_ns = 1000000000,
		.age_after_ns = 3600000000000,
		.batch_share = 0.5,
		.max_attempts = 3,
		.throttle_base_ns = 1000000000,
		.transient_base_ns = 50000000,
		.backoff_cap_ns = 20000000000,
		.probe_ok_after_ns = 2000000000,
		.retry_budget = 500,
		.adaptive = true,
		.seed = 1,
		.models = &model,
		.n_models = 1,
	};

	if (policy_create(&config, &scale->policy) != 0)
		DIE("no memory for the policy");
}

static void enqueue(struct scale *scale, struct request *request)
{
	uint64_t retry_after_ns;

	request->policy.deadline_ns = scale->now_ns + 3600000000000;
	if (policy_enqueue(scale->policy, &request->policy, scale->now_ns,
		    &retry_after_ns) != POLICY_ACCEPTED)
		DIE("a request was refused");
}

static double heap_bytes(void)
{
	struct mallinfo2 info = mallinfo2();

	return (double)info.uordblks + (double)info.hblkhd;
}

/* "u" and the number in sixes of bits; the name is inside the request, as in
 * rgovd. */
static const char *name_user(struct request *request, uint32_t user)
{
	char *at = request->texts;

	*at++ = 'u';
	for (; user > 0; user >>= 6)
		*at++ = (char)('0' + (user & 63));
	*at = '\0';
	return request->texts;
}

/* A new request, in the memory of one that ended. */
static void describe(
	struct scale *scale, struct request *request, uint32_t user)
{
	request->policy = (struct policy_request){
		.model_id = "m",
		.user = name_user(request, user),
		.app = user % 2 ? "uid 1000" : "uid 1001",
		.class = POLICY_NORMAL,
		.input_tokens = 100 + draw(scale, 2000),
		.output_tokens = 200 + draw(scale, 800),
	};
}

/* rgovd allocates each of them: glibc adds a word and rounds up. */
static double object_bytes(void)
{
	return (double)((sizeof(struct request) + sizeof(size_t) + 15) &
			~(size_t)15);
}

/* A user's first request makes the user; the others only wait. */
static void fill(struct scale *scale)
{
	double before;

	scale->all = calloc(scale->requests, sizeof(*scale->all));
	if (scale->all == NULL)
		DIE("no memory for %u requests", scale->requests);
	before = heap_bytes();
	for (uint32_t i = 0; i < scale->requests; i++) {
		if (i == scale->users) {
			scale->bytes_per_user =
				(heap_bytes() - before) / scale->users;
			before = heap_bytes();
		}
		describe(scale, &scale->all[i], i % scale->users);
		scale->now_ns += 1000;
		enqueue(scale, &scale->all[i]);
	}
	scale->bytes_per_request =
		object_bytes() +
		(heap_bytes() - before) / (scale->requests - scale->users);
}

static struct request *admit(struct scale *scale)
{
	uint64_t next_ns;
	struct policy_request *next =
		policy_admit(scale->policy, scale->now_ns, &next_ns);

	if (next == NULL)
		return NULL;
	policy_started(scale->policy, next, scale->now_ns);
	return (struct request *)(void *)next;
}

static void cycle(struct scale *scale)
{
	uint32_t place = draw(scale, CONCURRENT);
	struct request *request = scale->running[place];
	struct policy_usage usage = {1000, draw(scale, 500), -1, -1};

	/* In a minute far fewer start than the windows allow. */
	scale->now_ns += 1100000;
	policy_finish(scale->policy, &request->policy, POLICY_DONE, &usage,
		scale->now_ns);
	describe(scale, request,
		(uint32_t)(request - scale->all) % scale->users);
	enqueue(scale, request);
	scale->running[place] = admit(scale);
	if (scale->running[place] == NULL || admit(scale) != NULL)
		DIE("the concurrency is not what it should be");
}

static void start(struct scale *scale)
{
	create_policy(scale);
	fill(scale);
	for (int i = 0; i < CONCURRENT; i++)
		if ((scale->running[i] = admit(scale)) == NULL)
			DIE("the concurrency does not fill");
	for (int i = 0; i < WARM_UP; i++)
		cycle(scale);
}

static void measure(struct scale *scale, int round)
{
	uint64_t begin_ns = now_ns();

	for (int i = 0; i < CYCLES; i++)
		cycle(scale);
	scale->cycle_ns[round] = (double)(now_ns() - begin_ns) / CYCLES;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const double values[ROUNDS])
{
	double sorted[ROUNDS];

	memcpy(sorted, values, sizeof(sorted));
	qsort(sorted, ROUNDS, sizeof(*sorted), compare);
	return sorted[ROUNDS / 2];
}

static void report(
	const struct scale *small, const struct scale *large, const char *path)
{
	double ratios[ROUNDS], ratio;
	FILE *file = fopen(path, "w");

	if (file == NULL)
		DIE("%s: %s", path, strerror(errno));
	for (int i = 0; i < ROUNDS; i++)
		ratios[i] = large->cycle_ns[i] / small->cycle_ns[i];
	ratio = median(ratios);
	(void)printf("%-46s %9.0f ns\n%-46s %9.0f ns\n",
		"a decision, 1,000 queued of 100 users",
		median(small->cycle_ns),
		"a decision, 1,000,000 queued of 100,000 users",
		median(large->cycle_ns));
	(void)printf("%-46s %9.2f    bound %.0f: %s\n", "ratio", ratio,
		COST_BOUND, ratio <= COST_BOUND ? "met" : "MISSED");
	(void)printf("%-46s %9.0f    bound %.0f: %s\n",
		"bytes of a queued request beside its body",
		large->bytes_per_request, BYTES_BOUND,
		large->bytes_per_request <= BYTES_BOUND ? "met" : "MISSED");
	(void)printf("%-46s %9.0f\n", "bytes of a user", large->bytes_per_user);
	(void)fprintf(file,
		"{\"decision_small_ns\": %.0f, \"decision_large_ns\": %.0f, "
		"\"decision_growth\": %.3f, \"decision_growth_bound\": %.1f,\n"
		" \"bytes_per_queued_request\": %.0f, "
		"\"bytes_per_queued_request_bound\": %.0f, "
		"\"bytes_per_user\": %.0f}\n",
		median(small->cycle_ns), median(large->cycle_ns), ratio,
		COST_BOUND, large->bytes_per_request, BYTES_BOUND,
		large->bytes_per_user);
	if (fclose(file) != 0)
		DIE("%s: %s", path, strerror(errno));
}

int main(int argc, char **argv)
{
	static struct scale small = {
		.requests = 1000, .users = 100, .random = 1};
	static struct scale large = {
		.requests = 1000000, .users = 100000, .random = 1};

	if (argc != 2)
		DIE("usage: policy_growth FILE.json");
	start(&large);
	start(&small);
	for (int round = 0; round < ROUNDS; round++) {
		measure(&small, round);
		measure(&large, round);
	}
	report(&small, &large, argv[1]);
	return 0;
}
