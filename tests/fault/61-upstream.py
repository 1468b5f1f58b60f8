#!/usr/bin/python3 -B
"""A provider that misbehaves on the wire, seen from a client: each misdeed ends
as its typed error, at most one POST goes out for each counted attempt, and for
a call that is not idempotent none after the first; the next call is answered,
the connections are given back, and a neighbour never notices.

HTTP/2 and TLS are in 64-upstream-secure.py.  What rgovd's upstream makes of each
answer by itself is in tests/unit/upstream_*; what the codes of real errors
become is in tests/scenario/32-bad-upstream.py.
"""

import zlib

from upstream_rig import *

# ---------------------------------------------------------------- misdeeds

def reset_before_the_body(visit):
    visit.reset()


def reset_in_the_body(visit):
    visit.read_body(LARGE // 2)
    visit.reset()


def half_close(visit):
    visit.socket.shutdown(socket.SHUT_WR)
    visit.wait_for_the_end()


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


BOMB = gzipped(b'{"a":"' + b" " * 50_000_000 + b'"}')
DEEP = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
CHUNKED = OK + JSON + b"Transfer-Encoding: chunked\r\n\r\n"
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
    ("nothing-to-say", saying(b"HTTP/1.1 204 No Content\r\n", LAST, b"\r\n"),
     BAD, False),
    ("not-json", saying(sized(b"<html>", LAST)), BAD, False),
    ("nested-too-deep", saying(sized(DEEP, LAST)), BAD, False),
    ("compressed-bomb", saying(sized(BOMB, LAST + b"Content-Encoding: gzip\r\n")),
     BAD, False),
    ("endless-answer", forever(b"1000\r\n" + b" " * 4096 + b"\r\n", CHUNKED),
     ("ReplyTooLarge",), False),
    ("slower-than-the-time-out", drips, ("ReadTimeout",), False),
    ("redirected", saying(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: "
                          b"/model/elsewhere/invoke\r\n" + LAST +
                          b"Content-Length: 0\r\n\r\n"), ("Http307",), False),
)


# ---------------------------------------------------------------- a neighbour

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


# ---------------------------------------------------------------- HTTP/1.1

@checks.cases(*((loop, loop) for loop in LOOPS))
def each_misdeed_is_a_typed_error(_name, loop):
    """One governor meets them all, one after the other, beside a neighbour whose
    calls go to the same provider."""
    behaviours = {name: behave for name, behave, *_ in MISDEEDS}
    wrong = []
    with Provider(**behaviours) as provider, \
            Rgovd(settings(provider), loop=loop) as rgovd, \
            Worker(rgovd) as worker:
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
    row(campaign="misdeeds", loop=loop, kinds=len(MISDEEDS), violations=len(wrong))
    count("violations", len(wrong))
    check(not wrong, "\n     ".join(wrong))


@checks.cases(*((f"{name}-{loop}", is_late, loop) for loop in LOOPS for
                name, is_late in (("at-once", False), ("when-it-rests", True))))
def an_answer_that_nobody_asked_for_is_nobodys(_name, is_late, loop):
    """A second answer behind the first, in one piece with it or when the
    connection is in the pool: the next call gets its own, at once."""
    more = SaysMore(is_late)
    with Provider(more=more) as provider, \
            Rgovd(settings(provider), loop=loop) as rgovd, \
            Worker(rgovd) as worker:
        more.judge(worker, provider)


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



# ---------------------------------------------------------------- a proxy

class ReverseProxy(Process):
    """tinyproxy in front of a provider.  rgovd uses no forward proxy (see
    rgov.conf(5)); this is what a gateway between the two looks like."""

    def __init__(self, folder, port, provider):
        config = folder / "tinyproxy.conf"
        config.write_text(f"""Listen 127.0.0.1
Port {port}
Timeout 10
LogLevel Error
ReverseOnly Yes
ReversePath "/" "{provider.url}/"
""")
        super().__init__("tinyproxy", ["tinyproxy", "-d", "-c", str(config)],
                         folder / "tinyproxy.log", env=base_env())
        wait_until(lambda: socket.create_connection(("127.0.0.1", port)).close()
                   or True, what="tinyproxy")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def judge_unreached(result):
    """Its last attempt failed, or its deadline came while it waited for the
    next: which of the two the jitter of the back-off decides."""
    if result["type"] == "Timeout":
        check("tried again after a transient error" in result["text"],
              f"the words of a request that nobody took: {result['text']}")
    else:
        judge_error(result, ("ConnectFailed",), "no proxy")


@checks.test
def a_proxy_in_between():
    """Good answers pass; what the provider does to the proxy, or its death, is
    the proxy's error or a lost connection; without one a request waits until
    its deadline, or for a new proxy."""
    if not shutil.which("tinyproxy"):
        raise Skip("no tinyproxy here")
    hold = threading.Event()

    def waits(visit):
        visit.read_body()
        hold.wait(PATIENCE_S)

    port = free_port()
    with Scratch() as folder, \
            Provider(reset=saying(end=Visit.reset), cut=saying(
                OK, b"Content-Length: 9\r\n\r\n{"), waits=waits) as provider, \
            Rgovd(settings(provider).replace(
                provider.url, f"http://127.0.0.1:{port}")) as rgovd, \
            Worker(rgovd) as worker:
        proxy = ReverseProxy(folder, port, provider)
        judge_good(worker, "nothing")
        for name in ("reset", "cut"):
            result = worker.invoke(name, idempotent=False).result()
            judge_error(result, None, name)
            equal(provider.posts[name], 1, f"POSTs of {name}")
            judge_good(worker, name)
        stuck = worker.invoke("waits", idempotent=False)
        wait_until(lambda: provider.posts["waits"] == 1, what="the stuck call")
        proxy.kill9()
        judge_error(stuck.result(), LOST, "the proxy's death")
        hold.set()
        waits = worker.invoke("good")
        judge_unreached(worker.invoke("good", timeout=1).result())
        ReverseProxy(folder, port, provider)
        waits.expect("Reply")
        judge_good(worker, "a new proxy")


checks.main()
