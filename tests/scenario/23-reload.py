#!/usr/bin/python3 -B
"""A reload under load: new limits hold at once, what runs and waits stays, and
a wrong file changes nothing.
"""

from worker import *


def running(rgovd, n):
    wait_until(lambda: rgovd.stats()["active_requests"] == n,
               what=f"{n} running requests")


def reload(rgovd, text, status=0):
    rgovd.write_config(text)
    done = rgovd.rgov("reload")
    check((done.returncode == 0) == (status == 0),
          f"status {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout + done.stderr


@checks.test
def a_higher_limit_starts_what_waits():
    """Nothing ends, nothing comes: the reload alone starts the waiting."""
    with Sim(latency="fixed:12") as sim, \
            Rgovd(limits(100, 1, 1), sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        for n in range(3):
            worker.invoke(user=f"u{n}")
        running(rgovd, 1)
        reload(rgovd, limits(100, 2, 2))
        running(rgovd, 2)
        reload(rgovd, limits(100, 3, 2))
        running(rgovd, 3)


@checks.test
def a_wider_window_starts_what_waits():
    """The same with requests_per_minute, and with a minute that is shorter."""
    with Sim() as sim, \
            Rgovd(limits(1, 5, 5, minute=600), sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        worker.invoke().expect("Reply")
        second, third = worker.invoke(), worker.invoke()
        wait_until(lambda: rgovd.stats()["queue_size"] == 2,
                   what="two that wait")
        reload(rgovd, limits(2, 5, 5, minute=600))
        wait_until(lambda: rgovd.stats()["queue_size"] == 1,
                   what="one that waits")
        reload(rgovd, limits(2, 5, 5, minute=1))
        second.expect("Reply", timeout=10)
        third.expect("Reply", timeout=10)


@checks.test
def a_lower_limit_cuts_nothing():
    """What runs above the new limit goes on; nothing starts until there is
    room under it."""
    with Sim(latency="fixed:1.5") as sim, \
            Rgovd(limits(100, 4, 4), sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        first = [worker.invoke() for _ in range(4)]
        running(rgovd, 4)
        reload(rgovd, limits(100, 1, 1))
        rest = [worker.invoke() for _ in range(2)]
        for one in first:
            one.expect("Reply")
        for one in rest:
            one.expect("Reply")
            check(one.result()["wait"] > 0.5, "it waited")
        c = rgovd.stats()
        equal(c["failed_requests"], 0, "failed requests")
        equal(c["max_concurrent_requests"], 1, "the limit on the board")


@checks.test
def a_wrong_file_changes_nothing():
    """Each error is told with file and line, and the old limits hold."""
    with Sim() as sim, Rgovd(limits(7), sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        for text in ("requests_per_minute = -1\n", "no_such_key = 1\n",
                     "requests_per_minute = 5\nguard = \"x\"\n", "{"):
            said = reload(rgovd, text, status=1)
            check(f"{rgovd.config}:" in said and "kept" in said, said)
            equal(rgovd.stats()["requests_per_minute"], 7, "the limit")
        rgovd.config.unlink()
        check(rgovd.rgov("reload").returncode != 0, "without a file")
        equal(rgovd.stats()["counters"]["reloads_failed"], 5, "failed reloads")
        worker.invoke().expect("Reply")
        reload(rgovd, limits(8))
        equal(rgovd.stats()["requests_per_minute"], 8, "the limit")


@checks.cases(("profile", "none"), ("file", ""))
def credentials_that_are_gone_are_kept(name, profile):
    """A profile without keys, or the file of keys gone: that is an error,
    nothing of the new configuration holds, and calls go on with the keys that
    there were."""
    with Sim() as sim:
        rgovd = Rgovd(limits(7), sim=sim, credentials=False)
        keys = rgovd.scratch.path / "keys"
        keys.write_text(f"[good]\naws_access_key_id = {ACCESS_KEY}\n"
                        f"aws_secret_access_key = {SECRET_KEY}\n")
        rgovd.env["AWS_SHARED_CREDENTIALS_FILE"] = str(keys)

        def text(profile, rpm):
            named = f'profile = "{profile}"' if profile else ""
            return limits(rpm) + f"""upstream "bedrock" {{
endpoint = "{sim.url}"
region = "us-east-1"
{named}
}}
"""
        rgovd.write_config(text("good", 7))
        with rgovd, Worker(rgovd) as worker:
            worker.invoke().expect("Reply")
            if name == "file":
                keys.rename(keys.with_suffix(".away"))
            said = reload(rgovd, text(profile, 9), status=1)
            check("kept" in said, said)
            equal(rgovd.stats()["requests_per_minute"], 7, "the limit")
            worker.invoke().expect("Reply")
            if name == "file":
                keys.with_suffix(".away").rename(keys)
            reload(rgovd, text("good", 9))
            equal(rgovd.stats()["requests_per_minute"], 9, "the limit")


@checks.test
def only_what_is_in_force_is_shown():
    """Settings that need a restart are named as such, and the board still
    shows those that hold."""
    with Rgovd(limits(7) + "max_sessions = 50\n") as rgovd:
        def shown():
            done = rgovd.rgov("stats", "--json")
            equal(done.returncode, 0, "status of rgov stats")
            stats = json.loads(done.stdout)
            return stats["limits"]["max_sessions"]
        said = reload(rgovd, limits(7) + "max_sessions = 60\n"
                      + f'socket = "{rgovd.runtime_dir}/other.sock"\n')
        check("max_sessions" in said and "restart" in said, said)
        equal(shown(), 50, "max_sessions on the board")
        path = pathlib.Path(f"/dev/shm/rgov.{rgovd.name}").read_bytes()[:1024]
        check(b"other.sock" not in path, "the socket on the board")


@checks.test
def a_storm_of_reloads_loses_nothing():
    """SIGHUP and `rgov reload` without a pause, with different limits, while
    requests come and go: each is answered."""
    with Sim(latency="uniform:0.001,0.01") as sim, \
            Rgovd(limits(60000, 4, 4), sim=sim) as rgovd, \
            Worker(rgovd) as worker:
        ahead = collections.deque()
        for n in range(60):
            ahead.extend(worker.invoke(user=f"u{i}") for i in range(5))
            while len(ahead) > 40:
                ahead.popleft().expect("Reply")
            rgovd.write_config(limits(60000,
                                      1 + n % 4, 1 + n % 4))
            for _ in range(5):
                rgovd.process.signal(signal.SIGHUP)
            if n % 20 == 0:
                equal(rgovd.rgov("reload").returncode, 0, "reload")
        for one in ahead:
            one.expect("Reply")
        wait_until(rgovd.is_idle, what="an idle rgovd")
        equal(rgovd.stats()["counters"]["reloads_failed"], 0, "failed reloads")


checks.main()
