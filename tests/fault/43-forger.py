#!/usr/bin/python3
"""Files: what a client does to those it holds, and what it brings to a
successor (invariants 8 and 11).  Truncated, punched, sealed, reopened; and
sessions forged from other sessions' files, by another user too."""

from hostile import *

PUNCH = 1 | 2  # FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE
COLLAPSE, ZERO, INSERT, ALLOCATE = 8, 16, 32, 0
SEALS = {name: getattr(fcntl, name) for name in dir(fcntl)
         if name.startswith("F_SEAL_")}
SEALS["F_SEAL_FUTURE_WRITE"] = 16
SEALS["F_SEAL_EXEC"] = 32
NAMES = ("client control", "client bodies", "daemon control", "daemon bodies")

_libc = ctypes.CDLL(None, use_errno=True)


def fallocate(fd, mode, at, size):
    return _libc.fallocate(fd, mode, ctypes.c_long(at), ctypes.c_long(size)) == 0


@contextlib.contextmanager
def scene(settings=""):
    with Sim(latency="fixed:0.002") as sim, \
            Sanitized(SETTINGS + 'socket_mode = "0666"\n' + settings,
                      sim=sim) as rgovd:
        let_everybody_in(rgovd)
        Stranger(rgovd).ping()
        with Honest(rgovd, threads=2) as honest, quiet(rgovd), \
                answers_within(rgovd, 2.0):
            yield rgovd
        honest.judge()
        at_rest(rgovd)


# ---------------------------------------------------------------- truncated

def reopened(fd):
    """The same file with all rights, where the kernel gives them."""
    for flags in (os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_TRUNC):
        with contextlib.suppress(OSError):
            yield os.open(f"/proc/self/fd/{fd}", flags)


def attempts(fd, size):
    """Each attack on one file; True where the kernel let it happen."""
    for length in (0, 1, PAGE, size - PAGE, size + PAGE, 2**62):
        yield f"truncate to {length}", _libc.ftruncate64(
            fd, ctypes.c_long(length)) == 0
    for mode in (PUNCH, COLLAPSE, ZERO, INSERT, ALLOCATE):
        for at, n in ((0, PAGE), (PAGE, PAGE), (0, size), (size, PAGE)):
            yield f"fallocate {mode} at {at}", fallocate(fd, mode, at, n)
    for name, seal in SEALS.items():
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seal)
            yield name, True
    for protection in (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_WRITE):
        with contextlib.suppress(OSError, ValueError):
            mmap.mmap(fd, PAGE, prot=protection).close()
    with contextlib.suppress(OSError):
        os.fchmod(fd, 0)
        os.fchmod(fd, 0o777)
    for kind in (fcntl.F_RDLCK, fcntl.F_WRLCK):
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, fcntl.F_SETLEASE, kind)
    with contextlib.suppress(OSError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def attack_files(stranger):
    """All attempts on the four files, directly and reopened; how many, and
    those that changed a size."""
    tried, shrunk = 0, []
    for name, fd in zip(NAMES, stranger.fds):
        size = os.fstat(fd).st_size
        others = list(reopened(fd))
        for each in (fd, *others):
            for _what, _worked in attempts(each, size):
                tried += 1
        for each in others:
            os.close(each)
        if os.fstat(fd).st_size != size:
            shrunk.append(name)
    return tried, shrunk


def attack_in_every_stage(rgovd):
    """Before the files are sealed, while requests are out, and after."""
    tried = 0
    for stage in ("welcomed", "served", "busy"):
        with Stranger(rgovd) as stranger:
            stranger.register(4)
            if stage != "welcomed":
                stranger.send(stranger.head(MAPPED))
                equal(stranger.permit(0, 1), GRANTED, "a permit")
            if stage == "busy":
                for slot in (1, 2, 3):
                    stranger.describe(slot, kind=0, body=b'{"max_tokens":5}')
                    stranger.command(slot, 1, SUBMIT)
            more, shrunk = attack_files(stranger)
            tried += more
            equal(shrunk, [], f"files of another size ({stage})")
            with contextlib.suppress(OSError):
                stranger.send(stranger.head(MAPPED))
    return tried


@checks.cases(("the_same_user", False), ("another_user", True))
def truncated_punched_and_sealed(_name, is_foreign):
    "No size changes, rgovd reads no hole as a fault, the session ends alone."
    with scene() as rgovd:
        if is_foreign:
            tried = as_nobody(lambda: attack_in_every_stage(rgovd))
        else:
            tried = attack_in_every_stage(rgovd)
        row(attempts=tried, foreign=is_foreign)


@checks.test
def holes_while_rgovd_reads():
    "A file is punched and truncated as fast as can be while it is served."
    with scene() as rgovd, Stranger(rgovd) as stranger:
        stranger.register(8)
        stop = threading.Event()
        threads = [threading.Thread(target=puncher, args=(fd, stop), daemon=True)
                   for fd in stranger.fds[:4]]
        for thread in threads:
            thread.start()
        stranger.send(stranger.head(MAPPED))
        body = b'{"max_tokens":5,"p":"' + b"x" * 200_000 + b'"}'
        for generation in range(1, 60):
            slot = generation % 8
            with contextlib.suppress(Failed):
                stranger.describe(slot, kind=0, body=body)
                stranger.command(slot, (generation + 7) // 8, SUBMIT)
        time.sleep(1.0)
        stop.set()
        for thread in threads:
            thread.join()


def puncher(fd, stop):
    size = os.fstat(fd).st_size
    while not stop.is_set():
        fallocate(fd, PUNCH, 0, size)
        _libc.ftruncate64(fd, ctypes.c_long(0))


# ---------------------------------------------------------------- forged

def refused(answer, *words):
    check(answer is not None and answer.type == REFUSED,
          f"expected a refusal, found {answer}")
    for word in words:
        check(word in answer.text, f"a refusal without {word!r}: {answer.text}")


def bring(rgovd, stranger, fds=None, **how):
    """REATTACH over a connection of its own: rgovd's answer."""
    with Stranger(rgovd) as again:
        files = stranger.fds[:4] if fds is None else fds
        data = stranger.reattach(**how)
        answer = again.ask(data, files)
        for fd in answer.fds if answer else ():
            os.close(fd)
        return answer


def forged_files(stranger):
    """For each of the four: (which, a descriptor in its place)."""
    sizes = (stranger.shape.client_bytes, stranger.shape.bodies_bytes,
             stranger.shape.daemon_bytes, stranger.shape.bodies_bytes)
    names = ("rgov:client", "rgov:client-bodies", "rgov:daemon",
             "rgov:daemon-bodies")
    for which, (size, name) in enumerate(zip(sizes, names)):
        for seals in (0, 1, 2 | 4, 1 | 2 | 4, 1 | 2 | 4 | 8):
            fd = os.memfd_create("forged" if seals == 7 else name,
                                 os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(fd, size)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
            yield which, fd
            os.close(fd)
        for other in range(5):
            if other != which:
                yield which, stranger.fds[other]
    for which in range(4):
        left, right = socket.socketpair()
        yield which, left.fileno()
        left.close()
        right.close()


def forge(rgovd, stranger):
    """Everything that must be refused; how many."""
    tried = 0
    for which, fd in forged_files(stranger):
        fds = list(stranger.fds[:4])
        fds[which] = fd
        refused(bring(rgovd, stranger, fds), "reattach")
        tried += 1
    for slots in (0, 3, 5, 1024, 1025, 2**32 - 1):
        refused(bring(rgovd, stranger, slots=slots))
    for n in range(4):
        refused(bring(rgovd, stranger, stranger.fds[:n]), "four descriptors")
    refused(bring(rgovd, stranger, stranger.fds[:5]), "four descriptors")
    refused(bring(rgovd, stranger, session_id=b"\0" * 16), "session")
    return tried + 12


@checks.test
def forged_and_exchanged_files():
    """Every wrong file in every place is refused in words that name it.  One that
    is only found out by what is in it ends the session whose files it is among,
    and no other."""
    with scene() as rgovd, Stranger(rgovd) as stranger, \
            Stranger(rgovd) as other:
        for one in (stranger, other):
            one.open(4)
            one.permit(0, 1)
        refused(bring(rgovd, stranger), "served")
        rgovd.restart()
        tried = forge(rgovd, stranger)
        refused(bring(rgovd, stranger), "ended")
        equal(bring(rgovd, other).type, REATTACHED, "the right files")
        row(forgeries=tried)


@checks.test
def a_session_of_another_user():
    "Somebody else's descriptors, whole and right, are not enough."
    with scene() as rgovd, Stranger(rgovd) as stranger:
        stranger.open(4)
        stranger.permit(0, 1)
        rgovd.restart()
        answer = as_nobody(lambda: tuple(bring(rgovd, stranger))[:3])
        equal(answer[0], REFUSED, "type of the answer")
        check("this user" in answer[2], f"the words: {answer[2]}")
        equal(bring(rgovd, stranger).type, REATTACHED, "its own user")


@checks.test
def another_user_forges_for_itself():
    "The same with the files of one's own, under another uid than rgovd's."
    with scene() as rgovd:
        ready, go_on = os.pipe(), os.pipe()

        def be_nobody():
            with Stranger(rgovd) as stranger:
                stranger.open(4)
                os.write(ready[1], b"x")
                os.read(go_on[0], 1)  # rgovd is a new one now
                return forge(rgovd, stranger)

        background = Background([lambda: as_nobody(be_nobody)])
        os.read(ready[0], 1)
        rgovd.restart()
        os.write(go_on[1], b"x")
        tried = background.join(PATIENCE_S)[0]
        check(isinstance(tried, int), f"{tried}")
        row(forgeries=tried)


@checks.test
def generations_and_indexes_of_a_forged_past():
    "Words that nobody can have left: refused, with what was found."
    with scene() as rgovd:
        for generation, command in ((2, SUBMIT), (0xFFFFFF, SUBMIT), (1, ACK),
                                    (1, SETTLE), (0, 9), (0x800000, CANCEL)):
            with Stranger(rgovd) as stranger:
                stranger.open(4)
                stranger.bell()
                rgovd.restart()
                stranger.command(3, generation, command)
                refused(bring(rgovd, stranger), "slot 3", "expected", "found")


@checks.test
def permits_of_the_past_are_not_out_twice():
    "A session that ended is not brought back, by whom ever, however often."
    with scene("permit_ttl = \"600s\"\n") as rgovd:
        past = []
        for _ in range(12):
            stranger = Stranger(rgovd).open(4)
            for slot in range(4):
                equal(stranger.permit(slot, 1), GRANTED, "a permit")
            stranger.socket.shutdown(socket.SHUT_RDWR)
            past.append(stranger)
        wait_until(lambda: rgovd.stats()["active_requests"] <= 2,
                   what="the permits of the dead")
        for stranger in past:
            refused(bring(rgovd, stranger), "ended")
            stranger.close()
        check(rgovd.stats()["active_requests"] <= 2, "permits came back")


checks.main()
