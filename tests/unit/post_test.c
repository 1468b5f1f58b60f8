/* Callbacks: what may be called, and one POST each over plain HTTP on loopback:
 * what goes out, what ends it, and what never happens. */
#include "coordinator/upstream/post.h"

#include "tests/unit/loop_engines.h"
#include "tests/unit/upstream_server.h"

#include <errno.h>

#define BODY "{\"task\":\"01\",\"state\":\"succeeded\"}"
#define ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

/* ---- the list ---- */

static char why[POST_WHY_BYTES];

static int check(const char *url, const char *prefix)
{
	return post_url_check(url, &prefix, 1, why);
}

/* A prefix allows its own path and what is below it, on its own host and port.
 */
static void prefix_is_by_parts(void)
{
	static const struct {
		const char *prefix, *url;
		int rc;
	} cases[] = {
		{"http://127.0.0.1:9000/", "http://127.0.0.1:9000/", 0},
		{"http://127.0.0.1:9000", "http://127.0.0.1:9000/a?b=c", 0},
		{"http://127.0.0.1:9000", "http://127.0.0.1:9000", 0},
		{"http://127.0.0.1", "http://127.0.0.1:80/x", 0},
		{"http://localhost/", "HTTP://LocalHost/x", 0},
		{"http://[::1]:9000/", "http://[::1]:9000/x", 0},
		{"http://[::1]:9000/", "http://[0:0::1]:9000/x", 0},
		{"http://127.1:9000/", "http://0x7f.0.0.1:9000/x", 0},
		{"http://127.9.8.7:9000/", "http://127.9.8.7:9000/x", 0},
		{"http://localhost/hooks", "http://localhost/hooks", 0},
		{"http://localhost/hooks", "http://localhost/hooks/", 0},
		{"http://localhost/hooks", "http://localhost/hooks?a=1", 0},
		{"http://localhost/hooks", "http://localhost/hooks/a/b", 0},
		{"http://localhost/hooks/", "http://localhost/hooks/a@b", 0},
		{"http://localhost/hooks", "http://localhost/hooksx", -EACCES},
		{"http://localhost/hooks/", "http://localhost/hooks", -EACCES},
		{"http://localhost/hooks", "http://localhost/Hooks", -EACCES},
		{"http://localhost/hooks", "http://localhost/", -EACCES},
		{"http://127.0.0.1:90", "http://127.0.0.1:9000/", -EACCES},
		{"http://127.0.0.1:9000", "http://127.0.0.1/", -EACCES},
		{"http://127.0.0.1/", "http://localhost/", -EACCES},
		{"http://127.0.0.1/", "http://127.0.0.11/", -EACCES},
		{"http://10.0.0.1/", "http://127.0.0.1/", -EACCES},
		{"nonsense", "http://127.0.0.1/", -EACCES},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int rc = check(cases[i].url, cases[i].prefix);

		CU_ASSERT_EQUAL(rc, cases[i].rc);
		if (rc != cases[i].rc)
			printf("     %s under %s: %d %s\n", cases[i].url,
				cases[i].prefix, rc, why);
	}
}

/* What is not a plain URL of this host is refused whatever the list says, and
 * the reason does not repeat it. */
static void refuses_what_is_elsewhere(void)
{
	static const char *const urls[] = {"", "x", "/hooks",
		"https://localhost/", "ftp://localhost/", "file:///etc/passwd",
		"http:localhost/", "http://", "http:///", "http://example.com/",
		"http://10.0.0.1/", "http://0.0.0.0/",
		"http://169.254.169.254/latest/meta-data/", "http://[::]/",
		"http://[::ffff:127.0.0.1]/", "http://[fe80::1%25lo]/",
		"http://[::1%25lo]/", "http://localhost.example.com/",
		"http://localhost./", "http://127.0.0.1.example.com/",
		"http://127.0.0.1@example.com/", "http://me@localhost/",
		"http://me:secret@localhost/", "http://:secret@localhost/",
		"http://localhost:99999/", "http://localhost:x/",
		"http://localhost/\r\nX: y", "http://localhost/a\nb",
		"http://localhost/a b", " http://localhost/",
		"http://localhost/\t", "http://localhost/#fragment",
		"http://localhost\\@example.com/", "http://localhost/\x7f",
		"http://localhost/\xc3\xa9", "http://localhost/a/../b",
		"http://localhost/./b", "http://localhost/a/..",
		"http://localhost/%2e%2E/b", "http://localhost/.%2e/b",
		"http://localhost/a%2f..%2Fb", "http://localhost/a%5c",
		"http://%6c%6fcalhos\r\n/"};

	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
		int rc = check(urls[i], "http://localhost/");

		CU_ASSERT_EQUAL(rc, -EINVAL);
		CU_ASSERT(why[0] != '\0');
		CU_ASSERT_PTR_NULL(strstr(why, "secret"));
		if (rc != -EINVAL)
			printf("     %s: %d\n", urls[i], rc);
	}
}

/* 2047 bytes are a URL, 2048 are none; an empty list allows nothing. */
static void bounds_hold(void)
{
	char url[POST_URL_BYTES + 1];

	memset(url, 'a', sizeof(url));
	memcpy(url, "http://localhost/", 17);
	url[POST_URL_BYTES - 1] = '\0';
	CU_ASSERT_EQUAL(check(url, "http://localhost"), 0);
	url[POST_URL_BYTES - 1] = 'a';
	url[POST_URL_BYTES] = '\0';
	CU_ASSERT_EQUAL(check(url, "http://localhost"), -EINVAL);
	CU_ASSERT_EQUAL(
		post_url_check("http://localhost/", NULL, 0, why), -EACCES);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "task_callbacks"));
}

/* Any of several prefixes may allow it. */
static void any_prefix_allows(void)
{
	static const char *const list[] = {"http://localhost:1/",
		"http://localhost:2/a", "http://localhost:3/"};

	CU_ASSERT_EQUAL(
		post_url_check("http://localhost:2/a/b", list, 3, why), 0);
	CU_ASSERT_EQUAL(post_url_check("http://localhost:3/", list, 3, why), 0);
	CU_ASSERT_EQUAL(
		post_url_check("http://localhost:2/b", list, 3, why), -EACCES);
}

/* A prefix that can allow nothing is told when the configuration is read. */
static void judges_prefixes(void)
{
	CU_ASSERT_EQUAL(
		post_url_check_prefix("http://127.0.0.1:9000/a/", why), 0);
	CU_ASSERT_EQUAL(
		post_url_check_prefix("http://localhost/?a", why), -EINVAL);
	CU_ASSERT_EQUAL(
		post_url_check_prefix("http://example.com/", why), -EINVAL);
	CU_ASSERT_EQUAL(
		post_url_check_prefix("https://localhost/", why), -EINVAL);
}

/* ---- on the wire ---- */

static struct post *post;
static struct server server;
static char url[128];

struct told {
	int times, status;
	char why[POST_WHY_BYTES];
	struct told *then_send;
};

static void on_done(void *owner, int http_status, const char *reason)
{
	struct told *told = owner;
	struct told *next = told->then_send;

	told->times++;
	told->status = http_status;
	snprintf(told->why, sizeof(told->why), "%s", reason);
	told->then_send = NULL;
	if (next != NULL)
		CU_ASSERT_EQUAL(post_send(post, url, BODY, sizeof(BODY) - 1,
					on_done, next),
			0);
}

static void begin_with(server_script *script, uint64_t timeout_ns)
{
	server_start(&server, script);
	snprintf(
		url, sizeof(url), "http://127.0.0.1:%u/hooks?a=1", server.port);
	CU_ASSERT_EQUAL_FATAL(post_create(loop, timeout_ns, &post), 0);
}

static void begin(server_script *script)
{
	begin_with(script, 10 * SECOND_NS);
}

static void end(void)
{
	post_free(post);
	post = NULL;
	server_stop(&server);
}

static void send_to(const char *where, struct told *told)
{
	*told = (struct told){0};
	CU_ASSERT_EQUAL_FATAL(
		post_send(post, where, BODY, sizeof(BODY) - 1, on_done, told),
		0);
	CU_ASSERT_EQUAL(told->times, 0);
}

static void expect(const struct told *told, int status, const char *words)
{
	CU_ASSERT_EQUAL(told->times, 1);
	CU_ASSERT_EQUAL(told->status, status);
	CU_ASSERT_PTR_NOT_NULL(strcasestr(told->why, words));
	if (told->status != status || strcasestr(told->why, words) == NULL)
		printf("     was %d: %s\n", told->status, told->why);
}

static void perform(const char *where, struct told *told)
{
	send_to(where, told);
	STEP_UNTIL(told->times > 0);
}

static void answer_all(struct server_connection *connection)
{
	while (server_read_request(connection))
		server_send(connection, ANSWER);
}

/* It goes out as one POST of JSON, and its status comes back. */
static void posts_once(void)
{
	struct told told;
	uint64_t sum = 0;

	begin(answer_all);
	perform(url, &told);
	expect(&told, 200, "");
	for (size_t i = 0; i < sizeof(BODY) - 1; i++)
		sum += (unsigned char)BODY[i];
	CU_ASSERT_EQUAL(server.last_body_bytes, sizeof(BODY) - 1);
	CU_ASSERT_EQUAL(server.last_body_sum, sum);
	CU_ASSERT_EQUAL(
		strncmp(server.last_head, "POST /hooks?a=1 HTTP/1.1\r\n", 26),
		0);
	CU_ASSERT_PTR_NOT_NULL(strcasestr(
		server.last_head, "\r\nContent-Type: application/json\r\n"));
	CU_ASSERT_PTR_NULL(strcasestr(server.last_head, "\r\nExpect:"));
	CU_ASSERT_PTR_NULL(strcasestr(server.last_head, "\r\nAuthorization:"));
	snprintf(url, sizeof(url), "http://localhost:%u/x", server.port);
	perform(url, &told);
	expect(&told, 200, "");
	CU_ASSERT_EQUAL(atomic_load(&server.requests), 2);
	end();
}
ENGINES(posts_once)

static atomic_int together, most_together;

static void answer_when_released(struct server_connection *connection)
{
	int now;

	if (!server_read_request(connection))
		return;
	now = atomic_fetch_add(&together, 1) + 1;
	for (int most = atomic_load(&most_together); most < now;)
		if (atomic_compare_exchange_weak(&most_together, &most, now))
			break;
	while (!atomic_load(&server.release))
		usleep(1000);
	atomic_fetch_sub(&together, 1);
	server_send(connection, ANSWER);
}

/* Four are under way at most; the others wait their turn and all arrive. */
static void four_at_once(void)
{
	enum { MANY = 20 };
	static struct told all[MANY];

	together = most_together = 0;
	begin(answer_when_released);
	for (int i = 0; i < MANY; i++)
		send_to(url, &all[i]);
	STEP_WATCHING(atomic_load(&together) == POST_AT_ONCE);
	for (int i = 0; i < MANY; i++)
		CU_ASSERT_EQUAL(all[i].times, 0);
	atomic_store(&server.release, true);
	for (int i = 0; i < MANY; i++) {
		STEP_UNTIL(all[i].times > 0);
		expect(&all[i], 200, "");
	}
	CU_ASSERT_EQUAL(atomic_load(&server.requests), MANY);
	CU_ASSERT_EQUAL(atomic_load(&most_together), POST_AT_ONCE);
	end();
}
ENGINES(four_at_once)

/* The end of one may send the next. */
static void sends_from_an_end(void)
{
	struct told first = {0}, second = {0};

	begin(answer_all);
	first.then_send = &second;
	CU_ASSERT_EQUAL_FATAL(
		post_send(post, url, BODY, sizeof(BODY) - 1, on_done, &first),
		0);
	STEP_UNTIL(second.times > 0);
	expect(&first, 200, "");
	expect(&second, 200, "");
	end();
}
ENGINES(sends_from_an_end)

static void redirect(struct server_connection *connection)
{
	char reply[256];

	snprintf(reply, sizeof(reply),
		"HTTP/1.1 307 Temporary Redirect\r\nLocation: "
		"http://127.0.0.1:%u/elsewhere\r\nContent-Length: 0\r\n\r\n",
		server.port);
	while (server_read_request(connection))
		server_send(connection, reply);
}

/* A redirect is told and not followed; proxies of the environment are not used.
 */
static void goes_nowhere_else(void)
{
	struct told told;

	setenv("http_proxy", "http://127.0.0.1:1", 1);
	setenv("all_proxy", "http://127.0.0.1:1", 1);
	begin(redirect);
	perform(url, &told);
	expect(&told, 307, "");
	CU_ASSERT_EQUAL(atomic_load(&server.requests), 1);
	end();
	unsetenv("http_proxy");
	unsetenv("all_proxy");
}
ENGINES(goes_nowhere_else)

/* An address of another host is not connected to, however it came here. */
static void connects_to_this_host_alone(void)
{
	static const char *const urls[] = {"http://192.0.2.1/",
		"http://0.0.0.0:1/", "http://[2001:db8::1]/",
		"http://[::ffff:192.0.2.1]/"};
	struct told told;

	begin(answer_all);
	for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
		perform(urls[i], &told);
		expect(&told, 0, "not of this host");
	}
	perform("https://127.0.0.1/", &told);
	expect(&told, 0, "protocol");
	perform("http://me@127.0.0.1/", &told);
	expect(&told, 0, "");
	CU_ASSERT_EQUAL(told.status, 0);
	CU_ASSERT_EQUAL(atomic_load(&server.connection_count), 0);
	end();
}
ENGINES(connects_to_this_host_alone)

static void never_answer(struct server_connection *connection)
{
	if (server_read_request(connection))
		server_wait_end(connection);
}

static void trickle(struct server_connection *connection)
{
	if (!server_read_request(connection))
		return;
	server_send(connection, "HTTP/1.1 200 OK\r\n");
	while (send(connection->fd, "X: y\r\n", 6, MSG_NOSIGNAL) == 6)
		usleep(5000);
}

static void takes_too_long(server_script *script)
{
	uint64_t begin_ns = loop_now_ns();
	struct told told;

	begin_with(script, 200 * MS_NS);
	perform(url, &told);
	CU_ASSERT_EQUAL(told.times, 1);
	CU_ASSERT_PTR_NOT_NULL(strcasestr(told.why, "timed out"));
	CU_ASSERT(loop_now_ns() - begin_ns >= 190 * MS_NS);
	end();
}

/* Whoever does not answer in time is left, also in the middle of a head. */
static void time_is_bounded(void)
{
	takes_too_long(never_answer);
	takes_too_long(trickle);
}
ENGINES(time_is_bounded)

static void reset_at_once(struct server_connection *connection)
{
	if (server_read_request(connection))
		server_reset(connection);
}

/* A connection that dies, or none, is told; nothing is sent again. */
static void does_not_repeat(void)
{
	char nobody[64];
	struct told told;

	begin(reset_at_once);
	perform(url, &told);
	expect(&told, 0, "");
	CU_ASSERT(told.why[0] != '\0');
	CU_ASSERT_EQUAL(atomic_load(&server.requests), 1);
	CU_ASSERT_EQUAL(atomic_load(&server.connection_count), 1);
	snprintf(nobody, sizeof(nobody), "http://127.0.0.1:%u/", server.port);
	server_stop(&server);
	perform(nobody, &told);
	expect(&told, 0, "connect");
	post_free(post);
	post = NULL;
}
ENGINES(does_not_repeat)

static void flood_head(struct server_connection *connection)
{
	static const char line[] = "X: 0123456789012345678901234567890\r\n";

	if (!server_read_request(connection))
		return;
	server_send(connection, "HTTP/1.1 200 OK\r\n");
	while (send(connection->fd, line, sizeof(line) - 1, MSG_NOSIGNAL) > 0)
		;
}

static void flood_body(struct server_connection *connection)
{
	static const char block[4096];

	if (!server_read_request(connection))
		return;
	server_send(connection, "HTTP/1.1 202 Accepted\r\n\r\n");
	while (send(connection->fd, block, sizeof(block), MSG_NOSIGNAL) > 0)
		;
}

/* A flood is cut off; where its head was whole, its status stands. */
static void cuts_floods_off(void)
{
	struct told told;

	begin(flood_head);
	perform(url, &told);
	expect(&told, 0, "too large");
	end();
	begin(flood_body);
	perform(url, &told);
	expect(&told, 202, "");
	end();
}
ENGINES(cuts_floods_off)

/* The end of all tells everybody, who runs and who waits. */
static void free_tells_everybody(void)
{
	enum { MANY = 8 };
	static struct told all[MANY];

	together = most_together = 0;
	begin(answer_when_released);
	for (int i = 0; i < MANY; i++)
		send_to(url, &all[i]);
	STEP_WATCHING(atomic_load(&together) == POST_AT_ONCE);
	post_free(post);
	post = NULL;
	for (int i = 0; i < MANY; i++)
		expect(&all[i], 0, "rgovd ends");
	server_stop(&server);
}
ENGINES(free_tells_everybody)

/* More than can wait is refused at once. */
static void waiting_is_bounded(void)
{
	struct told told = {0};
	int sent = 0;

	begin(answer_all);
	while (post_send(post, url, BODY, sizeof(BODY) - 1, on_done, &told) ==
		0)
		sent++;
	CU_ASSERT_EQUAL(sent, POST_WAITING_MOST);
	end();
	CU_ASSERT_EQUAL(told.times, POST_WAITING_MOST);
}
ENGINES(waiting_is_bounded)

SUITE("post", T(prefix_is_by_parts), T(refuses_what_is_elsewhere),
	T(bounds_hold), T(any_prefix_allows), T(judges_prefixes),
	BOTH(posts_once), BOTH(four_at_once), BOTH(sends_from_an_end),
	BOTH(goes_nowhere_else), BOTH(connects_to_this_host_alone),
	BOTH(time_is_bounded), BOTH(does_not_repeat), BOTH(cuts_floods_off),
	BOTH(free_tells_everybody), BOTH(waiting_is_bounded))
