/* rgov version: this program, the layout, and the rgovd that runs. */
#include "tools/rgov/rgov_command.h"

#include "shm-layout/shm_layout.h"
#include "tools/board-view/board_view.h"

int verb_version(struct invocation *invocation)
{
	struct board_view *view;

	while (next_option(invocation) != -1)
		;
	expect_operands(invocation, 0);
	(void)printf("rgov %s, layout %d (%016llx)\n", RGOV_VERSION,
		SHM_LAYOUT_VERSION, (unsigned long long)shm_layout_hash());
	if (view_open(invocation->name, &view) < 0)
		return 0; /* no rgovd has run: nothing to compare with */
	(void)printf("rgovd %s (%s, %s)\n", view->header.version, view->name,
		view_health_name(view->health));
	view_free(view);
	return 0;
}
