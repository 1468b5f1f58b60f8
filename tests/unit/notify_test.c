/* What the service manager hears from rgovd, on sockets of both kinds. */
#include "coordinator/notify.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <time.h>

static char heard[4096];

static const char *hear(int fd)
{
	ssize_t n = recv(fd, heard, sizeof(heard) - 1, MSG_DONTWAIT);

	heard[n > 0 ? n : 0] = '\0';
	return heard;
}

/* A manager's socket at the address as NOTIFY_SOCKET writes it. */
static int listen_at(const char *text)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
				      strlen(text));
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, text, strlen(text));
	if (text[0] == '@')
		address.sun_path[0] = '\0';
	if (fd < 0 || bind(fd, (struct sockaddr *)&address,
			      bytes + (text[0] == '/')) != 0)
		abort();
	setenv("NOTIFY_SOCKET", text, 1);
	return fd;
}

static unsigned long long now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (unsigned long long)now.tv_sec * 1000000 +
	       (unsigned long long)now.tv_nsec / 1000;
}

static void tells_everything(const char *address)
{
	int manager = listen_at(address);
	unsigned long long before = now_us(), said = 0;
	struct notify notify;

	CU_ASSERT_EQUAL(notify_init(&notify), 0);
	CU_ASSERT_EQUAL(notify_ready(&notify), 0);
	CU_ASSERT_STRING_EQUAL(hear(manager), "READY=1");
	CU_ASSERT_EQUAL(notify_status(&notify, "3/3 running\nREADY=1"), 0);
	CU_ASSERT_STRING_EQUAL(hear(manager), "STATUS=3/3 running READY=1");
	CU_ASSERT_EQUAL(notify_watchdog(&notify), 0);
	CU_ASSERT_STRING_EQUAL(hear(manager), "WATCHDOG=1");
	CU_ASSERT_EQUAL(notify_reloading(&notify), 0);
	CU_ASSERT_EQUAL(sscanf(hear(manager),
				"RELOADING=1\nMONOTONIC_USEC=%llu", &said),
		1);
	CU_ASSERT_TRUE(said >= before && said <= now_us());
	CU_ASSERT_EQUAL(notify_stopping(&notify), 0);
	CU_ASSERT_STRING_EQUAL(hear(manager), "STOPPING=1");
	notify_fini(&notify);
	close(manager);
}

/* Each message arrives as one datagram, at a path and at an abstract name. */
static void messages_arrive(void)
{
	char path[64], abstract[64];

	snprintf(path, sizeof(path), "/tmp/rgov-notify-%d", getpid());
	snprintf(abstract, sizeof(abstract), "@rgov-notify-%d", getpid());
	tells_everything(path);
	unlink(path);
	tells_everything(abstract);
}

/* Without NOTIFY_SOCKET nothing is sent and everything succeeds. */
static void without_a_manager_all_is_well(void)
{
	struct notify notify;

	unsetenv("NOTIFY_SOCKET");
	setenv("WATCHDOG_USEC", "1000000", 1);
	CU_ASSERT_EQUAL(notify_init(&notify), 0);
	CU_ASSERT_EQUAL(notify.fd, -1);
	CU_ASSERT_EQUAL(notify_ready(&notify), 0);
	CU_ASSERT_EQUAL(notify_status(&notify, "x"), 0);
	CU_ASSERT_EQUAL(notify_watchdog_ns(&notify), 0);
	notify_fini(&notify);
	notify_fini(&notify);
}

/* Children of rgovd inherit none of the variables, not even bad ones. */
static void children_do_not_speak_for_rgovd(void)
{
	struct notify notify;

	setenv("NOTIFY_SOCKET", "vsock:2:1", 1);
	setenv("WATCHDOG_USEC", "5", 1);
	setenv("WATCHDOG_PID", "1", 1);
	CU_ASSERT_EQUAL(notify_init(&notify), -EAFNOSUPPORT);
	CU_ASSERT_PTR_NULL(getenv("NOTIFY_SOCKET"));
	CU_ASSERT_PTR_NULL(getenv("WATCHDOG_USEC"));
	CU_ASSERT_PTR_NULL(getenv("WATCHDOG_PID"));
	CU_ASSERT_EQUAL(notify_ready(&notify), 0);
	notify_fini(&notify);
}

/* Addresses that no socket can have are refused, never cut. */
static void impossible_addresses_are_refused(void)
{
	char longest[128];
	struct notify notify;

	memset(longest, 'a', sizeof(longest));
	longest[0] = '/';
	longest[108] = '\0';
	setenv("NOTIFY_SOCKET", longest, 1);
	CU_ASSERT_EQUAL(notify_init(&notify), -ENAMETOOLONG);
	setenv("NOTIFY_SOCKET", "@", 1);
	CU_ASSERT_EQUAL(notify_init(&notify), -ENAMETOOLONG);
	setenv("NOTIFY_SOCKET", "relative", 1);
	CU_ASSERT_EQUAL(notify_init(&notify), -EAFNOSUPPORT);
	setenv("NOTIFY_SOCKET", "", 1);
	CU_ASSERT_EQUAL(notify_init(&notify), -EAFNOSUPPORT);
}

/* A manager that left, or does not read, is an error code and no wait. */
static void a_deaf_manager_does_not_block(void)
{
	char address[64];
	struct notify notify;
	int manager;
	int rc = 0;

	snprintf(address, sizeof(address), "@rgov-deaf-%d", getpid());
	manager = listen_at(address);
	CU_ASSERT_EQUAL(notify_init(&notify), 0);
	for (int i = 0; i < 100000 && rc == 0; i++)
		rc = notify_watchdog(&notify);
	CU_ASSERT_EQUAL(rc, -EAGAIN);
	close(manager);
	CU_ASSERT_EQUAL(notify_watchdog(&notify), -ECONNREFUSED);
	notify_fini(&notify);
}

/* The watchdog is asked for in this process only, with a sane number, and is
 * fed at half its time. */
static void the_watchdog_is_fed_at_half_time(void)
{
	static const struct {
		const char *us;
		bool own_pid;
		uint64_t ns;
	} cases[] = {{"15000000", true, 7500000000}, {"1", true, 500},
		{"15000000", false, 0}, {"0", true, 0}, {"-1", true, 0},
		{"", true, 0}, {"5x", true, 0},
		{"99999999999999999999999", true, 0},
		{"18446744073709551615", true, 0}};
	char address[64], pid[16];

	snprintf(address, sizeof(address), "@rgov-watchdog-%d", getpid());
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int manager = listen_at(address);
		struct notify notify;

		snprintf(pid, sizeof(pid), "%d",
			cases[i].own_pid ? getpid() : getpid() + 1);
		setenv("WATCHDOG_PID", pid, 1);
		setenv("WATCHDOG_USEC", cases[i].us, 1);
		CU_ASSERT_EQUAL(notify_init(&notify), 0);
		CU_ASSERT_EQUAL(notify_watchdog_ns(&notify), cases[i].ns);
		notify_fini(&notify);
		close(manager);
	}
}

SUITE("notify", T(messages_arrive), T(without_a_manager_all_is_well),
	T(children_do_not_speak_for_rgovd), T(impossible_addresses_are_refused),
	T(a_deaf_manager_does_not_block), T(the_watchdog_is_fed_at_half_time))
