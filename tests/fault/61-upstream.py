#!/usr/bin/python3 -B
"""A provider that misbehaves on the wire, seen from a client: each misdeed ends
as its typed error, at most one POST goes out for each counted attempt, and for
a call that is not idempotent none after the first; the next call is answered,
the connections are given back, and a neighbour never notices.

What rgovd's upstream makes of each answer by itself is in tests/unit/upstream_*;
what the codes of real errors become is in tests/scenario/32-bad-upstream.py.
"""

import sys
import warnings
import zlib

sys.path.insert(0, __file__.rsplit("/", 1)[0])

from campaign import *  # noqa: E402
from worker import *  # noqa: E402
from bad_streams import *  # noqa: E402

OK = b"HTTP/1.1 200 OK\r\n"
JSON = b"Content-Type: application/json\r\n"
QUICK = """transient_backoff = "10ms"
backoff_cap = "50ms"
max_attempts = 3
retry_budget = 0
"""
LARGE = 3_000_000


def upstream(endpoint, *more):
    return (f'upstream "bedrock" {{\n\tendpoint = "{endpoint}"\n'
            f'\tregion = "{REGION}"\n\tconnect_timeout = "1s"\n'
            '\tread_timeout = "1s"\n\tidle_close = "1s"\n'
            '\tmax_reply_bytes = "1M"\n' + "\n".join(more) + "\n}\n")


# ---------------------------------------------------------------- misdeeds

def saying(*parts, end=None):
    """Reads the request, says this, and ends as told."""
    def behave(visit):
        visit.read_body()
        visit.send(*parts)
        if end:
            end(visit)
    return behave


def reset_before_the_body(visit):
    visit.reset()


def reset_in_the_body(visit):
    visit.read_body(LARGE // 2)
    visit.reset()


def half_close(visit):
    visit.socket.shutdown(socket.SHUT_WR)
    visit.wait_for_the_end()


def dies_when_reused(visit):
    """Only the first request of a connection is answered."""
    visit.read_body()
    return visit.answer() if visit.number == 1 else None


def forever(piece, first=b""):
    def behave(visit):
        visit.read_body()
        visit.send(first)
        while True:
            visit.send(piece)
    return behave


def drips(visit):
    visit.read_body()
    visit.send(OK, JSON, b"Content-Length: 1000\r\n\r\n{")
    while True:
        visit.send(b" ")
        threading.Event().wait(0.05)


def gzipped(text):
    packer = zlib.compressobj(9, wbits=31)
    return packer.compress(text) + packer.flush()


def sized(body, *lines):
    return b"".join([OK, JSON, *(line + b"\r\n" for line in lines),
                     b"Content-Length: %d\r\n\r\n" % len(body), body])


BOMB = gzipped(b'{"a":"' + b" " * 50_000_000 + b'"}')
DEEP = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
CHUNKED = OK + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
LOST = ("ConnectionReset",)
CUT = ("Truncated",)
BAD = ("BadResponse",)
# What is wrong, how; its codes; a large request body.
MISDEEDS = (
    ("reset-before-the-body", reset_before_the_body, LOST, True),
    ("reset-in-the-body", reset_in_the_body, LOST, True),
    ("reset-after-the-body", saying(end=Visit.reset), LOST, True),
    ("closed-after-the-body", saying(), LOST, False),
    ("half-closed", saying(end=half_close), LOST, False),
    ("reset-in-the-head", saying(OK, b"Content-Ty", end=Visit.reset), CUT,
     False),
    ("reset-in-the-answer", saying(OK, b"Content-Length: 9\r\n\r\n{",
                                   end=Visit.reset), CUT, False),
    ("shorter-than-announced", saying(OK, b"Content-Length: 9\r\n\r\n{}"), CUT,
     False),
    ("half-closed-answer", saying(OK, b"Content-Length: 9\r\n\r\n{}",
                                  end=half_close), CUT, False),
    ("chunk-garbage", saying(CHUNKED, b"zz\r\n{}\r\n0\r\n\r\n"), CUT, False),
    ("chunk-overflow", saying(CHUNKED, b"f" * 40 + b"\r\n{}"), CUT, False),
    ("chunk-without-end", saying(CHUNKED, b"2\r\n{}\r\n"), CUT, False),
    ("megabyte-header", saying(OK, b"X: ", b"x" * (1 << 20),
                               b"\r\nContent-Length: 2\r\n\r\n{}"), BAD, False),
    ("endless-header", forever(b"x" * 4096, OK + b"X: "), BAD, False),
    ("endless-headers", forever(b"X: y\r\n" * 99, OK), BAD, False),
    ("endless-interims", forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 99), BAD,
     False),
    ("header-with-nul", saying(OK, b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}"),
     BAD, False),
    ("negative-length", saying(OK, b"Content-Length: -2\r\n\r\n{}"), BAD,
     False),
    ("status-of-letters", saying(b"HTTP/1.1 abc\r\n\r\n"), BAD, False),
    ("other-protocol", saying(b"SSH-2.0-OpenSSH_9.2\r\n"), BAD, False),
    ("protocol-of-the-future", saying(b"HTTP/7.0 200 OK\r\n\r\n{}"), BAD,
     False),
    ("switching-protocols", saying(b"HTTP/1.1 101 Switching Protocols\r\n"
                                   b"Upgrade: x\r\nConnection: upgrade\r\n"
                                   b"\r\nx", end=half_close), None, False),
    ("nothing-to-say", saying(b"HTTP/1.1 204 No Content\r\n\r\n"), BAD, False),
    ("not-json", saying(sized(b"<html>")), BAD, False),
    ("nested-too-deep", saying(sized(DEEP)), BAD, False),
    ("compressed-bomb", saying(sized(BOMB, b"Content-Encoding: gzip")), BAD,
     False),
    ("endless-answer", forever(b"1000\r\n" + b" " * 4096 + b"\r\n", CHUNKED),
     ("ReplyTooLarge",), False),
    ("slower-than-the-time-out", drips, ("ReadTimeout",), False),
    ("redirected", saying(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: "
                          b"/model/elsewhere/invoke\r\n"
                          b"Content-Length: 0\r\n\r\n"), ("Http307",), False),
)


# ---------------------------------------------------------------- the judge

def judge_error(result, codes, what):
    equal(result["type"], "UpstreamError", f"{what}: type of {result}")
    check(codes is None or result["code"] in codes,
          f"{what}: code {result['code']!r} is none of {codes}")
    check(result["message"], f"{what}: a message in {result}")


def misbehave(worker, provider, name, codes, **ask):
    """One call of each kind, and a good one after it."""
    for idempotent in (True, False):
        before = provider.posts[name]
        result = worker.invoke(name, idempotent=idempotent, **ask).result()
        posts = provider.posts[name] - before
        what = f"{name}{'' if idempotent else ', not idempotent'}"
        judge_error(result, codes, what)
        equal(posts, result["attempts"], f"{what}: POSTs, one per attempt")
        # Unsent bodies may go out again; no byte of these was taken.
        check(idempotent or posts == 1 or result["code"] == "ConnectionReset"
              and name == "reset-before-the-body",
              f"{what}: {posts} POSTs")
        judge_good(worker, what)


def judge_good(worker, what):
    good_one = worker.invoke("good").expect("Reply")
    check('"model":"good"' in good_one["text"],
          f"after {what} the answer is {good_one}")
    return good_one


def sockets_of(process):
    """How many sockets it has open; the one of the neighbour's session and so
    on stay the same."""
    links = []
    for fd in os.listdir(f"/proc/{process.pid}/fd"):
        with contextlib.suppress(OSError):
            links.append(os.readlink(f"/proc/{process.pid}/fd/{fd}"))
    return sum(link.startswith("socket:") for link in links)


NEIGHBOUR = r"""
import json, rgov, sys, time
gov = rgov.connect()
calls, worst, wrong = 0, 0.0, []
print("begun", flush=True)
import os, select
while not select.select([0], [], [], 0.005)[0]:
    begin = time.monotonic()
    reply = gov.invoke("good", b'{"max_tokens":5}', user="neighbour")
    worst = max(worst, time.monotonic() - begin)
    calls += 1
    if reply.attempts != 1 or b'"model":"good"' not in reply.body:
        wrong.append([reply.attempts, reply.body.decode()])
print(json.dumps({"calls": calls, "worst": worst, "wrong": wrong}))
"""


@contextlib.contextmanager
def neighbour(rgovd, what):
    """Another client calls a good model all the time; each of its calls must be
    answered at the first attempt."""
    ends, ours = os.pipe()
    with open(ends) as stdin:
        client = subprocess.Popen(
            [PYTHON, "-c", NEIGHBOUR], stdin=stdin, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env=rgovd.client_env(), text=True)
    try:
        equal(client.stdout.readline(), "begun\n", "the neighbour's first line")
        yield
        os.close(ours)
        ours = -1
        text = client.communicate(timeout=PATIENCE_S)[0]
        equal(client.returncode, 0, f"the neighbour's status ({text})")
        told = json.loads(text)
        equal(told["wrong"], [], "the neighbour's wrong answers")
        check(told["calls"] > 0, "the neighbour has called")
        row(campaign=what, neighbour_calls=told["calls"],
            neighbour_worst_ms=f"{told['worst'] * 1e3:.0f}")
    finally:
        if ours >= 0:
            os.close(ours)
        client.kill()
        client.wait()


def judge_quiet(rgovd, provider, sockets):
    """Idle, and all connections are closed after idle_close."""
    wait_until(rgovd.is_idle, what="an idle rgovd")
    wait_until(lambda: provider.open() == 0, what="no open connection")
    wait_until(lambda: sockets_of(rgovd.process) <= sockets,
               what=f"at most {sockets} sockets in rgovd")


def settings(provider, *more):
    return limits(rpm=50000, concurrency=30, per_user=30) + QUICK + upstream(
        provider.url, *more)


# ---------------------------------------------------------------- HTTP/1.1

@checks.test
def each_misdeed_is_a_typed_error():
    """One governor meets them all, one after the other, beside a neighbour whose
    calls go to the same provider."""
    behaviours = {name: behave for name, behave, *_ in MISDEEDS}
    wrong = []
    with Provider(**behaviours) as provider, \
            Rgovd(settings(provider)) as rgovd, Worker(rgovd) as worker:
        judge_good(worker, "nothing")
        sockets = sockets_of(rgovd.process)
        with neighbour(rgovd, "misdeeds"):
            for name, _, codes, is_large in MISDEEDS:
                try:
                    misbehave(worker, provider, name, codes,
                              body_bytes=LARGE if is_large else 0)
                except Failed as e:
                    wrong.append(str(e))
        equal(provider.posts["elsewhere"], 0, "redirects that were followed")
        judge_quiet(rgovd, provider, sockets)
    row(campaign="misdeeds", kinds=len(MISDEEDS), violations=len(wrong))
    count("violations", len(wrong))
    check(not wrong, "\n     ".join(wrong))


FORGED = b'{"model":"forged"}'


@checks.cases(("at-once", False), ("when-it-rests", True))
def an_answer_that_nobody_asked_for_is_nobodys(_name, is_late):
    """A second answer behind the first, in one piece with it or when the
    connection is in the pool: the next call gets its own."""
    rests, sent = threading.Event(), threading.Event()

    def says_more(visit):
        visit.read_body()
        if is_late:
            visit.answer()
            rests.wait(PATIENCE_S)
            visit.send(sized(FORGED))
        else:
            visit.send(sized(answer_for(visit.model)), sized(FORGED))
        sent.set()
        return KEEP

    with Provider(more=says_more) as provider, \
            Rgovd(settings(provider)) as rgovd, Worker(rgovd) as worker:
        for _ in range(10):
            rests.clear()
            sent.clear()
            reply = worker.invoke("more").expect("Reply")
            check('"more"' in reply["text"], f"its own answer: {reply}")
            rests.set()
            check(sent.wait(PATIENCE_S), "the forged answer is sent")
            good_one = judge_good(worker, "a forged answer")
            equal(good_one["attempts"], 1, "attempts of the good call")
        equal(provider.posts["good"], 10, "POSTs of the good calls")



# ---------------------------------------------------------------- HTTP/2

def streams_reset(code, first=None):
    def behave(stream):
        if first:
            first(stream)
        stream.reset(code)
    return behave


def starts_to_answer(stream):
    stream.head(length=100)
    stream.data(b"{", end=False)


def goes_away_before(stream):
    """This stream is not among those that will be served."""
    stream.go_away(stream.number - 2 if stream.number > 1 else 0)
    raise Hangup


def goes_away_after(stream):
    stream.answer()
    stream.go_away(stream.number)
    raise Hangup


def hangs_up(_stream):
    raise Hangup


def says_garbage(stream):
    stream.raw(b"\xff" * 64)


def floods_with_continuations(stream):
    stream.raw(frame(1, 0, stream.number, b"\x88"))
    while True:
        stream.raw(frame(9, 0, stream.number, b"\x00\x01x\x01y" * 3000))


def packs_a_bomb(stream):
    """One long value in the table of headers, then thousands of references."""
    stream.raw(frame(1, 0, stream.number,
                     b"\x88\x40\x01x\x7f\x81\x1e" + b"y" * 4000))
    stream.raw(frame(9, 4, stream.number, b"\xbe" * 16000))


def longer_than_its_length(stream):
    stream.head(length=2)
    stream.raw(frame(0, 1, stream.number, b"{}" + b" " * 50))


def shorter_than_its_length(stream):
    stream.head(length=50)
    stream.data(b"{}")


STREAM_MISDEEDS = (
    ("refused", streams_reset(7), LOST),
    ("internal-error", streams_reset(2), LOST),
    ("calm-down", streams_reset(11), LOST),
    ("cancelled", streams_reset(8), LOST),
    ("reset-in-the-answer", streams_reset(2, starts_to_answer), CUT + LOST),
    ("goes-away-before", goes_away_before, LOST),
    ("hangs-up", hangs_up, LOST),
    ("garbage", says_garbage, LOST),
    ("continuations", floods_with_continuations, LOST),
    ("packed-bomb", packs_a_bomb, LOST),
    ("longer", longer_than_its_length, CUT + LOST),
    ("shorter", shorter_than_its_length, CUT + LOST),
)


def certify(folder):
    """A certificate for this host that signs itself: (certificate, key)."""
    paths = folder / "cert.pem", folder / "key.pem"
    done = run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes",
                "-days", "2", "-subj", "/CN=provider", "-addext",
                "subjectAltName=IP:127.0.0.1", "-keyout", paths[1], "-out",
                paths[0]])
    equal(done.returncode, 0, f"openssl ({done.stderr})")
    return paths


@contextlib.contextmanager
def over_streams(**more):
    """An HTTP/2 provider, its governor and a client."""
    with Scratch() as folder:
        cert, key = certify(folder)
        with Streams(tls_context(cert, key, ("h2",)), **more) as provider, \
                Rgovd(settings(provider, f'\tca_file = "{cert}"')) as rgovd, \
                Worker(rgovd) as worker:
            yield provider, rgovd, worker


@checks.test
def each_misdeed_of_a_stream_is_a_typed_error():
    """The same over HTTP/2, where libcurl would send a refused stream again by
    itself."""
    behaviours = {name: behave for name, behave, _ in STREAM_MISDEEDS}
    wrong = []
    with over_streams(**behaviours) as (provider, rgovd, worker):
        judge_good(worker, "nothing")
        sockets = sockets_of(rgovd.process)
        for name, _, codes in STREAM_MISDEEDS:
            try:
                misbehave(worker, provider, name, codes)
            except Failed as e:
                wrong.append(str(e))
        judge_quiet(rgovd, provider, sockets)
    row(campaign="streams", kinds=len(STREAM_MISDEEDS), violations=len(wrong))
    count("violations", len(wrong))
    check(not wrong, "\n     ".join(wrong))


@checks.test
def a_provider_that_goes_away_after_an_answer_lost_none():
    """GOAWAY behind each answer: the next call knows, and is answered at its
    first attempt, on a connection of its own."""
    with over_streams(last=goes_away_after) as (provider, _, worker):
        for _ in range(5):
            reply = worker.invoke("last", idempotent=False).expect("Reply")
            equal(reply["attempts"], 1, f"attempts of {reply}")
            wait_until(lambda: provider.open() == 0, what="the GOAWAY's end")
        equal(provider.posts["last"], 5, "POSTs")


@checks.test
def one_stream_at_a_time_is_kept():
    """The provider allows one stream per connection: 20 calls at once are all
    answered.  (It hangs up where a call came before its settings were known:
    that is a counted attempt.)"""
    with over_streams(most_streams=1) as (provider, _, worker):
        worker.invoke("good").expect("Reply")
        calls = [worker.invoke("good", user=f"u{n % 5}") for n in range(20)]
        attempts = sum(call.expect("Reply")["attempts"] for call in calls)
        check(20 <= provider.posts["good"] - 1 <= attempts,
              f"{provider.posts['good'] - 1} POSTs in {attempts} attempts")


@checks.test
def a_body_that_nobody_reads_ends_at_the_deadline():
    """The provider opens no window for the body: the call ends by its deadline,
    and others go on over the same provider."""
    with over_streams() as (provider, rgovd, worker):
        stuck = worker.invoke("never-reads", body_bytes=LARGE, timeout=4)
        wait_until(lambda: provider.posts["never-reads"] == 1,
                   what="the stuck call at the provider")
        judge_good(worker, "a stuck body")
        equal(stuck.result()["type"], "Timeout", "type of the stuck call")
        judge_good(worker, "the end of the stuck body")
        equal(provider.posts["never-reads"], 1, "POSTs")
        wait_until(rgovd.is_idle, what="an idle rgovd")



# ---------------------------------------------------------------- TLS

class Handshakes(Provider):
    """Takes the first bytes of a handshake, says this, and ends."""

    def __init__(self, said=b"", end=None):
        super().__init__()
        self.url = self.url.replace("http:", "https:")
        self.said, self.end = said, end

    def talk(self, connection):
        self.posts["hello"] += connection.recv(1 << 16)[:1] == b"\x16"
        connection.sendall(self.said)
        if self.end:
            self.end(Visit(self, connection, None, b"", 1))


SERVER_HELLO = b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03" + b"r" * 20
HANDSHAKES = (
    ("closed", b"", None, "TlsFailed"),
    ("reset", b"", Visit.reset, "TlsFailed"),
    ("cut-in-the-middle", SERVER_HELLO, None, "TlsFailed"),
    ("reset-in-the-middle", SERVER_HELLO, Visit.reset, "TlsFailed"),
    ("protocol-version", b"\x15\x03\x03\x00\x02\x02\x46", None, "TlsFailed"),
    ("handshake-failure", b"\x15\x03\x03\x00\x02\x02\x28", None, "TlsFailed"),
    ("garbage", b"\xff" * 100, None, "TlsFailed"),
    ("silence", b"", Visit.wait_for_the_end, "ConnectTimeout"),
    ("silence-in-the-middle", SERVER_HELLO, Visit.wait_for_the_end,
     "ConnectTimeout"),
)


@checks.cases(*HANDSHAKES)
def a_handshake_that_fails_sends_nothing(name, said, end, code):
    """Each is an error of its own kind after its retries; a reload to a healthy
    endpoint brings the answers back."""
    with Handshakes(said, end) as bad, Provider() as provider, \
            Rgovd(settings(bad)) as rgovd, Worker(rgovd) as worker:
        result = worker.invoke("m", idempotent=False).result()
        judge_error(result, (code,), name)
        equal(bad.posts["hello"], result["attempts"], "handshakes begun")
        rgovd.write_config(settings(provider))
        equal(rgovd.rgov("reload").returncode, 0, "status of the reload")
        judge_good(worker, name)
        wait_until(lambda: bad.open() == 0, what="no open handshake")


@contextlib.contextmanager
def over_tls(prepare=lambda context: None, **behaviours):
    with Scratch() as folder:
        cert, key = certify(folder)
        context = tls_context(cert, key)
        prepare(context)
        with Provider(context, **behaviours) as provider, \
                Rgovd(settings(provider, f'\tca_file = "{cert}"')) as rgovd, \
                Worker(rgovd) as worker:
            yield provider, worker


def old_protocols_only(context):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")


@checks.test
def old_protocols_are_refused():
    """A provider that speaks TLS 1.1 at most: TlsFailed, nothing is sent."""
    with over_tls(old_protocols_only) as (provider, worker):
        judge_error(worker.invoke("m").result(), ("TlsFailed",), "TLS 1.1")
        equal(provider.posts.total(), 0, "POSTs")


def ends_without_notice(part):
    """An answer of no announced length, cut without TLS's notice of the end."""
    def behave(visit):
        visit.read_body()
        visit.send(OK, JSON, b"\r\n", answer_for(visit.model)[part])
        os.close(visit.socket.detach())
    return behave


@checks.test
def an_answer_cut_off_under_tls_is_no_answer():
    """Where the end of the connection is the end of the answer, anybody could
    have cut it (libcurl does not ask for TLS's own notice): it counts only when
    its JSON is complete."""
    with over_tls(cut=ends_without_notice(slice(0, -1)),
                  whole=ends_without_notice(slice(None))) as (_, worker):
        judge_error(worker.invoke("cut").result(), BAD + CUT, "cut off")
        worker.invoke("whole").expect("Reply")
        judge_good(worker, "an answer cut off")


@checks.test
def ipv6_is_spoken():
    """[::1] as any other endpoint."""
    try:
        provider = Provider(family=socket.AF_INET6)
    except OSError as e:
        raise Skip(f"no IPv6 on loopback ({e.strerror})") from None
    with provider, Rgovd(settings(provider)) as rgovd, \
            Worker(rgovd) as worker:
        judge_good(worker, "nothing")
        equal(provider.posts["good"], 1, "POSTs")


checks.main()
