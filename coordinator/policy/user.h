/*
 * The people: applications, their users, and a user's seat in each lane.  A
 * user with nothing queued or running is idle; the USERS_IDLE most recent of
 * them are kept, so that their service history counts; beside them the
 * USERS_KEPT most recent whose budget still counts something.  The others are
 * forgotten.
 */
#ifndef COORDINATOR_POLICY_USER_H
#define COORDINATOR_POLICY_USER_H

#include "coordinator/policy/budget.h"
#include "coordinator/policy/order.h"
#include "coordinator/policy/policy.h"
#include "coordinator/policy/settings.h"

enum { USERS_IDLE = 4096, USERS_KEPT = 65536 };

struct policy_app {
	uint64_t hash;
	uint32_t n_users; /* freed with the last */
	double weight;
	struct team *teams; /* one in each lane where it has users */
	char name[];
};

struct policy_user {
	struct policy_user *prev, *next; /* policy->active, ->idle or ->kept */
	struct policy_app *app;
	struct seat *seats;
	uint64_t hash;
	uint32_t running, queued;         /* queued: backing off too */
	uint32_t durable;                 /* of the queued */
	uint32_t max_running, max_queued; /* 0: none */
	double weight;
	double service; /* tokens charged, for people to look at */
	uint64_t admitted, done, refused;
	uint64_t last_ns;
	struct budget *budget;   /* NULL: never had one */
	bool is_active, is_kept; /* in which list; neither: idle */
	char name[];
};

static inline bool user_is_capped(const struct policy_user *user)
{
	return user->max_running != 0 && user->running >= user->max_running;
}

/* Who is looked for. */
struct user_key {
	const char *app, *name;
	uint64_t app_hash, hash;
};

/* `app` may be NULL.  Asks for the memory of the search, too, which with many
 * users is in no cache. */
struct user_key user_key(
	const struct policy *policy, const char *app, const char *name);

/* The user, made where needed, with its seat in the lane.  NULL: no memory.
 * What was made and is not used is idle. */
struct seat *user_seat(struct policy *policy, struct policy_lane *lane,
	const struct user_key *key);

/* To call after `running` or `queued` changed: moves it between the lists, and
 * may free it when it is idle. */
void user_touch(
	struct policy *policy, struct policy_user *user, uint64_t now_ns);

/* The user if it is known, and its seat in the lane; else NULL. */
struct policy_user *user_find(
	const struct policy *policy, const struct user_key *key);
struct seat *user_find_seat(
	const struct policy_user *user, const struct policy_lane *lane);
/* Made where needed; idle.  NULL: no memory. */
struct policy_user *user_get(struct policy *policy, const struct user_key *key);

/* Memory for what user_configure() gives it by these settings.  -ENOMEM. */
int user_prepare(struct policy *policy, const struct settings *settings,
	struct policy_user *user);
/* Limits and weight from the settings, its application's too. */
void user_configure(const struct policy *policy, struct policy_user *user);

/* Frees all users; none may be active. */
void user_free_all(struct policy *policy);
/* Frees the seats and teams of a lane; none may be in use. */
void user_leave_lane(struct policy_lane *lane);

#endif
