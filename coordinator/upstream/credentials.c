/*
 * The order is that of the AWS SDKs as far as it needs no call: a bearer key,
 * the keys of the environment, then the profile.  Each step says "found",
 * "nothing here, go on" (-ENOKEY) or a reason to stop.
 */
#include "coordinator/upstream/credentials.h"
#include "coordinator/upstream/aws_profile.h"

#include <errno.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct search {
	const struct credentials_environment *environment;
	const char *profile_name;
	bool profile_is_explicit;
	char credentials_path[PATH_MAX];
	char config_path[PATH_MAX];
	int64_t now_unix_s;
	struct credentials *found;
	char *why;
};

static const char *process_get(void *context, const char *name)
{
	(void)context;
	return getenv(name);
}

const struct credentials_environment credentials_process_environment = {
	.get = process_get};

/* Names of profiles and paths are the environment's: in a text for people and
 * logs they hold no control bytes. */
static void make_printable(char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			*text = '?';
}

__attribute__((format(printf, 3, 4))) static int refuse(
	struct search *search, int rc, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	(void)vsnprintf(search->why, CREDENTIALS_WHY_BYTES, format, args);
	va_end(args);
	make_printable(search->why);
	return rc;
}

/* NULL when not set or empty. */
static const char *get(const struct search *search, const char *name)
{
	const char *value =
		search->environment->get(search->environment->context, name);

	return value != NULL && *value != '\0' ? value : NULL;
}

/* ---- values ---- */

/* Keys and tokens go into header lines: printable ASCII without blanks.  The
 * reason names where the value stands, never the value. */
static int take_secret(struct search *search, const char *where,
	const char *name, const char *value, char *ret_value, size_t size)
{
	size_t bytes = strlen(value);

	for (size_t i = 0; i < bytes; i++)
		if ((unsigned char)value[i] <= 0x20 ||
			(unsigned char)value[i] >= 0x7f)
			return refuse(search, -EINVAL,
				"%s: %s has a blank, control or non-ASCII "
				"byte at position %zu",
				where, name, i + 1);
	if (bytes >= size)
		return refuse(search, -EINVAL,
			"%s: %s is longer than %zu bytes", where, name,
			size - 1);
	memcpy(ret_value, value, bytes + 1);
	return 0;
}

/* Any of the three may be NULL.  -ENOKEY: there is neither id nor secret. */
static int take_keys(struct search *search, const char *where,
	const char *const names[3], const char *const values[3])
{
	struct credentials *found = search->found;
	int rc;

	if (values[0] == NULL && values[1] == NULL)
		return -ENOKEY;
	if (values[0] == NULL || values[1] == NULL)
		return refuse(search, -EINVAL, "%s: %s is set but %s is not",
			where, names[values[0] == NULL],
			names[values[0] != NULL]);
	found->kind = CREDENTIALS_KEYS;
	rc = take_secret(search, where, names[0], values[0],
		found->access_key_id, sizeof(found->access_key_id));
	if (rc == 0)
		rc = take_secret(search, where, names[1], values[1],
			found->secret_access_key,
			sizeof(found->secret_access_key));
	if (rc == 0 && values[2] != NULL)
		rc = take_secret(search, where, names[2], values[2],
			found->token, sizeof(found->token));
	return rc;
}

/* ---- the environment ---- */

/* "2026-11-23T10:00:00Z", with "+00:00" for the Z or a fraction of a second. */
static int parse_time(const char *text, int64_t *ret_unix_s)
{
	struct tm utc = {0};
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &utc);

	if (rest == NULL)
		return -EINVAL;
	if (*rest == '.')
		rest += 1 + strspn(rest + 1, "0123456789");
	if (strcmp(rest, "Z") != 0 && strcmp(rest, "+00:00") != 0)
		return -EINVAL;
	*ret_unix_s = timegm(&utc);
	return 0;
}

static int take_expiration(struct search *search)
{
	static const char name[] = "AWS_CREDENTIAL_EXPIRATION";
	const char *text = get(search, name);

	if (text == NULL)
		return 0;
	if (parse_time(text, &search->found->expires_unix_s) < 0)
		return refuse(search, -EINVAL,
			"environment: %s is not a UTC time like "
			"2026-11-23T10:00:00Z",
			name);
	if (search->found->expires_unix_s <= search->now_unix_s)
		return refuse(search, -EKEYEXPIRED,
			"environment: the keys have expired, says %s", name);
	return 0;
}

static int search_environment(struct search *search)
{
	static const char *const names[3] = {"AWS_ACCESS_KEY_ID",
		"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"};
	const char *bearer = get(search, "AWS_BEARER_TOKEN_BEDROCK");
	const char *const values[3] = {get(search, names[0]),
		get(search, names[1]), get(search, names[2])};
	int rc;

	(void)snprintf(search->found->source, sizeof(search->found->source),
		"environment");
	if (bearer != NULL) {
		search->found->kind = CREDENTIALS_BEARER;
		return take_secret(search, "environment",
			"AWS_BEARER_TOKEN_BEDROCK", bearer,
			search->found->token, sizeof(search->found->token));
	}
	rc = take_keys(search, "environment", names, values);
	return rc == 0 ? take_expiration(search) : rc;
}

/* ---- the files ---- */

static int find_home(const struct search *search, char ret_home[PATH_MAX])
{
	const char *home = get(search, "HOME");
	struct passwd entry, *found = NULL;
	char buffer[4096];

	if (home == NULL &&
		getpwuid_r(geteuid(), &entry, buffer, sizeof(buffer), &found) ==
			0 &&
		found != NULL)
		home = found->pw_dir;
	if (home == NULL || strlen(home) >= PATH_MAX)
		return -ENOENT;
	(void)snprintf(ret_home, PATH_MAX, "%s", home);
	return 0;
}

/* What the variable says, or the usual place, with "~" replaced. */
static int find_path(struct search *search, const char *variable,
	const char *usual, char ret_path[PATH_MAX])
{
	const char *path = get(search, variable);
	char home[PATH_MAX] = "";
	bool tilde;
	int n;

	if (path == NULL)
		path = usual;
	tilde = path[0] == '~' && (path[1] == '/' || path[1] == '\0');
	if (tilde && find_home(search, home) < 0)
		return refuse(search, -EINVAL,
			"no home directory for %s: set HOME or %s", path,
			variable);
	n = snprintf(ret_path, PATH_MAX, "%s%s", home, path + tilde);
	if (n < 0 || n >= PATH_MAX)
		return refuse(
			search, -EINVAL, "%s: the path is too long", variable);
	return 0;
}

static int read_profile(struct search *search, const char *path,
	enum aws_profile_file kind, struct aws_profile *ret_profile)
{
	struct aws_profile_error error;
	int rc = aws_profile_read(
		path, kind, search->profile_name, ret_profile, &error);

	if (rc == 0 || rc == -ENOENT)
		return 0; /* a file that is not there has no such profile */
	if (error.line != 0)
		return refuse(
			search, rc, "%s:%u: %s", path, error.line, error.why);
	return refuse(search, rc, "%s: %s", path,
		error.why != NULL ? error.why : strerror(-rc));
}

/* Does the profile ask for a call to get keys?  `names` ends with NULL. */
static int refuse_unbuilt(struct search *search,
	const struct aws_profile *profile, const char *const *names)
{
	for (; *names != NULL; names++)
		if (aws_profile_get(profile, *names) != NULL)
			return refuse(search, -ENOTSUP,
				"profile \"%s\" uses %s, which rgovd cannot do "
				"yet",
				search->profile_name, *names);
	return -ENOKEY;
}

static int take_profile_keys(struct search *search,
	const struct aws_profile *profile, const char *path)
{
	static const char *const names[3] = {"aws_access_key_id",
		"aws_secret_access_key", "aws_session_token"};
	const char *values[3];
	char where[CREDENTIALS_SOURCE_BYTES];

	for (int i = 0; i < 3; i++)
		values[i] = aws_profile_get(profile, names[i]);
	if (values[2] == NULL) /* what old tools wrote */
		values[2] = aws_profile_get(profile, "aws_security_token");
	(void)snprintf(where, sizeof(where), "profile \"%s\" of %s",
		search->profile_name, path);
	(void)snprintf(search->found->source, sizeof(search->found->source),
		"%s", where);
	make_printable(search->found->source);
	return take_keys(search, where, names, values);
}

/* The steps of the SDKs' chain, in their order. */
static int search_profiles(struct search *search,
	const struct aws_profile *shared, const struct aws_profile *config)
{
	static const char *const before[] = {"role_arn",
		"web_identity_token_file", "sso_session", "sso_start_url",
		NULL};
	static const char *const between[] = {
		"login_session", "credential_process", NULL};
	int rc = -ENOKEY;

	rc = refuse_unbuilt(search, shared, before);
	if (rc == -ENOKEY)
		rc = refuse_unbuilt(search, config, before);
	if (rc == -ENOKEY)
		rc = take_profile_keys(
			search, shared, search->credentials_path);
	if (rc == -ENOKEY)
		rc = refuse_unbuilt(search, shared, between);
	if (rc == -ENOKEY)
		rc = refuse_unbuilt(search, config, between);
	if (rc == -ENOKEY)
		rc = take_profile_keys(search, config, search->config_path);
	return rc;
}

static void take_region(struct search *search, const struct aws_profile *config)
{
	struct credentials *found = search->found;
	const char *region = get(search, "AWS_REGION");

	if (region == NULL)
		region = get(search, "AWS_DEFAULT_REGION");
	if (region == NULL)
		region = aws_profile_get(config, "region");
	if (region != NULL && strlen(region) < sizeof(found->region))
		memcpy(found->region, region, strlen(region) + 1);
}

/* ---- all of it ---- */

static int judge_absence(struct search *search, bool profile_exists)
{
	static const char *const unbuilt[] = {"AWS_WEB_IDENTITY_TOKEN_FILE",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI", NULL};

	if (search->profile_is_explicit && !profile_exists)
		return refuse(search, -EINVAL,
			"profile \"%s\" is neither in %s nor in %s",
			search->profile_name, search->credentials_path,
			search->config_path);
	for (const char *const *name = unbuilt; *name != NULL; name++)
		if (get(search, *name) != NULL)
			return refuse(search, -ENOTSUP,
				"environment: %s is set, which rgovd cannot "
				"use yet",
				*name);
	return refuse(search, -ENOKEY,
		"no credentials: no AWS_BEARER_TOKEN_BEDROCK, no "
		"AWS_ACCESS_KEY_ID, and no keys for profile \"%s\" in %s or %s",
		search->profile_name, search->credentials_path,
		search->config_path);
}

static int search_all(struct search *search, bool environment_counts)
{
	struct aws_profile shared = {0}, config = {0};
	int rc = -ENOKEY, files;

	if (environment_counts)
		rc = search_environment(search);
	if (rc != 0 && rc != -ENOKEY)
		return rc;
	/* With keys at hand only the region is wanted of the files, and it is
	 * no reason to fail: leave what they say unread. */
	files = find_path(search, "AWS_SHARED_CREDENTIALS_FILE",
		"~/.aws/credentials", search->credentials_path);
	if (files == 0)
		files = find_path(search, "AWS_CONFIG_FILE", "~/.aws/config",
			search->config_path);
	if (files == 0)
		files = read_profile(search, search->config_path,
			AWS_PROFILE_CONFIG, &config);
	if (rc == -ENOKEY && files == 0)
		files = read_profile(search, search->credentials_path,
			AWS_PROFILE_CREDENTIALS, &shared);
	if (rc == -ENOKEY && files < 0)
		rc = files;
	else if (rc == -ENOKEY)
		rc = search_profiles(search, &shared, &config);
	if (rc == -ENOKEY)
		rc = judge_absence(search, shared.found || config.found);
	take_region(search, &config);
	aws_profile_wipe(&shared);
	aws_profile_wipe(&config);
	return rc;
}

int credentials_load(const struct credentials_environment *environment,
	const char *profile, int64_t now_unix_s,
	struct credentials *ret_credentials,
	char ret_why[CREDENTIALS_WHY_BYTES])
{
	struct credentials found = {0};
	bool explicit = profile != NULL && *profile != '\0';
	struct search search = {.environment = environment,
		.now_unix_s = now_unix_s,
		.found = &found,
		.why = ret_why};
	int rc;

	if (!explicit)
		profile = get(&search, "AWS_PROFILE");
	search.profile_is_explicit = profile != NULL;
	search.profile_name = profile != NULL ? profile : "default";
	rc = search_all(&search, !explicit);
	if (rc == 0)
		*ret_credentials = found;
	credentials_wipe(&found);
	return rc;
}

void credentials_wipe(struct credentials *credentials)
{
	OPENSSL_cleanse(credentials, sizeof(*credentials));
}
