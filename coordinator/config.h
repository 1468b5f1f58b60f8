/*
 * The configuration of rgovd: where each setting comes from (preset < file <
 * environment < command line), what is allowed, and what is in force.
 *
 * A configuration is read as a whole and never changes afterwards: a reload
 * makes another one beside it.  It opens no socket and makes no directory.
 * Not thread-safe while loading (libConfuse's scanner has one state a process).
 * config.def is the table of all settings.
 */
#ifndef COORDINATOR_CONFIG_H
#define COORDINATOR_CONFIG_H

#include "coordinator/log.h"
#include "coordinator/loop/loop.h"
#include "coordinator/policy/policy.h"
#include "coordinator/upstream/upstream.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

enum {
	CONFIG_NAME_BYTES = 31, /* of a governor's name, at most */
	CONFIG_ERRORS = 16,
	CONFIG_ERROR_BYTES = 512
};

enum config_client_death { CONFIG_DEATH_ABORT, CONFIG_DEATH_FINISH };

/* Numbers of users or groups, ascending, each once. */
struct config_ids {
	const uint32_t *ids;
	size_t n;
};

/* Of durable tasks: tasks.h. */
struct config_tasks {
	bool are_on;
	const char *state_dir;                  /* NAME.tasks.db lies there */
	uint64_t timeout_ns;                    /* of a task that names none */
	uint64_t result_ttl_ns, record_ttl_ns;  /* kept after its end */
	uint32_t max_tasks, max_tasks_per_user; /* not ended */
	const char *const *callbacks;           /* what their URLs begin with */
	size_t n_callbacks;
	struct config_ids gids; /* read the tasks of others */
};

/* One quota for several hosts: docs/cluster.md. */
struct config_cluster {
	const char *url; /* NULL: this host is alone.  Holds a password */
	const char *account;
	uint32_t hosts;
	enum lease_loss on_loss;
	const char *host;    /* this one's name among them */
	const char *ca_file; /* NULL: the system's */
	uint64_t forget_after_ns;
};

/* What is in force.  All pointers live as long as the configuration. */
struct config {
	const char *name;
	const char *file;   /* NULL: none was read */
	const char *preset; /* "production-low" */

	/* Ready for policy_create(), except the seed, which is 0. */
	struct policy_config policy;
	/* Ready for upstream_create(). */
	struct upstream_config upstream;

	const char *runtime_dir;
	const char *socket; /* fits sun_path */
	uint32_t socket_mode;
	struct config_ids allow_uids, allow_gids, admin_uids;
	uint32_t max_sessions;
	uint32_t slots_per_session; /* a client gets no more */
	uint64_t max_queued_bytes;  /* bodies of queued requests, host-wide */

	uint64_t default_timeout_ns; /* of a request that names no deadline */
	uint64_t permit_ttl_ns;
	enum config_client_death on_client_death;
	bool shadow; /* let everything through, and say what would wait */
	struct config_cluster cluster;
	const char *record; /* a file for a trace of the traffic; NULL: none */

	struct config_tasks tasks;

	enum loop_engine loop;
	uint32_t spin_us; /* as configured, whatever the number of CPUs */
	enum log_format log_format;
	enum log_level log_level;

	struct config_private *own;
};

/* A setting of the command line; "model.PATTERN.tokens_per_minute" is one of a
 * block, which is added after the others where there is none of this title. */
struct config_override {
	const char *key; /* "loop", "upstream.endpoint" */
	const char *value;
	const char *option; /* "--loop": its origin in messages */
};

/* Where to look.  A zeroed one means: name "default", no environment. */
struct config_source {
	const char *name; /* NULL: RGOV_NAME, else "default" */
	const char
		*file; /* NULL: RGOV_CONFIG, else DIR/NAME.conf if it exists */
	const char *dir;                         /* NULL: /etc/rgov */
	char *(*getenv)(const char *name);       /* NULL: no environment */
	const struct config_override *overrides; /* later ones win */
	size_t n_overrides;
	bool in_child; /* read the file in a child process: see
			  config_child.c */
};

/* What is wrong, in the order found: `FILE:LINE: key: expected …, found …`. */
struct config_error {
	size_t n; /* found; the first CONFIG_ERRORS of them are kept */
	char text[CONFIG_ERRORS][CONFIG_ERROR_BYTES];
};

/*
 * Reads, checks and combines everything.  0: *ret_config is the caller's, ended
 * by config_free().  -EINVAL, or -errno of reading the file: ret_error says
 * what and where, nothing else changed.  -ENOMEM.  Blocks on the file and on
 * the user database (names in allow_uids), on nothing else.
 */
int config_load(const struct config_source *source, struct config **ret_config,
	struct config_error *ret_error);

void config_free(struct config *config);

/* What is allowed and may yet be a mistake. */
const struct config_error *config_warnings(const struct config *config);

/* Where the block stands that policy.models[i] is: "FILE:LINE". */
const char *config_model_origin(const struct config *config, size_t i);

/* The first error, and how many more there are; for one line of a log. */
const char *config_error_first(
	const struct config_error *error, char ret_text[CONFIG_ERROR_BYTES]);

/* 1 to 31 of A-Z a-z 0-9 . _ -, no dot first: it becomes part of file names. */
bool config_name_is_valid(const char *name);

/*
 * The settings that differ, as "key, key, model"; cut to bytes.  Returns how
 * many differ.  The first function names only those that a reload cannot apply
 * (name, socket, socket_mode, runtime_dir, loop, max_sessions): the running
 * rgovd keeps their old values until it is started anew.
 */
size_t config_diff_needs_restart(const struct config *old,
	const struct config *new, char *ret_keys, size_t bytes);
size_t config_diff(const struct config *old, const struct config *new,
	char *ret_keys, size_t bytes);

/*
 * The configuration in force, in the file's own syntax, with the origin of
 * each value as a comment (preset, file:line, environment, option, default).
 * Returns 0 or -EIO.
 */
int config_dump(const struct config *config, FILE *out);

/* What decides over requests, each with its value, as `model.PATTERN.KEY` where
 * it is of a block: what a trace of the traffic begins with. */
void config_each_limit(const struct config *config,
	void (*see)(void *arg, const char *path, const char *value), void *arg);

/*
 * May this peer connect?  own_uid is rgovd's.  With allow_uids and allow_gids
 * both empty the socket's directory and mode have decided already: yes.
 * Otherwise: root, rgovd's own uid, a listed uid, or a member of a listed
 * group.
 */
bool config_lets_in(const struct config *config, uid_t own_uid, uid_t uid,
	const gid_t *gids, size_t n_gids);

/* May this peer give administrative orders?  admin_uids, else root and own_uid.
 */
bool config_lets_govern(const struct config *config, uid_t own_uid, uid_t uid);

/* May this peer read and cancel the tasks of other uids?  Who governs, rgovd's
 * own uid, and the members of task_gids. */
bool config_lets_read_tasks(const struct config *config, uid_t own_uid,
	uid_t uid, const gid_t *gids, size_t n_gids);

#endif
