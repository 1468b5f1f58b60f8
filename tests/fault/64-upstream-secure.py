#!/usr/bin/python3 -B
"""The same provider over HTTP/2 and under TLS: streams that are reset, providers
that go away, handshakes that fail.  The claims are those of 61-upstream.py.
"""

import warnings

from bad_streams import *
from upstream_rig import *

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
def over_streams(loop=None, **more):
    """An HTTP/2 provider, its governor and a client."""
    with Scratch() as folder:
        cert, key = certify(folder)
        with Streams(tls_context(cert, key, ("h2",)), **more) as provider, \
                Rgovd(settings(provider, f'\tca_file = "{cert}"'),
                      loop=loop) as rgovd, Worker(rgovd) as worker:
            yield provider, rgovd, worker


@checks.cases(*((loop, loop) for loop in LOOPS))
def each_misdeed_of_a_stream_is_a_typed_error(_name, loop):
    """The same over HTTP/2, where libcurl would send a refused stream again by
    itself."""
    behaviours = {name: behave for name, behave, _ in STREAM_MISDEEDS}
    wrong = []
    with over_streams(loop, **behaviours) as (provider, rgovd, worker):
        judge_good(worker, "nothing")
        sockets = sockets_of(rgovd.process)
        for name, _, codes in STREAM_MISDEEDS:
            try:
                misbehave(worker, provider, name, codes)
            except Failed as e:
                wrong.append(str(e))
        judge_quiet(rgovd, provider, sockets)
    row(campaign="streams", loop=loop, kinds=len(STREAM_MISDEEDS), violations=len(wrong))
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
    """Each is an error of its own kind where nothing is tried again; else it is
    an outage, which is waited for: a reload to a healthy endpoint brings the
    answers."""
    def reload(text):
        rgovd.write_config(text)
        equal(rgovd.rgov("reload").returncode, 0, "status of the reload")

    once = settings(bad := Handshakes(said, end)).replace(
        "max_attempts = 3", "max_attempts = 1")
    with bad, Provider() as provider, Rgovd(once) as rgovd, \
            Worker(rgovd) as worker:
        result = worker.invoke("m", idempotent=False).result()
        judge_error(result, (code,), name)
        equal((bad.posts["hello"], result["attempts"]), (1, 1),
              "handshakes begun, attempts")
        reload(settings(bad))
        waits = worker.invoke("good", idempotent=False)
        wait_until(lambda: bad.posts["hello"] >= 5, what="the attempts")
        reload(settings(provider))
        waits.expect("Reply")
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
        judge_error(worker.invoke("m", timeout=1).result(), ("TlsFailed",),
                    "TLS 1.1")
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
        judge_good(worker, "nothing")  # else it would be an outage
        judge_error(worker.invoke("cut").result(), BAD + CUT, "cut off")
        worker.invoke("whole").expect("Reply")
        judge_good(worker, "an answer cut off")


@checks.test
def an_answer_that_nobody_asked_for_is_nobodys():
    """Said under TLS when the connection is in the pool: as in 61-upstream."""
    more = SaysMore(True)
    with over_tls(more=more) as (provider, worker):
        more.judge(worker, provider)


checks.main()
