/*
 * NOTIFY_SOCKET and WATCHDOG_USEC of the environment, and a status of any
 * text.  Nothing is sent but to addresses where nobody listens.
 */
#include "coordinator/notify.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct fuzz fuzz = {data, bytes};
	char *address = fuzz_text(&fuzz), *usec = fuzz_text(&fuzz),
	     *status = fuzz_text(&fuzz);
	struct notify notify;
	int rc;

	(void)setenv("NOTIFY_SOCKET", address, 1);
	(void)setenv("WATCHDOG_USEC", usec, 1);
	rc = notify_init(&notify);
	MUST(getenv("NOTIFY_SOCKET") == NULL &&
		getenv("WATCHDOG_USEC") == NULL);
	MUST((rc == 0) == (notify.fd >= 0));
	MUST(notify.address_bytes <= sizeof(notify.address));
	MUST(rc == 0 || notify_watchdog_ns(&notify) == 0);
	(void)notify_ready(&notify);
	(void)notify_status(&notify, status);
	notify_fini(&notify);
	free(status);
	free(usec);
	free(address);
	return 0;
}
