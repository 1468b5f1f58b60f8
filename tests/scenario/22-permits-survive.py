#!/usr/bin/python3 -B
"""Permits over restarts of rgovd: they count until their holder gives them
back, dies, or their time is over; and they count once.
"""

from worker import *

BOARD = "/dev/shm/rgov.{}"
BOOT_ID, BOOT_ID_BYTES = 32, 16  # struct board_header


def active(rgovd):
    return rgovd.stats()["active_requests"]


def counter(rgovd, name):
    return rgovd.stats()["counters"][name]


@checks.test
def an_idle_holder_keeps_its_permit():
    """The holder does nothing while rgovd is killed twice: its permit counts
    all along, another user waits for it, and gets it when it is settled."""
    with Rgovd(limits(100, concurrency=1, per_user=1)) as rgovd, \
            Worker(rgovd) as holder, Worker(rgovd) as other:
        held = holder.permit(user="a").expect("Permit")
        for _ in range(2):
            rgovd.restart()
            equal(active(rgovd), 1, "active_requests after a restart")
        waiting = other.permit(user="b")
        wait_until(lambda: rgovd.stats()["queue_size"] == 1,
                   what="the other's request in the queue")
        equal(active(rgovd), 1, "active_requests")
        holder.settle(held["permit"])
        # The holder's next request brings it back; it has none, so it says
        # nothing more: its process's end would do as well.
        last = holder.permit(user="a")
        waiting.expect("Permit")
        other.settle(waiting.result()["permit"])
        holder.settle(last.expect("Permit")["permit"])
        wait_until(rgovd.is_idle, what="an idle rgovd")


@checks.test
def a_permit_ends_with_its_holder():
    """Killed under the rgovd that granted it: the permit is back at once."""
    with Rgovd(limits(100, concurrency=1)) as rgovd, Worker(rgovd) as next, \
            Worker(rgovd) as holder:
        holder.permit(user="a").expect("Permit")
        waiting = next.permit(user="b")
        wait_until(lambda: rgovd.stats()["queue_size"] == 1,
                   what="the next one in the queue")
        holder.kill9()
        next.settle(waiting.expect("Permit")["permit"])
        wait_until(rgovd.is_idle, what="an idle rgovd")
        equal(counter(rgovd, "permits_reclaimed"), 1, "permits_reclaimed")


@checks.test
def a_dead_holder_keeps_nothing():
    """Killed while rgovd is away, or after its successor came: the permit
    returns."""
    with Rgovd(limits(100, concurrency=2, per_user=1)) as rgovd, \
            Worker(rgovd) as one, Worker(rgovd) as two:
        one.permit(user="a").expect("Permit")
        two.permit(user="b").expect("Permit")
        rgovd.kill9()
        one.kill9()
        rgovd.start()
        equal(active(rgovd), 1, "active_requests after the restart")
        two.kill9()
        wait_until(rgovd.is_idle, what="an idle rgovd")
        check(counter(rgovd, "permits_reclaimed") >= 1, "it is counted")


@checks.test
def permits_of_a_predecessor_expire_one_by_one():
    """Each at the time that its predecessor set, also after two restarts, and
    also where the successor would let them live longer."""
    settings = limits(100, concurrency=3, per_user=3)
    with Rgovd(settings + 'permit_ttl = "4s"\n') as rgovd, \
            Worker(rgovd) as worker:
        worker.permit().expect("Permit")
        begin = time.monotonic()
        wait_until(lambda: time.monotonic() - begin > 2, what="2 seconds")
        worker.permit().expect("Permit")
        rgovd.write_config(settings + 'permit_ttl = "600s"\n')
        for _ in range(2):
            rgovd.restart()
            equal(active(rgovd), 2, "active_requests after a restart")
        wait_until(lambda: counter(rgovd, "permits_expired") >= 1,
                   what="the end of the first", timeout=8)
        equal(active(rgovd), 1, "active_requests after the first's end")
        wait_until(rgovd.is_idle, what="the end of the second", timeout=8)


@checks.test
def a_shorter_life_is_not_held_up_by_a_longer_one():
    """After a reload that shortens permit_ttl a new permit expires before an
    older one that was given for longer."""
    settings = limits(100, concurrency=3, per_user=3)
    with Rgovd(settings + 'permit_ttl = "600s"\n') as rgovd, \
            Worker(rgovd) as worker:
        worker.permit().expect("Permit")
        rgovd.write_config(settings + 'permit_ttl = "1s"\n')
        equal(rgovd.rgov("reload").returncode, 0, "status of the reload")
        worker.permit().expect("Permit")
        wait_until(lambda: counter(rgovd, "permits_expired") == 1,
                   what="the end of the short one", timeout=8)
        equal(active(rgovd), 1, "active_requests")


@checks.test
def a_permit_is_one_start():
    """Restarts do not use the window up: what was started once counts once,
    while its holder is away and when it is back."""
    with Rgovd(limits(5, concurrency=9, per_user=9, minute=60)) as rgovd, \
            Worker(rgovd) as worker:
        for _ in range(2):
            worker.permit().expect("Permit")
        for back in range(2):
            rgovd.restart()
            equal(rgovd.stats()["host"]["starts"], 2 + back,
                  "starts after a restart")
            # It comes back with what it holds, and asks for one more.
            worker.permit(timeout=20).expect("Permit")
            equal(rgovd.stats()["host"]["starts"], 3 + back, "starts")
            equal(active(rgovd), 3 + back, "active_requests")
        worker.permit().expect("Permit")
        worker.permit(timeout=1).expect("Timeout")


@checks.test
def a_full_queue_does_not_end_them():
    """What a session had sent is queued again before its permits are looked
    at, and the queue is full then: its permit stays the start that it was."""
    with Sim(latency="fixed:3") as sim, \
            Rgovd(limits(100, 3, 3, minute=60) + "max_queued = 1\n",
                  sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        sent = [worker.invoke() for _ in range(2)]
        wait_until(lambda: sim.report()["arrivals"] == 2, what="both calls")
        held = worker.permit().expect("Permit")
        rgovd.restart()
        for one in sent:
            one.expect("Reply")
        equal(rgovd.stats()["host"]["starts"], 5, "2 calls, twice, and a permit")
        worker.settle(held["permit"])
        wait_until(rgovd.is_idle, what="an idle rgovd")


@checks.test
def a_settlement_reaches_the_successor():
    """Settled while rgovd is away: what was used counts, and no more; the
    rest of the reservation returns."""
    model = 'model "*" {\ntokens_per_minute = 100000\n}\n'

    def tokens(rgovd):
        lanes = rgovd.stats()["lanes"]
        return next(l["tokens_available"] for l in lanes
                    if l["name"] == "vendor.model-v1")

    with Rgovd(limits(100, 1, 1, minute=900) + model) as rgovd, \
            Worker(rgovd) as worker:
        held = worker.permit(tokens=40000).expect("Permit")
        # It waits, so it also looks after the session.
        waiting = worker.permit(tokens=1)
        wait_until(lambda: 0 < tokens(rgovd) < 61000
                   and rgovd.stats()["queue_size"] == 1,
                   what="the reservation and the one that waits")
        rgovd.kill9()
        worker.settle(held["permit"], input_tokens=10000, output_tokens=2000)
        rgovd.start()
        last = waiting.expect("Permit")
        equal(active(rgovd), 1, "active_requests")
        worker.settle(last["permit"], outcome="unused")
        wait_until(rgovd.is_idle, what="an idle rgovd")
        # What comes back in a few seconds of 900 is little.
        wait_until(lambda: 100000 - 12000 <= tokens(rgovd) < 92000,
                   what="12000 tokens used", timeout=5)


def of_lane(rgovd, name):
    lanes = rgovd.stats()["lanes"]
    return next(l[name] for l in lanes if l["name"] == "vendor.model-v1")


def tokens_near(rgovd, expected, what):
    """What comes back in a few seconds of 900 is little."""
    wait_until(lambda: abs(of_lane(rgovd, "tokens_available") - expected)
               < 3000, what=f"about {expected} tokens: {what}", timeout=8)


SHORT = ('permit_ttl = "1s"\n'
         'model "*" {\ntokens_per_minute = 100000\n}\n')


@checks.cases(("at-once", 0), ("after-a-restart", 1), ("after-two", 2))
def a_late_settlement_corrects(_name, restarts):
    """Its time is over: it holds no place any more and costs its reservation.
    Its living holder settles it all the same, also under a successor: then it
    costs what was used, once; the slot is the holder's until then."""
    with Rgovd(limits(100, 1, 1, minute=900) + SHORT) as rgovd, \
            Worker(rgovd) as worker:
        held = worker.permit(tokens=40000).expect("Permit")
        wait_until(lambda: counter(rgovd, "permits_expired") == 1,
                   what="the end of its time", timeout=8)
        equal(active(rgovd), 0, "active_requests")
        tokens_near(rgovd, 60000, "as it was reserved")
        for _ in range(restarts):
            rgovd.kill9()
            rgovd.start()
            equal(active(rgovd), 0, "active_requests after a restart")
            tokens_near(rgovd, 60000, "after a restart")
        other = worker.permit(tokens=1000, timeout=20).expect("Permit")
        equal(active(rgovd), 1, "active_requests with the other")
        worker.settle(other["permit"], outcome="unused")
        worker.settle(held["permit"], input_tokens=10000, output_tokens=2000)
        tokens_near(rgovd, 88000, "12000 used")
        equal(counter(rgovd, "permits_settled_late"), 1, "permits_settled_late")
        wait_until(rgovd.is_idle, what="an idle rgovd")


@checks.test
def a_holder_that_dies_overdue_changes_nothing():
    """Nobody is left to say what it used: it stays as it was reserved."""
    with Rgovd(limits(100, 1, 1, minute=900) + SHORT) as rgovd, \
            Worker(rgovd) as worker:
        worker.permit(tokens=40000).expect("Permit")
        wait_until(lambda: counter(rgovd, "permits_expired") == 1,
                   what="the end of its time", timeout=8)
        rgovd.restart()
        worker.kill9()
        wait_until(rgovd.is_idle, what="an idle rgovd")
        tokens_near(rgovd, 60000, "as it was reserved")
        wait_until(lambda: not rgovd.stats()["live"], what="no live request")
        equal(counter(rgovd, "permits_settled_late"), 0, "permits_settled_late")
        equal(counter(rgovd, "permits_reclaimed"), 0, "permits_reclaimed")


@checks.test
def a_late_throttle_closes_the_gate():
    """The worker says it late: everybody waits all the same."""
    with Rgovd(limits(100, 2, 2, minute=900) + SHORT
               + 'throttle_backoff = "60s"\nbackoff_cap = "60s"\n') as rgovd, \
            Worker(rgovd) as worker:
        held = worker.permit(tokens=40000).expect("Permit")
        wait_until(lambda: counter(rgovd, "permits_expired") == 1,
                   what="the end of its time", timeout=8)
        worker.settle(held["permit"], outcome="throttled")
        wait_until(lambda: of_lane(rgovd, "throttled") == 1, what="the throttle")
        check(not of_lane(rgovd, "gate_open"), "the gate is closed")
        tokens_near(rgovd, 100000, "a throttle costs none")


@checks.test
def absurd_usage_counts_as_reserved():
    """Below nothing, above 2^53: as reserved, counted, and said once."""
    with Rgovd(limits(100, 1, 1, minute=900)
               + SHORT.replace("1s", "60s")) as rgovd, \
            Worker(rgovd) as worker:
        for used in (-5, 2 ** 60):
            held = worker.permit(tokens=10000).expect("Permit")
            worker.settle(held["permit"], input_tokens=used,
                          output_tokens=used)
        tokens_near(rgovd, 80000, "twice the reservation")
        wait_until(lambda: of_lane(rgovd, "absurd_usage") == 2,
                   what="both counted")
        equal(rgovd.process.text().count("event=usage.absurd"), 1, "log lines")


@checks.test
def what_can_never_fit_is_told_with_figures():
    with Rgovd(limits(100, 1, 1) + SHORT) as rgovd, Worker(rgovd) as worker:
        told = worker.permit(tokens=120000).expect("TooLarge")
        check("asks for 120000 tokens, tokens_per_minute of model "
              "vendor.model-v1 is 100000" in str(told), f"words: {told}")


def start_with_board(rgovd, change):
    """Starts rgovd, fills its board, stops it, changes the board's file, and
    returns how long the first request of the next one waits."""
    with Worker(rgovd) as worker:
        worker.permit(user="a").expect("Permit")
    path = pathlib.Path(BOARD.format(rgovd.name))
    rgovd.process.stop()
    bytes_of_it = bytearray(path.read_bytes())
    change(bytes_of_it)
    path.unlink()
    path.write_bytes(bytes_of_it)
    rgovd.start()
    with Worker(rgovd) as worker:
        begin = time.monotonic()
        worker.permit(user="a").expect("Permit")
        return time.monotonic() - begin


def empty(board):
    board.clear()


def nonsense(board):
    board[:] = b"rgov" * (len(board) // 4)


def other_layout(board):
    board[8] ^= 0xff


def cut(board):
    del board[len(board) // 2:]


def other_owner(board):
    board[48] ^= 0xff


@checks.cases(("empty", empty), ("nonsense", nonsense), ("cut", cut),
              ("other-layout", other_layout), ("other-owner", other_owner))
def a_board_that_cannot_be_believed_is_a_full_window(_name, change):
    """What cannot be read may have been anything: the next start waits for a
    whole window."""
    with Rgovd(limits(100, minute=2)) as rgovd:
        waited = start_with_board(rgovd, change)
        check(1.5 <= waited <= 12, f"the first start came after {waited:.1f} s")


@checks.test
def a_board_of_another_user_is_not_believed():
    """Whoever made it: its words about its owner are the other user's words."""
    if os.geteuid() != 0:
        raise Skip("needs root, to give a file away")
    with Rgovd(limits(100, minute=2)) as rgovd:
        with Worker(rgovd) as worker:
            worker.permit(user="a").expect("Permit")
        rgovd.process.stop()
        os.chown(BOARD.format(rgovd.name), 65534, 65534)
        rgovd.start()
        check("event=board.unreadable" in rgovd.process.text(),
              "every window counts as full")


def other_boot(board):
    for i in range(BOOT_ID, BOOT_ID + BOOT_ID_BYTES):
        board[i] ^= 0xff


@checks.cases(("other-boot", other_boot), ("same", lambda board: None))
def a_board_of_another_boot_says_nothing(name, change):
    """Its clock means nothing here: the window is empty.  The unchanged board
    of one start leaves room for another."""
    with Rgovd(limits(2, minute=30)) as rgovd:
        waited = start_with_board(rgovd, change)
        check(waited < 10, f"the first start came after {waited:.1f} s")
        equal(rgovd.stats()["host"]["starts"], 1 if name == "other-boot" else 2,
              "starts in the window")


@checks.test
def a_board_that_cannot_be_made_is_said():
    """Something lies in the way: exit 73 with words, and nothing is left
    behind by a start that fails later."""
    rgovd = Rgovd()
    in_the_way = pathlib.Path(BOARD.format(rgovd.name) + "#new")
    try:
        in_the_way.mkdir()
        rgovd.start(wait=False)
        equal(rgovd.process.wait(), 73, "status")
        said = rgovd.process.text()
        check("cannot make the board" in said, "words")
        check("runtime error" not in said, said)
        in_the_way.rmdir()
        rgovd.socket.mkdir()
        rgovd.start(wait=False)
        equal(rgovd.process.wait(), 73, "status")
        check(not in_the_way.exists(), "the unpublished board is gone")
    finally:
        if in_the_way.is_dir():
            in_the_way.rmdir()
        rgovd.stop()


checks.main()
