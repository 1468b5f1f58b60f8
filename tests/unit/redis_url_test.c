/* The URL of a Redis: what it may say, and that its password is never shown. */
#include "coordinator/cluster/redis_url.h"
#include "tests/unit/suite.h"

static void a_url_is_taken_apart(void)
{
	static const struct {
		const char *text;
		struct redis_url url;
	} cases[] = {
		{"redis://localhost", {.host = "localhost", .port = 6379}},
		{"redis://10.0.0.7:7000/3",
			{.host = "10.0.0.7", .port = 7000, .db = 3}},
		{"redis://:secret@r1/",
			{.host = "r1", .port = 6379, .password = "secret"}},
		{"redis://me:p%40ss%3aw%2Fd@r1:1/0",
			{.host = "r1",
				.port = 1,
				.user = "me",
				.password = "p@ss:w/d"}},
		{"rediss://[fe80::1]:6380/15", {.transport = REDIS_BY_TLS,
						       .host = "fe80::1",
						       .port = 6380,
						       .db = 15}},
		{"rediss://[::1]", {.transport = REDIS_BY_TLS,
					   .host = "::1",
					   .port = 6379}},
		{"unix:///run/redis.sock", {.transport = REDIS_BY_UNIX,
						   .path = "/run/redis.sock"}},
		{"unix://:pw@/run/a%20b.sock?db=7",
			{.transport = REDIS_BY_UNIX,
				.path = "/run/a b.sock",
				.password = "pw",
				.db = 7}},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct redis_url url;
		const char *why = redis_url_parse(cases[i].text, &url);

		CU_ASSERT_PTR_NULL(why);
		CU_ASSERT_EQUAL(url.transport, cases[i].url.transport);
		CU_ASSERT_STRING_EQUAL(url.host, cases[i].url.host);
		CU_ASSERT_STRING_EQUAL(url.path, cases[i].url.path);
		CU_ASSERT_EQUAL(url.port, cases[i].url.port);
		CU_ASSERT_EQUAL(url.db, cases[i].url.db);
		CU_ASSERT_STRING_EQUAL(url.user, cases[i].url.user);
		CU_ASSERT_STRING_EQUAL(url.password, cases[i].url.password);
	}
}

static void what_is_wrong_is_said_without_the_text(void)
{
	static const char *const wrong[] = {"", "localhost:6379",
		"http://:hunter2@r1", "redis://", "redis:///0",
		"redis://:hunter2@", "redis://r1:0", "redis://r1:65536",
		"redis://r1:x", "redis://r1:", "redis://r1/x",
		"redis://r1/1000001", "redis://r1/-1", "redis://r1?db=1",
		"redis://r1/0/1", "redis://r1#hunter2", "redis://:hunter2%4@r1",
		"redis://:hunter2%zz@r1", "redis://:hunter2%0a@r1",
		"redis://:hunter2 @r1", "redis://hunter2@r1", "redis://[::1",
		"redis://[::1]x", "redis://[]", "redis://r1:1:1", "redis://a b",
		"redis://:hunter2@r{1}", "unix://r1/path", "unix://",
		"unix:///p?db=", "unix:///p?d=1", "unix:///p?db=x",
		"unix://:hunter2@"};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct redis_url url;
		const char *why = redis_url_parse(wrong[i], &url);

		CU_ASSERT_PTR_NOT_NULL_FATAL(why);
		CU_ASSERT_PTR_NULL(strstr(why, "hunter2"));
	}
}

/* Each byte less, each byte another: an answer, and nothing read beyond. */
static void any_bytes_are_judged(void)
{
	static const char whole[] = "rediss://me:p%40ss@[fe80::1]:6380/15";
	struct redis_url url;

	for (size_t cut = 0; cut < sizeof(whole); cut++)
		for (int byte = 1; byte < 256; byte++) {
			char *text = strndup(whole, cut);

			if (cut > 0)
				text[(size_t)byte % cut] = (char)byte;
			(void)redis_url_parse(text, &url);
			free(text);
		}
}

static void too_long_parts_are_refused(void)
{
	static const char *const around[][2] = {
		{"redis://", "/0"},
		{"redis://:", "@r1"},
		{"redis://", ":x@r1"},
		{"unix:///", ""},
	};
	struct redis_url url;
	char text[1000];

	for (size_t i = 0; i < sizeof(around) / sizeof(around[0]); i++) {
		(void)snprintf(text, sizeof(text), "%s%0600d%s", around[i][0],
			0, around[i][1]);
		CU_ASSERT_PTR_NOT_NULL(redis_url_parse(text, &url));
	}
}

static void the_password_is_masked(void)
{
	static const char *const cases[][2] = {
		{"redis://:secret@r1:1/0", "redis://:***@r1:1/0"},
		{"rediss://me:se:c@ret@r1", "rediss://me:***@r1"},
		{"redis://r1:6379/0", "redis://r1:6379/0"},
		{"unix://:secret@/p", "unix://:***@/p"},
		{"redis://secret@r1", "redis://***@r1"},
		{"secret@r1", "***@r1"},
	};
	char shown[100];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		redis_url_mask(cases[i][0], shown, sizeof(shown));
		CU_ASSERT_STRING_EQUAL(shown, cases[i][1]);
	}
	redis_url_mask(cases[0][0], shown, 8);
	CU_ASSERT_STRING_EQUAL(shown, "redis:/");
}

SUITE("redis_url", T(a_url_is_taken_apart),
	T(what_is_wrong_is_said_without_the_text), T(any_bytes_are_judged),
	T(too_long_parts_are_refused), T(the_password_is_masked))
