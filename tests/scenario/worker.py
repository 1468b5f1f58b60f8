"""A worker that does what the test says: a process of its own with the package
rgov, so that it can hold requests and permits, be idle, or be killed.

    with Worker(rgovd) as worker:
        one = worker.invoke(user="alice")           # a future
        two = worker.permit(user="bob", tokens=10)  # held until settle()
        one.result()["status"]
        worker.settle(two.result()["permit"], input_tokens=3)

An exception of rgov is a result: {"type": "Timeout", "text": ..., ...}; for the
rest of it see perform().
"""

import concurrent.futures

from harness import *

SOURCE = r"""
import asyncio, json, os, socket, sys, threading, rgov
channel = socket.socket(fileno=int(sys.argv[1]))
gov = rgov.connect(slots=64)
lock = threading.Lock()
permits, tasks = {}, {}
JSON = b'{"max_tokens":5}'

def body_of(ask):
    size = ask.pop("body_bytes", 0)
    text = ask.pop("body", None)
    if text is not None:
        return text.encode()
    return JSON if not size else \
        b'{"max_tokens":5,"pad":"' + b"x" * (size - 25) + b'"}'

def told(reply):
    return {"type": "Reply", "status": reply.status,
            "attempts": reply.attempts, "wait": reply.wait_time,
            "text": reply.body[:200].decode(errors="replace")}

def invoke(number, **ask):
    body = body_of(ask)
    return told(gov.invoke(ask.pop("model"), body, **ask))

def start(number, **ask):
    "As invoke, but can be cancelled."
    body = body_of(ask)
    async def run():
        tasks[number] = asyncio.current_task(), asyncio.get_running_loop()
        return told(await gov.ainvoke(ask.pop("model"), body, **ask))
    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        return {"type": "Cancelled"}

def cancel(number, which):
    task, loop = tasks[which]
    loop.call_soon_threadsafe(task.cancel)
    return {}

def permit(number, **ask):
    permits[number] = gov.permit(ask.pop("model"), **ask)
    return {"type": "Permit", "permit": number}

def settle(number, permit, **usage):
    permits.pop(permit).settle(**usage)
    return {}

def bodies():
    "The descriptor of the file of bodies."
    for name in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink("/proc/self/fd/" + name)
        except OSError:
            continue
        if "rgov:client-bodies" in link:
            return int(name)

def scribble(number, slot):
    "Another byte into the body of a slot, behind the library's back."
    os.pwrite(bodies(), b"[", slot * 24 * 1024 * 1024)
    return {}

def bytes_out(number):
    "What the bodies in shared memory take."
    return {"bytes": os.fstat(bodies()).st_blocks * 512}

def waiting(number):
    "How many requests are handed in and have no answer."
    return {"n": len(gov.waiting(max_age=None))}

def diagnose(number):
    return gov.diagnose()

def perform(ask):
    number = ask.pop("number")
    try:
        result = globals()[ask.pop("verb")](number, **ask)
    except Exception as e:
        result = {"type": type(e).__name__, "text": str(e)}
        for name in ("reason", "status", "code", "message", "attempts"):
            result[name] = getattr(e, name, None)
    with lock:
        channel.sendall(json.dumps([number, result]).encode() + b"\n")

for line in channel.makefile("rb"):
    threading.Thread(target=perform, args=(json.loads(line),),
                     daemon=True).start()
os._exit(0)
"""


class Worker:
    def __init__(self, rgovd, prefix=(), **env):
        self.rgovd = rgovd
        self.prefix = prefix  # a command that runs it in another environment
        self.env = env
        self.numbers = itertools.count(1)
        self.futures = {}

    def __enter__(self):
        self.socket, theirs = socket.socketpair()
        with theirs:
            self.process = Process(
                "worker",
                [*self.prefix, PYTHON, "-c", SOURCE, str(theirs.fileno())],
                self.rgovd.scratch.path / f"worker{next(self.numbers)}.log",
                env=self.rgovd.client_env(**self.env),
                pass_fds=(theirs.fileno(),))
        threading.Thread(target=self._hear, daemon=True).start()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # its end, too
        self.socket.close()
        self.process.stop()

    def _hear(self):
        with contextlib.suppress(OSError):
            for line in self.socket.makefile("rb"):
                number, result = json.loads(line)
                self.futures[number].set_result(result)
        for future in self.futures.values():
            if not future.done():
                future.set_result({"type": "Killed"})

    def say(self, verb, **ask):
        number = next(self.numbers)
        future = self.futures[number] = Answer()
        future.number = number
        self.socket.sendall(json.dumps(
            {"number": number, "verb": verb, **ask}).encode() + b"\n")
        return future

    def invoke(self, model="vendor.model-v1", user="u", timeout=60, **ask):
        return self.say("invoke", model=model, user=user, timeout=timeout,
                        **ask)

    def start(self, model="vendor.model-v1", user="u", timeout=60, **ask):
        return self.say("start", model=model, user=user, timeout=timeout,
                        **ask)

    def permit(self, model="vendor.model-v1", user="u", timeout=60, **ask):
        return self.say("permit", model=model, user=user, timeout=timeout,
                        **ask)

    def settle(self, permit, **usage):
        equal(self.say("settle", permit=permit, **usage).result(), {},
              "the end of settle()")

    def cancel(self, future):
        return self.say("cancel", which=future.number).result()

    def kill9(self):
        self.process.kill9()


class Answer(concurrent.futures.Future):
    """What became of one request."""

    def result(self, timeout=PATIENCE_S):
        try:
            return super().result(timeout)
        except concurrent.futures.TimeoutError:
            raise Failed(f"no answer after {timeout:g} s") from None

    def expect(self, kind, timeout=PATIENCE_S):
        found = self.result(timeout)
        equal(found.get("type"), kind, f"the type of {found}")
        return found
