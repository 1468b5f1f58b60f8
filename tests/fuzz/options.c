/* rgovd's command line: words of any kind, separated by zero bytes. */
#include "coordinator/options.h"
#include "tests/fuzz/fuzz.h"

#include <getopt.h>

enum { WORDS = 80 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static char program[] = "rgovd";
	struct fuzz fuzz = {data, bytes};
	char *words[WORDS + 2] = {program};
	struct options options;
	int n = 1, rc;

	while (fuzz.left > 0 && n <= WORDS)
		words[n++] = fuzz_text(&fuzz);
	optind = 0; /* getopt begins anew */
	rc = options_parse(n, words, &options, fuzz_nowhere(), fuzz_nowhere());
	MUST(rc == OPTIONS_GO_ON || rc == 0 || rc == 64);
	if (rc == OPTIONS_GO_ON) {
		struct config_source source = options_source(&options);

		MUST(source.n_overrides <= OPTIONS_OVERRIDES);
		for (size_t i = 0; i < source.n_overrides; i++)
			MUST(source.overrides[i].key != NULL &&
				source.overrides[i].value != NULL);
	}
	/* getopt has sorted them, but they are the same ones. */
	for (int i = 0; i < n; i++)
		if (words[i] != program)
			free(words[i]);
	return 0;
}
