/*
 * The sessions that rgovd polls, so that their clients need not ring, and the
 * decision to spin or to sleep.
 *
 * Orders: wake_stop_polling() of shm_wake.h; spin_us is advice, relaxed.
 */
#include "coordinator/door/inside.h"
#include "shm-layout/shm_wake.h"

/*
 * Each request that comes within the spin time earns a credit, each spin that
 * ends in sleep costs several; with credit, rgovd spins before it sleeps.  A
 * sleep that was cut short earns too, so that spinning begins without costly
 * trials -- but it may mislead: of two processes on one CPU, one sleeps shortly
 * just because the other runs, and neither can be seen spinning.  Hence misses
 * make a debt, and many short sleeps are needed to pay for one.
 */
enum { CREDIT_MAX = 32, MISS_COSTS = 16 };

static void change_credit(struct door *door, int by)
{
	int credit = door->spin_credit + by;

	door->spin_credit = credit > CREDIT_MAX    ? CREDIT_MAX
			    : credit < -CREDIT_MAX ? -CREDIT_MAX
						   : credit;
}

static bool cpus_are_short(const struct door *door)
{
	return (uint32_t)door->n_active + 1 > door->config.cpus;
}

/* May the clients spin while they wait?  Stored only where it changes. */
static void advise(struct door *door)
{
	uint32_t spin_us = cpus_are_short(door) ? 0 : door->config.spin_us;

	for (int i = 0; i < door->n_active; i++) {
		struct daemon_header *header = door->active[i]->daemon;

		if (load_relaxed(header->spin_us) != spin_us)
			store_relaxed(header->spin_us, spin_us);
	}
}

static void start_polling(struct door_session *session)
{
	/* Relaxed: until the client sees it, it rings once too often. */
	store_relaxed(session->daemon->polling, 1);
}

static int least_used(const struct door *door)
{
	int least = 0;

	for (int i = 1; i < door->n_active; i++) {
		if (door->active[i]->last_use < door->active[least]->last_use)
			least = i;
	}
	return least;
}

static void set_rung(struct door_session *session, bool is_rung)
{
	if (session->is_rung == is_rung)
		return;
	session->is_rung = is_rung;
	session->door->n_rung += is_rung ? 1 : -1u;
}

void active_remove(struct door_session *session)
{
	struct door *door = session->door;
	int place = session->active_place;

	set_rung(session, false);
	if (place < 0)
		return;
	door->active[place] = door->active[--door->n_active];
	door->active[place]->active_place = place;
	session->active_place = -1;
}

/* The least used one must ring again.  What it said in between is a ring's
 * worth of entries that nobody would look at: it rings its own bell, so to
 * speak. */
static bool make_room(struct door *door)
{
	struct door_session *session = door->active[least_used(door)];

	if (wake_stop_polling(session->daemon, session->client) !=
		session->head) {
		start_polling(session);
		return false;
	}
	active_remove(session);
	return true;
}

void active_add(struct door_session *session)
{
	struct door *door = session->door;

	session->last_use = door->pass;
	if (session->active_place >= 0)
		return;
	/* All sixteen have work: this one goes on ringing, and is remembered,
	 * for its bell has been taken. */
	if (door->n_active == ACTIVE_MAX && !make_room(door)) {
		set_rung(session, true);
		return;
	}
	set_rung(session, false);
	session->active_place = door->n_active;
	door->active[door->n_active++] = session;
	start_polling(session);
	advise(door);
}

/* One turn for each that rang and is not polled, until its ring is empty: what
 * comes later rings again. */
static unsigned int poll_rung(struct door *door)
{
	struct door_session *next = door->sessions;
	unsigned int found = 0;

	while (door->n_rung > 0 && next != NULL) {
		struct door_session *session = next;
		int taken;

		next = session->next;
		if (!session->is_rung)
			continue;
		taken = ring_take(session);
		if (taken < 0)
			continue; /* expelled */
		found += (unsigned int)taken;
		if (ring_is_empty(session))
			set_rung(session, false);
	}
	return found;
}

unsigned int door_poll(struct door *door)
{
	unsigned int found = 0;

	door->pass++;
	for (int i = 0; i < door->n_active; i++) {
		struct door_session *session = door->active[i];
		int taken = ring_is_empty(session) ? 0 : ring_take(session);

		if (taken > 0) {
			session->last_use = door->pass;
			found += (unsigned int)taken;
		}
	}
	found += poll_rung(door);
	if (door->over != NULL)
		door_reap(door);
	if (found > 0 && door->quiet_ns != 0)
		change_credit(door, 1); /* it came while we spun */
	if (found > 0)
		door->quiet_ns = 0;
	return found;
}

bool door_should_spin(struct door *door, uint64_t now_ns)
{
	uint64_t spin_ns = (uint64_t)door->config.spin_us * 1000;

	if (spin_ns == 0 || door->n_active == 0 || door->spin_credit <= 0 ||
		cpus_are_short(door))
		return false;
	if (door->quiet_ns == 0)
		door->quiet_ns = now_ns;
	return now_ns - door->quiet_ns < spin_ns;
}

bool door_prepare_sleep(struct door *door, uint64_t now_ns)
{
	if (door->n_rung > 0)
		return false;
	while (door->n_active > 0) {
		struct door_session *session = door->active[door->n_active - 1];

		if (wake_stop_polling(session->daemon, session->client) !=
			session->head) {
			start_polling(session);
			return false;
		}
		active_remove(session);
	}
	if (door->quiet_ns != 0)
		change_credit(door, -MISS_COSTS);
	door->quiet_ns = 0;
	door->slept_ns = now_ns;
	return true;
}

void active_was_rung(struct door *door, uint64_t now_ns)
{
	uint64_t near_ns = (uint64_t)door->config.spin_us * 2000;

	if (door->slept_ns == 0 || now_ns - door->slept_ns > near_ns)
		return;
	/* Had it spun, it would have seen the request without a bell. */
	door->slept_ns = 0;
	change_credit(door, 1);
}
