#!/usr/bin/python3 -B
"""The Nth allocation of rgovd or of a client fails, for every N of each path:
the request ends with its answer or a typed error, rgovd goes on, nothing leaks.
"""

from shortage import *

# Wide enough that no limit is in the way of a retry.
QUOTA = limits(60000, 100, 100, minute=60) \
    + 'throttle_backoff = "1ms"\ntransient_backoff = "1ms"\n'


def visits(puppet):
    """The paths of one client, each from open to close."""
    def cancelled():
        answer = puppet.tell("submit", 1, 64, 10000)
        return puppet.tell("cancel") if answer["rc"] == 0 else answer

    return {
        "permit": lambda: puppet.visit(puppet.permit),
        "call": lambda: puppet.visit(puppet.call),
        # On the helper thread of rgovd.
        "large call": lambda: puppet.visit(lambda: puppet.call(300000)),
        "cancel": lambda: puppet.visit(cancelled),
    }


@checks.test
def rgovd_serves_without_memory():
    "Registration, submit, call, reply, permit and cancel, rgovd being short."
    with Sim() as sim, Allocations() as shim, \
            Rgovd(QUOTA, sim=sim, env=shim.env()) as rgovd, \
            Puppet(rgovd) as puppet:
        acts = visits(puppet)
        judge_sweeps(*[
            Sweep(path, shim, act, rgovd, again=acts["call"], client=puppet)
            for path, act in acts.items()])
        check_quiet(rgovd)


@checks.test
def the_first_call_without_memory():
    """The connection to the provider is made in the middle of it: a governor of
    its own for each N."""
    with Sim() as sim, Allocations() as shim, \
            Rgovd(QUOTA, sim=sim, env=shim.env()) as rgovd, \
            Puppet(rgovd) as puppet:
        judge_sweeps(Sweep("first call", Prepared(shim, rgovd.restart),
                           lambda: puppet.visit(puppet.call), rgovd))
        check_quiet(rgovd)


@checks.test
def a_session_comes_back_without_memory():
    """rgovd is killed; its successor takes back a permit that is out and a
    request that waits, and finds no memory for it at first."""
    with Allocations() as shim, \
            Rgovd(limits(60000, 1, 1, minute=60), env=shim.env()) as rgovd, \
            Puppet(rgovd) as holder, Puppet(rgovd) as waiter:
        for puppet in (holder, waiter):
            puppet.tell("open")

        def a_permit_is_out_and_one_waits():
            held = holder.tell("permit", 0, 0, 20000)
            check(held.is_good, f"the permit: {held}")
            waiter.begin("permit", 0, 0, 20000)
            wait_until(lambda: rgovd.stats()["queue_size"] == 1,
                       what="the request that waits", interval=0.005)
            rgovd.restart()

        def both_come_back():
            # It takes effect when this process next waits for something.
            equal(holder.tell("settle")["rc"], 0, "settle")
            holder.begin("permit", 0, 0, 20000)
            return settle_each((holder, waiter))

        def again():
            for puppet in (holder, waiter):
                puppet.begin("permit", 0, 0, 20000)
            return settle_each((holder, waiter))
        judge_sweeps(Sweep(
            "reattach", Prepared(shim, a_permit_is_out_and_one_waits),
            both_come_back, rgovd, again=again))
        check_quiet(rgovd)


def settle_each(puppets):
    """Each has asked for a permit, and there is one at a time.  The first answer
    that is not good, or the last."""
    waiting, bad = list(puppets), None
    while waiting:
        ready, _, _ = select.select([p.channel for p in waiting], [], [],
                                    LATE_S + 20)
        check(ready, "a permit was never answered")
        puppet = next(p for p in waiting if p.channel in ready)
        waiting.remove(puppet)
        answer = puppet.answer()
        if answer.is_good:
            equal(puppet.tell("settle")["rc"], 0, "settle")
        else:
            bad = bad or answer
    return bad or answer


@checks.test
def a_reload_without_memory():
    "It takes effect as a whole or not at all, and says which."
    with Sim() as sim, Allocations() as shim, \
            Rgovd(QUOTA, sim=sim, env=shim.env()) as rgovd, \
            Puppet(rgovd) as puppet:
        rates = itertools.cycle((30000, 40000))
        now = 60000

        def reload():
            nonlocal now
            wanted = next(rates)
            rgovd.write_config(QUOTA.replace("60000", str(wanted)))
            done = rgovd.rgov("reload")
            if done.returncode == 0:
                now = wanted
            equal(rgovd.stats()["requests_per_minute"], now,
                  f"the limit after {done.stdout}{done.stderr}")
            return told(done)

        def again():
            answer = puppet.visit(puppet.call)
            return reload() if answer.is_good else answer
        judge_sweeps(Sweep("reload", shim, reload, rgovd, again=again))


def told(done):
    """What `rgov` ended with, as an answer."""
    return Answer(rc=0, slices=0, why=done.stdout + done.stderr,
                  result=f"exit {done.returncode}" if done.returncode else "ok")


@checks.test
def clients_without_memory():
    "The same paths, the client being short."
    with Sim() as sim, Allocations() as shim, Rgovd(QUOTA, sim=sim) as rgovd, \
            Puppet(rgovd, **shim.env()) as puppet:
        acts = visits(puppet)
        judge_sweeps(*[
            Sweep(path, shim, act, rgovd, again=acts["call"], client=puppet)
            for path, act in acts.items()])
        check_quiet(rgovd)


checks.main()
