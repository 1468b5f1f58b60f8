"""What the hostile campaigns share: an rgovd under sanitizers, an honest client
that must notice nothing, a client made by hand, and the judge of what is left.

    with Sim() as sim, Sanitized(SETTINGS, sim=sim) as rgovd, \\
            Honest(rgovd) as honest, quiet(rgovd):
        stranger = Stranger(rgovd)
        stranger.open()
        ...                     # on leaving: everything is back at the start
    honest.judge()
"""

import array
import contextlib
import fcntl
import itertools
import mmap
import os
import pathlib
import pickle
import select
import signal
import socket
import struct

from campaign import *

NOBODY = 65534  # a uid that is neither root's nor rgovd's
SETTINGS = """requests_per_minute = 60000
max_concurrent_requests = 32
max_requests_per_user = 32
"""

# ---------------------------------------------------------------- rgovd


class Sanitized(Rgovd):
    """rgovd under AddressSanitizer and UBSan; any word of theirs ends it with
    another status than 0."""

    def __init__(self, *arguments, **more):
        program = BUILD / "asan/rgovd"
        self.program = program if program.exists() else BUILD / "rgovd"
        super().__init__(*arguments, **more)
        self.env.update(
            ASAN_OPTIONS="exitcode=86:detect_stack_use_after_return=1",
            UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1")

    def argv(self):
        return [self.program, *super().argv()[1:]]


def let_everybody_in(rgovd):
    """Other uids reach the socket: the trust ends at the uid."""
    rgovd.scratch.path.chmod(0o755)
    rgovd.runtime_dir.chmod(0o755)


def log_lines(rgovd, event):
    return [line for line in rgovd.process.text().splitlines()
            if f"event={event}" in line]


def footprint(rgovd):
    """What rgovd holds for clients, as the kernel says and as it says itself.
    Connections to the provider come and go with the load."""
    proc = pathlib.Path(f"/proc/{rgovd.process.pid}")
    local = {line.split()[6] for line in
             pathlib.Path("/proc/net/unix").read_text().splitlines()[1:]}
    held = collections.Counter()
    for fd in os.listdir(proc / "fd"):
        with contextlib.suppress(FileNotFoundError):
            name = os.readlink(proc / "fd" / fd)
            kind, _, rest = name.partition(":")
            if kind != "socket" or rest.strip("[]") in local:
                held["files" if kind.startswith("/") else kind] += 1
    held["maps"] = (proc / "maps").read_text().count("/memfd:rgov")
    held["sessions"] = rgovd.stats()["host"]["sessions"]
    return held


def settled(rgovd):
    """Its footprint, once it stays the same over a heartbeat of the board."""
    first = footprint(rgovd)
    time.sleep(1.2)
    return first if footprint(rgovd) == first else None


@contextlib.contextmanager
def quiet(rgovd, patience=PATIENCE_S):
    """What happens inside leaves nothing behind, and rgovd lives."""
    before = wait_until(lambda: settled(rgovd), what="rgovd at rest")
    yield
    now = {}

    def is_back():
        check(rgovd.process.alive(), "rgovd has died")
        now.clear()
        now.update(footprint(rgovd))
        return all(now[what] <= before[what] for what in now)

    try:
        wait_until(is_back, timeout=patience, interval=0.1)
    except Failed:
        check(rgovd.process.alive(), "rgovd has died")
        raise Failed(f"left behind: before {dict(before)}, now {now}") from None


def at_rest(rgovd):
    """Nothing runs or waits, and the board says so without contradiction."""
    wait_until(rgovd.is_idle, what="an idle rgovd")
    done = run([BUILD / "tests/board_check", rgovd.name, "quiet"])
    check(done.returncode == 0, f"the board at rest: {done.stdout}")


@contextlib.contextmanager
def answers_within(rgovd, seconds):
    """rgovd's loop never stands still for so long meanwhile: somebody asks it
    every few milliseconds."""
    worst = [0.0]
    stop = threading.Event()

    def ask():
        with contextlib.suppress(OSError):
            while not stop.is_set():
                begin = time.monotonic()
                Stranger(rgovd).ping()
                worst[0] = max(worst[0], time.monotonic() - begin)
                stop.wait(0.005)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    yield worst
    stop.set()
    thread.join(PATIENCE_S)
    check(worst[0] < seconds,
          f"rgovd did not answer for {worst[0]:.2f} s (bound: {seconds} s)")


# ---------------------------------------------------------------- the honest one


class Honest:
    """tests/fault/honest.c, until the end of the block."""

    def __init__(self, rgovd, threads=4, kind="call"):
        self.rgovd, self.argv = rgovd, [FAULT_BUILD / "honest", threads, kind]
        self.lines = []

    def __enter__(self):
        self.input, give = os.pipe()
        self.give = give
        self.log = self.rgovd.scratch.path / f"honest{next(_numbers)}.log"
        with open(self.log, "wb") as out:
            self.popen = subprocess.Popen(
                [str(a) for a in self.argv], stdin=self.input, stdout=out,
                stderr=out, env=self.rgovd.client_env())
        os.close(self.input)
        wait_until(lambda: self.progress()["done"] > 0,
                   what="the first answer of an honest client")
        return self

    def __exit__(self, *_):
        os.close(self.give)
        try:
            self.popen.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
        self.lines = self.read()

    def read(self):
        lines = self.log.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def samples(self):
        return [line for line in self.read() if "at_ns" in line]

    def progress(self):
        return (self.samples() or [{"done": 0, "wrong": 0}])[-1]

    def judge(self):
        """Every answer was right, and its own."""
        why = [line["why"] for line in self.lines if "why" in line]
        last = [line for line in self.lines if "at_ns" in line][-1]
        equal(last["wrong"], 0, f"honest requests that went wrong ({why})")
        equal(self.popen.returncode, 0, "status of the honest client")
        check_own_answers(
            (b'{"max_tokens":5,"n":%d}' % line["body"], line["text"])
            for line in self.lines if "body" in line)
        return last["done"]


_numbers = itertools.count(1)

# ---------------------------------------------------------------- by hand

(HELLO, WELCOME, MAPPED, REATTACH, REATTACHED, ADMIN, ANSWER,
 REFUSED, EXPLAINED) = range(1, 10)
RELOAD, PING, EXPLAIN, HINTS = range(1, 5)
MAGIC = 0x766F6772
PAGE, REGION = 4096, 24 * 1024 * 1024
SUBMIT, CANCEL, SETTLE, ACK = 1, 2, 3, 4
DONE, ACCEPTED, ISSUED, GRANTED = range(4)
CLIENT_CONTROL, CLIENT_BODIES, DAEMON_CONTROL, DAEMON_BODIES, BOARD = range(5)

Message = collections.namedtuple("Message", "type reason text data fds")


def pages(size):
    return (size + PAGE - 1) // PAGE * PAGE


class Shape:
    """Where things are in the two control files (shm-layout)."""

    def __init__(self, slots):
        self.entries = 8
        while self.entries < 8 * slots:
            self.entries *= 2
        self.ring = PAGE
        self.slots = self.ring + pages(8 * self.entries)
        self.texts = self.slots + pages(192 * slots)
        self.tasks = self.texts + PAGE * slots
        self.client_bytes = self.tasks + PAGE * slots
        self.daemon_bytes = PAGE + pages(1024 * slots)
        self.bodies_bytes = slots * REGION


class Stranger:
    """One connection, and what is to be said over it."""

    layout = None  # (version, hash), as rgovd says itself

    def __init__(self, rgovd, path=None):
        self.path = str(path or rgovd.socket)
        self.connect()
        self.fds, self.slots, self.id = [], 0, b""
        self.client = self.daemon = None
        self.tail = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def connect(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(self.path)
        self.socket.settimeout(PATIENCE_S)

    def close(self):
        self.socket.close()
        for fd in self.fds:
            os.close(fd)
        self.fds = []
        for mapping in (self.client, self.daemon):
            if mapping is not None:
                mapping.close()
        self.client = self.daemon = None

    # -- messages

    def head(self, kind):
        if Stranger.layout is None:
            with Stranger(None, self.path) as asker:
                asker.send(b"what do you speak?")
                said = asker.receive().data
                Stranger.layout = struct.unpack_from("<HQ", said, 6)
        version, number = Stranger.layout
        return struct.pack("<IHHQ", MAGIC, kind, version, number)

    def hello(self, slots=4, app=b"stranger"):
        return self.head(HELLO) + struct.pack("<II64s", slots, 0, app)

    def reattach(self, slots=None, session_id=None):
        return self.head(REATTACH) + struct.pack(
            "<II16s64s", self.slots if slots is None else slots, 0,
            session_id or self.id, b"stranger")

    def admin(self, verb, request=0):
        return self.head(ADMIN) + struct.pack("<IIQ", verb, 0, request)

    def send(self, data, fds=()):
        along = [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                  array.array("i", fds))] if fds else []
        self.socket.sendmsg([data], along, socket.MSG_NOSIGNAL)

    def receive(self):
        """The next message that is no bell; None: rgovd has hung up."""
        while True:
            try:
                data, along, _, _ = self.socket.recvmsg(
                    4096, socket.CMSG_SPACE(64), socket.MSG_CMSG_CLOEXEC)
            except ConnectionResetError:
                continue  # what was said before it comes first
            fds = array.array("i")
            for _, kind, rights in along:
                if kind == socket.SCM_RIGHTS:
                    fds.frombytes(rights[:len(rights) // 4 * 4])
            if not data:
                return None
            if len(data) > 1:
                break
        kind = struct.unpack_from("<H", data, 4)[0]
        reason, text = 0, ""
        if kind == REFUSED:
            reason = struct.unpack_from("<I", data, 16)[0]
            text = data[24:].split(b"\0")[0].decode()
        return Message(kind, reason, text, data, list(fds))

    def ask(self, data, fds=()):
        try:
            self.send(data, fds)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has refused already: its words are there
        return self.receive()

    def ping(self):
        """One question that needs no session; then the connection ends."""
        with self:
            answer = self.ask(self.admin(PING))
            # None: rgovd is killed meanwhile.
            check(answer is None or answer.type == ANSWER,
                  f"a ping was not answered: {answer}")
            return answer

    # -- a session

    def register(self, slots=4):
        """Up to WELCOME."""
        answer = self.ask(self.hello(slots))
        if answer is None or answer.type != WELCOME:
            return answer
        self.fds = answer.fds
        self.slots = struct.unpack_from("<I", answer.data, 16)[0]
        self.id = answer.data[24:40]
        self.shape = Shape(self.slots)
        self.client = mmap.mmap(self.fds[CLIENT_CONTROL],
                                self.shape.client_bytes)
        self.daemon = mmap.mmap(self.fds[DAEMON_CONTROL],
                                self.shape.daemon_bytes,
                                prot=mmap.PROT_READ)
        return answer

    def open(self, slots=4):
        """A served session."""
        answer = self.register(slots)
        check(answer is not None and answer.type == WELCOME,
              f"a stranger was not welcome: {answer}")
        self.send(self.head(MAPPED))
        return self

    def come_back(self):
        """The session goes on with a successor."""
        self.socket.close()
        self.connect()
        answer = self.ask(self.reattach(), self.fds[:4])
        check(answer is not None and answer.type == REATTACHED,
              f"a stranger was not let back: {answer}")
        for fd in answer.fds:
            os.close(fd)

    def word(self, slot):
        """(generation, state) that rgovd says."""
        word = struct.unpack_from("<I", self.daemon, PAGE + 1024 * slot)[0]
        return word >> 8, word & 255

    def result(self, slot):
        return struct.unpack_from("<H", self.daemon, PAGE + 1024 * slot + 4)[0]

    def describe(self, slot, kind=1, operation=0, priority=1, flags=0, body=b"",
                 body_bytes=None, deadline=None, tokens=(0, 0),
                 model=b"vendor.model-v1", headers=b"", user=b"stranger",
                 lengths=None):
        at = self.shape.slots + 192 * slot
        if deadline is None:
            deadline = time.monotonic_ns() + 5_000_000_000
        model_n, headers_n, user_n = lengths or (len(model), len(headers),
                                                 len(user))
        struct.pack_into("<BBBBIQQQHHH", self.client, at + 8, kind, operation,
                         priority, flags,
                         len(body) if body_bytes is None else body_bytes,
                         deadline, *tokens, model_n, headers_n, user_n)
        self.client[at + 128:at + 192] = user[:64].ljust(64, b"\0")
        text = self.shape.texts + PAGE * slot
        self.client[text:text + 2048] = model[:2048].ljust(2048, b"\0")
        self.client[text + 2048:text + 4096] = headers[:2048].ljust(2048, b"\0")
        if body:
            os.pwrite(self.fds[CLIENT_BODIES], body, slot * REGION)

    def command(self, slot, generation, command, hint=None):
        word = (generation & 0xFFFFFF) << 8 | command
        struct.pack_into("<I", self.client, self.shape.slots + 192 * slot, word)
        self.entry(slot, word if hint is None else hint)

    def entry(self, index, word):
        at = self.shape.ring + 8 * (self.tail % self.shape.entries)
        struct.pack_into("<Q", self.client, at, index << 32 | word)
        self.tail += 1
        struct.pack_into("<Q", self.client, 64, self.tail)
        self.bell()

    def bell(self):
        with contextlib.suppress(BlockingIOError, BrokenPipeError,
                                 ConnectionResetError):
            self.socket.send(b"\0", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def settlement(self, slot, generation, how, used_input, used_output):
        """What is said of a permit, before it is settled."""
        struct.pack_into("<IIqq", self.client,
                         self.shape.slots + 192 * slot + 64,
                         generation, how, used_input, used_output)

    def wait_word(self, slot, generation, *states):
        wait_until(lambda: self.word(slot) in
                   [(generation & 0xFFFFFF, s) for s in states],
                   what=f"the answer to generation {generation}",
                   interval=0.001)
        return self.word(slot)[1]

    def permit(self, slot, generation, **more):
        self.describe(slot, **more)
        self.command(slot, generation, SUBMIT)
        return self.wait_word(slot, generation, DONE, GRANTED)

    def is_out(self, patience=PATIENCE_S):
        """rgovd has hung up."""
        end = time.monotonic() + patience
        self.socket.settimeout(patience)
        try:
            while time.monotonic() < end:
                if self.receive() is None:
                    return True
        except TimeoutError:
            pass
        return False


# ---------------------------------------------------------------- another uid


def as_nobody(function):
    """Runs the function in a process of another uid and returns what it
    returned; its exception becomes ours."""
    if os.geteuid() != 0:
        raise Skip("only root can become another user")
    out, give = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _prctl_die_with_parent()
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            result = (True, function())
        except BaseException as e:  # the parent has to know all of them
            result = (False, f"{type(e).__name__}: {e}")
        with os.fdopen(give, "wb") as pipe:
            pickle.dump(result, pipe)
        os._exit(0)
    os.close(give)
    with os.fdopen(out, "rb") as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    ok, value = pickle.loads(told) if told else (False, "it died")
    if not ok:
        raise Failed(f"as another user: {value}")
    return value


def _prctl_die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
