/* The policy's asks and Redis' answers; what is said of them. */
#include "coordinator/flow.h"

#include "coordinator/cluster/wire.h"
#include "coordinator/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MS_NS UINT64_C(1000000)
#define CONNECT_NS (3000 * MS_NS)
/* A slow answer is asked for again by the policy, long before a connection is
 * given up for it. */
#define ANSWER_NS (1000 * MS_NS)
#define GOODBYE_NS (500 * MS_NS)
/* Lua counts in doubles. */
#define INCARNATION_MAX (UINT64_C(1) << 52)

/* ------------------------------------------------------------ what is told */

/* Each change once. */
static void tell_mode(
	struct governor *governor, const struct policy_share_view *view)
{
	struct sharing *sharing = &governor->sharing;
	static const char *const losses[] = {"share", "stop", "ignore"};
	const char *loss = losses[governor->config->cluster.on_loss];
	bool is_first = sharing->mode == LEASE_OFF;

	if (view->mode == sharing->mode)
		return;
	sharing->mode = view->mode;
	if (view->mode == LEASE_ACTIVE) {
		board_event(&governor->board, "cluster",
			"leases of %u hosts from Redis", view->hosts);
		LOG(LOG_INFO, "cluster.leased", "Redis grants leases",
			F_I("hosts", view->hosts));
	} else if (view->mode == LEASE_LOST && !is_first) {
		board_event(&governor->board, "cluster",
			"no answer of Redis: on_cluster_loss = %s", loss);
		LOG(LOG_WARN, "cluster.lost",
			"no answer of Redis: the lease has ended",
			F_S("on_cluster_loss", loss));
	} else if (view->mode == LEASE_JOINING) {
		board_event(&governor->board, "cluster",
			"Redis does not yet know all hosts");
		LOG(LOG_INFO, "cluster.joining",
			"Redis does not yet know all hosts");
	}
}

static void tell_namesake(
	struct governor *governor, const struct policy_share_view *view)
{
	struct sharing *sharing = &governor->sharing;

	if (view->is_namesake == sharing->is_namesake)
		return;
	sharing->is_namesake = view->is_namesake;
	if (!view->is_namesake)
		return;
	board_event(&governor->board, "cluster",
		"another rgovd uses the name of this host");
	LOG(LOG_ERROR, "cluster.namesake",
		"another rgovd uses the name of this host: give each its own "
		"cluster_host",
		F_S("cluster_host", governor->config->cluster.host));
}

static void on_timer(struct loop_timer *timer, uint64_t now_ns)
{
	struct governor *governor = timer->owner;

	(void)now_ns;
	governor->is_pump_due = true;
}

/* What changes by time alone is told too. */
static void watch(struct governor *governor, uint64_t now_ns)
{
	struct sharing *sharing = &governor->sharing;
	struct policy_share_view view;
	uint64_t at_ns = 0;

	policy_view_share(governor->policy, now_ns, &view);
	tell_mode(governor, &view);
	tell_namesake(governor, &view);
	store_relaxed(
		governor->board.board->counters.cluster_losses, view.losses);
	if (sharing->is_leaving)
		at_ns = sharing->given_up_ns;
	else if (view.mode == LEASE_ACTIVE)
		at_ns = view.until_ns;
	if (at_ns <= now_ns)
		loop_timer_clear(governor->loop, &sharing->timer);
	else
		(void)loop_timer_set(governor->loop, &sharing->timer, at_ns,
			on_timer, governor);
}

/* ------------------------------------------------------------ asking */

static int send_ask(struct governor *governor, const struct lease_ask *ask)
{
	struct sharing *sharing = &governor->sharing;
	const struct wire_names names = {
		.account = governor->config->cluster.account,
		.host = governor->config->cluster.host,
		.run_id = redis_run_id(sharing->redis),
	};
	struct lease_grant *grants =
		reallocarray(sharing->grants, ask->n_rows + 1, sizeof(*grants));
	struct wire_words words;
	int rc;

	if (grants == NULL)
		return -ENOMEM;
	sharing->grants = grants;
	rc = wire_ask(ask, &names, &words);
	if (rc < 0)
		return rc;
	rc = redis_ask(sharing->redis, words.words, words.lengths, words.n);
	wire_free(&words);
	if (rc < 0)
		return rc;
	sharing->seq = ask->seq;
	sharing->rows = ask->n_rows;
	COUNT(governor, cluster_asks);
	return 0;
}

/* True: all has been said. */
static bool say_goodbye(struct governor *governor, uint64_t now_ns)
{
	struct sharing *sharing = &governor->sharing;

	if (policy_share_leave(governor->policy, now_ns))
		sharing->has_left = true;
	/* Calls that still run take their time; then it is a moment. */
	if (!sharing->has_left && governor->calls_out == 0 &&
		sharing->given_up_ns == 0)
		sharing->given_up_ns = now_ns + GOODBYE_NS;
	return sharing->has_left;
}

static bool is_connected(const struct sharing *sharing)
{
	enum redis_stage stage = redis_stage(sharing->redis);

	return stage == REDIS_READY || stage == REDIS_ASKING;
}

/* Where it is not sent, the policy asks again after its patience. */
static uint64_t ask_if_due(struct governor *governor, uint64_t now_ns)
{
	uint64_t due_ns = policy_share_due(governor->policy, now_ns);
	struct policy_host_view host;
	struct lease_ask ask;

	if (due_ns > now_ns)
		return due_ns;
	if (!is_connected(&governor->sharing)) {
		policy_view_host(governor->policy, now_ns, &host);
		if (host.queued > 0)
			redis_hurry(governor->sharing.redis);
		return UINT64_MAX; /* until it is */
	}
	if (!policy_share_ask(governor->policy, now_ns, &ask) ||
		send_ask(governor, &ask) < 0)
		return now_ns + 100 * MS_NS;
	due_ns = policy_share_due(governor->policy, now_ns);
	return due_ns > now_ns ? due_ns : now_ns + MS_NS;
}

uint64_t sharing_look(struct governor *governor, uint64_t now_ns)
{
	struct sharing *sharing = &governor->sharing;
	uint64_t next_ns;

	if (sharing->redis == NULL)
		return UINT64_MAX;
	if (sharing->is_leaving && say_goodbye(governor, now_ns))
		return UINT64_MAX;
	next_ns = ask_if_due(governor, now_ns);
	watch(governor, now_ns);
	return next_ns;
}

/* ------------------------------------------------------------ from Redis */

static void on_change(void *owner)
{
	struct governor *governor = owner;

	governor->is_pump_due = true;
}

static void count_grants(
	struct governor *governor, const struct lease_answer *answer)
{
	COUNT(governor, cluster_answers);
	for (size_t i = 0; i < answer->n_grants; i++)
		if (answer->grants[i].starts > 0)
			COUNT_BY(governor, cluster_granted,
				answer->grants[i].starts);
		else
			COUNT_BY(governor, cluster_called_back,
				-answer->grants[i].starts);
}

/* What answers an older ask says nothing any more. */
static void on_answer(void *owner, const long long *numbers, size_t n)
{
	struct governor *governor = owner;
	struct sharing *sharing = &governor->sharing;
	struct lease_answer answer;

	if (n == 0 || numbers[0] < 0 || (uint64_t)numbers[0] != sharing->seq)
		return;
	if (wire_answer(numbers, n, sharing->rows, sharing->grants, &answer) <
		0) {
		LOG(LOG_WARN, "cluster.answer", "it is not what was asked for");
		return;
	}
	count_grants(governor, &answer);
	policy_share_answer(governor->policy, &answer, loop_now_ns());
	governor->is_pump_due = true;
}

/* ------------------------------------------------------------ life */

static int make_redis(struct governor *governor, const struct config *config,
	struct redis **ret_redis, char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	const struct redis_settings settings = {
		.url = config->cluster.url,
		.ca_file = config->cluster.ca_file,
		.connect_ns = CONNECT_NS,
		.answer_ns = ANSWER_NS,
		.script = wire_script,
	};
	const struct redis_events events = {
		.owner = governor,
		.ready = on_change,
		.answered = on_answer,
		.lost = on_change,
	};
	char words[REDIS_WORDS_BYTES];
	int rc = redis_create(
		governor->loop, &settings, &events, ret_redis, words);

	if (rc < 0)
		(void)snprintf(
			ret_why, UPSTREAM_MESSAGE_BYTES, "cluster: %s", words);
	return rc;
}

/* In shadow mode nothing is held back: there is nothing to lease. */
static bool is_wanted(const struct config *config)
{
	return config->cluster.url != NULL && !config->shadow;
}

static int set_terms(struct governor *governor)
{
	const struct config_cluster *cluster = &governor->config->cluster;
	const struct lease_terms terms = {
		.hosts = cluster->hosts,
		.loss = cluster->on_loss,
		.forget_ns = cluster->forget_after_ns,
		.incarnation = governor->sharing.incarnation,
		.is_restored = governor->sharing.is_restored,
	};

	return policy_share_on(governor->policy, &terms, loop_now_ns());
}

/* The wall clock, in microseconds; more than the predecessor's if that was set
 * back. */
static uint64_t choose_incarnation(const struct sharing *sharing)
{
	struct timespec wall;
	uint64_t now_us, last = sharing->last_incarnation;

	(void)clock_gettime(CLOCK_REALTIME, &wall);
	now_us =
		(uint64_t)wall.tv_sec * 1000000 + (uint64_t)wall.tv_nsec / 1000;
	return last >= now_us && last < INCARNATION_MAX ? last + 1 : now_us;
}

/*
 * A file in the state directory says that this host has shared a quota before.
 * With it and without a board nobody knows what was started lately: this host
 * was started anew, or its /dev/shm went with a container.  Without it this is
 * the first time, and nothing can have been.
 */
static bool has_shared_before(const struct governor *governor)
{
	const char *folder = governor->config->tasks.state_dir;
	char path[512];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s.cluster", folder,
		governor->config->name);
	if (!is_wanted(governor->config))
		return access(path, F_OK) == 0;
	(void)mkdir(folder, 0700);
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	if (fd >= 0) {
		(void)fsync(fd);
		(void)close(fd);
		return false;
	}
	if (errno != EEXIST)
		LOG(LOG_WARN, "cluster.state",
			"cannot note that this host shares a quota: after a "
			"restart without its board it waits for a window",
			F_S("file", path),
			F_S("reason", strerrordesc_np(errno)));
	return true;
}

int sharing_start(struct governor *governor, enum sharing_past past,
	char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	struct sharing *sharing = &governor->sharing;
	bool has_shared = has_shared_before(governor);
	int rc;

	sharing->incarnation = choose_incarnation(sharing);
	sharing->is_restored =
		past == SHARING_KNOWN || (past == SHARING_NONE && !has_shared);
	if (!is_wanted(governor->config))
		return 0;
	rc = make_redis(governor, governor->config, &sharing->redis, ret_why);
	if (rc < 0)
		return rc;
	rc = set_terms(governor);
	if (rc < 0)
		(void)snprintf(
			ret_why, UPSTREAM_MESSAGE_BYTES, "out of memory");
	return rc;
}

static bool is_other_text(const char *a, const char *b)
{
	return a != b && (a == NULL || b == NULL || strcmp(a, b) != 0);
}

int sharing_prepare(struct governor *governor, const struct config *config,
	struct redis **ret_redis, char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	const struct config_cluster *old = &governor->config->cluster;
	const struct config_cluster *new = &config->cluster;

	*ret_redis = NULL;
	if (!is_wanted(config) ||
		(governor->sharing.redis != NULL &&
			!is_other_text(old->url, new->url) &&
			!is_other_text(old->ca_file, new->ca_file)))
		return 0;
	return make_redis(governor, config, ret_redis, ret_why);
}

void sharing_reload(struct governor *governor, struct redis *redis)
{
	struct sharing *sharing = &governor->sharing;

	(void)has_shared_before(governor); /* from now on it has */
	if (redis != NULL || !is_wanted(governor->config)) {
		redis_free(sharing->redis);
		sharing->redis = redis;
	}
	if (sharing->redis == NULL) {
		policy_share_off(governor->policy);
		loop_timer_clear(governor->loop, &sharing->timer);
		sharing->mode = LEASE_OFF;
	} else if (set_terms(governor) < 0) {
		LOG(LOG_ERROR, "cluster.terms",
			"no memory: the old terms of the shared quota hold");
	}
	show_cluster(governor, loop_now_ns());
}

void sharing_leave(struct governor *governor)
{
	governor->sharing.is_leaving = true;
	governor->is_pump_due = true;
}

bool sharing_has_left(const struct governor *governor)
{
	const struct sharing *sharing = &governor->sharing;

	return sharing->redis == NULL || sharing->has_left ||
	       !is_connected(sharing) ||
	       (sharing->given_up_ns != 0 &&
		       loop_now_ns() >= sharing->given_up_ns);
}

void sharing_stop(struct governor *governor)
{
	struct sharing *sharing = &governor->sharing;

	loop_timer_clear(governor->loop, &sharing->timer);
	redis_free(sharing->redis);
	sharing->redis = NULL;
	free(sharing->grants);
	sharing->grants = NULL;
}
