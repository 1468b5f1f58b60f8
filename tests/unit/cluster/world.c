/* Hosts, their calls, the network, and what is judged. */
#include "tests/unit/cluster/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEVER UINT64_MAX
#define REDIS_EPOCH_US INT64_C(1700000000000000)

static const char *const lane_names[WORLD_LANES] = {"one", "two"};

uint64_t world_random(struct world *world, uint64_t below)
{
	uint64_t z = world->rng += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return below == 0 ? 0 : (z ^ z >> 31) % below;
}

static bool happens(struct world *world, uint32_t permille)
{
	return world_random(world, 1000) < permille;
}

static uint64_t earliest(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

__attribute__((format(printf, 2, 3))) static void violated(
	struct world *world, const char *format, ...)
{
	va_list args;

	if (world->violations++ > 0)
		return;
	va_start(args, format);
	(void)vsnprintf(world->why, sizeof(world->why), format, args);
	va_end(args);
}

/* ------------------------------------------------------------------ accounts
 */

static void refill(struct world *world, struct account *account)
{
	uint64_t past_ns = world->now_ns - account->level_ns;
	double most = (double)account->tokens_limit;

	account->level +=
		(double)past_ns * most / (double)world->config.minute_ns;
	if (account->level > most)
		account->level = most;
	account->level_ns = world->now_ns;
}

static void spend(struct world *world, int limit, double tokens)
{
	struct account *account = &world->limits[limit];

	if (account->tokens_limit == 0)
		return;
	refill(world, account);
	account->level -= tokens;
	if (account->level < account->least)
		account->least = account->level;
	/* A millionth for the clocks, one for each rounding. */
	if (tokens > 0 && account->level < -1 - 1e-6 * account->tokens_limit)
		violated(world,
			"limit %d: %.1f tokens below its bucket at %.3f", limit,
			-account->level, (double)world->now_ns / 1e9);
}

static void count_start(struct world *world, int limit)
{
	struct account *account = &world->limits[limit];
	uint64_t minute_ns = world->config.minute_ns;

	if (account->starts_limit == 0)
		return;
	while (account->first < account->n &&
		account->stamps[account->first] + minute_ns <= world->now_ns)
		account->first++;
	if (account->n == account->room) {
		account->room = account->room ? 2 * account->room : 1024;
		account->stamps = realloc(account->stamps,
			account->room * sizeof(*account->stamps));
	}
	account->stamps[account->n++] = world->now_ns;
	if (account->n - account->first > account->peak)
		account->peak = (uint32_t)(account->n - account->first);
	if (account->n - account->first > account->starts_limit)
		violated(world, "limit %d: %zu starts of %u at %.3f", limit,
			account->n - account->first, account->starts_limit,
			(double)world->now_ns / 1e9);
}

/* --------------------------------------------------------------------- clocks
 */

static uint64_t own_clock(const struct host *host, uint64_t world_ns)
{
	int64_t ns = (int64_t)world_ns;

	return (uint64_t)(host->clock_ns + ns + ns / 1000000 * host->drift_ppm);
}

/* The first moment of the world at which that is over; not before now. */
static uint64_t world_clock(
	const struct world *world, const struct host *host, uint64_t own_ns)
{
	double ns;

	if (own_ns == NEVER || own_ns >= (uint64_t)1 << 62)
		return NEVER;
	if (own_ns <= own_clock(host, world->now_ns))
		return world->now_ns;
	ns = (double)((int64_t)own_ns - host->clock_ns);
	ns /= 1 + host->drift_ppm * 1e-6;
	return ns < 0 ? 0 : (uint64_t)ns + 2000;
}

/* ----------------------------------------------------------------------- calls
 */

static void started(struct world *world, struct host *host, struct call *call)
{
	policy_started(
		host->policy, &call->request, own_clock(host, world->now_ns));
	count_start(world, 0);
	count_start(world, 1 + call->lane);
	if (host->n_stamps == host->stamps_room) {
		host->stamps_room =
			host->stamps_room ? 2 * host->stamps_room : 1024;
		host->stamps = realloc(host->stamps,
			host->stamps_room * sizeof(*host->stamps));
		host->stamp_lanes = realloc(host->stamp_lanes,
			host->stamps_room * sizeof(*host->stamp_lanes));
	}
	host->stamps[host->n_stamps] = world->now_ns;
	host->stamp_lanes[host->n_stamps++] = call->lane;
	host->starts++;
	call->state = CALL_RUNNING;
	call->event_ns =
		world->now_ns + 1 + world_random(world, world->service_ns);
	/* Many at a time, where there are many. */
	if (world->ends_every_ns != 0)
		call->event_ns = (call->event_ns / world->ends_every_ns + 1) *
				 world->ends_every_ns;
}

static void finish(struct world *world, struct host *host, struct call *call,
	enum policy_outcome outcome)
{
	int64_t used = (int64_t)(call->tokens * world_random(world, 101) / 100);
	struct policy_usage usage = {used, 0, 0, 0};
	double back = (double)call->tokens - (double)used;

	if (outcome != POLICY_DONE)
		back = outcome == POLICY_UNUSED ? (double)call->tokens : 0;
	policy_finish(host->policy, &call->request, outcome, &usage,
		own_clock(host, world->now_ns));
	call->state = CALL_FREE;
	spend(world, 0, -back);
	spend(world, 1 + call->lane, -back);
}

/* Connected, not connected after all, or answered. */
static void step_call(struct world *world, struct host *host, struct call *call)
{
	if (call->state == CALL_RUNNING)
		finish(world, host, call,
			happens(world, 50) ? POLICY_LOST : POLICY_DONE);
	else if (happens(world, 50))
		finish(world, host, call, POLICY_UNUSED);
	else
		started(world, host, call);
}

static bool enqueue(struct world *world, struct host *host)
{
	uint64_t retry_ns, now_ns = own_clock(host, world->now_ns);

	for (size_t i = 0; i < host->n_calls; i++) {
		struct call *call =
			&host->calls[host->next_call++ % host->n_calls];

		if (call->state != CALL_FREE)
			continue;
		memset(call, 0, sizeof(*call));
		call->lane = (int)world_random(world, WORLD_LANES);
		call->tokens = 1 + world_random(world, world->tokens);
		call->request = (struct policy_request){
			.model_id = lane_names[call->lane],
			.user = "u",
			.input_tokens = call->tokens,
			.deadline_ns = NEVER - 1,
			.class = POLICY_NORMAL,
		};
		if (policy_enqueue(host->policy, &call->request, now_ns,
			    &retry_ns) != POLICY_ACCEPTED)
			return false;
		call->state = CALL_QUEUED;
		return true;
	}
	return false;
}

static void admitted(struct world *world, struct host *host, struct call *call)
{
	spend(world, 0, (double)call->tokens);
	spend(world, 1 + call->lane, (double)call->tokens);
	call->state = CALL_CONNECTING;
	call->event_ns =
		world->now_ns +
		(happens(world, 100) ? world_random(world, world->connect_ns)
				     : 0);
	if (call->event_ns == world->now_ns)
		started(world, host, call);
}

static void admit_all(struct world *world, struct host *host)
{
	uint64_t now_ns = own_clock(host, world->now_ns), next_ns;
	struct policy_request *request;
	struct policy_host_view view;

	policy_view_host(host->policy, now_ns, &view);
	for (uint32_t queued = view.queued; queued < host->backlog; queued++)
		(void)enqueue(world, host);
	while ((request = policy_admit(host->policy, now_ns, &next_ns)) !=
		NULL) {
		admitted(world, host, (struct call *)(void *)request);
		if (host->backlog > 0)
			(void)enqueue(world, host);
	}
	host->policy_ns = world_clock(world, host, next_ns);
}

/* ----------------------------------------------------------------- the network
 */

static uint64_t delay(struct world *world)
{
	return (1 + world_random(world, world->max_delay_us)) * 1000;
}

static void send_ask(struct world *world, struct host *host)
{
	struct wire_names names = {.account = "a"};
	char name[16], run[16];
	struct lease_ask ask;
	struct message *message = NULL;

	for (int i = 0; i < WORLD_MESSAGES && message == NULL; i++)
		if (!host->messages[i].is_used)
			message = &host->messages[i];
	if (!policy_share_ask(
		    host->policy, own_clock(host, world->now_ns), &ask) ||
		message == NULL)
		return;
	(void)snprintf(name, sizeof(name), "h%d", host->number);
	(void)snprintf(run, sizeof(run), "run%d", world->run);
	names.host = name;
	names.run_id = run;
	names.now_us = "                    "; /* written when it arrives */
	host->asks++;
	*message = (struct message){.is_used = true,
		.at_ns = world->now_ns + delay(world),
		.seq = ask.seq,
		.n_rows = ask.n_rows,
		.loses_answer = happens(world, world->loss_permille)};
	if (wire_ask(&ask, &names, &message->words) != 0)
		abort();
	if (happens(world, world->loss_permille)) {
		wire_free(&message->words);
		message->is_used = false;
	} else if (happens(world, world->late_permille)) {
		message->at_ns +=
			world_random(world, world->config.minute_ns / 4);
		message->loses_answer = true;
	}
}

static redisReply *eval(struct world *world, struct message *message)
{
	const char *argv[512] = {"EVALSHA", world->redis->sha};
	size_t lengths[512] = {7, strlen(world->redis->sha)};
	int n = message->words.n;
	int at = 1 + atoi(message->words.words[0]);
	int64_t now_us = REDIS_EPOCH_US + (int64_t)(world->now_ns / 1000) +
			 world->redis_us;

	message->words.lengths[at] = (size_t)snprintf(
		message->words.words[at], 21, "%lld", (long long)now_us);
	for (int i = 0; i < n; i++) {
		argv[2 + i] = message->words.words[i];
		lengths[2 + i] = message->words.lengths[i];
	}
	world->script_calls++;
	return redisCommandArgv(world->redis->context, 2 + n, argv, lengths);
}

static void arrive(struct world *world, struct message *message)
{
	long long numbers[64];
	redisReply *reply = eval(world, message);
	size_t n = reply->elements < 64 ? reply->elements : 64;

	if (reply->type == REDIS_REPLY_ERROR && world->errors++ == 0)
		violated(world, "the script: %s", reply->str);
	for (size_t i = 0; i < n; i++)
		numbers[i] = reply->element[i]->integer;
	if (reply->type != REDIS_REPLY_ARRAY ||
		wire_answer(numbers, n, message->n_rows, message->grants,
			&message->answer) != 0)
		message->loses_answer = true;
	freeReplyObject(reply);
	wire_free(&message->words);
	message->is_answer = true;
	message->at_ns = world->now_ns + delay(world);
	message->is_used = !message->loses_answer;
}

/* Cut off, it is lost, or comes when the line is whole again. */
static void step_message(
	struct world *world, struct host *host, struct message *message)
{
	if (host->is_cut || world->is_redis_down) {
		if (!message->is_answer && happens(world, 300)) {
			message->at_ns += world->config.minute_ns / 50;
			message->loses_answer = true;
			return;
		}
		wire_free(&message->words);
		message->is_used = false;
	} else if (!message->is_answer) {
		arrive(world, message);
	} else {
		message->is_used = false;
		if (host->is_up)
			policy_share_answer(host->policy, &message->answer,
				own_clock(host, world->now_ns));
	}
}

/* ---------------------------------------------------------------------- hosts
 */

static bool is_connected(const struct world *world, const struct host *host)
{
	return !(host->is_cut || world->is_redis_down) || !host->knows_cut;
}

static uint64_t host_next(const struct world *world, const struct host *host)
{
	uint64_t next_ns = NEVER;

	for (int i = 0; i < WORLD_MESSAGES; i++)
		if (host->messages[i].is_used)
			next_ns = earliest(next_ns, host->messages[i].at_ns);
	if (!host->is_up)
		return next_ns;
	for (size_t i = 0; i < host->n_calls; i++)
		if (host->calls[i].state >= CALL_CONNECTING)
			next_ns = earliest(next_ns, host->calls[i].event_ns);
	if (host->mean_ns != 0)
		next_ns = earliest(next_ns, host->arrival_ns);
	next_ns = earliest(next_ns, host->policy_ns);
	if (is_connected(world, host))
		next_ns = earliest(next_ns,
			world_clock(world, host,
				policy_share_due(host->policy,
					own_clock(host, world->now_ns))));
	return next_ns > world->now_ns ? next_ns : world->now_ns + 1;
}

static void step_host(struct world *world, struct host *host)
{
	for (int i = 0; i < WORLD_MESSAGES; i++)
		if (host->messages[i].is_used &&
			host->messages[i].at_ns <= world->now_ns)
			step_message(world, host, &host->messages[i]);
	if (!host->is_up)
		return;
	for (size_t i = 0; i < host->n_calls; i++)
		if (host->calls[i].state >= CALL_CONNECTING &&
			host->calls[i].event_ns <= world->now_ns)
			step_call(world, host, &host->calls[i]);
	if (host->mean_ns != 0 && host->arrival_ns <= world->now_ns) {
		(void)enqueue(world, host);
		host->arrival_ns = world->now_ns + 1 +
				   world_random(world, 2 * host->mean_ns);
	}
	admit_all(world, host);
	if (host->is_leaving)
		(void)policy_share_leave(
			host->policy, own_clock(host, world->now_ns));
	if (is_connected(world, host))
		send_ask(world, host);
}

void host_up(struct world *world, struct host *host, bool has_board)
{
	struct lease_terms terms = world->terms;
	uint64_t now_ns = own_clock(host, world->now_ns);

	host->is_up = true;
	host->is_leaving = false;
	host->policy_ns = 0;
	if (policy_create(&world->config, &host->policy) != 0)
		abort();
	for (size_t i = 0; has_board && i < host->n_stamps; i++)
		if (host->stamps[i] + 2 * world->config.minute_ns >
			world->now_ns)
			(void)policy_restore_start(host->policy,
				lane_names[host->stamp_lanes[i]],
				own_clock(host, host->stamps[i]), now_ns);
	terms.is_restored = has_board;
	terms.incarnation = ++world->incarnations;
	if (policy_share_on(host->policy, &terms, now_ns) != 0)
		abort();
}

void host_kill(struct host *host)
{
	for (int i = 0; i < WORLD_MESSAGES; i++) {
		struct message *message = &host->messages[i];

		message->loses_answer = true;
		if (message->is_answer)
			message->is_used = false;
	}
	if (!host->is_up)
		return;
	host->is_up = false;
	for (size_t i = 0; i < host->n_calls; i++) {
		struct call *call = &host->calls[i];

		if (call->state == CALL_QUEUED)
			policy_remove(host->policy, &call->request);
		else if (call->state != CALL_FREE)
			policy_finish(host->policy, &call->request, POLICY_LOST,
				NULL, 0);
		call->state = CALL_FREE;
	}
	policy_free(host->policy);
	host->policy = NULL;
}

void host_cut(struct world *world, struct host *host, bool is_cut)
{
	host->is_cut = is_cut;
	host->knows_cut = happens(world, 500);
}

/* ---------------------------------------------------------------------- world
 */

void world_limit(
	struct world *world, int limit, uint32_t starts, uint64_t tokens)
{
	struct account *account = &world->limits[limit];

	account->starts_limit = starts;
	account->tokens_limit = tokens;
	account->level = account->least = (double)tokens;
	if (limit == 0) {
		world->config.requests_per_minute = starts;
		world->config.tokens_per_minute = tokens;
		return;
	}
	world->models[limit - 1].requests_per_minute = starts;
	world->models[limit - 1].tokens_per_minute = tokens;
}

void world_init(struct world *world, struct redis_rig *redis, uint64_t seed)
{
	*world = (struct world){.redis = redis, .rng = seed, .run = 1};
	for (int i = 0; i < WORLD_LANES; i++)
		world->models[i].pattern = lane_names[i];
	world->config = (struct policy_config){
		.minute_ns = 60 * WORLD_S,
		.guard_ns = WORLD_S,
		.models = world->models,
		.n_models = WORLD_LANES,
		.seed = seed,
	};
	world->terms =
		(struct lease_terms){.hosts = 3, .forget_ns = 6000 * WORLD_S};
	world->max_delay_us = 2000;
	world->service_ns = 20 * WORLD_MS;
	world->connect_ns = 100 * WORLD_MS;
	world->tokens = 10;
	world->n_hosts = 3;
	for (int i = 0; i < WORLD_HOSTS; i++) {
		struct host *host = &world->hosts[i];

		host->number = i;
		host->clock_ns = (int64_t)(world_random(world, 1000) * WORLD_S);
		host->drift_ppm = (int)world_random(world, 101) - 50;
		host->n_calls = 64;
		host->calls = calloc(host->n_calls, sizeof(*host->calls));
	}
}

void world_run(struct world *world, uint64_t until_ns)
{
	for (;;) {
		uint64_t next_ns = NEVER;

		for (uint32_t i = 0; i < world->n_hosts; i++)
			next_ns = earliest(
				next_ns, host_next(world, &world->hosts[i]));
		if (next_ns >= until_ns)
			break;
		world->now_ns = next_ns;
		for (uint32_t i = 0; i < world->n_hosts; i++)
			if (host_next(world, &world->hosts[i]) <=
				world->now_ns + 1)
				step_host(world, &world->hosts[i]);
	}
	world->now_ns = until_ns;
}
