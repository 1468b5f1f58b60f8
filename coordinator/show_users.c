/*
 * The users on the board, and what is left of the budgets that are not a
 * lane's: the users' and the host's.  A successor takes them from here, so they
 * are shown before what they were spent on goes out.
 */
#include "coordinator/governor.h"

#include <string.h>

static void put_budget(struct board_user *user,
	const struct policy_user_view *view, uint64_t now_ns)
{
	board_put(user->starts, view->starts);
	board_put(user->starts_limit, view->starts_limit);
	board_put(user->tokens_available, view->tokens_available);
	board_put(user->tokens_limit, view->tokens_limit);
	board_put(user->tokens_used_today, view->tokens_used_today);
	board_put(user->tokens_day_limit, view->tokens_day_limit);
	board_put(user->tokens_day, view->tokens_day);
	board_put(user->as_of_ns, view->has_budget ? now_ns : 0);
}

static void put_user(struct governor *governor, struct board_user *user,
	const struct policy_user_view *view, uint64_t now_ns)
{
	board_begin(&user->sequence);
	board_put(user->running, view->running);
	board_put(user->running_limit, view->running_limit);
	board_put(user->queued, view->queued);
	board_put(user->queued_limit, view->queued_limit);
	board_put(user->service, view->service);
	board_put(user->weight, view->weight);
	board_put(user->admitted, view->admitted);
	board_put(user->done, view->done);
	board_put(user->refused, view->refused);
	board_put(user->held_by, show_user_reason(governor, view->name));
	board_put(user->last_ns, view->last_ns);
	put_budget(user, view, now_ns);
	board_text(user->name, sizeof(user->name), view->name);
	board_text(user->app, sizeof(user->app), view->app);
	board_end(&user->sequence);
}

static bool show_user(const struct policy_user_view *view, void *argument)
{
	struct governor *governor = argument;

	governor->is_fading |=
		view->starts > 0 ||
		view->tokens_available != (int64_t)view->tokens_limit;
	put_user(governor,
		&governor->board.board->users[governor->n_users_shown], view,
		loop_now_ns());
	return ++governor->n_users_shown < SHM_BOARD_USERS;
}

/* Records that the policy has forgotten. */
static void clear_users_from(struct governor *governor, uint32_t first)
{
	for (uint32_t i = first; i < SHM_BOARD_USERS; i++) {
		struct board_user *user = &governor->board.board->users[i];

		if (user->name[0] == '\0')
			break;
		board_begin(&user->sequence);
		board_put(user->name[0], '\0');
		board_end(&user->sequence);
	}
}

void show_host_tokens(struct governor *governor, uint64_t now_ns)
{
	struct board_tokens *to = &governor->board.board->host_tokens;
	struct policy_host_view view;

	policy_view_host(governor->policy, now_ns, &view);
	if (view.tokens_limit == 0 && view.tokens_day_limit == 0 &&
		to->limit == 0 && to->day_limit == 0)
		return;
	governor->is_fading |=
		view.tokens_available != (int64_t)view.tokens_limit;
	board_begin(&to->sequence);
	board_put(to->available, view.tokens_available);
	board_put(to->limit, view.tokens_limit);
	board_put(to->reserved, view.tokens_reserved);
	board_put(to->used_today, view.tokens_used_today);
	board_put(to->day_limit, view.tokens_day_limit);
	board_put(to->day, view.tokens_day);
	board_put(to->as_of_ns, now_ns);
	board_end(&to->sequence);
}

void show_users(struct governor *governor, uint64_t now_ns)
{
	governor->n_users_shown = 0;
	policy_each_user(governor->policy, now_ns, show_user, governor);
	clear_users_from(governor, governor->n_users_shown);
	show_host_tokens(governor, now_ns);
}

/* The user's record; one that is free; else the last one. */
static struct board_user *record_of(
	struct board *board, const struct policy_user_view *view)
{
	struct board_user *user = board->users;

	for (uint32_t i = 0; i < SHM_BOARD_USERS; i++, user++)
		if (user->name[0] == '\0' ||
			(strcmp(user->name, view->name) == 0 &&
				strcmp(user->app, view->app) == 0))
			return user;
	return user - 1;
}

void show_budgets(struct request *request, uint64_t now_ns)
{
	struct governor *governor = request->governor;
	struct policy_user_view view;

	show_host_tokens(governor, now_ns);
	if (!policy_counts_budget(&request->policy))
		return;
	policy_view_user(request->policy.user_entry, now_ns, &view);
	put_user(governor, record_of(governor->board.board, &view), &view,
		now_ns);
}
