/* rgov presets: the limits one can choose by name. */
#include "tools/rgov/rgov_command.h"

#include "tools/board-view/board_view.h"

#include <string.h>

static const struct {
	const char *name;
	unsigned concurrent, per_minute, per_user;
	const char *words;
} presets[] = {
#define PRESET(name, concurrent, per_minute, per_user, words)                  \
	{name, concurrent, per_minute, per_user, words},
#include "tools/rgov/presets.def"
#undef PRESET
};

int verb_presets(struct invocation *invocation)
{
	struct board_view *view = NULL;
	const char *in_force = "";

	while (next_option(invocation) != -1)
		;
	expect_operands(invocation, 0);
	if (view_open(invocation->name, &view) == 0)
		in_force = view->header.preset;
	(void)printf("  %-16s %14s %13s %8s  %s\n", "PRESET", "MAX CONCURRENT",
		"REQUESTS/MIN", "PER USER", "FOR");
	for (size_t i = 0; i < sizeof(presets) / sizeof(presets[0]); i++)
		(void)printf("%c %-16s %14u %13u %8u  %s\n",
			strcmp(presets[i].name, in_force) == 0 ? '*' : ' ',
			presets[i].name, presets[i].concurrent,
			presets[i].per_minute, presets[i].per_user,
			presets[i].words);
	view_free(view);
	return 0;
}
