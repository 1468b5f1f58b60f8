#!/usr/bin/python3
"""Messages, descriptors and registrations that cannot be: each costs its sender
its own session, with words and a count, and nobody else anything (invariant 8).
rgovd runs under sanitizers."""

import ctypes
import errno
import random

from hostile import *

SEED = int(os.environ.get("SEED") or 1)
BLOCKED_S = 2.0  # nothing below may hold the loop for so long


@contextlib.contextmanager
def scene(settings="", sim_extra=(), kind=Sanitized):
    """An rgovd, an honest client at work, and nothing left at the end."""
    with Sim(latency="fixed:0.002", extra=sim_extra) as sim, \
            kind(SETTINGS + 'socket_mode = "0666"\n' + settings,
                 sim=sim) as rgovd:
        let_everybody_in(rgovd)
        Stranger(rgovd).ping()  # from here on it is known what is spoken
        with Honest(rgovd, threads=2) as honest, quiet(rgovd), \
                answers_within(rgovd, BLOCKED_S):
            yield rgovd
        honest.judge()
        at_rest(rgovd)


def refused(answer, *words):
    check(answer is not None and answer.type == REFUSED,
          f"expected a refusal, found {answer}")
    for word in words:
        check(word in answer.text, f"a refusal without {word!r}: {answer.text}")


# ---------------------------------------------------------------- messages

def mutations(rgovd):
    """Messages that nearly are one."""
    asker = Stranger(rgovd)
    good = {"HELLO": asker.hello(), "REATTACH": asker.reattach(4, b"x" * 16),
            "ADMIN": asker.admin(99), "EXPLAIN": asker.admin(EXPLAIN, 1),
            "HINTS": asker.admin(HINTS), "MAPPED": asker.head(MAPPED)}
    asker.close()
    yield "empty", b""
    yield "a bell", b"\0"
    yield "the largest", bytes(150_000)
    for name, message in good.items():
        for size in (1, 3, 15, 16, 17, len(message) - 1):
            yield f"{name} of {size} bytes", message[:size]
        yield f"{name} with a tail", message + b"\0"
        yield f"{name} of 64 KiB", message.ljust(65536, b"\xff")
        for at in range(0, 24, 4):
            spoilt = bytearray(message.ljust(at + 4, b"\0"))
            spoilt[at:at + 4] = b"\xff" * 4
            yield f"{name} spoilt at {at}", bytes(spoilt)
    yield "every slot", asker.head(HELLO) + struct.pack("<II64s", 2**32 - 1,
                                                       2**32 - 1, b"\x1b[2J" * 12)


def send_and_leave(rgovd, message, served):
    """True: rgovd hung up by itself, or answered as it should."""
    with Stranger(rgovd) as stranger:
        if served:
            stranger.open()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            stranger.send(message)
        if len(message) == 1 and served:
            return True
        answer = stranger.receive()
        return answer is None or answer.type in (
            REFUSED, WELCOME, ANSWER, EXPLAINED)


@checks.test
def messages_that_nearly_are_one():
    "Wrong, short, huge, spoilt, before and after the registration."
    with scene() as rgovd:
        sent = 0
        for name, message in mutations(rgovd):
            for served in (False, True):
                check(send_and_leave(rgovd, message, served),
                      f"{name} (served: {served}) was answered oddly")
                sent += 1
        row(messages=sent)


@checks.test
def random_messages():
    "Whatever bytes come, with whatever head."
    with scene() as rgovd:
        dice = random.Random(SEED)
        for _ in range(400):
            with Stranger(rgovd) as stranger:
                if dice.random() < 0.3:
                    stranger.register(dice.choice((0, 1, 5, 2**31)))
                for _ in range(dice.randint(1, 4)):
                    data = dice.randbytes(dice.choice((1, 2, 24, 32, 88, 104, 2000)))
                    if dice.random() < 0.7:
                        data = stranger.head(dice.randint(0, 9)) + data
                    with contextlib.suppress(OSError):
                        stranger.send(data)


@checks.test
def one_line_and_one_count_each():
    "Each session that is closed is said once, and counted once."
    with scene() as rgovd:
        before = len(log_lines(rgovd, "session.refused"))
        for _ in range(7):
            with Stranger(rgovd) as stranger:
                stranger.open()
                stranger.entry(2**32 - 1, 0)
                check(stranger.is_out(), "a slot out of range is served")
        for _ in range(5):
            with Stranger(rgovd) as stranger:
                refused(stranger.ask(b"nothing of the kind"))
        equal(len(log_lines(rgovd, "session.expelled")), 7, "lines: expelled")
        equal(len(log_lines(rgovd, "session.refused")) - before, 5,
              "lines: refused")
        counters = wait_until(lambda: counted(rgovd, "sessions_refused", 5),
                              what="the refusals on the board")
        equal(counters["sessions_closed"], 7, "sessions_closed")


def counted(rgovd, name, least):
    counters = rgovd.stats()["counters"]
    return counters if counters[name] >= least else None


@checks.test
def a_flood_of_refusals_is_no_flood_of_lines():
    "The log has some lines a second; the counter has all."
    with scene() as rgovd:
        begin = time.monotonic()
        for _ in range(2000):
            with Stranger(rgovd) as stranger:
                refused(stranger.ask(b"nothing of the kind"))
        seconds = time.monotonic() - begin
        wait_until(lambda: counted(rgovd, "sessions_refused", 2000),
                   what="2000 refusals on the board")
        lines = log_lines(rgovd, "session.refused")
        check(len(lines) <= 20 * (seconds + 2),
              f"{len(lines)} lines of 2000 refusals in {seconds:.1f} s")
        row(refusals=2000, seconds=round(seconds, 1), lines=len(lines))


# ---------------------------------------------------------------- descriptors

@contextlib.contextmanager
def odd_descriptors(rgovd):
    """By name, what nobody expects: none of it is a memfd of rgovd."""
    folder = rgovd.scratch.path
    (folder / "file").write_bytes(b"x" * PAGE)
    os.mkfifo(folder / "fifo")
    left, right = socket.socketpair()
    path = {name: os.open(at, flags) for name, at, flags in (
        ("a directory", folder, os.O_RDONLY),
        ("O_PATH", folder / "file", os.O_PATH),
        ("a file", folder / "file", os.O_RDWR),
        ("a FIFO", folder / "fifo", os.O_RDWR),
        ("/dev/zero", "/dev/zero", os.O_RDWR),
        ("/dev/full", "/dev/full", os.O_RDWR),
        ("/proc/self/mem", "/proc/self/mem", os.O_RDWR),
        ("a terminal", "/dev/ptmx", os.O_RDWR | os.O_NOCTTY))}
    board = os.open(f"/dev/shm/rgov.{rgovd.name}", os.O_RDONLY)
    poller = select.epoll()
    held = {**path, "the board": board, "a socket": left.fileno(),
            "an epoll": poller.fileno(),
            "an eventfd": os.eventfd(0),
            "a memfd of nothing": os.memfd_create("rgov:client"),
            "a pidfd": os.pidfd_open(os.getpid()),
            "an io_uring": io_uring()}
    held = {name: fd for name, fd in held.items() if fd is not None}
    try:
        yield held
    finally:
        left.close()
        right.close()
        poller.close()
        for name, fd in held.items():
            if name not in ("a socket", "an epoll"):
                os.close(fd)


def io_uring():
    """Or None, where there is none."""
    fd = ctypes.CDLL(None).syscall(425, 4, ctypes.create_string_buffer(120))
    return fd if fd >= 0 else None


@checks.test
def descriptors_where_none_belong():
    "With any message, one to 253 of them: rgovd keeps none."
    with scene() as rgovd, odd_descriptors(rgovd) as odd:
        sent = 0
        for name, fd in odd.items():
            for n in (1, 4, 5, 253):
                for message in (b"x", b"", b"garbage!" * 4):
                    sent += attach(rgovd, message, [fd] * n)
        with Stranger(rgovd) as welcome:
            usual = [fd for name, fd in odd.items() if name != "an io_uring"]
            welcome.send(welcome.hello(), usual)
            equal(welcome.receive().type, WELCOME, "HELLO with descriptors")
        for fd in usual:
            with Stranger(rgovd) as stranger:
                stranger.open()
                stranger.send(b"\0", [fd] * 253)
                check(stranger.is_out(), "descriptors with a bell are taken")
        row(descriptors=sent)


def attach(rgovd, message, fds):
    with Stranger(rgovd) as stranger:
        try:
            stranger.send(message, fds)
        except OSError as e:
            # Newer kernels themselves pass no io_uring on.
            if e.errno not in (errno.EINVAL, errno.EPIPE, errno.ECONNRESET):
                raise
            return 0
    return len(fds)


@checks.test
def sockets_in_themselves():
    "The session's socket through itself, and cycles of two."
    with scene() as rgovd:
        for _ in range(50):
            with Stranger(rgovd) as one, Stranger(rgovd) as other:
                fds = [one.socket.fileno(), other.socket.fileno()]
                for stranger in (one, other):
                    with contextlib.suppress(OSError):
                        stranger.send(stranger.hello(), fds)
                        stranger.send(b"\0", fds * 4)
                        stranger.send(b"", fds)


def lingering():
    """(the deaf end, a socket whose last close waits 30 s)"""
    deaf = socket.create_server(("127.0.0.1", 0))
    near = socket.create_connection(deaf.getsockname())
    near.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            near.send(bytes(65536))
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                    struct.pack("ii", 1, 30))
    return deaf, near


@checks.test
def a_descriptor_that_does_not_let_itself_be_closed():
    "A lingering socket in every place, the last reference rgovd's."
    with scene() as rgovd:
        deaf = []
        for how in ("first", "HELLO", "REATTACH", "unread", "bell"):
            far, near = lingering()
            deaf.append(far)
            with Stranger(rgovd) as stranger:
                give_away(rgovd, stranger, how, near)
                time.sleep(0.05)  # rgovd has it, and we have not
        for far in deaf:
            far.close()


def give_away(rgovd, stranger, how, near):
    message = {"HELLO": stranger.hello(), "REATTACH":
               stranger.reattach(4, b"x" * 16)}.get(how, b"garbage!")
    if how == "bell":
        stranger.open()
        message = b"\0"
    if how == "unread":
        rgovd.process.signal(signal.SIGSTOP)  # so that it comes in one go
        for _ in range(20):
            stranger.send(b"")
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stranger.send(message, [near.fileno()])
    near.close()  # rgovd or the queue has the last one
    rgovd.process.signal(signal.SIGCONT)


MNT_FORCE, MNT_DETACH = 1, 2
GETATTR, OPEN, FORGET, FLUSH, INIT, INTERRUPT, RELEASE = 3, 14, 2, 25, 26, 36, 18


@contextlib.contextmanager
def never_flushed(folder):
    """A descriptor whose every close but our own waits for a file system of ours
    (FUSE), which does not answer; until the end of the block."""
    libc = ctypes.CDLL(None, use_errno=True)
    path = folder / "hangs"
    path.write_bytes(b"")
    try:
        wire = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as why:
        raise Skip(f"no FUSE here: {why}") from None
    if libc.mount(b"rgov", bytes(path), b"fuse", 0,
                  b"fd=%d,rootmode=100600,user_id=0,group_id=0" % wire) != 0:
        os.close(wire)
        raise Skip("only root mounts a file system of its own")
    stop = threading.Event()
    server = threading.Thread(target=serve_fuse, args=(wire, stop), daemon=True)
    server.start()
    try:
        yield os.open(path, os.O_RDONLY)
    finally:
        # Who waits for an answer is told that there is nobody.
        libc.umount2(bytes(path), MNT_FORCE | MNT_DETACH)
        stop.set()
        server.join()
        os.close(wire)


def serve_fuse(wire, stop):
    """One file, which can be opened; FLUSH by others gets no answer."""
    root = struct.pack("<QII6Q10I", 0, 0, 0, 1, *[0] * 5, 0, 0, 0, 0o100600, 1,
                       0, 0, 0, 4096, 0)
    answers = {INIT: struct.pack("<IIIIHHIIHH8I", 7, 31, 0, 0, 16, 12, 65536, 1,
                                 16, 0, *[0] * 8),
               GETATTR: root, OPEN: bytes(16), FLUSH: b"", RELEASE: b""}
    while not stop.is_set():
        if not select.select([wire], [], [], 0.05)[0]:
            continue
        try:
            asked = os.read(wire, 1 << 20)
            kind, number = struct.unpack_from("<IQ", asked, 4)
            who = struct.unpack_from("<I", asked, 32)[0]
            if kind in (FORGET, INTERRUPT) or kind == FLUSH and who != os.getpid():
                continue
            data = answers.get(kind)
            error = -errno.ENOSYS if data is None else 0
            os.write(wire, struct.pack("<IiQ", 16 + len(data or b""), error,
                                       number) + (data or b""))
        except BlockingIOError:
            continue
        except OSError:
            return  # it is unmounted


@checks.test
def a_reload_beside_descriptors_that_hang():
    "Whoever closes them waits for ever, a child of rgovd's too: not its loop."
    with scene() as rgovd, never_flushed(rgovd.scratch.path) as fd:
        refused(Stranger(rgovd).ask(b"nothing of the kind", [fd] * 3))
        os.close(fd)  # a child of ours would hang, too
        rgovd.process.signal(signal.SIGHUP)
        wait_until(lambda: counted(rgovd, "reloads", 1),
                   what="the reload")
        Stranger(rgovd).ping()


# ---------------------------------------------------------------- registrations

@checks.test
def thousands_of_registrations():
    "One process, as fast as it can: its places come back, the others keep theirs."
    with scene("max_sessions = 512\n") as rgovd:
        for turn in range(1500):
            with Stranger(rgovd) as stranger:
                if turn % 3 == 0:
                    stranger.open(1 + turn % 64)
                elif turn % 3 == 1:
                    stranger.register(1 + turn % 256)
        row(registrations=1500)


@checks.test
def a_process_that_takes_every_place():
    "It gets a quarter; other processes are still let in, and it is told why."
    with scene("max_sessions = 512\n") as rgovd:
        taken = [Stranger(rgovd) for _ in range(129)]
        refused(taken.pop().receive(), "this process", "128")
        equal(run_other_client(rgovd), 0, "status of another process's client")
        for stranger in taken:
            stranger.close()


@checks.test
def a_user_that_takes_every_place():
    "With as many processes as it takes, the last eighth is the others'."
    with scene("max_sessions = 160\n") as rgovd:
        told = as_nobody(lambda: crowd(rgovd))
        check("kept for others" in told, f"the crowd was told: {told}")


def crowd(rgovd):
    """Several processes hold connections until one is refused: its words."""
    children, held = [], []
    try:
        for _ in range(3):
            children.append(hold_connections(rgovd, 50))
        for _ in range(60):
            stranger = Stranger(rgovd)
            stranger.socket.settimeout(0.2)
            held.append(stranger)
            with contextlib.suppress(TimeoutError):
                return stranger.receive().text
        return "nothing"
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def hold_connections(rgovd, n):
    """A process that has so many, once it is there."""
    ready, give = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _held = [Stranger(rgovd) for _ in range(n)]
            os.write(give, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(give)
    check(os.read(ready, 1), "a process of the crowd has ended")
    os.close(ready)
    return child


def run_other_client(rgovd):
    return run([BUILD / "tests/c_client", 1, 3], env=rgovd.client_env()).returncode


@checks.test
def half_a_handshake_is_given_five_seconds():
    "No HELLO, or no MAPPED: over after 5 s, and no sooner."
    with scene() as rgovd:
        begin = time.monotonic()
        silent, unmapped = Stranger(rgovd), Stranger(rgovd)
        unmapped.register()
        check(silent.is_out() and unmapped.is_out(), "they are still there")
        took = time.monotonic() - begin
        check(4.5 < took < 5 + PATIENCE_S / 2, f"it took {took:.1f} s")
        silent.close()
        unmapped.close()


# ---------------------------------------------------------------- buffers

@checks.test
def sockets_that_never_read():
    "Buffers as small or full as can be, flags changed: rgovd does not wait."
    with scene() as rgovd:
        held = []
        for turn in range(24):
            stranger = Stranger(rgovd)
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                stranger.socket.setsockopt(socket.SOL_SOCKET, option,
                                           1 if turn % 2 else 1 << 24)
            stranger.open()
            for fd in [*stranger.fds, stranger.socket.fileno()]:
                flags = fcntl.fcntl(fd, fcntl.F_GETFL)
                fcntl.fcntl(fd, fcntl.F_SETFL, flags ^ os.O_NONBLOCK)
            held.append(stranger)
        for generation in range(1, 120):
            for stranger in held:
                # Each answer rings a bell that nobody takes.
                stranger.describe(0, flags=1)
                stranger.command(0, generation, SUBMIT)
                stranger.wait_word(0, generation, DONE, GRANTED)
        for stranger in held:
            fill(stranger)
            stranger.close()


def fill(stranger):
    """Bells until no more fit."""
    stranger.socket.setblocking(False)
    with contextlib.suppress(OSError):
        while True:
            stranger.socket.send(b"\0")


# ---------------------------------------------------------------- requests

def extremes():
    """Descriptors with one field at its extreme: (name, fields, what is
    acceptable of the answer: None: any)."""
    big = 2**64 - 1
    invalid = {9}
    yield "model of 0", dict(lengths=(0, 0, 8)), invalid
    yield "model of 1", dict(model=b"m"), None
    yield "model of 2047", dict(model=b"m" * 2047), None
    yield "model of 2048", dict(model=b"m" * 2048), None
    yield "model of 2049", dict(lengths=(2049, 0, 8)), invalid
    yield "model of 65535", dict(lengths=(65535, 65535, 65535)), invalid
    yield "a model of paths", dict(model=b"../../../etc/passwd"), None
    yield "a model with controls", dict(model=b"m\r\nHost: x"), invalid
    yield "a model of no UTF-8", dict(model=b"\xff\xfe\x80" * 9), None
    yield "headers of 2048", dict(headers=b"X-A: b\n" * 292), None
    yield "headers of 2049", dict(lengths=(15, 2049, 8)), invalid
    yield "headers without a colon", dict(headers=b"x" * 100), None
    yield "headers of controls", dict(headers=b"X-A: \x01\x7f\n"), None
    yield "headers that inject", dict(headers=b"Authorization: no\n"), None
    yield "headers with zeros", dict(headers=b"X-A: b\0c\n"), invalid
    yield "user of 0", dict(lengths=(15, 0, 0)), invalid
    yield "user of 63", dict(user=b"u" * 63), None
    yield "user of 64", dict(user=b"u" * 64), invalid
    yield "user of escapes", dict(user=b"\x1b[31mred"), invalid
    yield "user of no UTF-8", dict(user=b"\xc3\x28\xa0\xff"), None
    yield "deadline 0", dict(deadline=0), invalid
    yield "deadline 1", dict(deadline=1), None
    yield "deadline max", dict(deadline=big), None
    yield "tokens max", dict(tokens=(big, big)), invalid
    yield "tokens 2^32-1", dict(tokens=(2**32 - 1, 2**32 - 1)), None
    for field, least in (("kind", 2), ("operation", 2), ("priority", 3),
                         ("flags", 4)):
        yield f"{field} too great", {field: least}, invalid
        yield f"{field} 255", {field: 255}, invalid
    yield "a permit with a body", dict(body_bytes=1), invalid
    call = dict(kind=0, body=b'{"max_tokens":5}')
    yield "a body above all", {**call, "body_bytes": 2**32 - 1}, invalid
    yield "a body above its region", {**call, "body_bytes": 25_000_001}, invalid
    yield "a body into the next region", {**call, "body_bytes": 25_000_000}, None
    yield "a body that was not written", dict(kind=0, body_bytes=300_000), None
    yield "no body", dict(kind=0), None
    for text in (b"NaN", b'{"max_tokens":NaN}', b'{"max_tokens":1e999}',
                 b'{"max_tokens":-1}', b'{"max_tokens":18446744073709551616}',
                 b'{"max_tokens":5', b"[" * 100_000, b'{"a":' * 50_000,
                 b"\xff" * 4096, b'"' + b"x" * 200_000, bytes(4096)):
        yield f"a body {text[:20]!r}", dict(kind=0, body=text), None


@checks.test
def requests_at_their_extremes():
    "Each ends once with a typed answer; the session goes on."
    with scene() as rgovd, Stranger(rgovd) as stranger:
        stranger.open(1)
        generation = 0
        for name, fields, expected in extremes():
            generation += 1
            stranger.describe(0, **fields)
            stranger.command(0, generation, SUBMIT)
            state = stranger.wait_word(0, generation, DONE, GRANTED)
            result = stranger.result(0)
            check(result <= 14, f"{name}: an unknown result {result}")
            check(expected is None or result in expected,
                  f"{name}: expected result {expected}, found {result}")
            if state == GRANTED:
                stranger.command(0, generation, SETTLE)
                stranger.wait_word(0, generation, DONE)
        row(extremes=generation)


RESERVED = 150
OK, FAILED, UNUSED = 0, 2, 3
MOST = 2**63 - 1


def settlements():
    """What may be said of a permit, and what it costs then: (generation from
    its own, how, input, output, tokens)."""
    yield 0, OK, 10, 10, 20
    yield 0, UNUSED, MOST, MOST, 0
    for used in (-MOST - 1, -2, -1, 2**53 + 1, 2**62, MOST):
        for how in (OK, FAILED):
            yield 0, how, used, used, RESERVED
    for how in (4, 255, 2**32 - 1):
        yield 0, how, 10, 10, RESERVED
    for other in (1, 2, 2**24, 2**31):
        yield other, OK, 10, 10, RESERVED


@checks.cases(("in_time", 0), ("overdue", 1), ("overdue_at_a_successor", 2))
def settlements_at_their_extremes(name, lateness):
    """Each permit is charged once: what it used, where that can be believed,
    else as it was reserved; however often it is given back."""
    told = list(settlements())
    with scene("permit_ttl = \"%ds\"\nmodel \"told\" { tokens_per_day = "
               "1000000000 }\n" % (1 if lateness else 600)) as rgovd, \
            Stranger(rgovd) as stranger:
        day = time.time() // 86400
        stranger.open(32)
        for slot in range(len(told)):
            equal(stranger.permit(slot, 1, model=b"told", tokens=(100, 50)),
                  GRANTED, "a permit")
        if lateness:
            wait_until(lambda: counted(rgovd, "permits_expired", len(told)),
                       what="the end of their time")
        if lateness == 2:
            rgovd.kill9()
        for slot, (other, how, used_input, used_output, _) in enumerate(told):
            stranger.settlement(slot, 1 + other, how, used_input, used_output)
            for command in (SETTLE, SETTLE, CANCEL, SETTLE):
                stranger.command(slot, 1, command)
        if lateness == 2:
            rgovd.start()
            stranger.come_back()
        for slot in range(len(told)):
            stranger.wait_word(slot, 1, DONE)
        wait_until(lambda: not rgovd.stats()["live"], what="no permit")
        time.sleep(0.3)  # what is given back a second time would be seen
        spent = sum(l["tokens_used_today"] for l in rgovd.stats()["lanes"]
                    if l["name"] == "told")
        counters = rgovd.stats()["counters"]
        equal(counters["permits_settled_late"], len(told) if lateness else 0,
              "permits_settled_late")
        if day == time.time() // 86400:
            equal(spent, sum(one[-1] for one in told), "tokens spent")
        row(settlements=len(told), when=name, spent=spent)


@checks.test
def the_table_of_live_requests_is_full():
    "What it cannot show is counted while it is so, and no longer."
    queue = "max_concurrent_requests = 2\nmax_requests_per_user = 2\n" \
            "max_queued_per_user = 4000\nslots_per_session = 1024\n"
    with Sim(latency="fixed:0.2") as sim, \
            Sanitized("requests_per_minute = 60000\n" + queue,
                      sim=sim) as rgovd:
        held = [Stranger(rgovd).open(1024) for _ in range(2)]
        for stranger in held:
            for slot in range(1024):
                stranger.describe(slot, kind=0, body=b'{"max_tokens":5}',
                                  deadline=time.monotonic_ns() + 10**12)
                stranger.command(slot, 1, SUBMIT)
        hidden = wait_until(lambda: rgovd.stats()["host"]["live_hidden"] > 0
                            and rgovd.stats()["host"]["live_hidden"],
                            what="requests that are hidden")
        check(hidden <= 2048, f"{hidden} of 2048 are hidden")
        for stranger in held:
            stranger.close()
        wait_until(lambda: rgovd.stats()["host"]["live_hidden"] == 0,
                   what="none hidden when none waits")
        at_rest(rgovd)


checks.main()
