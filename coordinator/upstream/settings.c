/* Checks the upstream part of the configuration. */
#include "coordinator/upstream/settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int refuse(
	char ret_why[UPSTREAM_MESSAGE_BYTES], const char *what, const char *why)
{
	int length =
		snprintf(ret_why, UPSTREAM_MESSAGE_BYTES, "%s: %s", what, why);

	(void)length; /* a reason may be cut */
	return -EINVAL;
}

static bool is_empty(const char *text)
{
	return text == NULL || text[0] == '\0';
}

static int set_region(struct settings *settings, const char *region,
	char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	size_t length = strlen(region);

	if (length == 0)
		return refuse(ret_why, "region", "none is configured");
	if (length >= sizeof(settings->region))
		return refuse(ret_why, "region", "the name is too long");
	memcpy(settings->region, region, length + 1);
	return 0;
}

/* The region's own endpoint is worked out also when another one is given: that
 * checks the region. */
static int set_endpoint(struct settings *settings, const char *endpoint,
	char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	int rc = bedrock_region_endpoint(
		settings->region, &settings->endpoint, ret_why);

	if (rc != 0 || is_empty(endpoint))
		return rc;
	return bedrock_parse_endpoint(endpoint, &settings->endpoint, ret_why);
}

static int set_ca_file(struct settings *settings, const char *ca_file,
	char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	if (is_empty(ca_file))
		return 0;
	if (access(ca_file, R_OK) != 0)
		return refuse(ret_why, ca_file, strerror(errno));
	settings->ca_file = strdup(ca_file);
	if (settings->ca_file == NULL) {
		(void)refuse(ret_why, "CA file", "no memory");
		return -ENOMEM;
	}
	settings->options.ca_file = settings->ca_file;
	return 0;
}

static int set_limits(struct settings *settings,
	const struct upstream_config *config,
	char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	if (config->max_connections == 0)
		return refuse(ret_why, "max_connections", "must not be 0");
	if (config->max_reply_bytes == 0)
		return refuse(ret_why, "max_reply_bytes", "must not be 0");
	settings->max_connections = config->max_connections;
	settings->options = (struct exchange_options){
		.connect_timeout_ns = config->connect_timeout_ns,
		.read_timeout_ns = config->read_timeout_ns,
		.keepalive_ns = config->keepalive_ns,
		.idle_close_ns = config->idle_close_ns,
		.max_reply_bytes = config->max_reply_bytes,
	};
	return 0;
}

/* The last that is set: else there would be something to end. */
static int set_errors(struct settings *settings,
	const struct upstream_config *config,
	char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	int rc = error_rules_init(&settings->errors, config);

	if (rc != 0) {
		(void)refuse(ret_why, "error rules", "no memory");
		settings_fini(settings);
	}
	return rc;
}

int settings_init(struct settings *settings,
	const struct upstream_config *config, const char *region,
	char ret_why[UPSTREAM_MESSAGE_BYTES])
{
	int rc;

	*settings = (struct settings){0};
	rc = set_region(settings,
		is_empty(config->region) ? region : config->region, ret_why);
	if (rc == 0)
		rc = set_endpoint(settings, config->endpoint, ret_why);
	if (rc == 0)
		rc = set_limits(settings, config, ret_why);
	if (rc == 0)
		rc = set_ca_file(settings, config->ca_file, ret_why);
	if (rc == 0)
		rc = set_errors(settings, config, ret_why);
	return rc;
}

void settings_fini(struct settings *settings)
{
	free(settings->ca_file);
	error_rules_fini(&settings->errors);
	*settings = (struct settings){0};
}
