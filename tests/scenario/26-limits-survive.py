#!/usr/bin/python3 -B
"""Limits over restarts of rgovd, also where it is killed at once, or again in
its first moments: nothing is spent twice, nothing spent is forgotten.
"""

from worker import *

BOARD = "/dev/shm/rgov.{}"
LANE_NAME = 144  # struct board_lane
LIMIT, COST = 100000, 40000
LONG = "arn:aws:bedrock:us-east-1:123456789012:" + "x" * 300 + "/profile"
TOKENS = f'model "*" {{\ntokens_per_minute = {LIMIT}\n}}\n'


def slow_refill(concurrency=2):
    """A window so long that nothing comes back within a test."""
    return limits(100, concurrency, concurrency, minute=900) + TOKENS


def tokens(rgovd, model="vendor.model-v1"):
    lanes = rgovd.stats()["lanes"]
    found = [l["tokens_available"] for l in lanes if l["name"] == model]
    return found[0] if found else LIMIT


def near(rgovd, expected, what):
    found = tokens(rgovd)
    check(abs(found - expected) < 3000,
          f"{what}: expected about {expected} tokens, found {found}")


@checks.test
def what_was_spent_a_moment_ago_is_spent():
    """The call's client and rgovd are killed while it runs, before anything
    was shown: its reservation is on the board all the same, and on that of a
    successor that is killed in its first moments."""
    body = '{"max_tokens":%d}' % COST
    with Sim(latency="fixed:30") as sim, \
            Rgovd(slow_refill(), sim=sim) as rgovd, Worker(rgovd) as worker:
        worker.invoke(body=body)
        wait_until(lambda: sim.report()["arrivals"] == 1, what="the call",
                   interval=0.001)
        rgovd.kill9()
        worker.kill9()
        for restart in range(3):
            rgovd.start()
            near(rgovd, LIMIT - COST, f"restart {restart + 1}")
            rgovd.kill9()
        rgovd.start()


@checks.test
def a_permit_spends_once():
    """However often rgovd is restarted while it is out, and whether its holder
    is away or back; settled, it has cost what was used."""
    with Rgovd(slow_refill()) as rgovd, Worker(rgovd) as worker:
        held = worker.permit(tokens=COST).expect("Permit")
        for restart in range(3):
            wait_until(lambda: tokens(rgovd) < LIMIT, what="the reservation")
            rgovd.restart()
            near(rgovd, LIMIT - COST, f"restart {restart + 1}")
        # It comes back with the permit that it holds.
        other = worker.permit(tokens=1000).expect("Permit")
        wait_until(lambda: tokens(rgovd) < LIMIT - COST, what="the other")
        near(rgovd, LIMIT - COST - 1000, "with both back")
        worker.settle(other["permit"], outcome="unused")
        worker.settle(held["permit"], input_tokens=10000, output_tokens=2000)
        wait_until(lambda: tokens(rgovd) > LIMIT - COST, what="the rest back")
        near(rgovd, LIMIT - 12000, "after it was settled")


@checks.test
def a_settlement_is_not_lost_to_the_next_request():
    """Settled while rgovd is away, and its slot is taken by the next request
    at once: the successor settles it at what was used all the same."""
    with Rgovd(slow_refill(1)) as rgovd, Worker(rgovd) as worker:
        held = worker.permit(tokens=COST).expect("Permit")
        wait_until(lambda: tokens(rgovd) < LIMIT, what="the reservation")
        rgovd.kill9()
        worker.settle(held["permit"], input_tokens=10000, output_tokens=2000)
        after = worker.permit(tokens=1000)
        rgovd.start()
        worker.settle(after.expect("Permit")["permit"], outcome="unused")
        wait_until(rgovd.is_idle, what="an idle rgovd")
        wait_until(lambda: tokens(rgovd) > LIMIT - COST, what="the rest back")
        near(rgovd, LIMIT - 12000, "after it was settled")


@checks.test
def a_settlement_brings_its_session_back():
    """The holder settles after a restart and asks for nothing more: its
    permit is back at once, not when it expires."""
    with Rgovd(limits(100, concurrency=1, per_user=1)) as rgovd, \
            Worker(rgovd) as worker:
        held = worker.permit().expect("Permit")
        rgovd.restart()
        equal(rgovd.stats()["active_requests"], 1, "active_requests")
        worker.settle(held["permit"])
        wait_until(rgovd.is_idle, what="an idle rgovd", timeout=5)


@checks.test
def a_long_model_id_keeps_its_window():
    """A lane with a limit of its own, whose name is longer than most: its
    starts count after a restart, and a permit of it is one start."""
    own = 'adaptive = false\nmodel "arn:*" {\nrequests_per_minute = 2\n}\n'
    with Rgovd(limits(100, 9, 9, minute=900) + own) as rgovd, \
            Worker(rgovd) as worker:
        for _ in range(2):
            worker.permit(model=LONG).expect("Permit")
        rgovd.restart()
        worker.permit(model=LONG, timeout=1).expect("Timeout")
        equal(rgovd.stats()["host"]["starts"], 2, "starts")
        equal(rgovd.stats()["active_requests"], 2, "active_requests")


def rewrite_board(rgovd, change):
    """Stops rgovd, changes the file of its board, starts the next."""
    rgovd.process.stop()
    path = pathlib.Path(BOARD.format(rgovd.name))
    content = bytearray(path.read_bytes())
    change(content)
    path.unlink()
    path.write_bytes(content)
    rgovd.start()


@checks.test
def a_full_window_survives_too():
    """Killed at once after it found a board that it could not believe: its
    successor does not believe in an empty window either, and waits no longer
    than the first had to."""
    def nonsense(content):
        content[:] = b"rgov" * (len(content) // 4)

    with Rgovd(limits(100, minute=4)) as rgovd:
        rewrite_board(rgovd, nonsense)
        begin = time.monotonic()
        rgovd.restart()
        rgovd.restart()
        with Worker(rgovd) as worker:
            worker.permit().expect("Permit")
        waited = time.monotonic() - begin
        check(3.0 <= waited < 7.5, f"the first start came after {waited:.1f} s")


@checks.test
def a_torn_lane_spoils_only_its_tokens():
    """rgovd died while it wrote the record of a lane: that lane's bucket counts
    as empty; the windows, which are kept elsewhere, are what they were."""
    def tear(content):
        record = content.index(b"vendor.model-v1\0") - LANE_NAME
        equal(record % 64, 0, "where the lane's record begins")
        content[record] |= 1

    with Rgovd(limits(100, 9, 9, minute=20) + TOKENS) as rgovd:
        with Worker(rgovd) as worker:
            worker.permit(tokens=10).expect("Permit")
            wait_until(lambda: tokens(rgovd) < LIMIT, what="the lane")
        rewrite_board(rgovd, tear)
        equal(rgovd.stats()["host"]["starts"], 1, "starts")
        with Worker(rgovd) as worker:
            # A twentieth of the bucket comes back in a second.
            worker.permit(tokens=LIMIT // 2, timeout=2).expect("Timeout")
            worker.permit(tokens=10, timeout=5).expect("Permit")
            worker.permit(model="vendor.other", tokens=LIMIT // 2,
                          timeout=5).expect("Permit")


def budget(rgovd, name):
    users = rgovd.stats()["users"]
    return next((u[name] for u in users if u["name"] == "u" and name in u), None)


@checks.test
def what_a_user_has_spent_is_spent():
    """The budget of a user, and the host's tokens, over kills of rgovd: over
    all lanes, whoever asks, and to the request that is refused by it."""
    with Rgovd(limits(100, 9, 9, minute=900)
               + f"tokens_per_minute = {2 * LIMIT}\n"
               + f'user "u" {{\nrequests_per_minute = 4\n'
                 f"tokens_per_minute = {LIMIT}\n"
                 f"tokens_per_day = {5 * LIMIT}\n}}\n") as rgovd, \
            Worker(rgovd) as worker:
        held = worker.permit(tokens=COST, model="a").expect("Permit")
        other = worker.permit(tokens=1000, model="b").expect("Permit")
        worker.settle(other["permit"], input_tokens=1000, output_tokens=0)
        for restart in range(2):
            wait_until(lambda: abs((budget(rgovd, "tokens_available") or 0)
                                   - (LIMIT - COST - 1000)) < 3000,
                       what=f"the user's tokens, {restart}")
            equal(budget(rgovd, "tokens_used_today"), COST + 1000,
                  "of today")
            equal(budget(rgovd, "starts"), 2, "the user's starts")
            host = rgovd.stats()["host"]
            check(abs(host["tokens_available"] - (2 * LIMIT - COST - 1000))
                  < 3000, f"the host's tokens: {host}")
            rgovd.kill9()
            rgovd.start()
        worker.permit(tokens=LIMIT - 1000, model="c", timeout=1).expect(
            "Timeout")
        worker.permit(tokens=LIMIT + 1, model="c").expect("TooLarge")
        worker.settle(held["permit"], input_tokens=0, output_tokens=0)
        for _ in range(2):
            worker.permit(tokens=1, model="c").expect("Permit")
        worker.permit(tokens=1, model="d", timeout=1).expect("Timeout")
        # It is the user that waits, nobody else.
        worker.permit(tokens=1, model="d", user="v").expect("Permit")


@checks.test
def an_arn_is_its_ids_lane():
    """One quota whichever name asks, before and after a restart."""
    arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.x-v1"
    with Rgovd(slow_refill()) as rgovd, Worker(rgovd) as worker:
        one = worker.permit(tokens=COST, model=arn).expect("Permit")
        wait_until(lambda: tokens(rgovd, "us.x-v1") < LIMIT, what="one lane")
        rgovd.restart()
        two = worker.permit(tokens=1000, model="us.x-v1").expect("Permit")
        wait_until(lambda: tokens(rgovd, "us.x-v1") < LIMIT - COST - 900,
                   what="both in it")
        worker.settle(one["permit"], outcome="unused")
        worker.settle(two["permit"], outcome="unused")
        wait_until(lambda: tokens(rgovd, "us.x-v1") == LIMIT, what="all back")
        names = [l["name"] for l in rgovd.stats()["lanes"]]
        check(arn not in names, f"no lane of the ARN: {names}")


checks.main()
