/* rgov doctor: what is wrong on this host, and what to do about it. */
#include "tools/rgov/doctor.h"
#include "tools/rgov/rgov_command.h"

#include <stdarg.h>
#include <stdio.h>
#include <sysexits.h>

void doctor_report(struct doctor *doctor, enum finding finding,
	const char *what, const char *format, ...)
{
	static const char *const words[] = {"ok  ", "warn", "FAIL"};
	va_list arguments;

	doctor->counts[finding]++;
	(void)printf("%s  %s: ", words[finding], what);
	va_start(arguments, format);
	(void)vprintf(format, arguments);
	va_end(arguments);
	(void)putchar('\n');
}

int verb_doctor(struct invocation *invocation)
{
	static void (*const checks[])(struct doctor *) = {check_board,
		check_heartbeat, check_socket, check_credentials, check_cluster,
		check_shared_memory, check_limits, check_clock, check_io_uring,
		check_environment, check_gunicorn};
	struct doctor doctor = {0};

	while (next_option(invocation) != -1)
		doctor.socket_path = optarg; /* 's', the only one */
	expect_operands(invocation, 0);
	doctor.name = invocation->name;
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++)
		checks[i](&doctor);
	view_free(doctor.view);
	return doctor.counts[FINDING_FAIL] > 0 ? EX_UNAVAILABLE : 0;
}
