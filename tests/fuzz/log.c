/*
 * The log with hostile texts and numbers: each event is one line, whatever is
 * in it, and in JSON one object.
 */
#include "coordinator/log.h"
#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <jansson.h>

static int ends[2], own_stderr = -1;

static void open_pipe(void)
{
	own_stderr = dup(STDERR_FILENO);
	MUST(own_stderr >= 0 && pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
}

/* Only the log writes into the pipe: a crash is told on our own stderr. */
static size_t write_line(enum log_format format, char *const texts[3],
	double number, int decimals, char *ret_line, size_t size)
{
	ssize_t n;

	MUST(dup2(ends[1], STDERR_FILENO) >= 0);
	log_open(format, LOG_DEBUG);
	LOG(LOG_WARN, texts[0], texts[1], F_S("text", texts[2]),
		{.key = "number", .number = number, .decimals = decimals},
		F_S("again", texts[1]));
	MUST(dup2(own_stderr, STDERR_FILENO) >= 0);
	n = read(ends[0], ret_line, size - 1);
	MUST(n > 0 && log_lost() == 0);
	ret_line[n] = '\0';
	return (size_t)n;
}

static void judge(const char *line, size_t n)
{
	MUST(n <= 4096 && strlen(line) == n);
	MUST(strchr(line, '\n') == line + n - 1);
	for (size_t i = 0; i + 1 < n; i++)
		MUST((unsigned char)line[i] >= 0x20 && line[i] != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fuzz fuzz = {data, bytes};
	char line[8192], *texts[3];
	uint64_t bits =
		(uint64_t)fuzz_number(&fuzz, 4) << 32 | fuzz_number(&fuzz, 4);
	int decimals = (int)fuzz_byte(&fuzz) - 16;
	json_error_t error;
	json_t *object;
	double number;
	size_t n;

	if (own_stderr < 0)
		open_pipe();
	memcpy(&number, &bits, sizeof(number));
	for (int i = 0; i < 3; i++)
		texts[i] = fuzz_text(&fuzz);
	n = write_line(LOG_LOGFMT, texts, number, decimals, line, sizeof(line));
	judge(line, n);
	n = write_line(LOG_JSON, texts, number, decimals, line, sizeof(line));
	judge(line, n);
	object = json_loadb(line, n, JSON_REJECT_DUPLICATES, &error);
	/* A number that jansson cannot hold is still one. */
	MUST(object != NULL || strstr(error.text, "too big") != NULL);
	json_decref(object);
	for (int i = 0; i < 3; i++)
		free(texts[i]);
	return 0;
}
