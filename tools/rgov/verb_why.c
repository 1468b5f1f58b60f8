/*
 * rgov why: what holds a request, from rgovd itself.  Which requests a process
 * or a user has says the board.
 */
#include "tools/rgov/explain.h"
#include "tools/rgov/rgov_command.h"

#include "tools/board-view/board_view.h"
#include "tools/board-view/clean_text.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

struct question {
	struct rgov_options options;
	bool is_json;
	const char *user; /* NULL: of no user */
	long pid;         /* 0: of no process */
	uint64_t request; /* 0: of a user or a process */
	json_t *answers;  /* an array */
	int told;
};

/* ------------------------------------------------------------ arguments */

/* Decimal digits and nothing else; 0 or -EINVAL. */
static int parse_number(const char *text, uint64_t most, uint64_t *ret_number)
{
	char *end;

	errno = 0;
	*ret_number = strtoull(text, &end, 10);
	return strspn(text, "0123456789") == strlen(text) && *text != '\0' &&
			       errno == 0 && *ret_number != 0 &&
			       *ret_number <= most
		       ? 0
		       : -EINVAL;
}

static int take_option(const struct invocation *invocation,
	struct question *question, int letter)
{
	uint64_t pid;

	switch (letter) {
	case 'j':
		question->is_json = true;
		return 0;
	case 'u':
		question->user = optarg;
		return 0;
	case 's':
		question->options.socket_path = optarg;
		return 0;
	case 'p':
		if (parse_number(optarg, INT32_MAX, &pid) < 0)
			return complain(invocation, EX_USAGE,
				"--pid: expected the number of a process, "
				"found '%s'",
				optarg);
		question->pid = (long)pid;
		return 0;
	default:
		return EX_SOFTWARE;
	}
}

static int take_arguments(
	struct invocation *invocation, struct question *question)
{
	int letter, asked;

	while ((letter = next_option(invocation)) != -1) {
		int rc = take_option(invocation, question, letter);

		if (rc != 0)
			return rc;
	}
	expect_operands(invocation, 1);
	question->options.name = invocation->name;
	asked = (optind < invocation->argc) + (question->user != NULL) +
		(question->pid != 0);
	if (asked != 1)
		return complain(invocation, EX_USAGE,
			"expected one of: ID, --pid PID, --user USER (see "
			"'rgov queue' for the ids)");
	if (optind < invocation->argc &&
		parse_number(invocation->argv[optind], UINT64_MAX,
			&question->request) < 0)
		return complain(invocation, EX_USAGE,
			"expected a request's number as 'rgov queue' shows it, "
			"found '%s'",
			invocation->argv[optind]);
	return 0;
}

/* ------------------------------------------------------------ asking */

static int complain_of(const struct invocation *invocation, int error)
{
	/* A number that names nothing is wrong data, not a missing rgovd. */
	if (error == -ENOENT)
		return complain(invocation, EX_DATAERR, "%s", rgov_why());
	return complain(invocation, exit_code_of_error(error), "%s: %s",
		rgov_strerror(error), rgov_why());
}

/* 0 or -errno. */
static int tell(struct rgov *gov, struct question *question, uint64_t request)
{
	struct rgov_explanation found = {.size = sizeof(found)};
	int rc = rgov_explain(gov, request, &found);

	if (rc < 0)
		return rc;
	question->told++;
	text_clean(found.user, sizeof(found.user));
	text_clean(found.model, sizeof(found.model));
	if (!question->is_json)
		explain_print(&found);
	else if (json_array_append_new(
			 question->answers, explain_json(&found)) < 0)
		return -ENOMEM;
	return 0;
}

static bool is_asked(
	const struct question *question, const struct board_live *live)
{
	if (live->state == BOARD_LIVE_FREE)
		return false;
	return question->user != NULL ? strcmp(live->user, question->user) == 0
				      : live->pid == question->pid;
}

/* What has ended meanwhile is passed over. */
static int tell_all(const struct invocation *invocation, struct rgov *gov,
	struct question *question)
{
	struct board_view *view;
	char words[512];
	int rc = view_open(invocation->name, &view);

	if (rc < 0) {
		view_open_error(invocation->name, rc, words, sizeof(words));
		return complain(invocation, EX_UNAVAILABLE, "%s", words);
	}
	for (size_t i = 0; rc == 0 && i < SHM_BOARD_LIVE; i++) {
		if (is_asked(question, &view->live[i]))
			rc = tell(gov, question, view->live[i].request);
		if (rc == -ENOENT)
			rc = 0;
	}
	view_free(view);
	if (rc < 0)
		return complain_of(invocation, rc);
	if (question->told == 0 && !question->is_json)
		(void)complain(
			invocation, 0, "nothing of that is queued or running");
	return 0;
}

static int tell_one(const struct invocation *invocation, struct rgov *gov,
	struct question *question)
{
	int rc = tell(gov, question, question->request);

	return rc == 0 ? 0 : complain_of(invocation, rc);
}

/* Of one request an object, of several an array. */
static int print_json(
	const struct invocation *invocation, const struct question *question)
{
	const json_t *document = question->request != 0
					 ? json_array_get(question->answers, 0)
					 : question->answers;

	if (json_dumpf(document, stdout,
		    JSON_INDENT(2) | JSON_REAL_PRECISION(15)) == 0 &&
		putchar('\n') != EOF && fflush(stdout) == 0)
		return 0;
	return complain(
		invocation, EX_IOERR, "cannot print: %s", strerror(errno));
}

int verb_why(struct invocation *invocation)
{
	struct question question = {
		.options = {.size = sizeof(question.options), .app = "rgov"}};
	struct rgov *gov;
	int rc = take_arguments(invocation, &question);

	if (rc != 0)
		return rc;
	rc = rgov_open(&question.options, &gov);
	if (rc < 0)
		return complain_of(invocation, rc);
	question.answers = json_array();
	rc = question.request != 0 ? tell_one(invocation, gov, &question)
				   : tell_all(invocation, gov, &question);
	if (rc == 0 && question.is_json)
		rc = print_json(invocation, &question);
	json_decref(question.answers);
	rgov_close(gov);
	return rc;
}
