/* coordinator/upstream/credentials: which keys are found where, and what is
 * said when there are none.  Files live in a folder of their own; the
 * environment is a table. */
#include "coordinator/upstream/aws_profile.h"
#include "coordinator/upstream/credentials.h"
#include "tests/unit/suite.h"

#include <errno.h>
#include <limits.h>
#include <sys/stat.h>

#define NOW 1800000000 /* 2027-01-15T08:00:00Z */

static const char *variables[32]; /* name, value, …, NULL */
static size_t variable_count;
static char folder[64];
static char credentials_path[128], config_path[128];
static struct credentials found;
static char why[CREDENTIALS_WHY_BYTES];

static const char *get(void *context, const char *name)
{
	(void)context;
	for (size_t i = 0; i + 1 < variable_count; i += 2)
		if (strcmp(variables[i], name) == 0)
			return variables[i + 1];
	return NULL;
}

static const struct credentials_environment environment = {.get = get};

static void set(const char *name, const char *value)
{
	variables[variable_count++] = name;
	variables[variable_count++] = value;
}

static void write_bytes(const char *path, const char *text, size_t bytes)
{
	FILE *file = fopen(path, "w");

	CU_ASSERT_FATAL(file != NULL);
	CU_ASSERT_FATAL(fwrite(text, 1, bytes, file) == bytes);
	fclose(file);
}

static void write_file(const char *path, const char *text)
{
	write_bytes(path, text, strlen(text));
}

/* A new world: no files, and an environment that names where they would be. */
static void begin(void)
{
	if (folder[0] == '\0') {
		strcpy(folder, "/tmp/rgov-credentials-XXXXXX");
		CU_ASSERT_FATAL(mkdtemp(folder) != NULL);
	}
	snprintf(credentials_path, sizeof(credentials_path), "%s/credentials",
		folder);
	snprintf(config_path, sizeof(config_path), "%s/config", folder);
	unlink(credentials_path);
	unlink(config_path);
	variable_count = 0;
	set("AWS_SHARED_CREDENTIALS_FILE", credentials_path);
	set("AWS_CONFIG_FILE", config_path);
	memset(&found, 0, sizeof(found));
	why[0] = '\0';
}

static int load(const char *profile)
{
	return credentials_load(&environment, profile, NOW, &found, why);
}

static bool why_has(const char *text)
{
	if (strstr(why, text) != NULL)
		return true;
	printf("# %s\n", why);
	return false;
}

/* The keys of the environment are taken, with token and region. */
static void takes_the_environment(void)
{
	begin();
	set("AWS_ACCESS_KEY_ID", "AKID");
	set("AWS_SECRET_ACCESS_KEY", "SECRET");
	CU_ASSERT_EQUAL(load(NULL), 0);
	CU_ASSERT_EQUAL(found.kind, CREDENTIALS_KEYS);
	CU_ASSERT_STRING_EQUAL(found.access_key_id, "AKID");
	CU_ASSERT_STRING_EQUAL(found.secret_access_key, "SECRET");
	CU_ASSERT_STRING_EQUAL(found.token, "");
	CU_ASSERT_STRING_EQUAL(found.source, "environment");
	CU_ASSERT_EQUAL(found.expires_unix_s, 0);
	set("AWS_SESSION_TOKEN", "TOKEN");
	set("AWS_REGION", "eu-west-1");
	CU_ASSERT_EQUAL(load(""), 0);
	CU_ASSERT_STRING_EQUAL(found.token, "TOKEN");
	CU_ASSERT_STRING_EQUAL(found.region, "eu-west-1");
}

/* A bearer key wins over everything else of the environment. */
static void prefers_a_bearer_key(void)
{
	begin();
	set("AWS_ACCESS_KEY_ID", "AKID");
	set("AWS_SECRET_ACCESS_KEY", "SECRET");
	set("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-x/y+z=");
	CU_ASSERT_EQUAL(load(NULL), 0);
	CU_ASSERT_EQUAL(found.kind, CREDENTIALS_BEARER);
	CU_ASSERT_STRING_EQUAL(found.token, "bedrock-api-key-x/y+z=");
	CU_ASSERT_STRING_EQUAL(found.access_key_id, "");
}

/* Half a key is an error that names the other half; an empty variable is one
 * that is not set. */
static void names_the_missing_half(void)
{
	begin();
	set("AWS_ACCESS_KEY_ID", "AKID");
	set("AWS_SECRET_ACCESS_KEY", "");
	CU_ASSERT_EQUAL(load(NULL), -EINVAL);
	CU_ASSERT_STRING_EQUAL(why, "environment: AWS_ACCESS_KEY_ID is set but "
				    "AWS_SECRET_ACCESS_KEY is not");
	begin();
	set("AWS_SECRET_ACCESS_KEY", "SECRET");
	CU_ASSERT_EQUAL(load(NULL), -EINVAL);
	CU_ASSERT(why_has("but AWS_ACCESS_KEY_ID is not"));
	begin();
	write_file(credentials_path, "[default]\naws_access_key_id = AKID\n");
	CU_ASSERT_EQUAL(load(NULL), -EINVAL);
	CU_ASSERT(why_has("profile \"default\" of "));
	CU_ASSERT(why_has("but aws_secret_access_key is not"));
}

/* What could break a header line is refused, and never shown. */
static void refuses_control_bytes(void)
{
	static const char *const bad[] = {"SEC\r\nX-Evil: 1", "SEC\n",
		"SEC RET", "SEC\t", "SEC\x7f", "SEC\xc3\xa9"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		begin();
		set("AWS_ACCESS_KEY_ID", "AKID");
		set("AWS_SECRET_ACCESS_KEY", bad[i]);
		CU_ASSERT_EQUAL(load(NULL), -EINVAL);
		CU_ASSERT(why_has("AWS_SECRET_ACCESS_KEY has a blank"));
		CU_ASSERT_PTR_NULL(strstr(why, "SEC\n"));
		CU_ASSERT_PTR_NULL(strstr(why, "Evil"));
		begin();
		set("AWS_BEARER_TOKEN_BEDROCK", bad[i]);
		CU_ASSERT_EQUAL(load(NULL), -EINVAL);
	}
	begin();
	write_file(credentials_path, "[default]\naws_access_key_id=A\raws_x\n"
				     "aws_secret_access_key=SECRET\n");
	CU_ASSERT_EQUAL(load(NULL), -EINVAL);
	CU_ASSERT(why_has("aws_access_key_id has a blank"));
}

/* The largest that fits is taken, one byte more is refused. */
static void bounds_lengths(void)
{
	static char token[CREDENTIALS_TOKEN_BYTES + 1];

	for (int over = 0; over <= 1; over++) {
		begin();
		memset(token, 't', sizeof(token));
		token[CREDENTIALS_TOKEN_BYTES - 1 + over] = '\0';
		set("AWS_BEARER_TOKEN_BEDROCK", token);
		CU_ASSERT_EQUAL(load(NULL), over ? -EINVAL : 0);
	}
	CU_ASSERT(why_has("longer than 8192 bytes"));
}

/* Keys of the environment that have expired are refused as such. */
static void knows_expiry(void)
{
	static const struct {
		const char *text;
		int rc;
		int64_t expires;
	} cases[] = {{"2027-01-15T08:00:01Z", 0, NOW + 1},
		{"2027-01-15T08:00:01.250+00:00", 0, NOW + 1},
		{"2027-01-15T08:00:00Z", -EKEYEXPIRED, 0},
		{"2015-01-01T00:00:00Z", -EKEYEXPIRED, 0},
		{"tomorrow", -EINVAL, 0}, {"2027-01-15T08:00:01", -EINVAL, 0},
		{"2027-01-15T08:00:01+02:00", -EINVAL, 0}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		begin();
		set("AWS_ACCESS_KEY_ID", "AKID");
		set("AWS_SECRET_ACCESS_KEY", "SECRET");
		set("AWS_CREDENTIAL_EXPIRATION", cases[i].text);
		CU_ASSERT_EQUAL(load(NULL), cases[i].rc);
		CU_ASSERT_EQUAL(found.expires_unix_s, cases[i].expires);
	}
}

/* The credentials file is read as the AWS tools read it. */
static void reads_the_credentials_file(void)
{
	begin();
	write_file(credentials_path,
		"\xef\xbb\xbf# a comment\r\n"
		"[other]\r\naws_access_key_id = NO\r\n"
		"aws_secret_access_key = NO\r\n\r\n"
		"  ; another\r\n"
		"[default] # main\r\n"
		"AWS_Access_Key_ID=OLD\r\n"
		"aws_access_key_id : AKID # inline\r\n"
		"aws_secret_access_key\t=\t a#b;c/d+e= \r\n"
		"s3 =\r\n"
		"  aws_secret_access_key = NESTED\r\n"
		"aws_session_token=T=O:K");
	CU_ASSERT_EQUAL(load(NULL), 0);
	CU_ASSERT_STRING_EQUAL(found.access_key_id, "AKID");
	CU_ASSERT_STRING_EQUAL(found.secret_access_key, "a#b;c/d+e=");
	CU_ASSERT_STRING_EQUAL(found.token, "T=O:K");
	CU_ASSERT_PTR_NOT_NULL(strstr(found.source, "profile \"default\" of "));
	CU_ASSERT_PTR_NOT_NULL(strstr(found.source, credentials_path));
}

/* A section whose settings are all indented alike is no nested map. */
static void reads_indented_sections(void)
{
	begin();
	write_file(credentials_path, "[default]\n    aws_access_key_id = AKID\n"
				     "    aws_secret_access_key = "
				     "SECRET\n\taws_session_token = T\n");
	CU_ASSERT_EQUAL(load(NULL), 0);
	CU_ASSERT_STRING_EQUAL(found.secret_access_key, "SECRET");
}

/* In the config file a profile is called "[profile name]", quotes or not. */
static void reads_the_config_file(void)
{
	static const char *const sections[] = {
		"[profile a b]", "[profile \"a b\"]", "[ profile\t'a b' ]"};
	char text[512];

	for (size_t i = 0; i < 3; i++) {
		begin();
		snprintf(text, sizeof(text),
			"[a b]\naws_access_key_id=NO\n[profilea b]\nx=1\n"
			"[sso-session a b]\nsso_start_url=x\n%s\n"
			"aws_access_key_id=AKID\naws_secret_access_key=S\n"
			"region = eu-north-1\n[services a b]\nx =\n  y = 1\n",
			sections[i]);
		write_file(config_path, text);
		CU_ASSERT_EQUAL(load("a b"), 0);
		CU_ASSERT_STRING_EQUAL(found.access_key_id, "AKID");
		CU_ASSERT_STRING_EQUAL(found.region, "eu-north-1");
	}
	begin();
	write_file(config_path,
		"[default]\nregion=r-1\n[profile default]\n"
		"aws_access_key_id=A\naws_secret_access_key=S\n");
	CU_ASSERT_EQUAL(load(NULL), 0);
}

/* The credentials file wins over the config file, the region is the config
 * file's, and the environment's region wins over it. */
static void prefers_the_credentials_file(void)
{
	begin();
	write_file(credentials_path, "[p]\naws_access_key_id=FROM_CREDENTIALS\n"
				     "aws_secret_access_key=S\n");
	write_file(config_path, "[profile p]\naws_access_key_id=FROM_CONFIG\n"
				"aws_secret_access_key=S\nregion=us-west-2\n");
	set("AWS_PROFILE", "p");
	CU_ASSERT_EQUAL(load(NULL), 0);
	CU_ASSERT_STRING_EQUAL(found.access_key_id, "FROM_CREDENTIALS");
	CU_ASSERT_STRING_EQUAL(found.region, "us-west-2");
	set("AWS_DEFAULT_REGION", "us-east-2");
	CU_ASSERT_EQUAL(load(NULL), 0);
	CU_ASSERT_STRING_EQUAL(found.region, "us-east-2");
}

/* Keys of the environment win over AWS_PROFILE, a profile given explicitly
 * wins over the environment. */
static void keeps_the_order(void)
{
	begin();
	set("AWS_BEARER_TOKEN_BEDROCK", "bearer");
	set("AWS_ACCESS_KEY_ID", "ENVIRONMENT");
	set("AWS_SECRET_ACCESS_KEY", "S");
	set("AWS_PROFILE", "nowhere");
	write_file(credentials_path, "[p]\naws_access_key_id=PROFILE\n"
				     "aws_secret_access_key=S\n");
	CU_ASSERT_EQUAL(load(NULL), 0);
	CU_ASSERT_EQUAL(found.kind, CREDENTIALS_BEARER);
	CU_ASSERT_EQUAL(load("p"), 0);
	CU_ASSERT_EQUAL(found.kind, CREDENTIALS_KEYS);
	CU_ASSERT_STRING_EQUAL(found.access_key_id, "PROFILE");
}

/* "~" is HOME, and both files are looked for under it. */
static void expands_home(void)
{
	char path[160];

	begin();
	variable_count = 0;
	set("HOME", folder);
	snprintf(path, sizeof(path), "%s/.aws", folder);
	(void)mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/.aws/credentials", folder);
	write_file(path, "[default]\naws_access_key_id=USUAL\n"
			 "aws_secret_access_key=S\n");
	CU_ASSERT_EQUAL(load(NULL), 0);
	CU_ASSERT_STRING_EQUAL(found.access_key_id, "USUAL");
	unlink(path);
	write_file(credentials_path, "[default]\naws_access_key_id=NAMED\n"
				     "aws_secret_access_key=S\n");
	set("AWS_SHARED_CREDENTIALS_FILE", "~/credentials");
	CU_ASSERT_EQUAL(load(NULL), 0);
	CU_ASSERT_STRING_EQUAL(found.access_key_id, "NAMED");
	snprintf(path, sizeof(path), "%s/.aws", folder);
	rmdir(path);
}

/* Nothing anywhere is not an error of the configuration, and the reason says
 * where was looked. */
static void says_where_nothing_was(void)
{
	begin();
	CU_ASSERT_EQUAL(load(NULL), -ENOKEY);
	CU_ASSERT(why_has("AWS_ACCESS_KEY_ID"));
	CU_ASSERT(why_has(credentials_path));
	CU_ASSERT(why_has(config_path));
	write_file(config_path, "[default]\nregion = us-east-1\n");
	CU_ASSERT_EQUAL(load(NULL), -ENOKEY);
	CU_ASSERT_EQUAL(load("gone"), -EINVAL);
	CU_ASSERT(why_has("profile \"gone\" is neither in "));
	set("AWS_PROFILE", "lost");
	CU_ASSERT_EQUAL(load(NULL), -EINVAL);
	CU_ASSERT(why_has("profile \"lost\" is neither in "));
}

/* A profile's name comes from the environment: a line break in it does not make
 * two lines of what is said of it. */
static void says_it_in_one_line(void)
{
	begin();
	set("AWS_PROFILE", "lo\nst\x1b[2J");
	CU_ASSERT_EQUAL(load(NULL), -EINVAL);
	CU_ASSERT(why_has("profile \"lo?st?[2J\" is neither in "));
	begin();
	write_file(credentials_path, "[a\tb]\naws_access_key_id = AKID\n"
				     "aws_secret_access_key = SECRET\n");
	CU_ASSERT_EQUAL(load("a\tb"), 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(found.source, "profile \"a?b\" of "));
}

/* Ways to get keys that are not built in are named, instead of saying that
 * there are none. */
static void names_what_is_not_built_in(void)
{
	static const char *const settings[] = {"role_arn", "sso_session",
		"sso_start_url", "web_identity_token_file",
		"credential_process", "login_session"};
	static const char *const names[] = {"AWS_WEB_IDENTITY_TOKEN_FILE",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI"};
	char text[256], wanted[128];

	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		begin();
		snprintf(text, sizeof(text), "[profile x]\n%s = y\n",
			settings[i]);
		write_file(config_path, text);
		CU_ASSERT_EQUAL(load("x"), -ENOTSUP);
		snprintf(wanted, sizeof(wanted),
			"profile \"x\" uses %s, which rgovd cannot do yet",
			settings[i]);
		CU_ASSERT_STRING_EQUAL(why, wanted);
	}
	for (size_t i = 0; i < 2; i++) {
		begin();
		set(names[i], "x");
		CU_ASSERT_EQUAL(load(NULL), -ENOTSUP);
		CU_ASSERT(why_has(names[i]));
	}
	/* Static keys come before a process, a role before static keys. */
	begin();
	write_file(credentials_path,
		"[x]\naws_access_key_id=A\naws_secret_access_key=S\n");
	write_file(config_path, "[profile x]\ncredential_process = y\n");
	CU_ASSERT_EQUAL(load("x"), 0);
	write_file(config_path, "[profile x]\nrole_arn = y\n");
	CU_ASSERT_EQUAL(load("x"), -ENOTSUP);
}

/* A malformed file is an error with its line, quoting nothing of it. */
static void says_which_line(void)
{
	static const struct {
		const char *text;
		unsigned int line;
	} cases[] = {{"[default]\n\nSECRET\n", 3}, {"SECRET = 1\n", 1},
		{"\n[SECRET\n", 2}, {"[default] SECRET\n", 1},
		{"[default]\n= SECRET\n", 2}};
	char wanted[200];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		begin();
		write_file(credentials_path, cases[i].text);
		CU_ASSERT_EQUAL(load(NULL), -EINVAL);
		snprintf(wanted, sizeof(wanted), "%s:%u: ", credentials_path,
			cases[i].line);
		CU_ASSERT(why_has(wanted));
		CU_ASSERT_PTR_NULL(strstr(why, "SECRET"));
	}
	begin();
	write_bytes(credentials_path, "[default]\n\0\n", 12);
	CU_ASSERT_EQUAL(load(NULL), -EINVAL);
	CU_ASSERT(why_has("a zero byte"));
}

/* What is no file, too large or not readable is named with the reason; a FIFO
 * does not hang. */
static void names_unreadable_files(void)
{
	begin();
	CU_ASSERT_FATAL(mkfifo(credentials_path, 0600) == 0);
	CU_ASSERT_EQUAL(load(NULL), -EINVAL);
	CU_ASSERT(why_has(credentials_path));
	CU_ASSERT(why_has("not a regular file"));
	begin();
	write_file(credentials_path, "");
	CU_ASSERT_EQUAL(
		truncate(credentials_path, AWS_PROFILE_MAX_FILE_BYTES + 1), 0);
	CU_ASSERT_EQUAL(load(NULL), -EINVAL);
	CU_ASSERT(why_has("larger than 1 MiB"));
	begin();
	variables[3] = "/dev/null/config";
	CU_ASSERT_EQUAL(load(NULL), -ENOTDIR);
	CU_ASSERT(why_has("/dev/null/config: Not a directory"));
	if (geteuid() == 0)
		return; /* root may read everything */
	begin();
	write_file(credentials_path, "");
	CU_ASSERT_EQUAL(chmod(credentials_path, 0), 0);
	CU_ASSERT_EQUAL(load(NULL), -EACCES);
	CU_ASSERT(why_has("Permission denied"));
}

/* A file with nothing in it, and one that is all of one line, are read. */
static void reads_odd_files(void)
{
	begin();
	write_file(credentials_path, "");
	write_file(config_path, "\n\n \t\n[]\n[profile]\n[profile ]\nx=\n");
	CU_ASSERT_EQUAL(load(NULL), -ENOKEY);
	write_file(credentials_path, "[default]");
	CU_ASSERT_EQUAL(load(NULL), -ENOKEY);
}

/* /dev/null in place of a file means that there is none. */
static void takes_dev_null_for_an_empty_file(void)
{
	begin();
	write_file(credentials_path, "[default]\naws_access_key_id = AKID\n"
				     "aws_secret_access_key = SECRET\n");
	variable_count = 0;
	set("AWS_SHARED_CREDENTIALS_FILE", credentials_path);
	set("AWS_CONFIG_FILE", "/dev/null");
	CU_ASSERT_EQUAL(load(NULL), 0);
	CU_ASSERT_STRING_EQUAL(found.access_key_id, "AKID");
}

/* Wiping leaves nothing; it ends the suite by removing the folder. */
static void wipes(void)
{
	static const struct credentials zero;

	begin();
	set("AWS_BEARER_TOKEN_BEDROCK", "bearer");
	CU_ASSERT_EQUAL(load(NULL), 0);
	credentials_wipe(&found);
	CU_ASSERT(memcmp(&found, &zero, sizeof(zero)) == 0);
	begin();
	CU_ASSERT_EQUAL(rmdir(folder), 0);
}

SUITE("credentials", T(takes_the_environment), T(prefers_a_bearer_key),
	T(names_the_missing_half), T(refuses_control_bytes), T(bounds_lengths),
	T(knows_expiry), T(reads_the_credentials_file),
	T(reads_indented_sections), T(reads_the_config_file),
	T(prefers_the_credentials_file), T(keeps_the_order), T(expands_home),
	T(says_where_nothing_was), T(says_it_in_one_line),
	T(names_what_is_not_built_in), T(says_which_line),
	T(names_unreadable_files), T(reads_odd_files),
	T(takes_dev_null_for_an_empty_file), T(wipes))
