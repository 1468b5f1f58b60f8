/*
 * bedrock-sim's command line: words of any kind, separated by zero bytes.  It
 * ends the program when it does not like them; here exit() comes back instead
 * (linked with --wrap=exit).
 */
#include "tests/fuzz/fuzz.h"
#include "tools/bedrock-sim/options.h"

#include <getopt.h>
#include <setjmp.h>
#include <sysexits.h>

enum { WORDS = 200 };

static jmp_buf refused;
static bool is_parsing; /* libFuzzer itself ends by exit() as well */

_Noreturn void __real_exit(int status);
_Noreturn void __wrap_exit(int status);
_Noreturn void __wrap_exit(int status)
{
	if (!is_parsing)
		__real_exit(status);
	is_parsing = false;
	MUST(status == EX_USAGE || status == EX_OK);
	longjmp(refused, 1);
}

static void free_plan(struct fault_plan *plan)
{
	for (size_t i = 0; i < plan->count; i++)
		free(plan->rules[i].numbers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static struct options options;
	static char *words[WORDS + 2];
	static char program[] = "bedrock-sim";
	static int n;
	struct fuzz fuzz = {data, bytes};

	words[0] = program;
	for (n = 1; fuzz.left > 0 && n <= WORDS;)
		words[n++] = fuzz_text(&fuzz);
	words[n] = NULL;
	optind = 0; /* getopt begins anew */
	is_parsing = true;
	if (setjmp(refused) == 0) {
		options_parse(n, words, &options);
		is_parsing = false;
		MUST(options.port >= PORT_NONE && options.port <= 65535);
		MUST(options.output_tokens.low <= options.output_tokens.high);
		MUST(options.faults.count <= FAULT_RULES_MAX);
	}
	free_plan(&options.faults);
	for (int i = 0; i < n; i++)
		if (words[i] != program)
			free(words[i]);
	return 0;
}
