/* The paths of a client. */
#include "tests/fault/common/client_path.h"

#include "shm-layout/shm_daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	SMALL_TOKENS = 5,
	LARGE_TOKENS = 80000, /* their reply is above 256 KiB */
	PAD_BYTES = 300000,   /* so is a body with this */
	PATIENCE_MS = 60000,
	FDS_MAX = 256,
};

__attribute__((noinline)) void path_begin(void)
{
	__asm__ volatile("" ::: "memory");
}

__attribute__((noinline)) void path_end(void)
{
	__asm__ volatile("" ::: "memory");
}

/* ------------------------------------------------------------ bodies, replies
 */

static char *make_body(
	const char *name, unsigned int number, unsigned int tokens, size_t pad)
{
	char *body = malloc(pad + 256);
	int n;

	if (body == NULL)
		abort();
	n = sprintf(body, "{\"max_tokens\":%u,\"path\":\"%s\",\"n\":%u", tokens,
		name, number);
	if (pad > 0) {
		n += sprintf(body + n, ",\"pad\":\"");
		memset(body + n, 'a', pad);
		n += (int)pad;
		n += sprintf(body + n, "\"");
	}
	(void)sprintf(body + n, "}");
	return body;
}

static void make_request(struct client *client, const char *model,
	const char *name, unsigned int tokens, size_t pad)
{
	free(client->body);
	client->body = make_body(name, client->number, tokens, pad);
	client->request = (struct rgov_request){
		.size = sizeof(client->request),
		.model_id = model,
		.user = "stepped",
		.body = client->body,
		.body_bytes = strlen(client->body),
		.timeout_ms = PATIENCE_MS,
	};
}

static void request(struct client *client, const char *model)
{
	make_request(client, model, client->path->name, SMALL_TOKENS, 0);
}

void client_tell(
	const char *name, unsigned int number, const struct rgov_reply *reply)
{
	const char *said =
		reply->body != NULL ? strstr(reply->body, "sha256 ") : NULL;
	char line[256];
	int n = snprintf(line, sizeof(line), "answer %s %u %.64s\n", name,
		number, said != NULL ? said + 7 : "none");

	if (write(STDOUT_FILENO, line, (size_t)n) != n)
		abort();
}

int client_call(struct rgov *gov, const char *name, unsigned int number)
{
	struct rgov_reply reply = {.size = sizeof(reply)};
	struct rgov_request asked = {
		.size = sizeof(asked),
		.model_id = MODEL_PLAIN,
		.user = name,
		.timeout_ms = PATIENCE_MS,
	};
	char *body = make_body(name, number, SMALL_TOKENS, 0);
	int rc;

	asked.body = body;
	asked.body_bytes = strlen(body);
	rc = rgov_call(gov, &asked, &reply);
	if (rc == 0 && reply.result != RGOV_R_OK)
		rc = -EIO;
	if (rc == 0)
		client_tell(name, number, &reply);
	rgov_reply_fini(&reply);
	free(body);
	return rc;
}

/* ------------------------------------------------------------ preparing */

static void must(bool condition)
{
	if (!condition)
		_exit(2);
}

static void open_handle(struct client *client)
{
	must(rgov_open(NULL, &client->gov) == 0);
	client->reply.size = sizeof(client->reply);
}

static void take_permit(struct client *client)
{
	request(client, MODEL_PLAIN);
	must(rgov_permit(client->gov, &client->request, &client->ticket,
		     &client->reply) == 0 &&
		client->reply.result == RGOV_R_OK);
}

static void use_permit(struct client *client)
{
	take_permit(client);
	must(rgov_settle(client->gov, &client->ticket, RGOV_SETTLE_OK, 1, 1) ==
		0);
}

/* A session that has been used once. */
static void open_session(struct client *client)
{
	open_handle(client);
	use_permit(client);
}

/* One that has been used often enough to spin before it sleeps, where rgovd
 * advises to. */
static void prepare_used(struct client *client)
{
	open_session(client);
	for (int i = 0; i < 40; i++)
		use_permit(client);
	request(client, MODEL_PLAIN);
}

static void submit_now(struct client *client)
{
	must(rgov_submit(client->gov, &client->request, &client->ticket) == 0);
}

static void wait_readable(struct client *client)
{
	struct pollfd bell = {.fd = rgov_fd(client->gov), .events = POLLIN};

	must(poll(&bell, 1, PATIENCE_MS) == 1);
}

static void prepare_small(struct client *client)
{
	open_session(client);
	request(client, MODEL_PLAIN);
}

static void prepare_large(struct client *client)
{
	open_session(client);
	make_request(client, MODEL_HANG, client->path->name, SMALL_TOKENS,
		PAD_BYTES);
}

static void prepare_busy(struct client *client)
{
	open_session(client);
	request(client, MODEL_BUSY);
}

static int look(struct client *client, uint64_t max_age_ms)
{
	client->progress =
		(struct rgov_progress){.size = sizeof(client->progress)};
	return rgov_progress(
		client->gov, &client->ticket, max_age_ms, &client->progress);
}

static void prepare_queued(struct client *client)
{
	prepare_busy(client);
	submit_now(client);
}

/* ... and rgovd has said where it stands. */
static void prepare_placed(struct client *client)
{
	prepare_queued(client);
	do
		must(look(client, UINT64_MAX) == 0);
	while (client->progress.request == 0);
}

static void prepare_running(struct client *client)
{
	open_session(client);
	request(client, MODEL_HANG);
	submit_now(client);
}

/* Its answer is there, and nobody has looked. */
static void prepare_done(struct client *client)
{
	open_session(client);
	request(client, MODEL_PLAIN);
	client->request.flags = RGOV_RING;
	submit_now(client);
	wait_readable(client);
}

static void prepare_done_large(struct client *client)
{
	open_session(client);
	make_request(client, MODEL_PLAIN, client->path->name, LARGE_TOKENS,
		PAD_BYTES);
	client->request.flags = RGOV_RING;
	submit_now(client);
	wait_readable(client);
}

static void prepare_held(struct client *client)
{
	open_session(client);
	take_permit(client);
}

/* One of each kind is out. */
static void prepare_all(struct client *client)
{
	prepare_queued(client);
	take_permit(client);
	make_request(client, MODEL_HANG, "close-all-running", SMALL_TOKENS, 0);
	submit_now(client);
}

static void prepare_fresh(struct client *client)
{
	open_handle(client);
	request(client, MODEL_PLAIN);
}

/* It gives rgovd as long as a stopped process may need. */
static void prepare_patient(struct client *client)
{
	const struct rgov_options options = {
		.size = sizeof(options), .connect_timeout_ms = PATIENCE_MS};

	open_session(client);
	rgov_close(client->gov);
	must(rgov_open(&options, &client->gov) == 0);
	client->reply.size = sizeof(client->reply);
	request(client, MODEL_PLAIN);
}

/* The library has been used before: what it works out once, it knows. */
static void prepare_again(struct client *client)
{
	open_session(client);
	rgov_close(client->gov);
	prepare_fresh(client);
}

/* The session's file as a dead rgovd leaves it: not marked as ended. */
static void revive_session(void)
{
	static const uint64_t magic = SHM_DAEMON_MAGIC;
	char path[32], target[64];

	for (int fd = 0; fd < FDS_MAX; fd++) {
		ssize_t n;
		int file;

		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		n = readlink(path, target, sizeof(target) - 1);
		target[n > 0 ? n : 0] = '\0';
		if (strcmp(target, "/memfd:rgov:daemon (deleted)") != 0)
			continue;
		file = open(path, O_RDWR | O_CLOEXEC);
		must(file >= 0 && pwrite(file, &magic, sizeof(magic), 0) ==
					  sizeof(magic));
		(void)close(file);
		return;
	}
	must(false);
}

/* Its rgovd has hung up, as one that dies does; the same one plays the
 * successor. */
static void prepare_cut_off(struct client *client)
{
	struct pollfd end = {.events = POLLIN};

	prepare_queued(client);
	client->other = client->ticket;
	make_request(client, MODEL_HANG, "reattach-running", SMALL_TOKENS, 0);
	submit_now(client);
	end.fd = rgov_fd(client->gov);
	must(shutdown(end.fd, SHUT_WR) == 0);
	do
		must(poll(&end, 1, PATIENCE_MS) == 1);
	while ((end.revents & POLLHUP) == 0);
	revive_session();
}

/* The parent waits for its own answer, whatever becomes of its child. */
static void prepare_fork(struct client *client)
{
	int status;
	pid_t pid;

	open_session(client);
	make_request(client, MODEL_BUSY, "fork-parent", SMALL_TOKENS, 0);
	submit_now(client);
	pid = fork();
	if (pid == 0) {
		request(client, MODEL_PLAIN);
		return;
	}
	must(waitpid(pid, &status, 0) == pid);
	must(rgov_wait(client->gov, &client->ticket, UINT64_MAX,
		     &client->reply) == 0 &&
		client->reply.result == RGOV_R_OK);
	client_tell("fork-parent", client->number, &client->reply);
	_exit(WIFSIGNALED(status) || WEXITSTATUS(status) == 0 ? 0 : 1);
}

/* The child inherits all that its parent has, and calls when it is told. */
static void live_as_witness(struct client *client)
{
	char byte;

	if (read(client->go, &byte, 1) != 1)
		_exit(3);
	_exit(client_call(client->gov, "witness", client->number) == 0 ? 0 : 1);
}

static void prepare_parent(struct client *client)
{
	open_session(client);
	make_request(client, MODEL_BUSY, "parent-queued", SMALL_TOKENS, 0);
	submit_now(client);
	request(client, MODEL_PLAIN);
}

static void prepare_witness(struct client *client)
{
	prepare_parent(client);
	if (fork() == 0)
		live_as_witness(client);
}

/* The same without the handlers of pthread_atfork(): the child holds the
 * inherited socket open, so that only the pidfd tells of its parent's end. */
static void prepare_raw_witness(struct client *client)
{
	prepare_parent(client);
	if (syscall(SYS_fork) == 0)
		live_as_witness(client);
}

/* ------------------------------------------------------------ performing */

static void do_submit(struct client *client)
{
	client->rc =
		rgov_submit(client->gov, &client->request, &client->ticket);
}

static void do_wait(struct client *client)
{
	client->rc = rgov_wait(
		client->gov, &client->ticket, UINT64_MAX, &client->reply);
}

static void do_cancel(struct client *client)
{
	client->rc = rgov_cancel(client->gov, &client->ticket);
	if (client->rc == 0)
		do_wait(client);
}

static void do_abandon(struct client *client)
{
	rgov_abandon(client->gov, &client->ticket);
}

/* From memory, and from rgovd, which writes it anew. */
static void do_look(struct client *client)
{
	client->rc = look(client, UINT64_MAX);
	if (client->rc == 0)
		client->rc = look(client, 0);
}

static void do_permit(struct client *client)
{
	client->rc = rgov_permit(
		client->gov, &client->request, &client->ticket, &client->reply);
}

static void do_settle(struct client *client)
{
	client->rc = rgov_settle(
		client->gov, &client->ticket, RGOV_SETTLE_OK, 10, 20);
}

static void do_close(struct client *client)
{
	rgov_close(client->gov);
	client->gov = NULL;
}

static void do_dispatch(struct client *client)
{
	client->rc = rgov_dispatch(client->gov);
}

/* ------------------------------------------------------------ concluding */

static bool conclude_rc(struct client *client)
{
	return client->rc == 0;
}

static bool conclude_look(struct client *client)
{
	return client->rc == 0 && client->progress.state == RGOV_S_QUEUED &&
	       client->progress.position == 1;
}

static bool conclude_reply(struct client *client)
{
	if (client->rc != 0 || client->reply.result != RGOV_R_OK)
		return false;
	client_tell(client->path->name, client->number, &client->reply);
	return true;
}

static bool conclude_submit(struct client *client)
{
	if (client->rc != 0)
		return false;
	do_wait(client);
	return conclude_reply(client);
}

static bool conclude_cancel(struct client *client)
{
	return client->rc == 0 && client->reply.result == RGOV_R_CANCELLED;
}

static bool conclude_permit(struct client *client)
{
	return client->rc == 0 && client->reply.result == RGOV_R_OK &&
	       rgov_settle(
		       client->gov, &client->ticket, RGOV_SETTLE_OK, 1, 1) == 0;
}

/* 1: there is a new socket. */
static bool conclude_dispatch(struct client *client)
{
	struct rgov_diagnostics found = {.size = sizeof(found)};

	return client->rc == 1 && rgov_diagnose(client->gov, &found) == 0 &&
	       found.reconnects == 1 && found.slots_taken == 2;
}

const struct client_path client_paths[] = {
	{"submit", 0, prepare_small, do_submit, conclude_submit},
	{"submit-queued", NEEDS_BUSY, prepare_busy, do_submit, conclude_rc},
	{"submit-large", 0, prepare_large, do_submit, conclude_rc},
	{"wait-asleep", NEEDS_BUSY | NEEDS_RELEASE, prepare_queued, do_wait,
		conclude_reply},
	{"wait-running", ENDS_ASLEEP, prepare_running, do_wait, NULL},
	{"wait-done", 0, prepare_done, do_wait, conclude_reply},
	{"collect-large", 0, prepare_done_large, do_wait, conclude_reply},
	{"look", NEEDS_BUSY, prepare_placed, do_look, conclude_look},
	{"cancel-queued", NEEDS_BUSY, prepare_queued, do_cancel,
		conclude_cancel},
	{"cancel-running", 0, prepare_running, do_cancel, conclude_cancel},
	{"abandon", 0, prepare_running, do_abandon, conclude_rc},
	{"permit", 0, prepare_small, do_permit, conclude_permit},
	{"permit-again", 0, prepare_used, do_permit, conclude_permit},
	{"settle", 0, prepare_held, do_settle, conclude_rc},
	{"close-idle", 0, open_session, do_close, conclude_rc},
	{"close-all", NEEDS_BUSY, prepare_all, do_close, conclude_rc},
	{"register", 0, prepare_fresh, do_submit, conclude_submit},
	{"register-again", 0, prepare_again, do_submit, conclude_submit},
	{"register-patiently", 0, prepare_patient, do_submit, conclude_submit},
	{"reattach", NEEDS_BUSY | REISSUES, prepare_cut_off, do_dispatch,
		conclude_dispatch},
	{"restart", NEEDS_RESTART | ENDS_ASLEEP | REISSUES, prepare_running,
		do_wait, NULL},
	{"fork-child", NEEDS_BUSY | FORKS_CHILD, prepare_fork, do_submit,
		conclude_submit},
	{"fork-parent-dies", NEEDS_BUSY | FORKS_WITNESS, prepare_witness,
		do_submit, conclude_submit},
	{"raw-fork-parent-dies", NEEDS_BUSY | FORKS_WITNESS,
		prepare_raw_witness, do_submit, conclude_submit},
	{NULL, 0, NULL, NULL, NULL},
};

const struct client_path *client_path_find(const char *name)
{
	for (const struct client_path *path = client_paths; path->name; path++)
		if (strcmp(path->name, name) == 0)
			return path;
	return NULL;
}

void client_live(void *argument)
{
	struct client *client = argument;
	bool is_good;

	client->path->prepare(client);
	path_begin();
	client->path->perform(client);
	path_end();
	is_good = client->path->conclude == NULL ||
		  client->path->conclude(client);
	if (!is_good)
		printf("violation %s: %s, %s %s\n", client->path->name,
			rgov_strerror(client->rc),
			rgov_result_name(client->reply.result), rgov_why());
	_exit(is_good ? 0 : 1);
}
