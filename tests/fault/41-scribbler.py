#!/usr/bin/python3
"""Whatever a client writes into what it may write, rgovd stays up, closes that
session and keeps nothing of it; the others get their own answers (invariants 8
and 6).  rgovd runs under sanitizers, and once as shipped."""

from hostile import *

WRITES = int(os.environ.get("RGOV_HOSTILE_WRITES") or 12_000_000)
SEED = int(os.environ.get("SEED") or 1)


def scribble(rgovd, writes, seed):
    done = run([FAULT_BUILD / "scribbler", rgovd.socket, seed, writes],
               env=base_env(), timeout=600)
    check(done.returncode == 0,
          f"scribbler (seed {seed}): status {done.returncode}: {done.stderr}")
    told = json.loads(done.stdout)
    count("hostile_writes", told["writes"])
    return told


def scribblers(kind, writes, seeds):
    """Some at once, beside an honest client; what came of it as a table."""
    with Sim(latency="fixed:0.002") as sim, \
            kind(SETTINGS, sim=sim) as rgovd:
        begin = time.monotonic()
        with Honest(rgovd) as honest, quiet(rgovd):
            told = in_parallel([lambda s=s: scribble(rgovd, writes, s)
                                for s in seeds])
            for one in told:
                if isinstance(one, Exception):
                    raise one
        answers = honest.judge()
        closed = wait_until(lambda: rgovd.stats()["counters"]["sessions_closed"],
                            what="a count of the sessions that were closed")
        total = {name: sum(t[name] for t in told) for name in told[0]}
        row(rgovd=kind.__name__, seconds=round(time.monotonic() - begin),
            **total, closed=closed, honest_answers=answers)
        check(total["expelled"] > 0 and total["answers"] > 0,
              "the scribblers did not reach what they attack")
        at_rest(rgovd)


@checks.test
def every_byte_that_a_client_can_write():
    "Under ASan and UBSan: no word of theirs, nothing left, no wrong answer."
    scribblers(Sanitized, WRITES // 2, (SEED, SEED + 1))


@checks.test
def the_same_as_shipped():
    "Without the sanitizers' delays other races are met."
    scribblers(Rgovd, WRITES // 8, (SEED + 2, SEED + 3))


checks.main()
