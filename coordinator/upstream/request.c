/* URL and header lines of a call. */
#include "coordinator/upstream/request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Of a line: name, separators and NUL of those lines that we add. */
enum { LINE_SLACK = 64 };

static void add_line(struct upstream_exchange *exchange, const char *name,
	const char *value, size_t value_bytes)
{
	exchange_add_line(exchange, &(struct sigv4_header){
					    .name = name,
					    .name_bytes = strlen(name),
					    .value = value,
					    .value_bytes = value_bytes,
				    });
}

static void add_bearer(struct upstream_exchange *exchange, const char *token)
{
	char value[sizeof("Bearer ") + CREDENTIALS_TOKEN_BYTES];
	int length = snprintf(value, sizeof(value), "Bearer %s", token);

	add_line(exchange, "Authorization", value, (size_t)length);
	explicit_bzero(value, sizeof(value));
}

/* The request has the path and the headers; the rest is filled in here. */
static int sign(struct upstream_exchange *exchange,
	const struct settings *settings, const struct credentials *credentials,
	struct sigv4_key *key, struct sigv4_request *request)
{
	char authorization[SIGV4_AUTHORIZATION_BYTES], date[SIGV4_DATE_BYTES];
	int rc;

	request->method = "POST";
	request->payload_sha256 = exchange->call->body_sha256;
	request->access_key_id = credentials->access_key_id;
	request->secret_access_key = credentials->secret_access_key;
	request->session_token = credentials->token;
	request->region = settings->region;
	request->service = BEDROCK_SERVICE;
	request->unix_s = time(NULL);
	rc = sigv4_sign(
		key, request, authorization, sizeof(authorization), date);
	if (rc != 0)
		return rc;
	add_line(exchange, "X-Amz-Date", date, strlen(date));
	if (credentials->token[0] != '\0')
		add_line(exchange, "X-Amz-Security-Token", credentials->token,
			strlen(credentials->token));
	add_line(exchange, "Authorization", authorization,
		strlen(authorization));
	return 0;
}

/* Enough for them and for those of the signature. */
static size_t lines_bytes(const struct sigv4_header *headers, size_t count)
{
	size_t bytes = SIGV4_AUTHORIZATION_BYTES + CREDENTIALS_TOKEN_BYTES +
		       4 * LINE_SLACK;

	for (size_t i = 0; i < count; i++)
		bytes += headers[i].name_bytes + headers[i].value_bytes +
			 LINE_SLACK;
	return bytes;
}

static int write_lines(struct upstream_exchange *exchange,
	const struct settings *settings, const struct credentials *credentials,
	struct sigv4_key *key, const char *path)
{
	struct sigv4_header headers[BEDROCK_MAX_HEADERS + 1];
	const char *host = settings->endpoint.host;
	int count = bedrock_headers(exchange->call->headers, headers);
	struct sigv4_request request = {.target = path, .headers = headers};

	if (count < 0)
		return count;
	headers[count++] = (struct sigv4_header){"Host", 4, host, strlen(host)};
	request.header_count = (size_t)count;
	if (exchange_reserve(
		    exchange, lines_bytes(headers, request.header_count)) != 0)
		return -ENOMEM;
	for (int i = 0; i < count; i++)
		exchange_add_line(exchange, &headers[i]);
	if (credentials->kind == CREDENTIALS_KEYS)
		return sign(exchange, settings, credentials, key, &request);
	add_bearer(exchange, credentials->token);
	return 0;
}

/* The URL is the endpoint's origin and the path, which is signed as it is. */
int request_write(struct upstream_exchange *exchange,
	const struct settings *settings, const struct credentials *credentials,
	struct sigv4_key *key)
{
	const struct bedrock_endpoint *endpoint = &settings->endpoint;
	const struct upstream_call *call = exchange->call;
	size_t origin_bytes = strlen(endpoint->origin);
	char *path = exchange->url + origin_bytes;
	int rc;

	memcpy(exchange->url, endpoint->origin, origin_bytes);
	rc = bedrock_path(endpoint, call->operation, call->model_id, path,
		sizeof(exchange->url) - origin_bytes);
	if (rc != 0)
		return rc;
	return write_lines(exchange, settings, credentials, key, path);
}
