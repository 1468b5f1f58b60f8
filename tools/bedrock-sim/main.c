/*
 * bedrock-sim: simulates the runtime endpoint of AWS Bedrock on loopback.
 *
 * Starts what serves, then waits for signals: the main thread does nothing
 * else.  The end is _exit(): nothing is owed to a client of a simulator, and
 * libmicrohttpd would wait for every suspended connection.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "tools/bedrock-sim/clock.h"
#include "tools/bedrock-sim/options.h"
#include "tools/bedrock-sim/server.h"
#include "tools/bedrock-sim/sim.h"
#include "tools/bedrock-sim/wire.h"

static void say_errno(const char *what, const char *on, int error)
{
	(void)fprintf(stderr, "bedrock-sim: cannot %s %s: %s\n", what, on,
		strerror(error));
}

/* Beside it first, then renamed: a reader sees the whole text or the old. */
static bool write_file(const char *path, const char *text)
{
	char *beside = NULL;
	FILE *file;
	bool written;

	if (asprintf(&beside, "%s.tmp.%d", path, (int)getpid()) < 0)
		memory_none();
	file = fopen(beside, "we");
	written = file != NULL && fputs(text, file) >= 0;
	if (file != NULL && fclose(file) != 0)
		written = false;
	if (!written || rename(beside, path) != 0) {
		say_errno("write", path, errno);
		(void)unlink(beside);
		written = false;
	}
	free(beside);
	return written;
}

static bool write_report(struct sim *sim)
{
	char *text;
	bool written;

	if (sim->options->report == NULL)
		return true;
	(void)pthread_mutex_lock(&sim->lock);
	text = ledger_report(&sim->ledger, &sim->quota, clock_now_ns());
	(void)pthread_mutex_unlock(&sim->lock);
	written = write_file(sim->options->report, text);
	free(text);
	return written;
}

/* "null" for a port that is not served. */
static void port_text(char *text, size_t size, int port)
{
	if (port == PORT_NONE)
		(void)snprintf(text, size, "null");
	else
		(void)snprintf(text, size, "%d", port);
}

static void tell_ports(const struct options *options, int port, int tls_port)
{
	char http[16], https[16], text[96];

	port_text(http, sizeof(http), port);
	port_text(https, sizeof(https), tls_port);
	(void)snprintf(text, sizeof(text),
		"{\"http\":%s,\"https\":%s,\"pid\":%d}\n", http, https,
		(int)getpid());
	if (options->port_file != NULL && !write_file(options->port_file, text))
		exit(EX_CANTCREAT);
	if (port != PORT_NONE)
		printf("bedrock-sim: listening on http://127.0.0.1:%d\n", port);
	if (tls_port != PORT_NONE)
		printf("bedrock-sim: listening on https://127.0.0.1:%d\n",
			tls_port);
	(void)fflush(stdout);
}

static char *read_pem(const char *path)
{
	static char block[65536];
	FILE *file = fopen(path, "re");
	size_t length;

	if (file == NULL) {
		say_errno("read", path, errno);
		exit(EX_NOINPUT);
	}
	length = fread(block, 1, sizeof(block) - 1, file);
	block[length] = '\0';
	(void)fclose(file);
	if (strstr(block, "-----BEGIN ") == NULL) {
		(void)fprintf(
			stderr, "bedrock-sim: %s is not in PEM form\n", path);
		exit(EX_DATAERR);
	}
	return memory_text(block);
}

static int serve(struct sim *sim, int port, const struct server_tls *tls)
{
	int chosen = port;
	int fd;

	if (port == PORT_NONE)
		return PORT_NONE;
	fd = wire_listen(&chosen);
	if (fd < 0) {
		(void)fprintf(stderr,
			"bedrock-sim: cannot listen on 127.0.0.1:%d: %s\n",
			port, strerror(-fd));
		exit(EX_UNAVAILABLE);
	}
	if (!server_start(sim, fd, tls)) {
		(void)fprintf(stderr,
			"bedrock-sim: cannot serve %s on port %d%s\n",
			tls ? "HTTPS" : "HTTP", chosen,
			tls ? "; do --cert and --key belong together?" : "");
		exit(tls ? EX_DATAERR : EX_UNAVAILABLE);
	}
	return chosen;
}

static int serve_tls(struct sim *sim, const struct options *options)
{
	struct server_tls tls;

	if (options->tls_port == PORT_NONE)
		return PORT_NONE;
	tls.certificate = read_pem(options->cert);
	tls.key = read_pem(options->key);
	return serve(sim, options->tls_port, &tls);
}

/* A connection is a descriptor, and thousands are meant to be cheap. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

static void sim_init(struct sim *sim, const struct options *options)
{
	uint64_t now_ns = clock_now_ns();
	int rc;

	*sim = (struct sim){
		.options = options,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.quota.limits =
			{
				.requests = options->requests_per_minute,
				.tokens = options->tokens_per_minute,
				.concurrency = options->concurrency,
				.window_ns =
					(uint64_t)(options->minute_s * 1e9),
				.throttled_count = options->throttled_count,
				.host_wide = options->host_wide,
			},
		.ledger = {.run = 1, .begin_ns = now_ns},
	};
	rc = journal_open(&sim->journal, options->log, now_ns);
	if (rc != 0) {
		say_errno("write", options->log, -rc);
		exit(EX_CANTCREAT);
	}
	sim->timers = timers_start();
	if (sim->timers == NULL) {
		say_errno("start", "the timer thread", errno);
		exit(EX_OSERR);
	}
}

/* Blocked in every thread, so that sigwait() gets them. */
static void signals_block(sigset_t *ret_waited)
{
	(void)sigemptyset(ret_waited);
	(void)sigaddset(ret_waited, SIGTERM);
	(void)sigaddset(ret_waited, SIGINT);
	(void)sigaddset(ret_waited, SIGUSR1);
	(void)pthread_sigmask(SIG_BLOCK, ret_waited, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
}

int main(int argc, char **argv)
{
	static struct options options;
	static struct sim sim;
	sigset_t waited;
	int port, tls_port, number;

	options_parse(argc, argv, &options);
	signals_block(&waited);
	raise_descriptor_limit();
	sim_init(&sim, &options);
	port = serve(&sim, options.port, NULL);
	tls_port = serve_tls(&sim, &options);
	tell_ports(&options, port, tls_port);
	while (sigwait(&waited, &number) == 0 && number == SIGUSR1)
		(void)write_report(&sim);
	_exit(write_report(&sim) ? EX_OK : EX_IOERR);
}
