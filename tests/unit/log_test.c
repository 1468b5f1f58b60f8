/*
 * The log's lines: their form, what hostile values become, and that a stderr
 * which is full, closed or a journal's neither blocks nor goes unnoticed.
 */
#include "coordinator/log.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define JSMN_STATIC
#define JSMN_STRICT
#include <jsmn.h>

enum { LONGEST = 4096 };

/* stderr of the test, while it is a pipe (or else) of ours. */
static int real_stderr, reader;
static char got[1 << 20];

static void replace_stderr(int fd)
{
	if (real_stderr == 0)
		real_stderr = dup(STDERR_FILENO);
	if (dup2(fd, STDERR_FILENO) < 0)
		abort();
	close(fd);
}

static void capture(void)
{
	int ends[2];

	if (pipe(ends) != 0)
		abort();
	reader = ends[0];
	(void)fcntl(reader, F_SETFL, O_NONBLOCK);
	replace_stderr(ends[1]);
}

/* What was written since; "" when nothing. */
static const char *captured(void)
{
	ssize_t n = read(reader, got, sizeof(got) - 1);

	got[n > 0 ? n : 0] = '\0';
	return got;
}

static void restore(void)
{
	(void)dup2(real_stderr, STDERR_FILENO);
	if (reader > 0)
		close(reader);
	reader = 0;
	unsetenv("JOURNAL_STREAM");
}

/* A line has time, level, event and message, then the fields in order. */
static void a_line_of_logfmt(void)
{
	const char *line;

	capture();
	log_open(LOG_LOGFMT, LOG_INFO);
	LOG(LOG_WARN, "session.closed", "ring index out of range",
		F_I("pid", 4711), F_S("app", "web"), F_F("wait_s", 0.25),
		F_I("less", -3), F_S("none", ""));
	line = captured();
	restore();
	/* ts=2026-01-02T03:04:05.123456Z */
	CU_ASSERT_EQUAL(strncmp(line, "ts=20", 5), 0);
	CU_ASSERT_EQUAL(strspn(line + 3, "0123456789-T:.Z"), 27);
	CU_ASSERT_EQUAL(line[22], '.');
	CU_ASSERT_STRING_EQUAL(line + 30,
		" level=warn event=session.closed msg=\"ring index out of "
		"range\" pid=4711 app=web wait_s=0.250000 less=-3 none=\"\"\n");
}

/* Lines above the chosen level are not written; errno survives. */
static void the_level_decides(void)
{
	capture();
	log_open(LOG_LOGFMT, LOG_ERROR);
	LOG(LOG_WARN, "a", "b", F_I("c", 1));
	CU_ASSERT_STRING_EQUAL(captured(), "");
	errno = EXDEV;
	LOG(LOG_ERROR, "a", "b", F_I("c", 1));
	CU_ASSERT_EQUAL(errno, EXDEV);
	CU_ASSERT_STRING_NOT_EQUAL(captured(), "");
	restore();
}

static const struct {
	const char *text, *escaped;
} hostile[] = {
	{"a b", "\"a b\""},
	{"a=b", "\"a=b\""},
	{"say \"x\\y\"", "\"say \\\"x\\\\y\\\"\""},
	{"one\nlevel=error", "\"one\\nlevel=error\""},
	{"\r\t\x01\x1b[31m\x7f", "\"\\r\\t\\u0001\\u001b[31m\\u007f\""},
	{"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80",
		"\"caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80\""},
	/* C1 control, stray, overlong, surrogate, too high, cut short */
	{"\xc2\x9b", "\"\\u009b\""},
	{"\xff", "\"\\ufffd\""},
	{"\x80x", "\"\\ufffdx\""},
	{"\xc0\xaf", "\"\\ufffd\\ufffd\""},
	{"\xe0\x80\xaf", "\"\\ufffd\\ufffd\\ufffd\""},
	{"\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\""},
	{"\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""},
	{"\xe2\x82", "\"\\ufffd\\ufffd\""},
	{"\xf0\x9f\x98", "\"\\ufffd\\ufffd\\ufffd\""},
	{"\xc3", "\"\\ufffd\""},
};

/* No value can begin a line, a field, or a terminal's escape sequence. */
static void hostile_values_are_escaped(void)
{
	char expected[128];

	capture();
	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		log_open(LOG_LOGFMT, LOG_INFO);
		LOG(LOG_INFO, "e", "m", F_S("v", hostile[i].text));
		snprintf(expected, sizeof(expected), " msg=m v=%s\n",
			hostile[i].escaped);
		CU_ASSERT_STRING_EQUAL(strstr(captured(), " msg="), expected);
		log_open(LOG_JSON, LOG_INFO);
		LOG(LOG_INFO, "e", "m", F_S("v", hostile[i].text));
		snprintf(expected, sizeof(expected), ",\"v\":%s}\n",
			hostile[i].escaped);
		CU_ASSERT_STRING_EQUAL(strstr(captured(), ",\"v\""), expected);
	}
	restore();
}

/*
 * The raw text of a key's value, escapes and all, in one flat JSON object; NULL
 * when the line is none or has no such key.
 */
static const char *json_value(const char *line, const char *key)
{
	static char value[LONGEST];
	jsmntok_t tokens[32];
	jsmn_parser parser;
	int n;

	jsmn_init(&parser);
	n = jsmn_parse(&parser, line, strlen(line), tokens, 32);
	if (n < 1 || tokens[0].type != JSMN_OBJECT ||
		strcmp(line + tokens[0].end, "\n") != 0)
		return NULL;
	for (int i = 1; i + 1 < n; i += 2) {
		const jsmntok_t *name = &tokens[i], *found = &tokens[i + 1];

		if ((size_t)(name->end - name->start) == strlen(key) &&
			strncmp(line + name->start, key, strlen(key)) == 0) {
			snprintf(value, sizeof(value), "%.*s",
				found->end - found->start, line + found->start);
			return value;
		}
	}
	return NULL;
}

static bool json_is(const char *line, const char *key, const char *value)
{
	const char *found = json_value(line, key);

	return found != NULL && strcmp(found, value) == 0;
}

/* In JSON every line is one object, also with numbers that JSON has not. */
static void a_line_of_json(void)
{
	const char *line;

	capture();
	log_open(LOG_JSON, LOG_DEBUG);
	LOG(LOG_DEBUG, "call.done", "answered \"well\"", F_F("exec_s", 1.5),
		F_F("nan", NAN), F_F("huge", 1e300), F_S("user", "a\nb"));
	line = captured();
	restore();
	CU_ASSERT_TRUE(json_is(line, "level", "debug"));
	CU_ASSERT_TRUE(json_is(line, "event", "call.done"));
	CU_ASSERT_TRUE(json_is(line, "msg", "answered \\\"well\\\""));
	CU_ASSERT_TRUE(json_is(line, "user", "a\\nb"));
	CU_ASSERT_TRUE(json_is(line, "exec_s", "1.500000"));
	CU_ASSERT_TRUE(json_is(line, "nan", "null"));
	CU_ASSERT_PTR_NOT_NULL(json_value(line, "huge"));
}

/* A line is never longer than a pipe writes in one piece; what was cut is
 * marked, and stays a whole line of its format, wherever the end falls. */
static void long_lines_are_cut_whole(void)
{
	static char text[2 * LONGEST];

	capture();
	for (size_t n = LONGEST - 400; n < LONGEST + 40; n++) {
		const char *line;
		size_t bytes;

		for (size_t i = 0; i < n; i++)
			text[i] = "x\"\x01\xc3\xa9"[i % 5];
		text[n] = '\0';
		log_open(LOG_JSON, LOG_INFO);
		LOG(LOG_INFO, "e", text, F_S("v", text), F_I("n", 5));
		line = captured();
		bytes = strlen(line);
		CU_ASSERT_TRUE(bytes <= LONGEST);
		CU_ASSERT_EQUAL(line[bytes - 1], '\n');
		CU_ASSERT_TRUE(json_is(line, "cut", "true"));
		log_open(LOG_LOGFMT, LOG_INFO);
		LOG(LOG_INFO, "e", text, F_S("v", text));
		line = captured();
		bytes = strlen(line);
		CU_ASSERT_TRUE(bytes <= LONGEST);
		CU_ASSERT_PTR_NOT_NULL(strstr(line, " cut=true\n"));
	}
	restore();
}

/* A full pipe loses lines without blocking, also when it would block; the next
 * line that gets through says how many. */
static void a_full_stderr_loses_lines_and_says_so(void)
{
	uint64_t before = log_lost();
	uint64_t lost;
	char expected[64];

	capture();
	log_open(LOG_LOGFMT, LOG_INFO);
	for (int i = 0; i < 100000 && log_lost() < before + 3; i++)
		LOG(LOG_INFO, "fill", "the pipe", F_I("i", i));
	lost = log_lost() - before;
	CU_ASSERT_EQUAL(lost, 3);
	while (captured()[0] != '\0')
		continue;
	LOG(LOG_INFO, "after", "there is room", F_I("i", 1));
	snprintf(expected, sizeof(expected), " lost=%d ", (int)lost);
	CU_ASSERT_PTR_NOT_NULL(strstr(captured(), expected));
	LOG(LOG_INFO, "after", "told once", F_I("i", 1));
	CU_ASSERT_PTR_NULL(strstr(captured(), "lost="));
	restore();
}

/* A reader that left, a closed or full stderr: counted, and nobody dies. */
static void a_broken_stderr_kills_nobody(void)
{
	uint64_t before = log_lost();
	int full;

	capture();
	log_open(LOG_LOGFMT, LOG_INFO);
	close(reader);
	reader = 0;
	LOG(LOG_INFO, "e", "m", F_I("n", 1));
	CU_ASSERT_EQUAL(log_lost(), before + 1);
	close(STDERR_FILENO);
	LOG(LOG_INFO, "e", "m", F_I("n", 1));
	CU_ASSERT_EQUAL(log_lost(), before + 2);
	full = open("/dev/full", O_WRONLY);
	if (full >= 0 && full != STDERR_FILENO)
		replace_stderr(full);
	LOG(LOG_INFO, "e", "m", F_I("n", 1));
	CU_ASSERT_EQUAL(log_lost(), before + 3);
	capture();
	LOG(LOG_INFO, "e", "m", F_I("n", 1));
	CU_ASSERT_PTR_NOT_NULL(strstr(captured(), " lost=3 "));
	restore();
}

/* Priorities are for the journal only: the stream must be stderr itself, not
 * one that a parent once had. */
static void the_journal_gets_priorities(void)
{
	char stream[64];
	struct stat st;
	int pair[2];

	CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	reader = pair[0];
	replace_stderr(pair[1]);
	(void)fstat(STDERR_FILENO, &st);
	snprintf(stream, sizeof(stream), "%llu:%llu",
		(unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	log_open(LOG_LOGFMT, LOG_DEBUG);
	LOG(LOG_ERROR, "e", "m", F_I("n", 1));
	CU_ASSERT_EQUAL(strncmp(captured(), "<3>ts=", 6), 0);
	LOG(LOG_DEBUG, "e", "m", F_I("n", 1));
	CU_ASSERT_EQUAL(strncmp(captured(), "<7>ts=", 6), 0);
	log_open(LOG_JSON, LOG_DEBUG);
	LOG(LOG_WARN, "e", "m", F_I("n", 1));
	CU_ASSERT_EQUAL(strncmp(captured(), "<4>{\"ts\":", 9), 0);
	setenv("JOURNAL_STREAM", "1:2", 1);
	log_open(LOG_LOGFMT, LOG_DEBUG);
	LOG(LOG_ERROR, "e", "m", F_I("n", 1));
	CU_ASSERT_EQUAL(strncmp(captured(), "ts=", 3), 0);
	restore();
}

enum { THREADS = 4, LINES = 500 };

static void *write_lines(void *arg)
{
	for (int i = 0; i < LINES; i++)
		LOG(LOG_INFO, "thread", "a line of some length, to be torn",
			F_S("who", arg), F_I("i", i));
	return NULL;
}

/* Lines of several threads come out whole, and as many as were not lost. */
static void threads_do_not_tear_lines(void)
{
	static char names[THREADS][2] = {"a", "b", "c", "d"};
	pthread_t threads[THREADS];
	uint64_t before = log_lost();
	FILE *file = tmpfile();
	char line[LONGEST];
	size_t whole = 0;

	CU_ASSERT_PTR_NOT_NULL_FATAL(file);
	(void)fcntl(fileno(file), F_SETFL, O_APPEND);
	replace_stderr(dup(fileno(file)));
	log_open(LOG_LOGFMT, LOG_INFO);
	for (int i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, write_lines, names[i]);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	restore();
	rewind(file);
	while (fgets(line, sizeof(line), file) != NULL) {
		CU_ASSERT_EQUAL(strncmp(line, "ts=", 3), 0);
		CU_ASSERT_PTR_NOT_NULL(strstr(line, " i="));
		whole++;
	}
	fclose(file);
	CU_ASSERT_EQUAL(whole + (log_lost() - before), THREADS * LINES);
}

SUITE("log", T(a_line_of_logfmt), T(the_level_decides),
	T(hostile_values_are_escaped), T(a_line_of_json),
	T(long_lines_are_cut_whole), T(a_full_stderr_loses_lines_and_says_so),
	T(a_broken_stderr_kills_nobody), T(the_journal_gets_priorities),
	T(threads_do_not_tear_lines))
