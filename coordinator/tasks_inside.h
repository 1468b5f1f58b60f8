/* What the files of tasks.h share. */
#ifndef COORDINATOR_TASKS_INSIDE_H
#define COORDINATOR_TASKS_INSIDE_H

#include "coordinator/flow.h"
#include "coordinator/store/store.h"
#include "coordinator/tasks.h"
#include "coordinator/upstream/post_url.h"

/* One user of one uid with tasks that have not ended: max_tasks_per_user. */
struct task_owner;

/* One that has not ended; from its acknowledgement until its end is on disk. */
struct task {
	struct task *next; /* in its bucket */
	uint8_t id[STORE_ID_BYTES];
	struct request *request; /* NULL: its end is on its way to the disk */
	struct task_owner *owner;
	struct question *waiters; /* for its end */
	struct task *next_parked; /* while is_parked, or among the unended */
	int64_t submitted_ns, started_ns; /* CLOCK_REALTIME */
	uid_t uid;
	uint32_t runs;
	enum store_state state : 8;
	bool is_parked; /* the disk fails: it is tried again */
	bool has_callback;
	enum shm_result unended_as : 16; /* there was no memory to say so */
};

enum { TASK_BUCKETS = 1 << 16, TASKS_RECENT = 1024 };

struct tasks {
	struct governor *governor;
	struct store *store;   /* NULL: there is none yet */
	struct digest *digest; /* of what a key stands for */
	struct task **buckets; /* TASK_BUCKETS; NULL: no store */
	uint64_t secret[3];    /* of this rgovd: which bucket */
	struct task_owner *owners;
	uint32_t n;           /* tasks in the table */
	uint32_t n_putting;   /* on their way into it */
	uint32_t n_ending;    /* ends that go to the disk */
	uint32_t n_beginning; /* admitted, and marked there as running */
	struct task *parked, **parked_end;
	struct task_end *failed_ends; /* the disk did not take them */
	struct task *unended;         /* have ended; no memory to write it */
	struct loop_timer again;      /* while one of them is not empty */
	struct task_recent *recent[TASKS_RECENT];
	struct post *post; /* NULL: nobody was told yet */
	struct delivery *deliveries;
	bool is_ailing; /* it was said */
};

/* A copy that is cut where it must be; NULL is "". */
static inline void task_text(char *to, size_t bytes, const char *from)
{
	size_t n = 0;

	for (; from != NULL && from[n] != '\0' && n < bytes - 1; n++)
		to[n] = from[n];
	to[n] = '\0';
}

/* CLOCK_REALTIME, and between the two clocks. */
int64_t wall_now_ns(void);
uint64_t monotonic_of(int64_t wall_ns);

/* ------------------------------------------------------------ tasks.c */

/* The store, made where there is none; NULL with words. */
struct store *tasks_store(struct tasks *tasks, char ret_why[STORE_WHY_BYTES]);
/* NULL: none that has not ended. */
struct task *task_find(const struct tasks *tasks, const uint8_t id[]);
/* A new one, zeros of malloc(), in the table, of this request.  It is the
 * table's then, and the owner its. */
void task_add(struct tasks *tasks, struct task *task, struct request *request,
	const struct store_record *record, struct task_owner *owner);
/* Its end is on disk: gone from the table, freed. */
void task_free(struct tasks *tasks, struct task *task);
/* Counts one more of that user; NULL: no memory. */
struct task_owner *task_owner_take(
	struct tasks *tasks, uid_t uid, const char *user);
/* And one less; NULL is fine. */
void task_owner_release(struct tasks *tasks, struct task_owner *owner);
/* How many of that user have not ended. */
uint32_t task_owner_count(const struct task_owner *owner);
/* Look again in a second: parked tasks, ends that failed. */
void tasks_try_again(struct tasks *tasks);
/* The disk did not take this: said once, until it takes something. */
void tasks_ail(struct tasks *tasks, const struct store_job *job);

/* ------------------------------------------------------------ task_run.c */

/* Ends that the disk did not take, once more; parked tasks, too. */
void tasks_retry(struct tasks *tasks);
/* A successor runs those tasks again. */
void tasks_forget_ends(struct tasks *tasks);
/* A line of its history; the text is nobody's to free. */
void task_note(struct task *task, struct tasks *tasks, enum store_event event,
	const char *static_text, bool is_queued);

/* ------------------------------------------------------------ task_recent.c */

/* How one has ended, for those who ask again. */
void task_remember(struct tasks *tasks, const uint8_t id[],
	const struct store_record *record);
/* NULL: the store is to be asked.  Of its texts only those of the end. */
const struct store_record *task_recall(struct tasks *tasks, const uint8_t id[]);
void tasks_forget_recent(struct tasks *tasks);

/* ------------------------------------------------------------ task_ask.c */

/* Its end is on disk: who waits is told. */
void task_tell(struct task *task, const struct store_record *record);
/* It goes without an end: who waits is turned away. */
void task_turn_away(struct task *task);
/* What a record says, as the line of a slot. */
struct daemon_task task_line(
	const struct tasks *tasks, const struct store_record *record);
/* A task in the table. */
struct daemon_task task_line_now(const struct task *task);

/* ------------------------------------------------------------ task_post.c */

/* May the end be posted there?  Else words that say why not. */
bool task_may_call_back(const struct tasks *tasks, const char *url,
	char ret_why[POST_WHY_BYTES]);
/* It has ended, and somebody wants to be told. */
void task_post(struct tasks *tasks, const uint8_t id[]);
/* A successor tells the rest; before the store is closed. */
void tasks_stop_posts(struct tasks *tasks);

#endif
