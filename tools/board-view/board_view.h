/*
 * One look at a governor's board, as the tools show it: a private copy, made
 * harmless, with a judgement of how rgovd does.  It follows a board that is
 * replaced, and outlives one that vanishes.
 *
 * Not what the board means on a terminal (rgov-top) or in JSON (board_json.h).
 */
#ifndef TOOLS_BOARD_VIEW_H
#define TOOLS_BOARD_VIEW_H

#include "shm-layout/shm_board.h"

#include <stdbool.h>
#include <stdint.h>

/* HEALTH(name, what JSON says) */
#define VIEW_HEALTHS(HEALTH)                                                   \
	HEALTH(OK, "ok")                                                       \
	HEALTH(DRAINING, "draining")   /* takes no new requests */             \
	HEALTH(SILENT, "silent")       /* alive, but the heartbeat is old */   \
	HEALTH(SUSPENDED, "suspended") /* the same: by SIGSTOP */              \
	HEALTH(STOPPED, "stopped")     /* went down in good order */           \
	HEALTH(GONE, "gone")           /* its process is no more */            \
	HEALTH(BROKEN, "broken")       /* the board was cut off under us */

enum view_health {
#define HEALTH(name, text) VIEW_##name,
	VIEW_HEALTHS(HEALTH)
#undef HEALTH
};

/* The counters, in the order of board_counters.def. */
enum view_counter {
#define COUNTER(name, unit, help) VIEW_##name,
#include "shm-layout/board_counters.def"
#undef COUNTER
	VIEW_COUNTERS
};

struct view_counter_text {
	const char *name, *unit, *help;
};
extern const struct view_counter_text view_counter_texts[VIEW_COUNTERS];

/*
 * Records keep their place on the board.  Unused: a lane, user or event whose
 * sequence is 0, a live request whose state is BOARD_LIVE_FREE.  A record that
 * could not be read is shown as it was last.
 */
struct board_view {
	char name[SHM_NAME_BYTES];
	enum view_health health;
	uint64_t now_ns;   /* CLOCK_MONOTONIC of the look */
	uint64_t as_of_ns; /* what ages count to: now, or rgovd's last sign */
	double heartbeat_age_s, uptime_s;
	struct board_header header;
	struct board_host host;
	struct board_tokens host_tokens;
	struct board_cluster cluster;
	uint64_t counters[VIEW_COUNTERS];
	struct board_lane lanes[SHM_BOARD_LANES];
	struct board_user users[SHM_BOARD_USERS];
	struct board_live live[SHM_BOARD_LIVE];
	struct board_event events[SHM_BOARD_EVENTS];
	uint32_t unreadable; /* records: rgovd died or hangs inside them */
	uint32_t boards;     /* that were followed, this one included */

	const struct board *mapped; /* NULL: it was cut off */
	uint64_t device, inode;     /* of the mapped one */
};

/*
 * Takes the first look.  0, or as board_open().  The caller ends the view with
 * view_free().  One thread only; installs a SIGBUS handler, once: somebody may
 * truncate the board while we read.
 */
int view_open(const char *name, struct board_view **ret_view);

/* Takes another look; never fails: the health says what is left.  Follows to a
 * new board when this one's rgovd gives no sign of life. */
void view_refresh(struct board_view *view);

void view_free(struct board_view *view);

/* "rgovd does not answer since 12 s" */
void view_health_text(
	const struct board_view *view, char *ret_text, size_t bytes);
const char *view_health_name(enum view_health health);

/* Why there is no board to look at, and what to do: for people. */
void view_open_error(const char *name, int error, char *ret_text, size_t bytes);

/* Seconds from a stamp of the board to the look; 0 for stamps to come and 0. */
double view_age_s(const struct board_view *view, uint64_t stamp_ns);
/* Seconds from the look to a stamp; negative when it has passed. */
double view_left_s(const struct board_view *view, uint64_t stamp_ns);

/* From acceptance to the last start, or until now while it was never started.
 */
double view_live_wait_s(
	const struct board_view *view, const struct board_live *live);
/* Is it queued, or backing off? */
bool view_live_waits(const struct board_live *live);
/* How much longer such a one may wait, and how long it has for what holds it
 * now; both 0 where rgovd has not said yet (as_of_ns). */
double view_live_predicted_s(
	const struct board_view *view, const struct board_live *live);
double view_live_held_s(
	const struct board_view *view, const struct board_live *live);
/* Is it with the provider, or a permit that is out? */
bool view_live_runs(const struct board_live *live);

/* Does it share a quota with other hosts, and is something wrong with that? */
bool view_is_clustered(const struct board_view *view);
bool view_cluster_is_ill(const struct board_view *view);
/* "Redis: it does not let us in (WRONGPASS)"; "" where nothing is wrong. */
void view_cluster_text(
	const struct board_view *view, char *ret_text, size_t bytes);

/* Means over everything this rgovd did. */
double view_mean_wait_s(const struct board_view *view);
double view_mean_execution_s(const struct board_view *view);

/* The governor's name from RGOV_NAME, else "default". */
const char *view_default_name(void);

const char *view_class_text(unsigned class);
const char *view_kind_text(unsigned kind);
const char *view_operation_text(unsigned operation);

#endif
