/* rgov task: durable tasks from the shell.  Here: the command line. */
#include "tools/rgov/ending.h"
#include "tools/rgov/task_command.h"

#include "tools/board-view/clean_text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

/* A word behind the verb, and which options it knows. */
struct word {
	const char *name, *options;
	int least, most; /* operands */
	bool takes_id;   /* and the first one is the id of a task */
	int (*run)(struct task_command *command);
};

static const struct word words[] = {
	{"submit", "scupHkCNtwj", 1, 2, false, task_submit},
	{"show", "sj", 1, 1, true, task_show},
	{"wait", "stj", 1, 1, true, task_wait},
	{"result", "s", 1, 1, true, task_result},
	{"cancel", "sj", 1, 1, true, task_cancel},
	{"list", "sjufxno", 0, 0, false, task_list},
	{"history", "sj", 1, 1, true, task_history},
};
enum { WORDS = sizeof(words) / sizeof(words[0]), LETTERS = 64 };

/* ------------------------------------------------------------ complaints */

int task_complain(const struct task_command *command, int error)
{
	/* Of a history: its id names nothing. */
	int code = error == -ENOENT ? EX_NOINPUT : exit_code_of_error(error);

	if (error == -ENOENT || error == -EPERM)
		return complain(command->invocation, code, "%s", rgov_why());
	return complain(command->invocation, code, "%s: %s",
		rgov_strerror(error), rgov_why());
}

int task_complain_of_answer(
	const struct task_command *command, const struct rgov_task *task)
{
	struct rgov_reply reply = {
		.result = task->answer, .retry_after_ms = task->retry_after_ms};

	memcpy(reply.code, task->code, sizeof(reply.code));
	memcpy(reply.message, task->message, sizeof(reply.message));
	return ending_print(command->invocation, &reply);
}

/* ------------------------------------------------------------ options */

static int take_timeout(struct task_command *command, const char *text)
{
	double seconds;

	if (options_number(text, 0.001, 31536000, &seconds) < 0)
		return complain(command->invocation, EX_USAGE,
			"--timeout: expected 0.001 to 31536000 seconds, found "
			"'%s'",
			text);
	command->timeout_ms = (uint64_t)(seconds * 1e3);
	return 0;
}

static int take_rows(struct task_command *command, const char *text)
{
	double rows;

	if (options_number(text, 1, 1000, &rows) < 0 ||
		rows != (double)(uint32_t)rows)
		return complain(command->invocation, EX_USAGE,
			"--rows: expected 1 to 1000, found '%s'", text);
	command->filter.most = (uint32_t)rows;
	return 0;
}

/* "queued,running". */
static int take_states(struct task_command *command, const char *text)
{
	for (const char *at = text;; at++) {
		size_t n = strcspn(at, ",");
		int state = RGOV_T_QUEUED;

		while (state <= RGOV_T_EXPIRED) {
			const char *name = rgov_task_state_name(
				(enum rgov_task_state)state);

			if (strlen(name) == n && memcmp(name, at, n) == 0)
				break;
			state++;
		}
		if (state > RGOV_T_EXPIRED)
			return complain(command->invocation, EX_USAGE,
				"--state: expected queued, running, succeeded, "
				"failed, cancelled or expired, with commas "
				"between, found '%s'",
				text);
		command->filter.states |= 1u << state;
		at += n;
		if (*at == '\0')
			return 0;
	}
}

static int take_id(
	struct task_command *command, const char *text, struct rgov_task_id *id)
{
	return rgov_task_id_parse(text, id) == 0
		       ? 0
		       : complain(command->invocation, EX_USAGE, "%s",
				 rgov_why());
}

static int take_option_of_submit(struct task_command *command, int letter)
{
	switch (letter) {
	case 'c':
		command->request.operation = RGOV_CONVERSE;
		return 0;
	case 'p':
		return request_priority(
			command->invocation, &command->request, optarg);
	case 'H':
		return request_header(command->invocation, &command->request,
			command->headers, optarg);
	case 'k':
		command->task.key = optarg;
		return 0;
	case 'C':
		command->task.callback = optarg;
		return 0;
	case 'N':
		command->request.flags |= RGOV_NOT_IDEMPOTENT;
		return 0;
	case 'w':
		command->waits = true;
		return 0;
	default:
		return EX_SOFTWARE;
	}
}

static int take_option(
	struct task_command *command, struct rgov_options *options, int letter)
{
	switch (letter) {
	case 's':
		options->socket_path = optarg;
		return 0;
	case 'j':
		command->is_json = true;
		return 0;
	case 't':
		return take_timeout(command, optarg);
	case 'u':
		command->request.user = command->filter.user = optarg;
		return 0;
	case 'f':
		return take_states(command, optarg);
	case 'x':
		command->filter.text = optarg;
		return 0;
	case 'n':
		return take_rows(command, optarg);
	case 'o':
		command->filter.older_than = &command->older_than;
		return take_id(command, optarg, &command->older_than);
	default:
		return take_option_of_submit(command, letter);
	}
}

/* ------------------------------------------------------------ the word */

static int unknown_word(struct invocation *invocation, const char *word)
{
	const char *names[WORDS], *nearest;

	for (size_t i = 0; i < WORDS; i++)
		names[i] = words[i].name;
	if (word == NULL)
		return complain(invocation, EX_USAGE,
			"expected submit, show, wait, result, cancel, list or "
			"history (see 'rgov help task')");
	nearest = options_nearest(word, names, WORDS);
	return complain(invocation, EX_USAGE, "unknown word '%s'%s%s%s", word,
		nearest != NULL ? "; did you mean '" : "",
		nearest != NULL ? nearest : " (see 'rgov help task')",
		nearest != NULL ? "'?" : "");
}

static const struct word *find_word(const char *name)
{
	for (size_t i = 0; name != NULL && i < WORDS; i++)
		if (strcmp(words[i].name, name) == 0)
			return &words[i];
	return NULL;
}

/* Do options and operands belong to it? */
static int check_word(struct task_command *command, const struct word *word,
	const char *letters)
{
	struct invocation *invocation = command->invocation;
	size_t known = strspn(letters, word->options);

	if (letters[known] != '\0')
		return complain(invocation, EX_USAGE,
			"'%s' has no option -%c (see 'rgov help task')",
			word->name, letters[known]);
	expect_operands(invocation, 1 + word->most);
	if (invocation->argc - optind - 1 < word->least)
		return complain(invocation, EX_USAGE,
			"'%s': expected %s (see 'rgov help task')", word->name,
			word->takes_id ? "the ID of a task" : "a MODEL");
	return word->takes_id
		       ? take_id(command, command->operands[0], &command->id)
		       : 0;
}

static int run(const struct word *word, struct task_command *command,
	const struct rgov_options *options)
{
	int rc = rgov_open(options, &command->gov);

	if (rc < 0)
		return task_complain(command, rc);
	rc = word->run(command);
	free(command->body);
	rgov_close(command->gov);
	return rc;
}

int verb_task(struct invocation *invocation)
{
	struct task_command command = {.invocation = invocation,
		.request = {.size = sizeof(command.request),
			.priority = RGOV_NORMAL},
		.task = {.size = sizeof(command.task)},
		.filter = {.size = sizeof(command.filter)}};
	struct rgov_options options = {
		.size = sizeof(options), .app = "rgov", .slots = 2};
	char letters[LETTERS] = "";
	const struct word *word;
	int letter, rc = 0;

	while ((letter = next_option(invocation)) != -1) {
		if (strchr(letters, letter) == NULL)
			letters[strlen(letters)] = (char)letter;
		rc = take_option(&command, &options, letter);
		if (rc != 0)
			return rc;
	}
	options.name = invocation->name;
	word = find_word(invocation->argv[optind]);
	if (word == NULL)
		return unknown_word(invocation, invocation->argv[optind]);
	command.operands = (const char *const *)invocation->argv + optind + 1;
	rc = check_word(&command, word, letters);
	return rc != 0 ? rc : run(word, &command, &options);
}
