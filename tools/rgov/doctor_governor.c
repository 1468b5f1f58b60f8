/* What `rgov doctor` says about the governor: its board and its socket. */
#include "tools/rgov/doctor.h"

#include "shm-layout/shm_layout.h"
#include "shm-layout/shm_wire.h"
#include "tools/board-view/clean_text.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { ANSWER_MS = 2000, USER_BYTES = 64 };

/* "alice" or "uid 1000" */
static void user_of(uid_t uid, char ret_text[USER_BYTES])
{
	struct passwd entry, *user = NULL;
	char strings[4096];

	if (getpwuid_r(uid, &entry, strings, sizeof(strings), &user) == 0 &&
		user != NULL)
		(void)snprintf(ret_text, USER_BYTES, "%.60s", user->pw_name);
	else
		(void)snprintf(ret_text, USER_BYTES, "uid %u", (unsigned)uid);
}

/* ------------------------------------------------------------ board */

/* A file that is not a board of this layout: of which is it? */
static void report_other_layout(struct doctor *doctor, const char *object)
{
	struct board_header header;
	int fd = shm_open(object, O_RDONLY | O_NONBLOCK, 0);
	ssize_t n = fd < 0 ? -1 : pread(fd, &header, sizeof(header), 0);

	if (fd >= 0)
		(void)close(fd);
	if (n < (ssize_t)offsetof(struct board_header, total_bytes) ||
		load_relaxed(header.magic) != SHM_BOARD_MAGIC) {
		doctor_report(doctor, FINDING_FAIL, "board",
			"/dev/shm%s is not a board; remove it, then restart "
			"rgovd",
			object);
		return;
	}
	doctor_report(doctor, FINDING_FAIL, "board",
		"%s has layout %" PRIu32 " (%016" PRIx64 "), this command has "
		"layout %d (%016" PRIx64 "); install rgovd, librgov and rgov "
		"of one release, then restart every process",
		object, header.layout_version, header.layout_hash,
		SHM_LAYOUT_VERSION, shm_layout_hash());
}

static void report_good_board(struct doctor *doctor, const char *object)
{
	char path[128], owner[USER_BYTES];
	struct stat st;

	(void)snprintf(path, sizeof(path), "/dev/shm%s", object);
	if (stat(path, &st) < 0) {
		doctor_report(doctor, FINDING_WARN, "board",
			"%s is open, but %s cannot be looked at: %s", object,
			path, strerror(errno));
		return;
	}
	user_of(st.st_uid, owner);
	doctor_report(doctor,
		(st.st_mode & 022) != 0 ? FINDING_WARN : FINDING_OK, "board",
		"%s, layout %d, owner %s, mode %04o%s", path,
		SHM_LAYOUT_VERSION, owner, (unsigned)st.st_mode & 07777u,
		(st.st_mode & 022) != 0
			? "; others can write it: chmod go-w, and look who did"
			: "");
}

void check_board(struct doctor *doctor)
{
	char object[SHM_OBJECT_NAME_BYTES], words[512];
	int rc = view_open(doctor->name, &doctor->view);

	board_object_name(doctor->name, object);
	if (rc == 0) {
		report_good_board(doctor, object);
		return;
	}
	doctor->view = NULL;
	if (rc == -EPROTO) {
		report_other_layout(doctor, object);
		return;
	}
	view_open_error(doctor->name, rc, words, sizeof(words));
	doctor_report(doctor, FINDING_FAIL, "board", "%s", words);
}

void check_heartbeat(struct doctor *doctor)
{
	const struct board_view *view = doctor->view;
	char words[160];

	if (view == NULL)
		return; /* said already */
	view_health_text(view, words, sizeof(words));
	switch (view->health) {
	case VIEW_OK:
		doctor_report(doctor, FINDING_OK, "rgovd",
			"pid %d, version %s, engine %s, heartbeat %.1f s ago",
			(int)view->header.rgovd_pid, view->header.version,
			view->header.engine, view->heartbeat_age_s);
		return;
	case VIEW_DRAINING:
		doctor_report(doctor, FINDING_WARN, "rgovd", "%s; it ends soon",
			words);
		return;
	case VIEW_SILENT:
	case VIEW_SUSPENDED:
		doctor_report(doctor, FINDING_FAIL, "rgovd",
			"%s; restart it if that lasts", words);
		return;
	case VIEW_STOPPED:
	case VIEW_GONE:
	case VIEW_BROKEN:
		doctor_report(doctor, FINDING_FAIL, "rgovd",
			"%s; start rgovd, its log says why it ended", words);
		return;
	}
}

void check_credentials(struct doctor *doctor)
{
	if (doctor->view == NULL)
		return;
	if (load_relaxed(doctor->view->header.credentials) != 0)
		doctor_report(doctor, FINDING_OK, "credentials",
			"rgovd has some, for %s",
			doctor->view->header.endpoint);
	else
		doctor_report(doctor, FINDING_WARN, "credentials",
			"rgovd has none, so that it refuses calls (permits "
			"work); set AWS_ACCESS_KEY_ID and "
			"AWS_SECRET_ACCESS_KEY, AWS_PROFILE or "
			"AWS_BEARER_TOKEN_BEDROCK where rgovd is started");
}

/* ------------------------------------------------------------ cluster */

/* What helps with this kind of trouble. */
static const char *help_with(const char *trouble)
{
	static const char *const helps[][2] = {
		{"name", "look at the host name in `cluster`, and at the DNS"},
		{"connect", "look whether Redis runs there, at its `bind` and "
			    "`protected-mode`, and at firewalls"},
		{"tls", "look at cluster_ca_file, and whether the certificate "
			"is for the host of the URL and not out of date"},
		{"password", "look at user and password in `cluster`"},
		{"db", "look at the number at the end of `cluster`"},
		{"silent", "look at Redis: is it stopped, overloaded, or "
			   "behind a slow network?"},
		{"readonly", "name the primary in `cluster`"},
		{"moved", "use a Redis that is no Redis Cluster, or the node "
			  "that has our keys"},
		{"wrongtype", "give rgov a database of its own, or another "
			      "cluster_account"},
		{"full", "look at maxmemory and at the disk of Redis"},
	};

	for (size_t i = 0; i < sizeof(helps) / sizeof(helps[0]); i++)
		if (strcmp(trouble, helps[i][0]) == 0)
			return helps[i][1];
	return "look at Redis and its log";
}

void check_cluster(struct doctor *doctor)
{
	const struct board_view *view = doctor->view;
	const struct board_cluster *cluster;
	char words[512];

	if (view == NULL || !view_is_clustered(view))
		return;
	cluster = &view->cluster;
	view_cluster_text(view, words, sizeof(words));
	if (words[0] != '\0')
		doctor_report(doctor, FINDING_FAIL, "cluster",
			"%s: %s; the lease is %s, on_cluster_loss = %s; %s",
			cluster->redis, words,
			board_cluster_text(cluster->mode), cluster->on_loss,
			cluster->is_namesake != 0
				? "rgov.conf(5)"
				: help_with(cluster->trouble));
	else if (cluster->mode != BOARD_CLUSTER_LEASED)
		doctor_report(doctor, FINDING_WARN, "cluster",
			"%s: the quota is not leased now (%s), %" PRIu32
			" of %" PRIu32 " hosts are known; wait a window",
			cluster->redis, board_cluster_text(cluster->mode),
			cluster->hosts, cluster->hosts_configured);
	else
		doctor_report(doctor, FINDING_OK, "cluster",
			"%s, %" PRIu32 " of %" PRIu32
			" hosts, last answer %.1f s ago in %.1f ms",
			cluster->redis, cluster->hosts,
			cluster->hosts_configured,
			view_age_s(view, cluster->answered_ns),
			(double)cluster->took_ns * 1e-6);
}

/* ------------------------------------------------------------ socket */

static bool is_socket(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static const char *variable(const char *name)
{
	const char *value = getenv(name);

	return value != NULL && value[0] != '\0' ? value : NULL;
}

/* Where librgov would look: the rule is in rgov.h (socket_path). */
static void find_socket(
	const struct doctor *doctor, char *ret_path, size_t bytes)
{
	const char *named = doctor->socket_path != NULL
				    ? doctor->socket_path
				    : variable("RGOV_SOCKET");
	const char *runtime = variable("RGOV_RUNTIME_DIR");
	const char *session = variable("XDG_RUNTIME_DIR");

	if (named != NULL) {
		(void)snprintf(ret_path, bytes, "%s", named);
		return;
	}
	(void)snprintf(ret_path, bytes, "%s/%s.sock",
		runtime != NULL ? runtime : "/run/rgov", doctor->name);
	if (runtime != NULL || geteuid() == 0 || is_socket(ret_path))
		return;
	if (session != NULL)
		(void)snprintf(ret_path, bytes, "%s/rgov/%s.sock", session,
			doctor->name);
	else
		(void)snprintf(ret_path, bytes, "/tmp/rgov-%u/%s.sock",
			(unsigned)geteuid(), doctor->name);
}

/* What connect() or stat() said, and what helps. */
static void report_no_socket(struct doctor *doctor, const char *path, int error)
{
	const char *help = "start rgovd";

	if (error == ENOENT && doctor->view != NULL &&
		strcmp(path, doctor->view->header.socket_path) != 0)
		help = "rgovd's board names another one: set RGOV_SOCKET or "
		       "RGOV_RUNTIME_DIR to it";
	else if (error == EACCES)
		help = "this user may not enter the directory or open the "
		       "socket: join the group that owns it, or see "
		       "socket_mode in rgov.conf(5)";
	else if (error == ECONNREFUSED)
		help = "nobody listens there, rgovd is not running: start it";
	else if (error == EPROTOTYPE)
		help = "that is another program's socket: set RGOV_SOCKET";
	else if (error == ENAMETOOLONG)
		help = "a socket's path has 107 bytes at most";
	doctor_report(doctor, FINDING_FAIL, "socket", "%s: %s; %s", path,
		strerror(error), help);
	if (doctor->view != NULL &&
		strcmp(path, doctor->view->header.socket_path) != 0)
		doctor_report(doctor, FINDING_WARN, "socket",
			"the board says %s", doctor->view->header.socket_path);
}

/* A connected socket, or -errno.  Never blocks: rgovd may hang. */
static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, rc;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	(void)strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	rc = -errno;
	(void)close(fd);
	return rc;
}

static void report_connected(struct doctor *doctor, const char *path, int fd)
{
	char owner[USER_BYTES] = "?", server[USER_BYTES] = "?";
	struct ucred peer;
	socklen_t bytes = sizeof(peer);
	struct stat st;
	unsigned mode = 0;

	if (stat(path, &st) == 0) {
		user_of(st.st_uid, owner);
		mode = st.st_mode & 07777;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0)
		user_of(peer.uid, server);
	doctor_report(doctor, FINDING_OK, "socket",
		"%s, owner %s, mode %04o, served by %s; uid %u can connect",
		path, owner, mode, server, (unsigned)geteuid());
}

union answer {
	struct wire_head head;
	struct wire_answer answer;
	struct wire_refused refused;
};

/* What rgovd answers; -ETIMEDOUT, -EPIPE when it hung up, -errno. */
static int ask(int fd, enum wire_verb verb, union answer *ret_answer)
{
	struct wire_admin admin = {
		.head = {.magic = WIRE_MAGIC,
			.type = WIRE_ADMIN,
			.layout_version = SHM_LAYOUT_VERSION,
			.layout_hash = shm_layout_hash()},
		.verb = verb,
	};
	struct pollfd readable = {.fd = fd, .events = POLLIN};
	ssize_t n;
	int rc;

	memset(ret_answer, 0, sizeof(*ret_answer));
	if (send(fd, &admin, sizeof(admin), MSG_NOSIGNAL) < 0)
		return -errno;
	do
		rc = poll(&readable, 1, ANSWER_MS);
	while (rc < 0 && errno == EINTR);
	if (rc <= 0)
		return rc == 0 ? -ETIMEDOUT : -errno;
	n = recv(fd, ret_answer, sizeof(*ret_answer), MSG_DONTWAIT);
	if (n <= 0)
		return n == 0 ? -EPIPE : -errno;
	if (n < (ssize_t)sizeof(struct wire_head) ||
		ret_answer->head.magic != WIRE_MAGIC)
		return -EBADMSG;
	return 0;
}

static void report_refused(struct doctor *doctor, struct wire_refused *refused)
{
	const struct wire_head *head = &refused->head;

	text_clean(refused->text, sizeof(refused->text));
	if (refused->reason == WIRE_BAD_LAYOUT)
		doctor_report(doctor, FINDING_FAIL, "wire",
			"rgovd has layout %u (%016" PRIx64 "), this command "
			"%d (%016" PRIx64 "); install one release and restart "
			"every process",
			head->layout_version, head->layout_hash,
			SHM_LAYOUT_VERSION, shm_layout_hash());
	else if (refused->reason == WIRE_NOT_ALLOWED)
		doctor_report(doctor, FINDING_FAIL, "wire",
			"rgovd refuses uid %u: %s; add it to allow_uids or its "
			"group to allow_gids in rgov.conf(5)",
			(unsigned)geteuid(), refused->text);
	else
		doctor_report(doctor, FINDING_FAIL, "wire", "rgovd refuses: %s",
			refused->text);
}

/* Of the configuration, for those who may govern. */
static void report_hints(struct doctor *doctor, int fd)
{
	union answer answer;
	char *line, *rest;

	if (ask(fd, WIRE_HINTS, &answer) < 0 ||
		answer.head.type != WIRE_ANSWER || answer.answer.failed != 0)
		return;
	answer.answer.text[sizeof(answer.answer.text) - 1] = '\0';
	for (line = strtok_r(answer.answer.text, "\n", &rest); line != NULL;
		line = strtok_r(NULL, "\n", &rest)) {
		text_clean(line, strlen(line) + 1);
		doctor_report(doctor, FINDING_OK, "hint", "%s", line);
	}
}

static void check_wire(struct doctor *doctor, int fd)
{
	union answer answer;
	int rc = ask(fd, WIRE_PING, &answer);

	if (rc < 0)
		doctor_report(doctor, FINDING_FAIL, "wire",
			"no answer from rgovd: %s; it hangs, or another "
			"program serves the socket",
			strerror(-rc));
	else if (answer.head.type == WIRE_REFUSED)
		report_refused(doctor, &answer.refused);
	else {
		doctor_report(doctor, FINDING_OK, "wire",
			"rgovd answers, layout %u (%016" PRIx64 ")",
			answer.head.layout_version, answer.head.layout_hash);
		report_hints(doctor, fd);
	}
}

void check_socket(struct doctor *doctor)
{
	char path[256];
	int fd;

	find_socket(doctor, path, sizeof(path));
	fd = connect_to(path);
	if (fd < 0) {
		report_no_socket(doctor, path, -fd);
		return;
	}
	report_connected(doctor, path, fd);
	check_wire(doctor, fd);
	(void)close(fd);
}
