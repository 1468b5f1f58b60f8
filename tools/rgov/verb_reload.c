/* rgov reload: rgovd reads its configuration again, or says why it does not. */
#include "tools/rgov/rgov_command.h"

#include "client-lib/rgov.h"

#include <errno.h>
#include <stdbool.h>
#include <sysexits.h>

int verb_reload(struct invocation *invocation)
{
	struct rgov_options options = {.size = sizeof(options), .app = "rgov"};
	struct rgov *gov;
	char text[1024] = "";
	int rc;

	while (next_option(invocation) != -1)
		options.socket_path = optarg; /* 's', the only one */
	expect_operands(invocation, 0);
	options.name = invocation->name;
	rc = rgov_open(&options, &gov);
	if (rc < 0)
		return complain(invocation, exit_code_of_error(rc), "%s: %s",
			rgov_strerror(rc), rgov_why());
	rc = rgov_reload(gov, text, sizeof(text));
	if (rc == 0)
		(void)puts(text[0] != '\0' ? text : "configuration replaced");
	else if (rc == -EINVAL && text[0] != '\0')
		rc = complain(invocation, EX_CONFIG,
			"refused, the old configuration stays: %s", text);
	else
		rc = complain(invocation, exit_code_of_error(rc), "%s: %s",
			rgov_strerror(rc), text[0] != '\0' ? text : rgov_why());
	rgov_close(gov);
	return rc;
}
