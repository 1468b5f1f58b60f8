/* The files of a session: made, sealed, judged when they come back. */
#include "coordinator/door/inside.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

/* Never shorter (a read would be a SIGBUS), never longer (memory). */
#define SIZE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW)
/* ... and no further seal: it would be a way to break rgovd's writes. */
#define OWN_SEALS (SIZE_SEALS | F_SEAL_SEAL)
#define CLIENT_SEALS (SIZE_SEALS | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)

/* What they are made as, by which they are known again. */
#define CLIENT_CONTROL "rgov:client"
#define CLIENT_BODIES "rgov:client-bodies"
#define DAEMON_CONTROL "rgov:daemon"
#define DAEMON_BODIES "rgov:daemon-bodies"

/* ------------------------------------------------------------ making */

/* Kernels before 6.3 do not know MFD_NOEXEC_SEAL. */
static int make_memfd(const char *name)
{
	unsigned int flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	int fd = memfd_create(name, flags | MFD_NOEXEC_SEAL);

	return fd < 0 && errno == EINVAL ? memfd_create(name, flags) : fd;
}

/* An empty file of that size that only this uid may open anew.  -errno. */
static int make_file(const char *name, uint64_t bytes, unsigned int seals)
{
	int fd = make_memfd(name);
	int error;

	if (fd < 0)
		return -errno;
	if (fchmod(fd, 0600) == 0 && ftruncate(fd, (off_t)bytes) == 0 &&
		fcntl(fd, F_ADD_SEALS, seals) == 0)
		return fd;
	error = -errno;
	(void)close(fd);
	return error;
}

static int make_all(struct door_session *session)
{
	uint64_t bodies = shm_bodies_bytes(session->n_slots);

	session->client_control_fd = make_file(
		CLIENT_CONTROL, session->client_shape.total_bytes, SIZE_SEALS);
	if (session->client_control_fd < 0)
		return session->client_control_fd;
	session->client_bodies_fd = make_file(CLIENT_BODIES, bodies, OWN_SEALS);
	if (session->client_bodies_fd < 0)
		return session->client_bodies_fd;
	session->daemon_control_fd = make_file(
		DAEMON_CONTROL, session->daemon_shape.total_bytes, OWN_SEALS);
	if (session->daemon_control_fd < 0)
		return session->daemon_control_fd;
	session->daemon_bodies_fd = make_file(DAEMON_BODIES, bodies, OWN_SEALS);
	return session->daemon_bodies_fd < 0 ? session->daemon_bodies_fd : 0;
}

/* What both sides touch through mappings is allocated now, where a lack of
 * memory is an error code. */
static int allocate_pages(const struct door_session *session)
{
	if (fallocate(session->client_control_fd, 0, 0,
		    (off_t)session->client_shape.texts_off) != 0 ||
		fallocate(session->daemon_control_fd, 0, 0, SHM_PAGE) != 0)
		return -errno;
	return 0;
}

static void *map_or_null(int fd, size_t bytes, int protection)
{
	void *base = mmap(NULL, bytes, protection, MAP_SHARED, fd, 0);

	if (base == MAP_FAILED)
		return NULL;
	return base;
}

static int map_files(struct door_session *session)
{
	session->client = map_or_null(session->client_control_fd,
		session->client_shape.total_bytes, PROT_READ);
	session->daemon = map_or_null(session->daemon_control_fd,
		session->daemon_shape.total_bytes, PROT_READ | PROT_WRITE);
	return session->client && session->daemon ? 0 : -ENOMEM;
}

/* Our own memory for the slots. */
static int remember_slots(struct door_session *session, uint32_t slots)
{
	session->n_slots = slots;
	session->client_shape = client_shape(slots);
	session->daemon_shape = daemon_shape(slots);
	session->slots = calloc(slots, sizeof(*session->slots));
	session->pages_ready =
		calloc(1, session->daemon_shape.total_bytes / SHM_PAGE);
	if (session->slots == NULL || session->pages_ready == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < slots; i++) {
		session->slots[i].session = session;
		session->slots[i].index = i;
	}
	return 0;
}

static void sign_header(struct door_session *session)
{
	struct daemon_header *header = session->daemon;

	header->layout_version = SHM_LAYOUT_VERSION;
	header->layout_hash = shm_layout_hash();
	header->slots = session->n_slots;
	header->owner_uid = session->uid;
	memcpy(header->session_id, session->id, sizeof(session->id));
	store_relaxed(header->epoch, 1);
	/* The client looks only after WELCOME, a successor after our death. */
	store_release(header->magic, SHM_DAEMON_MAGIC);
}

int session_make_files(struct door_session *session, uint32_t slots)
{
	int rc = remember_slots(session, slots);

	if (rc == 0)
		rc = make_all(session);
	if (rc == 0)
		rc = allocate_pages(session);
	if (rc == 0)
		rc = map_files(session);
	if (rc == 0 && getrandom(session->id, sizeof(session->id), 0) !=
			       (ssize_t)sizeof(session->id))
		rc = -EIO;
	if (rc == 0)
		sign_header(session);
	return rc;
}

int session_seal(struct door_session *session)
{
	int rc = 0;

	if (session->client_control_fd < 0)
		return 0;
	if (fcntl(session->client_control_fd, F_ADD_SEALS,
		    F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0)
		rc = -errno;
	(void)close(session->client_control_fd);
	session->client_control_fd = -1;
	return rc;
}

/* The page of rgovd's file in which a slot lies. */
static size_t page_of(const struct door_session *session, uint32_t slot)
{
	return (session->daemon_shape.slots_off +
		       slot * sizeof(struct daemon_slot)) /
	       SHM_PAGE;
}

bool session_slot_is_ready(const struct door_session *session, uint32_t slot)
{
	return session->pages_ready[page_of(session, slot)];
}

int session_prepare_slot(struct door_session *session, uint32_t slot)
{
	size_t page = page_of(session, slot);

	if (session->pages_ready[page])
		return 0;
	if (fallocate(session->daemon_control_fd, 0, (off_t)page * SHM_PAGE,
		    SHM_PAGE) != 0)
		return -errno;
	session->pages_ready[page] = 1;
	return 0;
}

/* ------------------------------------------------------------ handing out */

/* The same file with other rights: a descriptor of its own. */
static int reopen(int fd, int flags)
{
	char path[32];
	int other;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	/* O_NONBLOCK: a client may hold a lease on its file. */
	other = open(path, flags | O_CLOEXEC | O_NONBLOCK);
	if (other < 0)
		return -errno;
	return other;
}

int session_client_fds(
	const struct door_session *session, int ret_fds[WIRE_REATTACH_FDS])
{
	const int from[WIRE_REATTACH_FDS] = {session->client_control_fd,
		session->client_bodies_fd, session->daemon_control_fd,
		session->daemon_bodies_fd};

	for (int i = 0; i < WIRE_REATTACH_FDS; i++) {
		bool is_ours = i >= WIRE_FD_DAEMON_CONTROL;

		ret_fds[i] = reopen(from[i], is_ours ? O_RDONLY : O_RDWR);
		if (ret_fds[i] >= 0)
			continue;
		for (int made = 0; made < i; made++)
			(void)close(ret_fds[made]);
		return ret_fds[i];
	}
	return 0;
}

/* ------------------------------------------------------------ coming back */

static int refuse(
	char ret_why[SHM_MESSAGE_BYTES], const char *file, const char *expected)
{
	(void)snprintf(ret_why, SHM_MESSAGE_BYTES, "reattach: %s: expected %s",
		file, expected);
	return -EINVAL;
}

/* Made by an rgovd of our uid, and for this very use: of two files of one size
 * a client may write one, and must not pass it off as the other. */
static bool is_our_own(int fd, const struct stat *file, const char *name)
{
	char path[32], made_as[64], expected[64];
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	(void)snprintf(expected, sizeof(expected), "/memfd:%s (deleted)", name);
	n = readlink(path, made_as, sizeof(made_as) - 1);
	if (n < 0)
		return false;
	made_as[n] = '\0';
	return file->st_uid == geteuid() && strcmp(made_as, expected) == 0;
}

/* A memfd of ours of exactly that size, sealed. */
static int judge_file(int fd, const char *file, const char *name,
	uint64_t bytes, unsigned int seals, char ret_why[SHM_MESSAGE_BYTES])
{
	/* First, because it asks no file system: the answer of one that its
	 * client serves (FUSE) may never come. */
	int has = fcntl(fd, F_GET_SEALS);
	struct stat found;
	struct statfs system;

	if (has < 0 || fstatfs(fd, &system) != 0 ||
		system.f_type != TMPFS_MAGIC)
		return refuse(ret_why, file, "a file in memory");
	if (fstat(fd, &found) != 0 || !is_our_own(fd, &found, name))
		return refuse(ret_why, file, "rgovd's own file of that name");
	if ((uint64_t)found.st_size != bytes)
		return refuse(ret_why, file, "the size of its slots");
	if (((unsigned int)has & seals) != seals ||
		((unsigned int)has & F_SEAL_WRITE) != 0)
		return refuse(ret_why, file, "its seals");
	return 0;
}

static int judge_all(const struct door_session *session,
	const int fds[WIRE_REATTACH_FDS], char why[SHM_MESSAGE_BYTES])
{
	uint64_t bodies = shm_bodies_bytes(session->n_slots);
	int rc = judge_file(fds[WIRE_FD_CLIENT_CONTROL], "client control",
		CLIENT_CONTROL, session->client_shape.total_bytes, SIZE_SEALS,
		why);

	if (rc == 0)
		rc = judge_file(fds[WIRE_FD_CLIENT_BODIES], "client bodies",
			CLIENT_BODIES, bodies, OWN_SEALS, why);
	if (rc == 0)
		rc = judge_file(fds[WIRE_FD_DAEMON_CONTROL], "daemon control",
			DAEMON_CONTROL, session->daemon_shape.total_bytes,
			OWN_SEALS, why);
	if (rc == 0)
		rc = judge_file(fds[WIRE_FD_DAEMON_BODIES], "daemon bodies",
			DAEMON_BODIES, bodies, OWN_SEALS, why);
	return rc;
}

bool session_is_shortage(int error)
{
	return error == -ENOMEM || error == -EMFILE || error == -ENFILE ||
	       error == -ENOSPC || error == -EINTR;
}

static int first_error(const int fds[WIRE_REATTACH_FDS])
{
	for (int i = 0; i < WIRE_REATTACH_FDS; i++)
		if (fds[i] < 0)
			return fds[i];
	return 0;
}

/* Our own descriptors for the judged files. */
static int reopen_all(
	struct door_session *session, const int fds[WIRE_REATTACH_FDS])
{
	session->client_control_fd =
		reopen(fds[WIRE_FD_CLIENT_CONTROL], O_RDONLY);
	session->client_bodies_fd =
		reopen(fds[WIRE_FD_CLIENT_BODIES], O_RDONLY);
	session->daemon_control_fd =
		reopen(fds[WIRE_FD_DAEMON_CONTROL], O_RDWR);
	session->daemon_bodies_fd = reopen(fds[WIRE_FD_DAEMON_BODIES], O_RDWR);
	return first_error((const int[]){session->client_control_fd,
		session->client_bodies_fd, session->daemon_control_fd,
		session->daemon_bodies_fd});
}

/* The predecessor may have died before it sealed. */
static int finish_sealing(struct door_session *session, int client_control,
	char why[SHM_MESSAGE_BYTES])
{
	int has = fcntl(client_control, F_GET_SEALS);

	(void)close(session->client_control_fd);
	session->client_control_fd = -1;
	if (has < 0)
		return -errno;
	if (((unsigned int)has & F_SEAL_SEAL) != 0)
		return ((unsigned int)has & CLIENT_SEALS) == CLIENT_SEALS
			       ? 0
			       : refuse(why, "client control", "its seals");
	if (fcntl(client_control, F_ADD_SEALS,
		    F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0)
		return refuse(why, "client control", "a sealable file");
	return 0;
}

static int judge_header(const struct door_session *session,
	const uint8_t id[16], char why[SHM_MESSAGE_BYTES])
{
	const struct daemon_header *header = session->daemon;
	uint64_t magic = load_acquire(header->magic);

	if (magic == SHM_DAEMON_ENDED)
		return refuse(
			why, "daemon control", "a session that has not ended");
	if (magic != SHM_DAEMON_MAGIC ||
		header->layout_version != SHM_LAYOUT_VERSION ||
		header->layout_hash != shm_layout_hash() ||
		header->slots != session->n_slots)
		return refuse(why, "daemon control", "this layout");
	if (memcmp(header->session_id, id, sizeof(session->id)) != 0)
		return refuse(why, "daemon control", "the session it names");
	if (header->owner_uid != session->uid)
		return refuse(why, "daemon control", "a session of this user");
	return 0;
}

/* Which pages the predecessor had made ready.  A look at another would make it,
 * and where there is no memory end us. */
static void find_pages(struct door_session *session)
{
	int fd = session->daemon_control_fd;
	off_t end = (off_t)session->daemon_shape.total_bytes;
	off_t hole = 0;

	while (hole < end) {
		off_t data = lseek(fd, hole, SEEK_DATA);

		if (data < 0)
			return; /* none behind it */
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			hole = end;
		memset(session->pages_ready + data / SHM_PAGE, 1,
			(size_t)((hole - data + SHM_PAGE - 1) / SHM_PAGE));
	}
}

int session_adopt_files(struct door_session *session, uint32_t slots,
	const uint8_t id[16], const int fds[WIRE_REATTACH_FDS],
	char ret_why[SHM_MESSAGE_BYTES])
{
	int rc;

	if (slots < SHM_SLOTS_MIN || slots > SHM_SLOTS_MAX)
		return refuse(ret_why, "slots", "1 to 1024");
	(void)snprintf(ret_why, SHM_MESSAGE_BYTES,
		"reattach: rgovd is out of memory or of descriptors");
	rc = remember_slots(session, slots);
	if (rc == 0)
		rc = judge_all(session, fds, ret_why);
	if (rc == 0) {
		rc = reopen_all(session, fds);
		if (rc < 0 && !session_is_shortage(rc))
			rc = refuse(
				ret_why, "files", "files that rgovd may open");
	}
	if (rc == 0)
		rc = map_files(session);
	if (rc == 0)
		rc = finish_sealing(
			session, fds[WIRE_FD_CLIENT_CONTROL], ret_why);
	if (rc == 0)
		rc = judge_header(session, id, ret_why);
	if (rc == 0) {
		memcpy(session->id, id, sizeof(session->id));
		find_pages(session);
	}
	return rc;
}

/* ------------------------------------------------------------ ending */

static void close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

static void close_file(struct door_session *session, int *fd)
{
	if (*fd >= 0 && closer_take(session->door->files, *fd))
		*fd = -1;
	close_fd(fd);
}

void session_fini(struct door_session *session)
{
	if (session->client != NULL)
		(void)munmap(
			session->client, session->client_shape.total_bytes);
	if (session->daemon != NULL)
		(void)munmap(
			session->daemon, session->daemon_shape.total_bytes);
	session->client = NULL;
	session->daemon = NULL;
	close_file(session, &session->client_control_fd);
	close_file(session, &session->client_bodies_fd);
	close_file(session, &session->daemon_control_fd);
	close_file(session, &session->daemon_bodies_fd);
	close_fd(&session->socket);
	close_fd(&session->pidfd);
	free(session->slots);
	free(session->pages_ready);
	session->slots = NULL;
	session->pages_ready = NULL;
}
