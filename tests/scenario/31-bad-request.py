#!/usr/bin/python3 -B
"""What a client can get wrong, or find wrong: each a typed error at once, and
nothing of it reaches the provider or disturbs another client.
"""

import struct

from harness import *

# One Python client a test: prints a JSON line for each thing it tried.
CLIENT = """
import json, os, rgov, time
gov = rgov.connect()
def attempt(name, model, body, **options):
    begin = time.monotonic()
    try:
        reply = gov.invoke(model, body, **options)
        result = {"type": "Reply", "status": reply.status}
    except Exception as e:
        result = {"type": type(e).__name__, "text": str(e),
                  "reason": getattr(e, "reason", None),
                  "family": [c.__name__ for c in type(e).__mro__]}
    result["seconds"] = time.monotonic() - begin
    # One write a line: threads share the output.
    os.write(1, json.dumps([name, result]).encode() + b"\\n")
GOOD = {"max_tokens": 5}
"""


def results_of(rgovd, source, **more):
    done = rgovd.python(CLIENT + source, timeout=60, **more)
    equal(done.returncode, 0, f"the client's status ({done.stderr})")
    return dict(json.loads(line) for line in done.stdout.splitlines())


def expect(results, name, kind, seconds=5.0):
    found = results[name]
    equal(found["type"], kind, f"{name}: the type of {found.get('text')!r}")
    check(found["seconds"] < seconds,
          f"{name}: it took {found['seconds']:.1f} s")


@checks.test
def names_are_judged():
    """Users and model ids that are empty, too long or not printable are
    Invalid and never sent: no header, no path can be forged with them."""
    names = {
        "model-empty": ("", "u"),
        "model-oversized": ("m" * 2049, "u"),
        "model-newline": ("m\nHost: evil", "u"),
        "model-return": ("m\r\n", "u"),
        "model-escape": ("m\x1b[2J", "u"),
        "model-delete": ("m\x7f", "u"),
        "model-zero": ("m\0n", "u"),
        "model-dots": ("..", "u"),
        "model-query": ("a?b=c", "u"),
        "model-fragment": ("a#b", "u"),
        "model-percent": ("a%2Fb", "u"),
        "model-blank": ("a b", "u"),
        "user-empty": ("m", ""),
        "user-oversized": ("m", "u" * 64),
        "user-newline": ("m", "u\nv"),
        "user-zero": ("m", "u\0v"),
        "user-delete": ("m", "u\x7f"),
    }
    source = f"for name, (model, user) in {names!r}.items():\n" \
             "    attempt(name, model, GOOD, user=user)\n"
    with Sim() as sim, Rgovd(sim=sim) as rgovd:
        results = results_of(rgovd, source)
        for name in names:
            expect(results, name, "Invalid")
            check("ValueError" in results[name]["family"], f"{name}: family")
        equal(sim.report()["arrivals"], 0, "arrivals")


@checks.test
def odd_model_ids_are_one_segment():
    """What looks like a path reaches the provider as the id that it is, and the
    signature holds."""
    models = ["a/b", "a/../b", "a/./b", "a//b", "a:b",
              "arn:aws:bedrock:us-east-1:123456789012:inference-profile/x",
              "m" * 2047]
    source = f"for model in {models!r}: attempt(model, model, GOOD, user='u')\n"
    with Sim() as sim, Rgovd(sim=sim) as rgovd:
        results = results_of(rgovd, source)
        answered = {e["model"]: e["status"] for e in sim.events()}
        for model in models:
            # The provider may know no such model; a signature or a route that
            # broke is another matter.
            check(results[model]["type"] in ("Reply", "UpstreamError"),
                  f"{model[:60]}: {results[model]}")
            check("ignature" not in str(results[model].get("text"))
                  and "UnknownOperation" not in str(results[model].get("text")),
                  f"{model[:60]}: {results[model]}")
        equal(answered.get(models[-2]), 200, "status of the ARN")
        check(not any(k.startswith("b") for k in answered),
              f"no path was shortened: {list(answered)}")


@checks.test
def the_bound_of_a_body():
    """25,000,000 bytes pass; one more is TooLarge at once, and not sent."""
    source = """
most = b'{"max_tokens":5,"pad":"' + b"x" * (25_000_000 - 25) + b'"}'
assert len(most) == 25_000_000
attempt("most", "m", most, user="u", timeout=60)
attempt("more", "m", most + b" ", user="u", timeout=60)
"""
    with Sim() as sim, Rgovd(sim=sim) as rgovd:
        results = results_of(rgovd, source)
        expect(results, "most", "Reply", seconds=60)
        expect(results, "more", "TooLarge")
        equal(sim.report()["arrivals"], 1, "arrivals")


@checks.test
def a_deadline_that_has_passed():
    """A request without time is a Timeout and is never sent; so is one whose
    time ends in the queue."""
    source = """
import threading
attempt("none", "m", GOOD, user="u", timeout=0)
attempt("past", "m", GOOD, user="u", timeout=-1)
busy = threading.Thread(target=attempt, args=("busy", "m", GOOD),
                        kwargs={"user": "v", "timeout": 30})
busy.start()
while gov.get_stats()["active_requests"] == 0:
    time.sleep(0.01)
attempt("queued", "m", GOOD, user="u", timeout=0.5)
busy.join()
"""
    with Sim(latency="fixed:3") as sim, \
            Rgovd(limits(concurrency=1), sim=sim) as rgovd:
        results = results_of(rgovd, source)
        expect(results, "none", "Timeout", seconds=1)
        expect(results, "past", "Timeout", seconds=1)
        expect(results, "queued", "Timeout", seconds=2.5)
        expect(results, "busy", "Reply", seconds=20)
        wait_until(rgovd.is_idle, what="an idle rgovd")
        equal(sim.report()["arrivals"], 1, "arrivals")


@checks.test
def a_full_queue_is_a_refusal():
    """Beyond max_queued_per_user: UserLimit or QueueFull at once, typed, and
    the requests that wait are not touched."""
    source = """
import threading
threads = [threading.Thread(target=attempt, args=(str(n), "m", GOOD),
           kwargs={"user": "u", "timeout": 30}) for n in range(8)]
for t in threads: t.start()
for t in threads: t.join()
"""
    with Sim(latency="fixed:0.5") as sim, \
            Rgovd(limits(concurrency=1, per_user=1)
                  + "max_queued_per_user = 2\n", sim=sim) as rgovd:
        kinds = [r["type"] for r in results_of(rgovd, source).values()]
        # One runs, two wait; how the eight meet the running one is chance.
        check(kinds.count("Reply") >= 3, f"answers: {kinds}")
        check(set(kinds) - {"Reply"} <= {"QueueFull", "UserLimit"}
              and set(kinds) != {"Reply"}, f"refusals: {kinds}")


@checks.test
def rgovd_is_absent():
    """Unavailable within the connect time-out, naming the socket."""
    rgovd = Rgovd()
    try:
        results = results_of(rgovd, "attempt('x', 'm', GOOD, user='u')")
        expect(results, "x", "Unavailable")
        check(str(rgovd.socket) in results["x"]["text"], results["x"]["text"])
        done = rgovd.rgov("doctor")
        check(done.returncode != 0 and str(rgovd.socket) in done.stdout
              + done.stderr, f"rgov doctor: {done.stdout}{done.stderr}")
    finally:
        rgovd.stop()


@checks.test
def a_socket_that_nobody_serves():
    """A file is left, its rgovd is dead: the same answer."""
    with Rgovd(endpoint="http://127.0.0.1:9") as rgovd:
        rgovd.kill9()
        check(rgovd.socket.exists(), "the socket's file is left")
        results = results_of(rgovd, "attempt('x', 'm', GOOD, user='u')")
        expect(results, "x", "Unavailable")
        check(str(rgovd.socket) in results["x"]["text"], results["x"]["text"])


def as_nobody(rgovd, source):
    """Runs the client as a user without rights, with the package where that
    user can read it."""
    if os.geteuid() != 0:
        raise Skip("needs root, to become another user")
    package = rgovd.scratch.path / "python"
    shutil.copytree(BUILD / "python", package)
    rgovd.scratch.path.chmod(0o711)
    return run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
                "--inh-caps=-all", PYTHON, "-c", CLIENT + source], cwd="/",
               env=rgovd.client_env(PYTHONPATH=package))


@checks.cases(("folder", 0o700, ""), ("socket", 0o755, ""),
              ("list", 0o755, 'socket_mode = "0666"\nallow_uids = {"root"}\n'))
def a_user_who_may_not_connect(name, mode, text):
    """Kept out by the folder's mode, by the socket's, or by allow_uids:
    Unavailable, saying why."""
    with Rgovd(text, endpoint="http://127.0.0.1:9") as rgovd:
        rgovd.runtime_dir.chmod(mode)
        done = as_nobody(rgovd, "attempt('x', 'm', GOOD, user='u')")
        equal(done.returncode, 0, f"the client's status ({done.stderr})")
        result = json.loads(done.stdout)[1]
        equal(result["type"], "Unavailable", f"type of {result.get('text')}")
        check("ermi" in result["text"] or "allow_uids" in result["text"],
              f"it says that it is a matter of permission: {result['text']}")
        # Where rgovd itself refuses, it was found.
        check(str(rgovd.socket) in result["text"] or name == "list",
              f"it names the socket: {result['text']}")


# ---------------------------------------------------------------- the wire

# shm-layout/shm_wire.h, spelled out: what another build would send.
WIRE_MAGIC, HELLO, REFUSED, BAD_LAYOUT = 0x766F6772, 1, 8, 1
HEAD = struct.Struct("=IHHQ")
HELLO_REST = struct.Struct("=II64s")


def converse(rgovd, message):
    """Sends one message over a new session socket; returns what comes back."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.settimeout(10)
        s.connect(str(rgovd.socket))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            s.send(message)
            return s.recv(4096)
    return b""


def still_serves(rgovd):
    results = results_of(rgovd, "attempt('x', 'm', GOOD, user='u')")
    expect(results, "x", "Reply")


@checks.cases(("version", 999, 0x1234), ("hash", 1, 0x1234))
def another_layout_is_refused(_name, version, layout_hash):
    """A client of another layout is told so, with rgovd's own version, and is
    never served."""
    with Sim() as sim, Rgovd(sim=sim) as rgovd:
        hello = HEAD.pack(WIRE_MAGIC, HELLO, version, layout_hash) \
            + HELLO_REST.pack(4, 0, b"old client")
        answer = converse(rgovd, hello)
        check(len(answer) > HEAD.size, f"an answer came: {answer!r}")
        magic, kind, own_version, own_hash = HEAD.unpack_from(answer)
        equal((magic, kind), (WIRE_MAGIC, REFUSED), "magic and type")
        check((own_version, own_hash) != (version, layout_hash),
              "rgovd's own layout is told")
        reason, _ = struct.unpack_from("=II", answer, HEAD.size)
        equal(reason, BAD_LAYOUT, "reason")
        text = answer[HEAD.size + 8:].split(b"\0")[0].decode()
        check("layout" in text and (version == 1 or str(version) in text),
              f"the words: {text!r}")
        still_serves(rgovd)


@checks.test
def nonsense_on_the_socket_hurts_nobody():
    """Wrong magic, short messages, empty ones, unknown types, floods of bells:
    that connection ends, everybody else is served."""
    head = HEAD.pack(WIRE_MAGIC, HELLO, 1, 0)
    messages = (b"", b"\0", b"x" * 4096, head[:8], head,
                HEAD.pack(0xDEADBEEF, HELLO, 1, 0) + HELLO_REST.pack(4, 0, b""),
                HEAD.pack(WIRE_MAGIC, 77, 1, 0) + bytes(100),
                HEAD.pack(WIRE_MAGIC, 3, 1, 0), HEAD.pack(WIRE_MAGIC, 4, 1, 0)
                + bytes(96))
    with Sim() as sim, Rgovd(sim=sim) as rgovd:
        for message in messages:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
                s.settimeout(0.2)
                s.connect(str(rgovd.socket))
                with contextlib.suppress(OSError):
                    for _ in range(100):
                        s.send(message)
                with contextlib.suppress(OSError):
                    s.recv(4096)
        still_serves(rgovd)
        wait_until(lambda: rgovd.stats()["sessions"] == 0,
                   what="all sessions ended")


checks.main()
