/*
 * One quota over several hosts: leases (coordinator/policy), the script in a
 * real Redis, and what docs/cluster.md promises of both.  SEED=N replays the
 * random scenarios from N on, SCENARIOS=N has so many.
 */
#include "tests/unit/cluster/world.h"
#include "tests/unit/suite.h"

#include <time.h>

static struct redis_rig redis;
static struct world world;

static void stop_redis(void)
{
	redis_stop(&redis);
}

static bool begin(uint64_t seed)
{
	static bool is_tried;

	if (!is_tried) {
		is_tried = true;
		if (redis_start(&redis))
			(void)atexit(stop_redis);
	}
	if (redis.context == NULL) {
		suite_skip("no redis-server here");
		return false;
	}
	world_init(&world, &redis, seed);
	return true;
}

static void end(void)
{
	if (world.violations > 0)
		printf("     %s\n", world.why);
	CU_ASSERT_EQUAL(world.violations, 0);
	CU_ASSERT_EQUAL(world.errors, 0);
	world_fini(&world);
}

static void all_up(uint32_t n_hosts)
{
	world.n_hosts = n_hosts;
	for (uint32_t i = 0; i < n_hosts; i++)
		host_up(&world, &world.hosts[i], true);
}

static uint64_t at(double seconds)
{
	return (uint64_t)(seconds * 1e9);
}

/* Of all hosts, or of one, between then and now. */
static uint64_t starts_of(int host)
{
	uint64_t sum = 0;

	for (int i = 0; i < WORLD_HOSTS; i++)
		if (host < 0 || i == host)
			sum += world.hosts[i].starts;
	return sum;
}

static void keep_busy(uint32_t backlog)
{
	for (uint32_t i = 0; i < world.n_hosts; i++)
		world.hosts[i].backlog = backlog;
}

/* --------------------------------------------------------------- utilisation
 */

static void print_script_time(void)
{
	redisReply *reply = redisCommand(redis.context, "INFO commandstats");
	const char *script = strstr(reply->str, "cmdstat_evalsha:");

	if (script != NULL)
		printf("# %.*s\n", (int)strcspn(script, "\r\n"), script);
	freeReplyObject(reply);
}

static void check_busy(uint32_t quota, uint32_t backlog)
{
	uint64_t before, own[3], sum, least = UINT64_MAX, most = 0;
	struct timespec begun, ended;
	long long calls;

	world_limit(&world, 0, quota, 0);
	for (uint32_t i = 0; i < 3; i++) {
		world.hosts[i].n_calls = 4 * backlog;
		world.hosts[i].calls = realloc(world.hosts[i].calls,
			4 * backlog * sizeof(struct call));
		memset(world.hosts[i].calls, 0,
			4 * backlog * sizeof(struct call));
	}
	all_up(3);
	keep_busy(backlog);
	world_run(&world, at(130));
	before = starts_of(-1);
	for (int i = 0; i < 3; i++)
		own[i] = starts_of(i);
	freeReplyObject(redisCommand(redis.context, "CONFIG RESETSTAT"));
	calls = (long long)world.script_calls;
	(void)clock_gettime(CLOCK_MONOTONIC, &begun);
	world_run(&world, at(130 + 183));
	(void)clock_gettime(CLOCK_MONOTONIC, &ended);
	sum = starts_of(-1) - before;
	for (int i = 0; i < 3; i++) {
		own[i] = starts_of(i) - own[i];
		least = own[i] < least ? own[i] : least;
		most = own[i] > most ? own[i] : most;
	}
	/* Windows are a second of guard longer than the minute. */
	printf("# %u a minute, all busy: %.2f %% used; shares %llu to %llu; "
	       "%.2f script calls a second and host\n",
		quota, (double)sum * 100 / (3.0 * quota),
		(unsigned long long)least, (unsigned long long)most,
		(double)((long long)world.script_calls - calls) / 183 / 3);
	print_script_time();
	CU_ASSERT((double)sum >= 0.95 * 3 * quota);
	CU_ASSERT((double)(most - least) <= 0.05 * quota + 3);
}

static void all_busy_share_equally(void)
{
	if (!begin(1))
		return;
	check_busy(600, 40);
	end();
}

static void a_thousand_a_second(void)
{
	if (!begin(2))
		return;
	world.ends_every_ns = 100 * WORLD_MS;
	world.connect_ns = 1;
	check_busy(60000, 500);
	end();
}

static void one_alone_has_everything(void)
{
	uint64_t before;

	if (!begin(3))
		return;
	world_limit(&world, 0, 600, 0);
	all_up(3);
	world.hosts[1].backlog = 40;
	world_run(&world, at(130));
	before = starts_of(1);
	world_run(&world, at(130 + 183));
	printf("# one busy of three: %.2f %% used\n",
		(double)(starts_of(1) - before) * 100 / 1800);
	CU_ASSERT(starts_of(1) - before >= 1710);
	end();
}

static void shares_follow_the_demand(void)
{
	uint64_t before[3];

	if (!begin(4))
		return;
	world_limit(&world, 0, 600, 0);
	all_up(3);
	world.hosts[0].backlog = 40;
	world_run(&world, at(200));
	keep_busy(40);
	world_run(&world, at(322)); /* two windows later */
	for (int i = 0; i < 3; i++)
		before[i] = starts_of(i);
	world_run(&world, at(322 + 122));
	for (int i = 0; i < 3; i++) {
		CU_ASSERT(starts_of(i) - before[i] >= 380 - 20);
		CU_ASSERT(starts_of(i) - before[i] <= 400 + 20);
	}
	end();
}

static void tokens_are_shared_too(void)
{
	uint64_t before;
	double used;

	if (!begin(5))
		return;
	world_limit(&world, 0, 0, 60000);
	world.tokens = 2000;
	all_up(3);
	keep_busy(20);
	world_run(&world, at(200));
	before = starts_of(-1);
	for (int i = 0; i < 3; i++)
		world.hosts[i].starts = 0;
	world_run(&world, at(200 + 300));
	used = (double)starts_of(-1);
	printf("# tokens: starts %llu %llu %llu\n",
		(unsigned long long)starts_of(0),
		(unsigned long long)starts_of(1),
		(unsigned long long)starts_of(2));
	(void)before;
	/* About a half of what was reserved comes back. */
	CU_ASSERT(used * 1000 * 0.53 >= 0.95 * 300000);
	for (int i = 0; i < 3; i++)
		CU_ASSERT(starts_of(i) >= (uint64_t)(used / 3 * 0.9));
	end();
}

/* ----------------------------------------------------------------------- loss
 */

/* Redis dies while all are busy: a third each, and no more in sum. */
static void a_lost_redis_leaves_shares(void)
{
	uint64_t before[3];

	if (!begin(6))
		return;
	world_limit(&world, 0, 600, 0);
	all_up(3);
	keep_busy(40);
	world_run(&world, at(200));
	world.is_redis_down = true;
	world_run(&world, at(300));
	for (int i = 0; i < 3; i++)
		before[i] = starts_of(i);
	world_run(&world, at(300 + 183));
	for (int i = 0; i < 3; i++)
		CU_ASSERT(starts_of(i) - before[i] >= 570);
	/* And back, with nothing left: no burst, then all of it again. */
	world.is_redis_down = false;
	world_empty_redis(&world);
	world_run(&world, at(700));
	before[0] = starts_of(-1);
	world_run(&world, at(700 + 122));
	CU_ASSERT(starts_of(-1) - before[0] >= 1140);
	end();
}

static void stop_stops(void)
{
	uint64_t before;

	if (!begin(7))
		return;
	world.terms.loss = LEASE_STOP;
	world_limit(&world, 0, 600, 0);
	all_up(3);
	keep_busy(40);
	world_run(&world, at(200));
	world.is_redis_down = true;
	world_run(&world, at(204));
	before = starts_of(-1);
	world_run(&world, at(400));
	CU_ASSERT_EQUAL(starts_of(-1), before);
	end();
}

/* The share of a silent host is kept; of one that said good-bye it is not. */
static void a_good_bye_frees_at_once(void)
{
	uint64_t before;

	if (!begin(8))
		return;
	world_limit(&world, 0, 600, 0);
	all_up(3);
	keep_busy(40);
	world_run(&world, at(200));
	host_cut(&world, &world.hosts[2], true);
	world_run(&world, at(400));
	before = starts_of(0) + starts_of(1);
	world_run(&world, at(400 + 122));
	CU_ASSERT(starts_of(0) + starts_of(1) - before <= 800 + 20);
	host_cut(&world, &world.hosts[2], false);
	world_run(&world, at(600));
	world.hosts[2].is_leaving = true;
	world_run(&world, at(610));
	host_kill(&world.hosts[2]);
	world_run(&world, at(672));
	before = starts_of(0) + starts_of(1);
	world_run(&world, at(672 + 122));
	CU_ASSERT(starts_of(0) + starts_of(1) - before >= 1140);
	end();
}

/* ------------------------------------------------------------------------ keys
 */

static void keys_expire_and_strangers_are_refused(void)
{
	if (!begin(9))
		return;
	world_limit(&world, 0, 10, 0);
	all_up(1);
	keep_busy(5);
	world_run(&world, at(100));
	CU_ASSERT(redis_number(&redis, "PTTL rgov:{a}:members") > 61000);
	CU_ASSERT(redis_number(&redis, "PTTL rgov:{a}:host") > 61000);
	CU_ASSERT(redis_number(&redis, "HLEN rgov:{a}:host") <= 2);
	CU_ASSERT_EQUAL(world.errors, 0);
	(void)redis_number(&redis, "DEL rgov:{a}:host");
	freeReplyObject(redisCommand(redis.context, "SET rgov:{a}:host x"));
	world_run(&world, at(110));
	CU_ASSERT(world.errors > 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(world.why, "is not a key of rgov"));
	world.errors = world.violations = 0;
	end();
}

/* ------------------------------------------------------- whatever may happen
 */

/* Off for a while, then everything is well again. */
static void disturb(void)
{
	struct host *host = &world.hosts[world_random(&world, world.n_hosts)];

	switch (world_random(&world, 14)) {
	case 0:
	case 1:
		if (host->is_up)
			host_cut(&world, host, true);
		break;
	case 2:
	case 3:
	case 4:
		host_cut(&world, host, false);
		break;
	case 5:
	case 6: {
		bool has_board = world_random(&world, 2) == 0;

		host_kill(host);
		if (world_random(&world, 3) > 0)
			host_up(&world, host, has_board);
		break;
	}
	case 7:
		if (!host->is_up)
			host_up(&world, host, world_random(&world, 2) == 0);
		break;
	case 8:
		if (world_random(&world, 2) == 0)
			world_empty_redis(&world);
		break;
	case 9:
		if (world_random(&world, 2) == 0)
			world_go_back(&world);
		else
			world_save(&world);
		break;
	case 10:
		world.is_redis_down = !world.is_redis_down;
		break;
	case 11: /* less than the guard, or backwards */
		world.redis_us -= (int64_t)world_random(&world, 3000000);
		break;
	case 12:
		host->is_leaving = true;
		break;
	default:
		host->backlog = (uint32_t)world_random(&world, 3) * 15;
		host->mean_ns = world_random(&world, 2) *
				(world.config.minute_ns / 500 +
					world_random(&world,
						world.config.minute_ns / 4));
		break;
	}
}

static uint32_t any_limit(void)
{
	static const uint32_t limits[] = {0, 2, 5, 10, 33, 100, 300};

	return limits[world_random(&world, 7)];
}

static void play(uint64_t seed)
{
	uint64_t minute_ns;

	world_init(&world, &redis, seed);
	minute_ns = (world_random(&world, 2) ? 60 : 5) * WORLD_S;
	world.config.minute_ns = minute_ns;
	world.config.guard_ns = minute_ns / 60;
	world.n_hosts = 1 + (uint32_t)world_random(&world, 4);
	world.terms.hosts = world.n_hosts + (uint32_t)world_random(&world, 2);
	world.terms.loss =
		world_random(&world, 3) == 0 ? LEASE_STOP : LEASE_SHARE;
	world.terms.forget_ns = 100 * minute_ns;
	for (int i = 0; i < WORLD_LIMITS; i++)
		world_limit(&world, i, any_limit(), any_limit() * 10ull);
	world.loss_permille = (uint32_t)world_random(&world, 3) * 30;
	world.late_permille = (uint32_t)world_random(&world, 3) * 30;
	world.connect_ns = minute_ns / 8;
	all_up(world.n_hosts);
	keep_busy(10);
	for (uint64_t end_ns = 0; end_ns < 5 * minute_ns;) {
		end_ns += world_random(&world, minute_ns / 2);
		world_run(&world, end_ns);
		disturb();
	}
}

/* Starts of the host and each lane in any window, and tokens in any bucket. */
static void nobody_exceeds_the_quota(void)
{
	const char *seed = getenv("SEED"), *many = getenv("SCENARIOS");
	uint64_t first = seed ? strtoull(seed, NULL, 0) : 1;
	uint64_t n = many ? strtoull(many, NULL, 0) : 300;
	uint64_t starts = 0, calls = 0, bad = 0, errors = 0;

	if (!begin(0))
		return;
	world_fini(&world);
	for (uint64_t i = first; i < first + n; i++) {
		play(i);
		if (world.violations > 0 && bad++ < 5)
			printf("     SEED=%llu: %s\n", (unsigned long long)i,
				world.why);
		starts += starts_of(-1);
		calls += world.script_calls;
		errors += world.errors;
		world_fini(&world);
	}
	printf("# SEED=%llu SCENARIOS=%llu: %llu starts, %llu script calls, "
	       "%llu scenarios broke the quota\n",
		(unsigned long long)first, (unsigned long long)n,
		(unsigned long long)starts, (unsigned long long)calls,
		(unsigned long long)bad);
	CU_ASSERT_EQUAL(bad, 0);
	CU_ASSERT_EQUAL(errors, 0);
}

SUITE("cluster lease", T(all_busy_share_equally), T(one_alone_has_everything),
	T(shares_follow_the_demand), T(tokens_are_shared_too),
	T(a_thousand_a_second), T(a_lost_redis_leaves_shares), T(stop_stops),
	T(a_good_bye_frees_at_once), T(keys_expire_and_strangers_are_refused),
	T(nobody_exceeds_the_quota))
