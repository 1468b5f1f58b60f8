/* What the functions of tasks refuse by themselves, and the words for it: there
 * is no rgovd here. */
#include "client-lib/rgov.h"
#include "tests/unit/suite.h"

#include <errno.h>

static struct rgov *gov;
static const struct rgov_task_id id = {{1}};

static void start(void)
{
	struct rgov_options options = {.size = sizeof(options),
		.socket_path = "/nonexistent/rgov.sock",
		.connect_timeout_ms = 1};

	CU_ASSERT_EQUAL_FATAL(rgov_open(&options, &gov), 0);
}

/* -EINVAL, and each of these is in the words. */
static void is_refused(int rc, const char *what, const char *expected)
{
	CU_ASSERT_EQUAL(rc, -EINVAL);
	if (strstr(rgov_why(), what) == NULL ||
		strstr(rgov_why(), expected) == NULL)
		(void)printf("words: %s\n", rgov_why());
	CU_ASSERT_PTR_NOT_NULL(strstr(rgov_why(), what));
	CU_ASSERT_PTR_NOT_NULL(strstr(rgov_why(), expected));
}

static int submit_with(const struct rgov_task_options *options)
{
	struct rgov_request request = {.size = sizeof(request),
		.model_id = "m",
		.body = "{}",
		.body_bytes = 2,
		.timeout_ms = 1};
	struct rgov_task task = {.size = sizeof(task)};

	return rgov_task_submit(gov, &request, options, &task);
}

static void texts_of_a_submit_have_bounds(void)
{
	char text[4096];

	start();
	memset(text, 'k', sizeof(text));
	text[128] = '\0';
	/* The longest: it fails for another reason, there is no rgovd. */
	CU_ASSERT_NOT_EQUAL(
		submit_with(&(struct rgov_task_options){
			.size = sizeof(struct rgov_task_options), .key = text}),
		-EINVAL);
	text[128] = 'k';
	text[sizeof(text) - 1] = '\0';
	static const char *const wrong[] = {"", "a\nb", "\x1b[2J", "\x7f"};

	for (size_t i = 0; i <= sizeof(wrong) / sizeof(wrong[0]); i++) {
		const char *key = i == 0 ? text : wrong[i - 1];
		struct rgov_task_options options = {
			.size = sizeof(options), .key = key};

		is_refused(submit_with(&options), "key", "expected");
		options.key = NULL;
		options.callback = key;
		is_refused(submit_with(&options), "callback", "expected");
	}
	rgov_close(gov);
}

static void sizes_are_checked(void)
{
	struct rgov_task task = {.size = sizeof(task) - 1};
	struct rgov_reply reply = {.size = 1};
	struct rgov_task_filter filter = {.size = 8};
	struct rgov_ticket ticket = {0};
	struct rgov_task_row *rows;

	start();
	is_refused(submit_with(&(struct rgov_task_options){.size = 3}),
		"options.size", "found 3");
	is_refused(rgov_task_show(gov, &id, &task), "task.size", "expected");
	is_refused(rgov_task_wait(gov, &id, 0, &task), "task.size", "expected");
	is_refused(rgov_task_cancel(gov, &id, &task), "task.size", "expected");
	is_refused(rgov_task_answer(gov, &ticket, 0, &task, NULL), "task.size",
		"expected");
	task.size = sizeof(task);
	is_refused(rgov_task_answer(gov, &ticket, 0, &task, &reply),
		"reply.size", "found 1");
	is_refused(rgov_task_fetch(gov, &id, &task, &reply), "reply.size",
		"found 1");
	is_refused(
		rgov_task_list(gov, &filter, &rows), "filter.size", "found 8");
	rgov_close(gov);
}

static void a_filter_has_bounds(void)
{
	struct rgov_task_row *rows;
	char text[1024];

	start();
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	struct rgov_task_filter filter = {.size = sizeof(filter), .most = 1001};

	is_refused(rgov_task_list(gov, &filter, &rows), "most", "found 1001");
	filter.most = 0;
	filter.user = text;
	is_refused(rgov_task_list(gov, &filter, &rows), "user", "expected");
	filter.user = NULL;
	filter.text = text;
	is_refused(rgov_task_list(gov, &filter, &rows), "text", "expected");
	filter.text = NULL;
	filter.states = 1u << (RGOV_T_EXPIRED + 1);
	is_refused(rgov_task_list(gov, &filter, &rows), "states", "expected");
	rgov_close(gov);
}

static void unknown_verbs_and_flags_are_refused(void)
{
	struct rgov_ticket ticket;

	start();
	for (unsigned int verb = RGOV_TASK_CANCEL + 1; verb < 8; verb++)
		is_refused(rgov_task_ask(gov, (enum rgov_task_verb)verb, &id, 1,
				   0, &ticket),
			"verb", "unknown");
	is_refused(rgov_task_ask(gov, RGOV_TASK_SHOW, &id, 1,
			   RGOV_NOT_IDEMPOTENT, &ticket),
		"flags", "unknown");
	rgov_close(gov);
}

static void every_state_has_a_name(void)
{
	for (unsigned int i = 0; i <= RGOV_T_EXPIRED; i++)
		CU_ASSERT_STRING_NOT_EQUAL(
			rgov_task_state_name((enum rgov_task_state)i),
			"unknown");
	CU_ASSERT_STRING_EQUAL(rgov_task_state_name((enum rgov_task_state)(
				       RGOV_T_EXPIRED + 1)),
		"unknown");
}

SUITE("arguments of tasks", T(texts_of_a_submit_have_bounds),
	T(sizes_are_checked), T(a_filter_has_bounds),
	T(unknown_verbs_and_flags_are_refused), T(every_state_has_a_name))
