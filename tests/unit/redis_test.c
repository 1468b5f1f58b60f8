/*
 * The connection to Redis against a server that says what the test wants, byte
 * for byte: answers that come in pieces, late, never, or are none.
 */
#include "coordinator/cluster/redis.h"
#include "tests/unit/loop_engines.h"

#include <arpa/inet.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#define SHA "0123456789abcdef0123456789abcdef01234567"
#define HELLO "$8\r\nrun_id:a\r\n$40\r\n" SHA "\r\n"

/* What a connection is told: hello at once, one answer for each question. */
struct script {
	const char *hello;
	const char *answers[4]; /* NULL: silence from then on */
};

static struct {
	int fd;
	uint16_t port;
	const struct script *scripts; /* of the connections, in order; the last
					 one for all further ones */
	int n_scripts;
	atomic_int connections, questions, loads;
	pthread_t thread;
	int links[64];
	pthread_t talkers[64];
} server;

static void say(int fd, const char *text)
{
	if (text != NULL)
		(void)send(fd, text, strlen(text), MSG_NOSIGNAL);
}

static void *talk(void *argument)
{
	int number = (int)(intptr_t)argument, n = 0;
	int last = server.n_scripts - 1;
	const struct script *script =
		&server.scripts[number < last ? number : last];
	redisReader *reader = redisReaderCreate();
	char bytes[4096];
	void *heard;
	ssize_t got;

	say(server.links[number], script->hello);
	while ((got = recv(server.links[number], bytes, sizeof(bytes), 0)) >
		0) {
		redisReaderFeed(reader, bytes, (size_t)got);
		while (redisReaderGetReply(reader, &heard) == REDIS_OK &&
			heard != NULL) {
			const redisReply *command = heard;

			if (strcmp(command->element[0]->str, "SCRIPT") == 0)
				atomic_fetch_add(&server.loads, 1);
			if (strcmp(command->element[0]->str, "EVALSHA") == 0) {
				atomic_fetch_add(&server.questions, 1);
				if (n < 4)
					say(server.links[number],
						script->answers[n++]);
			}
			freeReplyObject(heard);
		}
	}
	redisReaderFree(reader);
	return NULL;
}

static void *serve(void *argument)
{
	int fd;

	(void)argument;
	while ((fd = accept(server.fd, NULL, NULL)) >= 0) {
		int number = atomic_load(&server.connections);

		if (number >= 64)
			break;
		server.links[number] = fd;
		pthread_create(&server.talkers[number], NULL, talk,
			(void *)(intptr_t)number);
		atomic_store(&server.connections, number + 1);
	}
	return NULL;
}

static void begin_server(const struct script *scripts, int n)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(address);

	memset(&server, 0, sizeof(server));
	server.scripts = scripts;
	server.n_scripts = n;
	server.fd = socket(AF_INET, SOCK_STREAM, 0);
	CU_ASSERT_FATAL(
		bind(server.fd, (struct sockaddr *)&address, bytes) == 0);
	CU_ASSERT_FATAL(listen(server.fd, 16) == 0);
	(void)getsockname(server.fd, (struct sockaddr *)&address, &bytes);
	server.port = ntohs(address.sin_port);
	pthread_create(&server.thread, NULL, serve, NULL);
}

static void end_server(void)
{
	(void)shutdown(server.fd, SHUT_RDWR);
	pthread_join(server.thread, NULL);
	close(server.fd);
	for (int i = 0; i < atomic_load(&server.connections); i++) {
		(void)shutdown(server.links[i], SHUT_RDWR);
		pthread_join(server.talkers[i], NULL);
		close(server.links[i]);
	}
}

/* ------------------------------------------------------------ our side */

static struct redis *redis;
static int ready, lost, answered;
static long long numbers[8];
static size_t n_numbers;

static void on_ready(void *owner)
{
	(void)owner;
	ready++;
}

static void on_answer(void *owner, const long long *values, size_t n)
{
	(void)owner;
	answered++;
	n_numbers = n;
	for (size_t i = 0; i < n && i < 8; i++)
		numbers[i] = values[i];
}

static void on_lost(void *owner)
{
	(void)owner;
	lost++;
}

static void begin(const struct script *scripts, int n)
{
	const struct redis_events events = {NULL, on_ready, on_answer, on_lost};
	char url[64], words[REDIS_WORDS_BYTES];
	const struct redis_settings settings = {.url = url,
		.connect_ns = 300 * MS_NS,
		.answer_ns = 100 * MS_NS,
		.script = "return {1}"};

	begin_server(scripts, n);
	(void)snprintf(url, sizeof(url), "redis://127.0.0.1:%u", server.port);
	ready = lost = answered = 0;
	n_numbers = 0;
	CU_ASSERT_EQUAL_FATAL(
		redis_create(loop, &settings, &events, &redis, words), 0);
}

static void end(void)
{
	redis_free(redis);
	redis = NULL;
	end_server();
}

static int ask(void)
{
	char *words[] = {(char[]){"1"}, (char[]){"key"}};
	const size_t lengths[] = {1, 3};

	return redis_ask(redis, words, lengths, 2);
}

static enum redis_trouble trouble(void)
{
	const char *words;

	return redis_trouble(redis, &words);
}

/* ------------------------------------------------------------ tests */

static void an_answer_is_taken(void)
{
	static const struct script scripts[] = {
		{HELLO, {"*3\r\n:1\r\n:-2\r\n:9000000000000\r\n"}}};

	begin(scripts, 1);
	CU_ASSERT_EQUAL(ask(), -ENOTCONN);
	STEP_UNTIL(ready == 1);
	CU_ASSERT_STRING_EQUAL(redis_run_id(redis), "a");
	CU_ASSERT_EQUAL(ask(), 0);
	STEP_UNTIL(answered == 1);
	CU_ASSERT_EQUAL(n_numbers, 3);
	CU_ASSERT_EQUAL(numbers[1], -2);
	CU_ASSERT_EQUAL(numbers[2], 9000000000000);
	CU_ASSERT_EQUAL(redis_stage(redis), REDIS_READY);
	CU_ASSERT_EQUAL(lost, 0);
	end();
}
ENGINES(an_answer_is_taken)

/* The time-out ends the connection, not only the question. */
static void silence_makes_a_new_connection(void)
{
	static const struct script scripts[] = {
		{HELLO, {NULL}}, {HELLO, {"*1\r\n:7\r\n"}}};

	begin(scripts, 2);
	STEP_UNTIL(ready == 1);
	CU_ASSERT_EQUAL(ask(), 0);
	STEP_UNTIL(lost == 1);
	CU_ASSERT_EQUAL(trouble(), REDIS_SILENT);
	STEP_UNTIL(ready == 2);
	CU_ASSERT_EQUAL(ask(), 0);
	STEP_UNTIL(answered == 1);
	CU_ASSERT_EQUAL(trouble(), REDIS_NONE);
	CU_ASSERT_EQUAL(atomic_load(&server.connections), 2);
	end();
}
ENGINES(silence_makes_a_new_connection)

static void a_script_that_is_gone_is_loaded(void)
{
	static const struct script scripts[] = {{HELLO,
		{"-NOSCRIPT No matching script.\r\n$40\r\n" SHA "\r\n",
			"*1\r\n:7\r\n",
			"-NOSCRIPT No matching script.\r\n$40\r\n" SHA "\r\n",
			"-NOSCRIPT No matching script.\r\n"}}};

	begin(scripts, 1);
	STEP_UNTIL(ready == 1);
	CU_ASSERT_EQUAL(ask(), 0);
	STEP_UNTIL(answered == 1);
	CU_ASSERT_EQUAL(atomic_load(&server.loads), 2);
	CU_ASSERT_EQUAL(lost, 0);
	/* Where it stays gone, that is no reason to go on for ever. */
	CU_ASSERT_EQUAL(ask(), 0);
	STEP_UNTIL(lost == 1);
	CU_ASSERT_EQUAL(trouble(), REDIS_ERROR);
	end();
}
ENGINES(a_script_that_is_gone_is_loaded)

/* Three questions may be out; their answers come in order. */
static void questions_are_bounded(void)
{
	static const struct script scripts[] = {
		{HELLO, {"", "", "*1\r\n:1\r\n*1\r\n:2\r\n*1\r\n:3\r\n"}}};

	begin(scripts, 1);
	STEP_UNTIL(ready == 1);
	for (int i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(ask(), 0);
	CU_ASSERT_EQUAL(ask(), -EBUSY);
	STEP_UNTIL(answered == 3);
	CU_ASSERT_EQUAL(numbers[0], 3);
	CU_ASSERT_EQUAL(redis_stage(redis), REDIS_READY);
	end();
}
ENGINES(questions_are_bounded)

/* Whatever it is, it ends as a trouble, and nothing is taken for an answer. */
static void what_is_no_answer_is_told(void)
{
	static const char *const answers[] = {"+OK\r\n", ":1\r\n", "$-1\r\n",
		"*-1\r\n", "*1\r\n$1\r\nx\r\n", "*2\r\n:1\r\n*0\r\n",
		"*2000000000\r\n", "*1025\r\n", "$-5\r\n", "!\r\n", "\r\n",
		"*1\r\n:99999999999999999999\r\n",
		"*1\r\n:1\r\n*1\r\n:2\r\n*1\r\n:3\r\n", "-ERR \x1b[2J\r\n",
		"-WRONGTYPE x\r\n", "-\r\n"};

	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		const struct script script = {HELLO, {answers[i]}};

		begin(&script, 1);
		STEP_UNTIL(ready == 1);
		CU_ASSERT_EQUAL(ask(), 0);
		STEP_UNTIL(lost == 1);
		CU_ASSERT_NOT_EQUAL(trouble(), REDIS_NONE);
		CU_ASSERT(answered <= 1);
		end();
	}
}
ENGINES(what_is_no_answer_is_told)

/* It may be ended at any moment: in the middle of each of them. */
static void it_ends_at_any_moment(void)
{
	static const struct script scripts[] = {{HELLO, {"*1\r\n:7\r\n"}}};

	for (int steps = 0; steps < 12; steps++) {
		begin(scripts, 1);
		for (int i = 0; i < steps; i++) {
			CU_ASSERT(loop_step(loop, loop_now_ns() + MS_NS) >= 0);
			(void)ask();
		}
		end();
	}
}
ENGINES(it_ends_at_any_moment)

SUITE("redis", BOTH(an_answer_is_taken), BOTH(silence_makes_a_new_connection),
	BOTH(a_script_that_is_gone_is_loaded), BOTH(questions_are_bounded),
	BOTH(what_is_no_answer_is_told), BOTH(it_ends_at_any_moment))
