#!/usr/bin/python3 -B
"""A store of tasks that is damaged, another's, a later version's, locked,
read-only, or on a disk that is full: refused with what to do and left as it is,
or waited out; what was accepted is lost in no case.

task_fill puts tasks into a store as if an rgovd had accepted them and died.
"""

import hashlib
import sqlite3

from harness import *

TEMPORARY, CONFIGURATION = 75, 78
BODY = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 16,
                   "messages": [{"role": "user", "content": "a task"}]})
VERSION = 2  # of the schema


@contextlib.contextmanager
def governor(sim=None, state_dir=None, tasks=0, minute=1.0):
    """A governor that does not run yet, its store filled with tasks."""
    with Scratch() as folder:
        state_dir = state_dir or folder / "state"
        rgovd = Rgovd(f'state_dir = "{state_dir}"\n'
                      + limits(rpm=6000, concurrency=8, per_user=8,
                               minute=minute), sim=sim,
                      **({} if sim else {"endpoint": "http://127.0.0.1:9"}))
        rgovd.store = state_dir / f"{rgovd.name}.tasks.db"
        try:
            if tasks:
                fill(rgovd, tasks)
            yield rgovd
        finally:
            rgovd.stop()


def fill(rgovd, n, body=BODY):
    done = run([BUILD / "tests/task_fill", rgovd.store, n, os.getuid(), MODEL,
                body])
    equal(done.returncode, 0, f"task_fill ({done.stderr})")


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def attempt(rgovd, before=()):
    """Runs an rgovd that should end by itself."""
    try:
        return run([*before, *rgovd.argv()], env=rgovd.env)
    except subprocess.TimeoutExpired:
        raise Failed("it started, or hangs") from None


def refused(rgovd, *words, status=CONFIGURATION, before=()):
    """It does not start, says the file and these words, and leaves the file as
    it was."""
    was = digest(rgovd.store)
    done = attempt(rgovd, before)
    said = done.stdout + done.stderr
    equal(done.returncode, status, f"exit status ({said})")
    for word in (str(rgovd.store), *words):
        check(word in said, f"the message says {word!r}: {said}")
    equal(digest(rgovd.store), was, "the file that was refused")
    return said


def states(rgovd):
    """{state: how many}, of a store that no rgovd has open."""
    with contextlib.closing(sqlite3.connect(rgovd.store)) as db:
        return dict(db.execute("SELECT state, count(*) FROM task GROUP BY 1"))


def change(rgovd, statement):
    with contextlib.closing(sqlite3.connect(rgovd.store)) as db:
        db.executescript(statement)


def scribble(path, at, size):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(b"\x5a" * size)


def waiting(rgovd):
    """Tasks that have not ended."""
    return rgovd.stats()["host"]["tasks"]


def arrivals(sim):
    return sum(1 for e in sim.events() if e["event"] == "arrival")


def runs_all(rgovd, n):
    """It starts, runs every task that is in its store, and stops."""
    rgovd.start()
    wait_until(lambda: waiting(rgovd) == 0, what="the tasks' end")
    equal(rgovd.process.stop(), 0, "exit status of rgovd")
    equal(states(rgovd), {2: n}, "the tasks' states")


@checks.test
def accepted_tasks_run_at_the_next_start():
    """The ground for what follows: what is in the store is done."""
    with Sim(rpm=6000) as sim, governor(sim, tasks=20) as rgovd:
        runs_all(rgovd, 20)
        equal(arrivals(sim), 20, "calls at the provider")


@checks.test
def switched_on_by_a_reload():
    """What waits in a store that was switched off goes on when it is on."""
    with Sim(rpm=6000) as sim, governor(sim, tasks=3) as rgovd:
        text = f'state_dir = "{rgovd.store.parent}"\n' + limits(rpm=6000)
        rgovd.write_config(text + "tasks = false\n")
        rgovd.start()
        equal((waiting(rgovd), states(rgovd)), (0, {0: 3}), "switched off")
        rgovd.write_config(text)
        equal(rgovd.rgov("reload").returncode, 0, "the reload")
        wait_until(lambda: arrivals(sim) == 3 and waiting(rgovd) == 0,
                   what="the end of the tasks")
        equal(rgovd.process.stop(), 0, "exit status of rgovd")
        equal(states(rgovd), {2: 3}, "the tasks' states")


@checks.test
def no_store():
    """What is no store of ours is named, and left alone."""
    with governor() as rgovd:
        rgovd.store.parent.mkdir()
        rgovd.store.write_bytes(b"")
        refused(rgovd, "an empty file", "move it away")
        rgovd.store.write_text("a letter\n" * 100)
        refused(rgovd, "no SQLite file", "move it away")
        rgovd.store.unlink()
        change(rgovd, "CREATE TABLE songs(name)")
        refused(rgovd, "another program's SQLite file", "move it away")


@checks.test
def a_later_version():
    """A store of a later rgovd waits for that one."""
    with Sim(rpm=6000) as sim, governor(sim, tasks=3) as rgovd:
        change(rgovd, f"PRAGMA user_version = {VERSION + 1}")
        refused(rgovd, f"version {VERSION + 1}", "a later rgovd")
        change(rgovd, f"PRAGMA user_version = {VERSION}")
        runs_all(rgovd, 3)


@checks.test
def an_earlier_version():
    """A store of an earlier one is brought up to date."""
    with Sim(rpm=6000) as sim, governor(sim, tasks=3) as rgovd:
        change(rgovd, "DROP INDEX task_uid; PRAGMA user_version = 1")
        runs_all(rgovd, 3)
        with contextlib.closing(sqlite3.connect(rgovd.store)) as db:
            equal(db.execute("PRAGMA user_version").fetchone(), (VERSION,),
                  "the version")


@checks.test
def a_damaged_one():
    """Header, or a page in the middle: said, with what may save it."""
    with governor(tasks=300) as rgovd:
        whole = rgovd.store.read_bytes()
        scribble(rgovd.store, 0, 16)
        refused(rgovd, "begin is damaged")
        rgovd.store.write_bytes(whole)
        scribble(rgovd.store, 20 * 4096, 4096)
        refused(rgovd, "is damaged", ".recover", "copy")
        rgovd.store.write_bytes(whole)
        rgovd.start()


def as_root(what):
    if os.getuid() != 0:
        raise Skip(f"needs root, {what}")


@checks.test
def two_daemons():
    """A second one of the same name, in a container of its own, has no part of
    the first but the state directory."""
    as_root("to make a namespace")
    with governor(tasks=1) as rgovd, Scratch() as other_dir:
        rgovd.start()
        said = refused(
            rgovd, "has this store", str(rgovd.process.pid), "stop that one",
            status=TEMPORARY,
            before=["unshare", "--mount", "sh", "-c",
                    f'mount -t tmpfs none /dev/shm && '
                    f'mount --bind {other_dir} {rgovd.runtime_dir} && '
                    f'exec "$@"', "sh"])
        check("--replace" not in said, said)
        check(rgovd.process.alive(), "the first one runs")


@checks.test
def a_directory_that_cannot_be_written():
    """Said with the file and the system's reason."""
    as_root("to mount")
    with governor(tasks=1) as rgovd:
        state = rgovd.store.parent
        refused(rgovd, "Read-only file system",
                before=["unshare", "--mount", "sh", "-c",
                        f"mount --bind {state} {state} && "
                        f"mount -o remount,ro,bind {state} && "
                        f'exec "$@"', "sh"])


@contextlib.contextmanager
def small_disk():
    as_root("to mount")
    with Scratch() as folder:
        done = run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder])
        if done.returncode != 0:
            raise Skip(f"cannot mount: {done.stderr.strip()}")
        try:
            yield folder
        finally:
            run(["umount", "-l", folder])


def take_all_room(path):
    with open(path, "wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while file.write(b"x" * 4096) == 4096:
                pass


def waits_for_room(rgovd):
    """The disk is full: it says so, and goes on."""
    wait_until(lambda: "event=store.failed" in rgovd.process.text(),
               what="word of the full disk")
    check("No space left on device" in rgovd.process.text(),
          "the reason is in the log")
    check(rgovd.process.alive(), "it runs on")
    check(waiting(rgovd) > 0, "the tasks wait")


@checks.test
def a_disk_that_is_full_at_the_start():
    """Nothing can be promised: no start, and a status that means try again."""
    with Sim(rpm=6000) as sim, small_disk() as disk:
        with governor(sim, state_dir=disk / "state", tasks=5) as rgovd:
            take_all_room(disk / "ballast")
            refused(rgovd, "No space left on device", status=TEMPORARY)
            (disk / "ballast").unlink()
            runs_all(rgovd, 5)


@checks.test
def a_disk_that_becomes_full_before_they_run():
    """They wait for room; each runs once."""
    with Sim(rpm=6000) as sim, small_disk() as disk:
        with governor(sim, state_dir=disk / "state", tasks=30,
                      minute=4.0) as rgovd:
            # The board is lost: its windows are full, nothing starts yet.
            rgovd.start()
            take_all_room(disk / "ballast")
            waits_for_room(rgovd)
            (disk / "ballast").unlink()
            wait_until(lambda: waiting(rgovd) == 0, what="the tasks' end")
            equal(rgovd.process.stop(), 0, "exit status of rgovd")
            equal(states(rgovd), {2: 30}, "the tasks' states")
            equal(arrivals(sim), 30, "calls at the provider")


@checks.test
def a_disk_that_becomes_full_while_they_run():
    """Their answers wait in memory for room; nobody is called twice."""
    with Sim(rpm=6000, latency="fixed:1") as sim, small_disk() as disk:
        with governor(sim, state_dir=disk / "state", tasks=8) as rgovd:
            rgovd.start()
            wait_until(lambda: arrivals(sim) == 8, what="8 calls")
            take_all_room(disk / "ballast")
            waits_for_room(rgovd)
            (disk / "ballast").unlink()
            wait_until(lambda: waiting(rgovd) == 0, what="the tasks' end")
            equal(rgovd.process.stop(), 0, "exit status of rgovd")
            equal(states(rgovd), {2: 8}, "the tasks' states")
            equal(arrivals(sim), 8, "calls at the provider")


checks.main()
