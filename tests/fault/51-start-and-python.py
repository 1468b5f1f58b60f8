#!/usr/bin/python3 -B
"""The Nth allocation fails while rgovd starts, and in a Python worker.

A start makes thousands of allocations, most of them OpenSSL's: it fails with a
message and leaves nothing behind, or serves.  The extension raises, and does not
end its process.
"""

from one_start import *

QUOTA = limits(60000, 100, 100, minute=60)


@checks.test
def a_start_without_memory():
    """Every single allocation of a start: an exit status above 0 and a message,
    nothing left; or READY, and it serves."""
    begin = time.monotonic()
    faults, outcomes = [], collections.Counter()
    with Sim() as sim, Allocations() as shim:
        rgovd = Rgovd(QUOTA, sim=sim, env=shim.env())
        with Puppet(rgovd) as puppet:
            for nth in itertools.count(1):
                shim.arm(nth)
                with Start(rgovd) as start:
                    wrong = judge_start(start, rgovd, puppet, shim.hold)
                    outcomes["ready" if start.popen.poll() is None
                             else start.status] += 1
                if shim.disarm() == 0:
                    break
                if wrong:
                    faults.append(f"N={nth} ({shim.where()}): {wrong}")
        rgovd.stop()
    count("nth_failures", nth - 1)
    count("violations", len(faults))
    row(path="start", failing="allocation", failures=nth - 1,
        outcomes=dict(outcomes), violations=len(faults),
        seconds=f"{time.monotonic() - begin:.1f}")
    check(not faults, f"{len(faults)} violations:\n     "
          + "\n     ".join(faults[:10]))


# With PYTHONMALLOC=malloc every object of Python is an allocation, too.
WORKER = r"""
import gc, json, os, struct, sys
import mmap, rgov
page = mmap.mmap(os.open(os.environ["FAILING_ALLOC"], os.O_RDWR), 4096)
ARM, HOLD = struct.pack("qqqq", 0, 0, 0, 0), struct.pack("q", 0)
gov = rgov.connect()
BODY = b'{"max_tokens":5}'

def invoke():
    reply = gov.invoke("vendor.model-v1", BODY, user="p", timeout=20)
    assert b"sha256" in reply.body

def permit():
    with gov.permit("vendor.model-v1", user="p", timeout=20) as held:
        held.settle(input_tokens=1, output_tokens=2)

def connect():
    one = rgov.connect()
    one.invoke("vendor.model-v1", BODY, user="p", timeout=20)
    one.close()

def stats():
    gov.get_stats()

def refused():
    try:
        gov.invoke("vendor.model-v1", b"no JSON", user="p", timeout=20)
    except rgov.Invalid:
        return
    raise AssertionError("it was not refused")

def is_pythons(error):
    # CPython 3.11 loses the exception in its own loop.  Of an extension that
    # returns NULL without one it says something else.
    return (type(error) is SystemError
            and str(error) == "error return without exception set")

def attempt(path, nth):
    "The name of what it raised; and whether an allocation was failed."
    armed, how = struct.pack("qqqq", nth, nth, 0, 0), None
    page[:32] = armed
    try:
        path()
        page[:8] = HOLD
    except (MemoryError, rgov.Error) as e:
        page[:8] = HOLD
        how = type(e).__name__
    except BaseException as e:
        page[:8] = HOLD
        how = ("" if is_pythons(e) else "! ") + repr(e)
    return how, struct.unpack_from("q", page, 24)[0] > 0

def blocks():
    gc.collect()
    return struct.unpack_from("q", page, 32)[0]

def is_leak(path, nth):
    start = blocks()
    for _ in range(4):
        attempt(path, nth)
    return blocks() >= start + 4

def sweep(path):
    outcomes, nth, wrong = {}, 0, []
    for _ in range(3):
        path()
    fds = len(os.listdir("/proc/self/fd"))
    hit = True
    while hit:
        nth += 1
        before = blocks()
        how, hit = attempt(path, nth)
        outcomes[str(how)] = outcomes.get(str(how), 0) + 1
        if how and how[0] == "!":
            wrong.append("N=%d: %s" % (nth, how))
        path()
        if blocks() > before and is_leak(path, nth):
            wrong.append("N=%d: blocks are lost each time" % nth)
    if len(os.listdir("/proc/self/fd")) > fds:
        wrong.append("descriptors are left")
    return {"path": path.__name__, "failures": nth - 1, "outcomes": outcomes,
            "wrong": wrong}

for path in (invoke, refused, permit, connect, stats):
    print(json.dumps(sweep(path)), flush=True)
"""


@checks.test
def the_extension_without_memory():
    "Each allocation of a Python worker's request: it raises, or it works."
    with Sim() as sim, Allocations() as shim, Rgovd(QUOTA, sim=sim) as rgovd:
        done = rgovd.python(WORKER, timeout=120, PYTHONMALLOC="malloc",
                            **shim.env())
        check(done.returncode == 0, f"the worker ended with {done.returncode}: "
              f"{done.stderr[-1000:]}")
        found = [json.loads(line) for line in done.stdout.splitlines()]
        equal(len(found), 5, "paths")
        for one in found:
            row(path="python " + one["path"], failing="allocation",
                failures=one["failures"], violations=len(one["wrong"]),
                outcomes=one["outcomes"])
            count("nth_failures", one["failures"])
        wrong = [f"{one['path']}: {w}" for one in found for w in one["wrong"]]
        count("violations", len(wrong))
        check(not wrong, "\n     ".join(wrong[:12]))
        check_quiet(rgovd)


checks.main()
