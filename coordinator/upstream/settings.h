/*
 * What the configuration says about upstream, checked and copied.  Calls
 * nobody and reads no file.
 */
#ifndef COORDINATOR_UPSTREAM_SETTINGS_H
#define COORDINATOR_UPSTREAM_SETTINGS_H

#include "coordinator/upstream/bedrock.h"
#include "coordinator/upstream/error_rules.h"
#include "coordinator/upstream/exchange.h"
#include "coordinator/upstream/upstream.h"

enum { SETTINGS_REGION_BYTES = 64 };

struct settings {
	struct bedrock_endpoint endpoint;
	char region[SETTINGS_REGION_BYTES]; /* goes into each signature */
	char *ca_file;                      /* also in options */
	struct exchange_options options;
	unsigned int max_connections;
	struct error_rules errors;
};

/*
 * `region` counts when the configuration names none.  0; -EINVAL or -ENOMEM
 * with the reason, and then there is nothing to end.
 */
int settings_init(struct settings *settings,
	const struct upstream_config *config, const char *region,
	char ret_why[UPSTREAM_MESSAGE_BYTES]);

/* A zero one is fine. */
void settings_fini(struct settings *settings);

#endif
