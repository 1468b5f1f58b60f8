"""What the campaigns against a misbehaving provider share: the settings of a
governor that fails fast, the pieces of bad answers, and who judges what became
of them."""

from bad_provider import *
from campaign import *
from worker import *

OK = b"HTTP/1.1 200 OK\r\n"
JSON = b"Content-Type: application/json\r\n"
QUICK = """transient_backoff = "10ms"
backoff_cap = "50ms"
max_attempts = 3
retry_budget = 0
"""
LARGE = 3_000_000
# What rgovd's loop is, where it matters: both, unless one is asked for.
LOOPS = [os.environ["RGOV_LOOP"]] if os.environ.get("RGOV_LOOP") else [
    "auto", "epoll"]


def upstream(endpoint, *more):
    return (f'upstream "bedrock" {{\n\tendpoint = "{endpoint}"\n'
            f'\tregion = "{REGION}"\n\tconnect_timeout = "1s"\n'
            '\tread_timeout = "1s"\n\tidle_close = "1s"\n'
            '\tmax_reply_bytes = "1M"\n' + "\n".join(more) + "\n}\n")


# ---------------------------------------------------------------- answers

def saying(*parts, end=None):
    """Reads the request, says this, and ends as told."""
    def behave(visit):
        visit.read_body()
        visit.send(*parts)
        if end:
            end(visit)
    return behave


# With a whole answer: a retry must not meet the connection just as it ends.
LAST = b"Connection: close\r\n"


def sized(body, lines=b""):
    return b"".join([OK, JSON, lines,
                     b"Content-Length: %d\r\n\r\n" % len(body), body])


class SaysMore:
    """A behaviour: a second answer, which nobody asked for, behind the first;
    in one piece with it, or when the connection rests in rgovd's pool."""

    def __init__(self, is_late):
        self.is_late = is_late
        self.rests, self.sent = threading.Event(), threading.Event()

    def __call__(self, visit):
        visit.read_body()
        forged = sized(b'{"model":"forged"}')
        if self.is_late:
            visit.answer()
            self.rests.wait(PATIENCE_S)
            visit.send(forged)
        else:
            visit.send(sized(answer_for(visit.model)), forged)
        self.sent.set()
        return KEEP

    def judge(self, worker, provider):
        """Everybody gets his own answer, and nobody is delayed by a retry."""
        for _ in range(10):
            self.rests.clear()
            self.sent.clear()
            reply = worker.invoke("more").expect("Reply")
            check('"more"' in reply["text"], f"its own answer: {reply}")
            self.rests.set()
            check(self.sent.wait(PATIENCE_S), "the forged answer is sent")
            reply = judge_good(worker, "a forged answer")
            equal(reply["attempts"], 1, "attempts of the good call")
        equal(provider.posts["good"], 10, "POSTs of the good calls")


LOST = ("ConnectionReset",)
CUT = ("Truncated",)
BAD = ("BadResponse",)


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
    """How many sockets it has open; 0 where that is not for us to see."""
    links = []
    with contextlib.suppress(PermissionError):
        for fd in os.listdir(f"/proc/{process.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(f"/proc/{process.pid}/fd/{fd}"))
    return sum(link.startswith("socket:") for link in links)


def judge_quiet(rgovd, provider, sockets):
    """Idle, and all connections are closed after idle_close."""
    wait_until(rgovd.is_idle, what="an idle rgovd")
    wait_until(lambda: provider.open() == 0, what="no open connection")
    wait_until(lambda: sockets_of(rgovd.process) <= sockets,
               what=f"at most {sockets} sockets in rgovd")


def settings(provider, *more):
    return limits(rpm=50000, concurrency=30, per_user=30) + QUICK + upstream(
        provider.url, *more)
