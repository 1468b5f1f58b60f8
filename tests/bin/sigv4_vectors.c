/*
 * Runs coordinator/upstream/sigv4 against signing vectors in the format of the
 * public AWS suites:
 *
 *     sigv4_vectors DIR      every folder of DIR that holds a request.txt
 *     sigv4_vectors --sign   signs the requests on stdin, one JSON a line, and
 *                            prints `DATE AUTHORIZATION` or `error NUMBER` for
 *                            each
 *
 * A case without context.json is signed with the suites' example keys, for the
 * scope and time of its header-string-to-sign.txt.
 */
#include "coordinator/upstream/sigv4.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

enum { MAX_FILE_BYTES = 1 << 20, WORD_BYTES = 128 };

struct vector {
	char path[PATH_MAX];
	char *text; /* of request.txt; headers and target point into it */
	char *method, *target, *body;
	struct sigv4_header headers[SIGV4_MAX_HEADERS];
	size_t header_count;
	json_t *context; /* NULL: there is no such file */
	struct sigv4_request request;
	uint8_t payload[SIGV4_SHA256_BYTES];
	char payload_hex[2 * SIGV4_SHA256_BYTES + 1];
	char region[WORD_BYTES], service[WORD_BYTES];
	char authorization[SIGV4_AUTHORIZATION_BYTES];
	char date[SIGV4_DATE_BYTES];
	char why[512];
};

static unsigned int passed, failed, skipped;

static int complain(struct vector *vector, const char *what)
{
	snprintf(vector->why, sizeof(vector->why), "%s", what);
	return -1;
}

/* ---- files ---- */

/* The content with a NUL, to be freed; NULL: there is none, or no memory. */
static char *read_file(const char *folder, const char *name)
{
	char path[PATH_MAX + 64];
	char *text = NULL;
	FILE *file;
	size_t bytes;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "r");
	if (file == NULL)
		return NULL;
	text = malloc(MAX_FILE_BYTES + 1);
	if (text != NULL) {
		bytes = fread(text, 1, MAX_FILE_BYTES, file);
		text[bytes] = '\0';
	}
	fclose(file);
	return text;
}

static void cut_end(char *text)
{
	size_t bytes = strlen(text);

	while (bytes > 0 && strchr("\r\n", text[bytes - 1]) != NULL)
		text[--bytes] = '\0';
}

/* ---- request.txt ---- */

/* "POST /a b HTTP/1.1": the target may hold blanks. */
static int parse_request_line(struct vector *vector, char *line)
{
	char *first = strchr(line, ' '), *last = strrchr(line, ' ');

	if (first == NULL || last == first || strncmp(last, " HTTP/", 6) != 0)
		return complain(vector, "request.txt: no request line");
	*first = '\0';
	*last = '\0';
	vector->method = line;
	vector->target = first + 1;
	return 0;
}

static int add_header(struct vector *vector, const char *name, char *value)
{
	struct sigv4_header *header = &vector->headers[vector->header_count];

	if (vector->header_count == SIGV4_MAX_HEADERS - 3)
		return complain(vector, "request.txt: too many headers");
	*header =
		(struct sigv4_header){name, strlen(name), value, strlen(value)};
	vector->header_count++;
	return 0;
}

/* A folded line lies just behind the value it continues: what is between the
 * two becomes blanks. */
static int unfold(struct vector *vector, char *line)
{
	struct sigv4_header *header = &vector->headers[vector->header_count];

	if (vector->header_count == 0)
		return complain(vector, "request.txt: nothing to continue");
	header--;
	for (char *c = line; *--c == '\0';)
		*c = ' ';
	header->value_bytes = (size_t)(line + strlen(line) - header->value);
	return 0;
}

static int parse_header(struct vector *vector, char *line)
{
	char *colon = strchr(line, ':');

	if (*line == ' ' || *line == '\t')
		return unfold(vector, line);
	if (colon == NULL)
		return complain(vector, "request.txt: a header without ':'");
	*colon = '\0';
	return add_header(vector, line, colon + 1);
}

static int parse_request(struct vector *vector)
{
	char *line = vector->text, *next;
	int rc = 0;

	for (bool first = true; rc == 0 && line != NULL; line = next) {
		next = strchr(line, '\n');
		if (next != NULL)
			*next++ = '\0';
		cut_end(line);
		if (first) {
			rc = parse_request_line(vector, line);
			first = false;
		} else if (*line == '\0') {
			vector->body = next;
			break;
		} else {
			rc = parse_header(vector, line);
		}
	}
	return rc;
}

/* ---- context.json ---- */

static bool option(
	const struct vector *vector, const char *name, bool otherwise)
{
	json_t *value = json_object_get(vector->context, name);

	return value == NULL ? otherwise : json_is_true(value);
}

static const char *word(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name));
}

static int64_t parse_time(const char *text, const char *format)
{
	struct tm utc = {0};

	if (text == NULL || strptime(text, format, &utc) == NULL)
		return INT64_MIN;
	return timegm(&utc);
}

static int take_context(struct vector *vector)
{
	json_t *keys = json_object_get(vector->context, "credentials");
	struct sigv4_request *request = &vector->request;
	const char *token = word(keys, "token");

	if (token == NULL)
		token = word(vector->context, "token");
	request->access_key_id = word(keys, "access_key_id");
	request->secret_access_key = word(keys, "secret_access_key");
	if (!option(vector, "omit_session_token", false))
		request->session_token = token;
	request->region = word(vector->context, "region");
	request->service = word(vector->context, "service");
	request->unix_s = parse_time(
		word(vector->context, "timestamp"), "%Y-%m-%dT%H:%M:%SZ");
	if (request->region == NULL || request->service == NULL ||
		request->unix_s == INT64_MIN)
		return complain(vector, "context.json: something is missing");
	return 0;
}

static int take_scope(struct vector *vector)
{
	char *text = read_file(vector->path, "header-string-to-sign.txt");
	struct sigv4_request *request = &vector->request;
	char date[32] = "";
	int n = 0;

	if (text != NULL)
		n = sscanf(text, "%*s %31s %*8[0-9]/%127[^/]/%127[^/]/", date,
			vector->region, vector->service);
	free(text);
	request->access_key_id = "AKIDEXAMPLE";
	request->secret_access_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
	request->region = vector->region;
	request->service = vector->service;
	request->unix_s = parse_time(date, "%Y%m%dT%H%M%SZ");
	if (n != 3 || request->unix_s == INT64_MIN)
		return complain(vector, "neither context.json nor a scope");
	return 0;
}

static int load_context(struct vector *vector)
{
	char *text = read_file(vector->path, "context.json");

	if (text == NULL)
		return take_scope(vector);
	vector->context = json_loads(text, 0, NULL);
	free(text);
	if (vector->context == NULL)
		return complain(vector, "context.json: not JSON");
	return take_context(vector);
}

/* ---- the signature ---- */

static bool is_dropped(const struct vector *vector, const char *name)
{
	json_t *unsigned_headers =
		json_object_get(vector->context, "unsigned_headers");
	json_t *item;
	size_t i;

	if (strcasecmp(name, "x-amz-date") == 0 ||
		strcasecmp(name, "x-amz-security-token") == 0)
		return true;
	json_array_foreach(unsigned_headers, i,
		item) if (json_is_string(item) &&
			  strcasecmp(name, json_string_value(item)) ==
				  0) return true;
	return false;
}

static void drop_headers(struct vector *vector)
{
	size_t kept = 0;

	for (size_t i = 0; i < vector->header_count; i++)
		if (!is_dropped(vector, vector->headers[i].name))
			vector->headers[kept++] = vector->headers[i];
	vector->header_count = kept;
}

static int hash_payload(struct vector *vector, struct sigv4_key *key)
{
	bool sign_body = option(vector, "sign_body", false);
	bool hash = sign_body || option(vector, "hash_body", false);
	const char *body = hash && vector->body ? vector->body : "";

	if (sigv4_hash(key, body, strlen(body), vector->payload) < 0)
		return complain(vector, "no SHA-256");
	for (size_t i = 0; i < sizeof(vector->payload); i++)
		sprintf(vector->payload_hex + 2 * i, "%02x",
			vector->payload[i]);
	if (sign_body || option(vector, "content_sha256_header", false))
		return add_header(
			vector, "x-amz-content-sha256", vector->payload_hex);
	return 0;
}

static int sign_vector(struct vector *vector, struct sigv4_key *key)
{
	struct sigv4_request *request = &vector->request;
	int rc;

	request->method = vector->method;
	request->target = vector->target;
	request->headers = vector->headers;
	request->header_count = vector->header_count;
	request->payload_sha256 = vector->payload;
	request->keep_dot_segments = !option(vector, "normalize", true);
	request->path_encoded_once = !option(vector, "double_uri_encode", true);
	rc = sigv4_sign(key, request, vector->authorization,
		sizeof(vector->authorization), vector->date);
	if (rc == 0)
		return 0;
	snprintf(vector->why, sizeof(vector->why), "not signed: %s",
		strerror(-rc));
	return -1;
}

/* ---- what is expected ---- */

/* The value of "Authorization:" in a signed request, in place; NULL: none. */
static char *find_authorization(char *text)
{
	static const char name[] = "\nAuthorization:";
	char *value = strcasestr(text, name);

	if (value == NULL)
		return NULL;
	value += sizeof(name) - 1;
	value += strspn(value, " ");
	value[strcspn(value, "\r\n")] = '\0';
	return value;
}

/* Counts into *compared; a file that the case lacks is no failure. */
static int compare(struct vector *vector, const char *name, const char *ours,
	unsigned int *compared)
{
	char *text = read_file(vector->path, name), *wanted = text;
	int rc = 0;

	if (text == NULL)
		return 0;
	(*compared)++;
	if (strcmp(name, "header-signed-request.txt") == 0)
		wanted = find_authorization(text);
	if (wanted == NULL) {
		rc = complain(vector, "header-signed-request.txt: unsigned");
	} else {
		cut_end(wanted);
		if (strcmp(wanted, ours) != 0) {
			snprintf(vector->why, sizeof(vector->why), "%s differs",
				name);
			printf("--- %s expected\n%s\n--- ours\n%s\n---\n", name,
				wanted, ours);
			rc = -1;
		}
	}
	free(text);
	return rc;
}

static int compare_all(struct vector *vector, const struct sigv4_key *key,
	unsigned int *ret_compared)
{
	int rc = compare(vector, "header-canonical-request.txt",
		sigv4_canonical_request(key), ret_compared);

	if (rc == 0)
		rc = compare(vector, "header-string-to-sign.txt",
			sigv4_string_to_sign(key), ret_compared);
	if (rc == 0)
		rc = compare(vector, "header-signature.txt",
			sigv4_signature(key), ret_compared);
	if (rc == 0)
		rc = compare(vector, "header-signed-request.txt",
			vector->authorization, ret_compared);
	return rc;
}

static int run_vector(struct vector *vector, struct sigv4_key *key,
	unsigned int *ret_compared)
{
	int rc = parse_request(vector);

	if (rc == 0)
		rc = load_context(vector);
	if (rc == 0)
		drop_headers(vector);
	if (rc == 0)
		rc = hash_payload(vector, key);
	if (rc == 0)
		rc = sign_vector(vector, key);
	if (rc == 0)
		rc = compare_all(vector, key, ret_compared);
	return rc;
}

static void try_folder(const char *dir, const char *name, struct sigv4_key *key)
{
	struct vector *vector = calloc(1, sizeof(*vector));
	unsigned int compared = 0;
	int rc;

	if (vector == NULL)
		exit(EX_OSERR);
	snprintf(vector->path, sizeof(vector->path), "%s/%s", dir, name);
	vector->text = read_file(vector->path, "request.txt");
	if (vector->text != NULL) {
		rc = run_vector(vector, key, &compared);
		if (rc < 0) {
			failed++;
			printf("FAIL %s # %s\n", name, vector->why);
		} else if (compared == 0) {
			skipped++;
			printf("skip %s # no header-*.txt\n", name);
		} else {
			passed++;
			printf("ok %s\n", name);
		}
	}
	json_decref(vector->context);
	free(vector->text);
	free(vector);
}

static int run_folder(const char *dir, struct sigv4_key *key)
{
	struct dirent **entries;
	int count = scandir(dir, &entries, NULL, alphasort);

	if (count < 0) {
		fprintf(stderr, "sigv4_vectors: %s: %s\n", dir,
			strerror(errno));
		return EX_NOINPUT;
	}
	for (int i = 0; i < count; i++) {
		if (entries[i]->d_name[0] != '.')
			try_folder(dir, entries[i]->d_name, key);
		free(entries[i]);
	}
	free(entries);
	if (passed + failed + skipped == 0) {
		fprintf(stderr, "sigv4_vectors: %s: no case in it\n", dir);
		return EX_NOINPUT;
	}
	printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
	return failed != 0;
}

/* ---- --sign ---- */

static size_t take_headers(const json_t *list, struct sigv4_header *headers)
{
	json_t *item;
	size_t i;

	json_array_foreach(list, i, item)
	{
		json_t *name = json_array_get(item, 0);
		json_t *value = json_array_get(item, 1);

		if (i == SIGV4_MAX_HEADERS)
			return i;
		headers[i] = (struct sigv4_header){json_string_value(name),
			json_string_length(name), json_string_value(value),
			json_string_length(value)};
	}
	return json_array_size(list);
}

/* One line in, one line out.  -1: the line itself is no good. */
static int sign_line(const json_t *line, struct sigv4_key *key)
{
	struct sigv4_header headers[SIGV4_MAX_HEADERS];
	uint8_t payload[SIGV4_SHA256_BYTES];
	const char *body = word(line, "body");
	struct sigv4_request request = {.method = word(line, "method"),
		.target = word(line, "target"),
		.headers = headers,
		.header_count =
			take_headers(json_object_get(line, "headers"), headers),
		.payload_sha256 = payload,
		.access_key_id = word(line, "access_key_id"),
		.secret_access_key = word(line, "secret_access_key"),
		.session_token = word(line, "token"),
		.region = word(line, "region"),
		.service = word(line, "service"),
		.unix_s = json_integer_value(json_object_get(line, "unix_s"))};
	char authorization[SIGV4_AUTHORIZATION_BYTES], date[SIGV4_DATE_BYTES];
	int rc;

	if (request.target == NULL || body == NULL ||
		sigv4_hash(key, body, strlen(body), payload) < 0)
		return -1;
	rc = sigv4_sign(
		key, &request, authorization, sizeof(authorization), date);
	if (rc < 0)
		printf("error %d\n", -rc);
	else
		printf("%s %s\n", date, authorization);
	return 0;
}

static int sign_stdin(struct sigv4_key *key)
{
	char *text = NULL;
	size_t size = 0, lines = 0;
	int rc = 0;

	while (rc == 0 && getline(&text, &size, stdin) >= 0) {
		json_t *line = json_loads(text, 0, NULL);

		lines++;
		if (line == NULL || sign_line(line, key) < 0)
			rc = EX_DATAERR;
		json_decref(line);
	}
	free(text);
	if (rc != 0)
		fprintf(stderr, "sigv4_vectors: line %zu: no request\n", lines);
	return rc;
}

int main(int argc, char **argv)
{
	struct sigv4_key *key;
	int rc;

	if (argc != 2) {
		fprintf(stderr, "usage: sigv4_vectors DIR | --sign\n");
		return EX_USAGE;
	}
	if (sigv4_key_create(&key) < 0)
		return EX_OSERR;
	rc = strcmp(argv[1], "--sign") == 0 ? sign_stdin(key)
					    : run_folder(argv[1], key);
	sigv4_key_free(key);
	return rc;
}
