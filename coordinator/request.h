/*
 * One request on its way through rgovd: from a slot, through the policy, to the
 * provider and back.  The governor owns it.
 */
#ifndef COORDINATOR_REQUEST_H
#define COORDINATOR_REQUEST_H

#include "coordinator/door/board.h"
#include "coordinator/door/door.h"
#include "coordinator/intake.h"
#include "coordinator/policy/policy.h"
#include "coordinator/upstream/upstream.h"

#include <assert.h>
#include <string.h>

struct governor;

/*
 * X(stage, what it is doing, where it may go next)
 *
 *   INTAKE --> QUEUED --> LOADING --> CALLING --> OVER
 *                | ^          |          |
 *                | +----------+- a retry +
 *                +--> PERMIT --> OVER
 *                       `--> OVERDUE --> OVER
 */
#define REQUEST_STAGES(X)                                                      \
	X(INTAKE, "its body is read",                                          \
		TO(QUEUED) | TO(PERMIT) | TO(OVERDUE) | TO(OVER))              \
	X(QUEUED, "in the policy's queue, or backing off",                     \
		TO(LOADING) | TO(PERMIT) | TO(OVER))                           \
	X(LOADING, "its body is read again",                                   \
		TO(QUEUED) | TO(CALLING) | TO(OVER))                           \
	X(CALLING, "sent upstream", TO(QUEUED) | TO(OVER))                     \
	X(PERMIT, "a worker holds the permit", TO(OVERDUE) | TO(OVER))         \
	X(OVERDUE, "its time is over; its holder may settle it", TO(OVER))     \
	X(OVER, "answered, or nobody waits for it", 0)

enum request_stage {
#define X(stage, words, next) REQUEST_##stage,
	REQUEST_STAGES(X)
#undef X
};

enum { REQUEST_NO_LIVE = UINT16_MAX, REQUEST_TEXT_ROOM = 72 };

/* Of a body's SHA-256: enough to know it again. */
enum { REQUEST_DIGEST_BYTES = 16 };

/* One try upstream: exists only while it runs. */
struct request_attempt {
	struct intake_job load;
	struct upstream_call call;
	uint64_t start_position; /* on the board: show_start() */
	char body[];             /* private memory, body_bytes */
};

struct request {
	struct policy_request policy;
	struct governor *governor;
	struct door_slot *slot; /* NULL: its client is gone */
	enum request_stage stage : 8;
	enum shm_kind kind : 8;
	enum upstream_operation operation : 8;
	bool is_idempotent;
	bool was_issued;     /* upstream saw it, maybe under a predecessor */
	bool is_started;     /* counted in started_requests */
	bool is_ghost;       /* a permit of a predecessor, without a slot */
	bool is_unwanted;    /* cancelled while its body is read or it runs */
	bool is_hidden : 1;  /* the board has no record left for it */
	bool is_counted : 1; /* its body, in queued_bytes */
	enum upstream_outcome failed_as : 8; /* why it backs off, or _OK */
	uint16_t live;  /* its record on the board; REQUEST_NO_LIVE */
	uint32_t calls; /* made upstream */
	size_t body_bytes;
	union {
		uint8_t digest[REQUEST_DIGEST_BYTES]; /* of a call's body */
		uint64_t expires_ns;                  /* of a permit */
	};
	uint64_t number;
	uint64_t accepted_ns;
	uint64_t first_start_ns, last_start_ns; /* 0: not yet */
	struct request *prev, *next; /* of the permits that are out, else of
					those with a number like it */
	struct shadow *shadow; /* it was let through: shadow.h; else NULL */
	struct task *task;     /* it is durable, and on disk: tasks.h; else
				  NULL */
	union {
		struct intake_job *intake; /* while INTAKE */
		struct request_attempt *attempt;
	};
	char *other_model; /* NULL: the one that was asked */
	/* Its texts, one after the other and as long as they are, since many
	 * requests wait: user, peer and model id of ->policy (the peer's uid is
	 * the application there: fairness above the user), what the client
	 * calls itself, the headers.
	 * Longer ones are in memory of their own. */
	char texts[REQUEST_TEXT_ROOM];
};

/* From a submission, its texts copied; NULL: no memory. */
struct request *request_create(
	struct governor *governor, const struct door_submission *submission);
void request_free(struct request *request);

/* The next model to fall back to, the caller's to free; NULL: there is none, or
 * no memory. */
char *request_next_model(struct request *request);
/* It has gone on with that one, whose name is the request's now. */
void request_has_moved(struct request *request, char *model_id);

/* The only function that writes ->stage; asserts that the move is allowed. */
void request_move(struct request *request, enum request_stage stage);

static inline const char *request_model_id(const struct request *request)
{
	return request->policy.model_id;
}

/* A call, durable or not; else a permit. */
static inline bool request_is_call(const struct request *request)
{
	return request->kind != SHM_PERMIT;
}

/* Is there anybody who waits for its end? */
static inline bool request_is_wanted(const struct request *request)
{
	return (request->slot != NULL || request->task != NULL) &&
	       !request->is_unwanted;
}

static inline const char *request_next_text(const char *text)
{
	return text + strlen(text) + 1;
}

/* What its client calls itself: for people. */
static inline const char *request_app(const struct request *request)
{
	assert(request->policy.app != NULL); /* of texts, always */
	/* Behind the model that was asked first: another one may answer. */
	return request_next_text(request_next_text(request->policy.app));
}

/* "" or lines. */
static inline const char *request_headers(const struct request *request)
{
	return request_next_text(request_app(request));
}

static inline const char *request_user(const struct request *request)
{
	return request->policy.user;
}

#endif
