/*
 * The people: applications, their users, and a user's seat in each lane.  A
 * user with nothing queued or running is idle; the USERS_IDLE most recent of
 * them are kept, so that their service history counts, the others are
 * forgotten.
 */
#ifndef COORDINATOR_POLICY_USER_H
#define COORDINATOR_POLICY_USER_H

#include "coordinator/policy/order.h"
#include "coordinator/policy/policy.h"

enum { USERS_IDLE = 4096 };

struct policy_app {
	uint64_t hash;
	uint32_t n_users;   /* freed with the last */
	struct team *teams; /* one in each lane where it has users */
	char name[];
};

struct policy_user {
	struct policy_user *prev, *next; /* policy->active or ->idle */
	struct policy_app *app;
	struct seat *seats;
	uint64_t hash;
	uint32_t running, queued;         /* queued: backing off too */
	uint32_t max_running, max_queued; /* 0: none */
	double weight;
	double service; /* tokens charged, for people to look at */
	uint64_t admitted, done, refused;
	uint64_t last_ns;
	bool is_active; /* which of the two lists */
	char name[];
};

static inline bool user_is_capped(const struct policy_user *user)
{
	return user->max_running != 0 && user->running >= user->max_running;
}

/* The user, made where needed, with its seat in the lane.  NULL: no memory.
 * What was made and is not used is idle. */
struct seat *user_seat(struct policy *policy, struct policy_lane *lane,
	const char *app, const char *user);

/* To call after `running` or `queued` changed: moves it between the lists, and
 * may free it when it is idle. */
void user_touch(
	struct policy *policy, struct policy_user *user, uint64_t now_ns);

/* Limits and weight from the settings. */
void user_configure(const struct policy *policy, struct policy_user *user);

/* Frees all users; none may be active. */
void user_free_all(struct policy *policy);
/* Frees the seats and teams of a lane; none may be in use. */
void user_leave_lane(struct policy_lane *lane);

#endif
