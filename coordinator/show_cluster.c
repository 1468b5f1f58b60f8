/* The shared quota on the board. */
#include "coordinator/governor.h"

#include "coordinator/door/board.h"

static_assert((int)LEASE_OFF == (int)BOARD_CLUSTER_ALONE &&
		      (int)LEASE_JOINING == (int)BOARD_CLUSTER_PENDING &&
		      (int)LEASE_ACTIVE == (int)BOARD_CLUSTER_LEASED &&
		      (int)LEASE_LOST == (int)BOARD_CLUSTER_APART,
	"the board shows the policy's modes");

static uint32_t cut(uint64_t n)
{
	return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

void show_lease(struct board_lease *to, const struct lease_view *view)
{
	board_put(to->is_shared, view->is_shared);
	board_put(to->starts_left, view->starts_left);
	board_put(to->starts_bound, view->starts_bound);
	board_put(to->starts_others, cut(view->starts_others));
	board_put(to->tokens_left, view->tokens_left);
	board_put(to->tokens_level, view->tokens_level);
	board_put(to->tokens_others, view->tokens_others);
}

static void put_redis(
	struct board_cluster *to, const struct redis *redis, bool is_on)
{
	enum redis_trouble trouble = REDIS_NONE;
	const char *reason = "", *text = "";

	if (is_on)
		trouble = redis_trouble(redis, &reason);
	if (trouble != REDIS_NONE)
		text = redis_trouble_text(trouble);
	board_put(to->is_connected,
		is_on && (redis_stage(redis) == REDIS_READY ||
				 redis_stage(redis) == REDIS_ASKING));
	board_put(to->took_ns, is_on ? redis_took_ns(redis) : 0);
	board_text(
		to->trouble, sizeof(to->trouble), redis_trouble_word(trouble));
	board_text(to->trouble_text, sizeof(to->trouble_text), text);
	board_text(to->reason, sizeof(to->reason), reason);
	board_text(
		to->redis, sizeof(to->redis), is_on ? redis_shown(redis) : "");
}

static void put_share(
	struct board_cluster *to, const struct policy_share_view *view)
{
	board_put(to->mode, view->mode);
	board_put(to->hosts, view->hosts);
	board_put(to->hosts_configured, view->hosts_configured);
	board_put(to->is_namesake, view->is_namesake);
	board_put(to->since_ns, view->since_ns);
	board_put(to->until_ns, view->until_ns);
	board_put(to->grows_ns, view->grows_ns);
	board_put(to->answered_ns, view->answered_ns);
}

void show_cluster(struct governor *governor, uint64_t now_ns)
{
	static const char *const losses[] = {"share", "stop", "ignore"};
	struct board_cluster *to = &governor->board.board->cluster;
	const struct config_cluster *cluster = &governor->config->cluster;
	struct policy_share_view view = {.mode = LEASE_OFF};
	struct policy_host_view host = {0};
	bool is_on = governor->sharing.redis != NULL;

	if (governor->is_leaving ||
		(!is_on && to->mode == BOARD_CLUSTER_ALONE &&
			to->incarnation == governor->sharing.incarnation))
		return;
	if (is_on) {
		policy_view_share(governor->policy, now_ns, &view);
		policy_view_host(governor->policy, now_ns, &host);
	}
	board_begin(&to->sequence);
	put_share(to, &view);
	put_redis(to, governor->sharing.redis, is_on);
	show_lease(&to->lease, &host.lease);
	board_put(to->incarnation, governor->sharing.incarnation);
	board_text(to->on_loss, sizeof(to->on_loss),
		is_on ? losses[cluster->on_loss] : "");
	board_text(to->account, sizeof(to->account),
		is_on ? cluster->account : "");
	board_text(to->host, sizeof(to->host), is_on ? cluster->host : "");
	board_put(to->as_of_ns, now_ns);
	board_end(&to->sequence);
}
