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
def tasks_without_memory():
    """Submit, begin, end, wait and fetch: what was acknowledged ends, and none
    is left behind.  Ends that are remembered and SQLite's pages are memory that
    grows, so blocks are not counted."""
    with Sim() as sim, Allocations() as shim, \
            Rgovd(QUOTA, sim=sim, env=shim.env()) as rgovd, \
            Puppet(rgovd) as puppet:
        def visit(size):
            return lambda: puppet.visit(lambda: puppet.task(size))

        judge_sweeps(*[
            Sweep(path, Prepared(shim, lambda: None), act, rgovd,
                  again=visit(64), client=puppet)
            for path, act in (("task", visit(64)),
                              ("large task", visit(300000)))])
        wait_until(lambda: rgovd.stats()["host"]["tasks"] == 0,
                   what="the end of every task")
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
            Rgovd(Reattach.CONFIG, env=shim.env()) as rgovd, \
            Puppet(rgovd) as holder, Puppet(rgovd) as waiter:
        path = Reattach(rgovd, holder, waiter)
        judge_sweeps(Sweep("reattach", Prepared(shim, path.prepare), path.act,
                           rgovd, again=path.again))
        check_quiet(rgovd)


@checks.test
def a_reload_without_memory():
    "It takes effect as a whole or not at all, and says which."
    with Sim() as sim, Allocations() as shim, \
            Rgovd(QUOTA, sim=sim, env=shim.env()) as rgovd, \
            Puppet(rgovd) as puppet:
        path = Reload(rgovd, QUOTA, puppet)
        judge_sweeps(Sweep("reload", shim, path.act, rgovd, again=path.again))


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
