/* Upstream's calls over TLS: which certificates are taken, and HTTP/2 where it
 * is offered.  The server is Python's, the certificates are openssl's. */
#include "tests/unit/upstream_attempt.h"

#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <sys/wait.h>

static char dir[] = "/tmp/rgov-tls-XXXXXX";

/* Two authorities; certificates of the first for this host, for another, and
 * one that has expired. */
static const char make_certificates[] =
	"set -e; cd \"$1\"; exec >/dev/null 2>&1;"
	"key='-newkey rsa:2048 -nodes';"
	"for ca in ca other; do openssl req -x509 $key -keyout $ca.key"
	" -out $ca.pem -days 2 -subj /CN=rgov-test-$ca; done;"
	"sign() { openssl req -new $key -keyout $1.key -out $1.csr"
	" -subj /CN=$1; printf 'subjectAltName=%s' $2 > $1.ext;"
	" openssl x509 -req -in $1.csr -CA ca.pem -CAkey ca.key"
	" -CAcreateserial -out $1.crt -days $3 -extfile $1.ext;"
	" cat $1.key $1.crt > $1.pem; };"
	"sign good IP:127.0.0.1 2; sign host DNS:elsewhere.example 2;"
	"sign old IP:127.0.0.1 -1";

/* Answers every request over HTTP/1.1, or over HTTP/2 with header block 0x88
 * (":status: 200"); says its port; ends with its standard input.  A request
 * under /slow/ is never answered. */
static const char tls_server[] =
	"import socket, ssl, struct, sys, threading\n"
	"context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n"
	"context.load_cert_chain(sys.argv[1])\n"
	"context.set_alpn_protocols(sys.argv[2].split(','))\n"
	"def exactly(f, n):\n"
	"    data = f.read(n)\n"
	"    if len(data) < n: raise EOFError\n"
	"    return data\n"
	"def frame(kind, flags, stream, data=b''):\n"
	"    return (struct.pack('>I', len(data))[1:] +\n"
	"            struct.pack('>BBI', kind, flags, stream) + data)\n"
	"def h2(s, f, body):\n"
	"    exactly(f, 24)\n"
	"    s.sendall(frame(4, 0, 0))\n"
	"    while True:\n"
	"        size, kind, flags, stream = struct.unpack('>IBBI',\n"
	"            b'\\0' + exactly(f, 9))\n"
	"        data = exactly(f, size)\n"
	"        if kind == 4 and not flags & 1: s.sendall(frame(4, 1, 0))\n"
	"        if kind == 6 and not flags & 1: s.sendall(frame(6, 1, 0, "
	"data))\n"
	"        if kind == 0 and flags & 1 and b'slow' not in data:\n"
	"            s.sendall(frame(1, 4, stream, b'\\x88') +\n"
	"                      frame(0, 1, stream, body))\n"
	"def h1(s, f, body):\n"
	"    while True:\n"
	"        size = 0\n"
	"        line = f.readline()\n"
	"        if not line: raise EOFError\n"
	"        while line not in (b'\\r\\n', b''):\n"
	"            if line.lower().startswith(b'content-length:'):\n"
	"                size = int(line[15:])\n"
	"            line = f.readline()\n"
	"        exactly(f, size)\n"
	"        s.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: "
	"%d\\r\\n\\r\\n'\n"
	"                  % len(body) + body)\n"
	"def serve(raw):\n"
	"    try:\n"
	"        s = context.wrap_socket(raw, server_side=True)\n"
	"        f = s.makefile('rb')\n"
	"        name = s.selected_alpn_protocol() or 'none'\n"
	"        body = b'{\"protocol\":\"%s\"}' % name.encode()\n"
	"        (h2 if name == 'h2' else h1)(s, f, body)\n"
	"    except (OSError, EOFError): pass\n"
	"listener = socket.create_server(('127.0.0.1', 0))\n"
	"print(listener.getsockname()[1], flush=True)\n"
	"def accept():\n"
	"    while True:\n"
	"        threading.Thread(target=serve, args=(listener.accept()[0],),\n"
	"                         daemon=True).start()\n"
	"threading.Thread(target=accept, daemon=True).start()\n"
	"sys.stdin.read()\n";

struct tls_server {
	pid_t pid;
	int in, out;
};

static pid_t run(const char *const argv[], int in, int out)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (in >= 0)
			dup2(in, 0);
		if (out >= 0)
			dup2(out, 1);
		for (int fd = 3; fd < 256; fd++)
			close(fd);
		execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	return pid;
}

static int end_of(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool have_certificates(void)
{
	static int state; /* 0: not tried, 1: there, -1: cannot be made */
	const char *const argv[] = {
		"sh", "-c", make_certificates, "sh", dir, NULL};

	if (state == 0)
		state = mkdtemp(dir) != NULL && end_of(run(argv, -1, -1)) == 0
				? 1
				: -1;
	return state > 0;
}

static const char *in_dir(const char *name)
{
	static char paths[2][128];
	static int next;

	next = !next;
	snprintf(paths[next], sizeof(paths[next]), "%s/%s", dir, name);
	return paths[next];
}

/* False: it cannot be had here, the test is skipped. */
static bool tls_start(
	struct tls_server *tls, const char *certificate, const char *protocols)
{
	const char *python = getenv("PYTHON");
	int in[2] = {-1, -1}, out[2] = {-1, -1};
	char port[16] = "";

	if (!have_certificates()) {
		suite_skip("openssl(1) cannot make certificates here");
		return false;
	}
	const char *const argv[] = {python ? python : "/usr/bin/python3", "-c",
		tls_server, in_dir(certificate), protocols, NULL};

	CU_ASSERT_FATAL(pipe(in) == 0 && pipe(out) == 0);
	tls->pid = run(argv, in[0], out[1]);
	close(in[0]);
	close(out[1]);
	tls->in = in[1];
	tls->out = out[0];
	if (read(tls->out, port, sizeof(port) - 1) <= 0) {
		suite_skip("no Python with TLS here");
		return false;
	}
	snprintf(
		endpoint, sizeof(endpoint), "https://127.0.0.1:%d", atoi(port));
	return true;
}

static void tls_stop(struct tls_server *tls)
{
	close(tls->in);
	close(tls->out);
	end_of(tls->pid);
}

static void open_with(const char *ca_file)
{
	struct upstream_config config = config_for(endpoint);

	config.ca_file = ca_file;
	open_upstream(&config);
}

/* A certificate of the named authority, for this host, is taken; calls over it
 * share the connection. */
static void good_certificate(void)
{
	struct tls_server tls;
	struct attempt a;

	if (!tls_start(&tls, "good.pem", "http/1.1"))
		return;
	open_with(in_dir("ca.pem"));
	for (int i = 0; i < 3; i++) {
		perform(&a);
		expect(&a, UPSTREAM_OK, "");
		CU_ASSERT_STRING_EQUAL(a.body, "{\"protocol\":\"http/1.1\"}");
	}
	CU_ASSERT_EQUAL(stats().connections_opened, 1);
	close_upstream();
	tls_stop(&tls);
}
ENGINES(good_certificate)

static void expect_refusal(
	const char *certificate, const char *ca_file, const char *reason)
{
	struct tls_server tls;
	struct attempt a;

	if (!tls_start(&tls, certificate, "http/1.1"))
		return;
	open_with(ca_file);
	perform(&a);
	expect(&a, UPSTREAM_REFUSED, "BadCertificate");
	CU_ASSERT_EQUAL(a.started, 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(a.result.message, reason));
	if (strstr(a.result.message, reason) == NULL)
		printf("     said: %s\n", a.result.message);
	close_upstream();
	tls_stop(&tls);
}

/* Every other certificate is refused before anything is sent, and the message
 * says what is wrong with it. */
static void bad_certificates(void)
{
	expect_refusal("good.pem", in_dir("other.pem"), "issuer certificate");
	expect_refusal("good.pem", NULL, "issuer certificate");
	expect_refusal("host.pem", in_dir("ca.pem"), "127.0.0.1");
	expect_refusal("old.pem", in_dir("ca.pem"), "expired");
	/* A CA file that holds no certificate. */
	expect_refusal("good.pem", in_dir("good.key"), "");
}
ENGINES(bad_certificates)

/* Where HTTP/2 is offered it is used, and calls share one connection also at
 * the same time; one that is aborted takes no other along. */
static void uses_http_2(void)
{
	enum { MANY = 16 };
	static const char slow_body[] = "{\"slow\":1}";
	static struct attempt attempts[MANY];
	struct tls_server tls;
	struct attempt a, slow;

	if (!tls_start(&tls, "good.pem", "h2,http/1.1"))
		return;
	open_with(in_dir("ca.pem"));
	perform(&a);
	expect(&a, UPSTREAM_OK, "");
	CU_ASSERT_STRING_EQUAL(a.body, "{\"protocol\":\"h2\"}");
	CU_ASSERT_EQUAL(a.result.http_status, 200);
	attempt_init(&slow);
	slow.call.body = slow_body;
	slow.call.body_bytes = sizeof(slow_body) - 1;
	start(&slow);
	for (int i = 0; i < MANY; i++) {
		attempt_init(&attempts[i]);
		start(&attempts[i]);
	}
	STEP_UNTIL(slow.started);
	upstream_abort(upstream, &slow.call);
	expect(&slow, UPSTREAM_ABORTED, "Aborted");
	for (int i = 0; i < MANY; i++) {
		STEP_UNTIL(attempts[i].done);
		expect(&attempts[i], UPSTREAM_OK, "");
	}
	CU_ASSERT_EQUAL(stats().connections_opened, 1);
	close_upstream();
	tls_stop(&tls);
}
ENGINES(uses_http_2)

/* The provider goes away in the middle of many HTTP/2 calls: all of them end,
 * as perhaps performed. */
static void loses_http_2(void)
{
	enum { MANY = 8 };
	static const char slow_body[] = "{\"slow\":1}";
	static struct attempt attempts[MANY];
	struct tls_server tls;
	struct attempt a;

	if (!tls_start(&tls, "good.pem", "h2"))
		return;
	open_with(in_dir("ca.pem"));
	perform(&a);
	expect(&a, UPSTREAM_OK, "");
	for (int i = 0; i < MANY; i++) {
		attempt_init(&attempts[i]);
		attempts[i].call.body = slow_body;
		attempts[i].call.body_bytes = sizeof(slow_body) - 1;
		start(&attempts[i]);
	}
	for (int i = 0; i < MANY; i++)
		STEP_UNTIL(attempts[i].started);
	kill(tls.pid, SIGKILL);
	for (int i = 0; i < MANY; i++) {
		STEP_UNTIL(attempts[i].done);
		CU_ASSERT_EQUAL(attempts[i].result.outcome, UPSTREAM_AMBIGUOUS);
		CU_ASSERT_EQUAL(attempts[i].done, 1);
		CU_ASSERT_EQUAL(attempts[i].started, 1);
	}
	CU_ASSERT_EQUAL(stats().connections_opened, 1);
	close_upstream();
	tls_stop(&tls);
}
ENGINES(loses_http_2)

static int remove_one(const char *path, const struct stat *status, int flag,
	struct FTW *place)
{
	(void)status;
	(void)flag;
	(void)place;
	return remove(path);
}

/* Not a claim: the certificates go. */
static void cleans_up(void)
{
	CU_ASSERT(nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0 ||
		  errno == ENOENT);
}

SUITE("upstream_tls", BOTH(good_certificate), BOTH(bad_certificates),
	BOTH(uses_http_2), BOTH(loses_http_2), T(cleans_up))
