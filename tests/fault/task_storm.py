"""A storm over durable tasks: who submits and who strikes.  task_judge.py says
what became of them."""

import celery

from storm import *

PLAIN, CELERY_CHILDREN = 4, 3
HERE = pathlib.Path(__file__).resolve().parent
FIRST_TASK = """import rgov, sys
rgov.connect().submit(sys.argv[1], '{"max_tokens":5,"messages":[]}').wait(30)
"""


class TaskStorm(Storm):
    """Its own quiet: a store that is open, and every task ended."""

    def __enter__(self):
        super().__enter__()
        self.redis = Redis()
        self.redis.__enter__()
        self.journal = self.rgovd.scratch.path / "journal"
        self.journal.touch()
        self.store = self.rgovd.state_dir / f"{self.rgovd.name}.tasks.db"
        # The first task makes the store; a start finds it.
        done = self.rgovd.python(FIRST_TASK, MODEL)
        check(done.returncode == 0, f"the first task: {done.stderr}")
        self.rgovd.restart()
        wait_until(self.is_over, what="the first task's end")
        self.at_start = self.settled()
        return self

    def __exit__(self, *failure):
        try:
            self.redis.__exit__(*failure)
        finally:
            super().__exit__(*failure)

    def is_over(self):
        stats = self.rgovd.stats()
        return stats["host"]["tasks"] == 0 and stats["active_requests"] == 0

    def settled(self):
        """The figures, when idle connections are gone."""
        time.sleep(1.5)
        return self.figures()

    def figures(self):
        found = super().figures()
        pid = self.rgovd.process.pid
        found["threads"] = len(os.listdir(f"/proc/{pid}/task"))
        found["tasks"] = self.rgovd.stats()["host"]["tasks"]
        return found

    # ---------------------------------------------------------- strikes

    def reboot(self, submitters):
        """Nothing in memory is left, nor anybody who ran."""
        for process in submitters.plain:
            self.strike(process.pid, signal.SIGKILL, "worker")
        for pid in submitters.children():
            self.strike(pid, signal.SIGKILL, "celery")
        self.kill_rgovd()
        forget_governor(self.rgovd.name)
        self.kills["reboot"] += 1
        self.rgovd.start()

    def kill_redis(self):
        self.redis.kill9()
        self.kills["redis SIGKILL"] += 1
        if self.chance(0.5):
            self.kills["redis data"] += 1
            shutil.rmtree(self.redis.scratch.path / "appendonlydir")
        self.redis.start()

    def n_kills(self):
        return sum(n for what, n in self.kills.items() if "SIGKILL" in what)


class Submitters:
    """Plain workers and one Celery worker with children; who dies is
    replaced."""

    def __init__(self, storm):
        self.storm = storm
        self.folder = storm.rgovd.scratch.path
        self.env = storm.rgovd.client_env(
            STORM_JOURNAL=storm.journal, PYTHONDONTWRITEBYTECODE=1,
            PYTHONPATH=f"{BUILD / 'python'}:{HERE}")
        self.plain = [self._new() for _ in range(PLAIN)]
        self.celery = Process(
            "celery", [PYTHON, "-m", "celery", "-A", "task_worker", "worker",
                       "--loglevel", "WARNING", "--without-gossip",
                       "--without-mingle", "--without-heartbeat",
                       "--concurrency", CELERY_CHILDREN],
            self.folder / "celery.log", cwd=self.folder,
            env=dict(self.env, REDIS_URL=storm.redis.url),
            death_signal=signal.SIGTERM)
        self.sender = celery.Celery(broker=storm.redis.url)
        self.over = threading.Event()
        self.sending = Background([self._send])

    def _new(self):
        first = next(self.storm.numbers) * 1_000_000
        return Process("worker", [PYTHON, HERE / "task_worker.py", first,
                                  self.storm.seed % 1_000_000],
                       self.folder / "workers.log", env=self.env)

    def _send(self):
        """Messages, as long as Redis takes them: what it loses was nobody's."""
        for number in itertools.count(1):
            if self.over.wait(0.05):
                return
            with contextlib.suppress(Exception):
                self.sender.send_task("ask", (number,), retry=False,
                                      ignore_result=True)

    def children(self):
        path = f"/proc/{self.celery.pid}/task/{self.celery.pid}/children"
        with contextlib.suppress(FileNotFoundError):
            return [int(p) for p in pathlib.Path(path).read_text().split()]
        return []

    def replace(self):
        for at, process in enumerate(self.plain):
            if not process.alive():
                process._forget()
                self.plain[at] = self._new()

    def strike_worker(self):
        process = self.storm.random.choice(self.plain)
        self.storm.strike(process.pid, signal.SIGKILL, "worker")

    def strike_child(self):
        children = self.children()
        if children:
            self.storm.strike(self.storm.random.choice(children),
                              signal.SIGKILL, "celery")

    def strike(self):
        """One blow, or two at once."""
        storm = self.storm
        what = storm.random.choices(
            ("worker", "rgovd", "celery", "redis", "double", "reboot"),
            (32, 26, 22, 6, 9, 3))[0]
        if what == "worker":
            self.strike_worker()
        elif what == "celery":
            self.strike_child()
        elif what == "redis":
            storm.kill_redis()
        elif what == "reboot":
            storm.reboot(self)
        else:
            if what == "double":
                self.strike_worker()
            storm.restart_rgovd()
        self.replace()

    def end(self):
        """All finish what they have begun."""
        storm = self.storm
        self.over.set()
        self.sending.join(30)
        storm.await_struck()
        self.replace()
        for process in self.plain:
            process.signal(signal.SIGTERM)
        for process in self.plain:
            # SIGTERM before its handler is there.
            check(process.wait(90) in (0, -signal.SIGTERM),
                  "a worker failed:\n" + process.tail())
        self._end_celery()
        self.sender.close()

    def _end_celery(self):
        """Its children wait 15 s for a task; what it waits for itself, of a Redis
        that has lost its data, is not ours to judge."""
        children = self.children()
        self.celery.signal(signal.SIGTERM)
        try:
            self.celery.wait(40)
        except Failed:
            print("  Celery's worker did not end by itself", flush=True)
            for pid in children:
                self.storm.strike(pid, signal.SIGKILL, "celery")
            self.celery.kill_group()
            self.celery.popen.wait()
            self.storm.await_struck()
