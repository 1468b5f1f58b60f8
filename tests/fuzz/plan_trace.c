/*
 * The reader of traces: whatever the file says, it is either taken, and then
 * every question makes sense, or it is told with its line, without a control
 * byte.
 */
#include "tests/fuzz/fuzz.h"
#include "tools/rgov-plan/trace.h"

#include <errno.h>

static void judge_load(const struct load *load)
{
	uint64_t last_ns = LOAD_BEGIN_NS;

	MUST(load->n_trace > 0 && load->n_users > 0 && load->n_models > 0);
	for (size_t i = 0; i < load->n_trace; i++) {
		const struct load_question *question = &load->trace[i];

		MUST(question->arrival_ns >= last_ns);
		MUST(question->user < load->n_users);
		MUST(question->model < load->n_models);
		MUST(question->class < POLICY_CLASSES);
		MUST(question->latency_ns <= (uint64_t)(DRAW_MOST_S * 1e9));
		MUST(question->input_tokens <= UINT64_C(1000000000000));
		MUST(question->used.output_tokens >= -1);
		last_ns = question->arrival_ns;
	}
	for (size_t i = 0; i < load->n_users; i++)
		MUST(load->users[i].name[0] != '\0' &&
			strlen(load->users[i].name) <= 63);
}

/* Read with bad lines left out, it is no worse; returns what it said. */
static int read_trace(char *text, size_t n, bool skip_bad)
{
	char *words = NULL;
	size_t n_words;
	FILE *out = open_memstream(&words, &n_words);
	FILE *in = fmemopen(text, n, "r");
	struct trace_reading reading = {"t", skip_bad, out};
	struct load load;
	int rc;

	MUST(out != NULL && in != NULL);
	load_init(&load);
	rc = trace_read(in, &reading, &load);
	MUST(fclose(out) == 0 && fclose(in) == 0);
	MUST(rc == 0 || rc == -EINVAL);
	MUST(rc == 0 || n_words > 0);
	for (size_t i = 0; i < n_words; i++)
		MUST(words[i] == '\n' || (words[i] >= 0x20 && words[i] < 0x7f));
	if (rc == 0)
		judge_load(&load);
	load_free(&load);
	free(words);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fuzz fuzz = {data, bytes};
	size_t n;
	char *text = fuzz_rest(&fuzz, &n);

	if (n > 0 && read_trace(text, n, false) == 0)
		MUST(read_trace(text, n, true) == 0);
	else if (n > 0)
		(void)read_trace(text, n, true);
	free(text);
	return 0;
}
