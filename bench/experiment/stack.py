"""One strategy with everything it needs, as real processes: the provider
(bedrock-sim), gunicorn with the application, and rgovd, or Redis and a Celery
worker, where the strategy has them.
"""

import contextlib
import glob
import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tests/scenario"))
import harness  # noqa: E402 - needs the path above

WORKERS, THREADS = 4, 320
FAKETIME = next(iter(glob.glob("/usr/lib/*/faketime/libfaketime.so.1")), "")


def why_not(strategy):
    """Why this strategy cannot run here; empty when it can."""
    modules = {"celery": ("celery", "redis"), "naive": ("botocore",),
               "in-process": ("botocore",)}
    if strategy.startswith("botocore"):
        modules[strategy] = ("boto3",)
    for module in modules.get(strategy, ()):
        if importlib.util.find_spec(module) is None:
            return f"no Python module {module}"
    if strategy == "celery" and _redis_program() is None:
        return "no redis-server"
    return ""


def _redis_program():
    # Debian's redis-tools has the server under the name of its checker; unlike
    # the package redis-server it starts no service.
    return shutil.which("redis-server") or shutil.which("redis-check-rdb")


class Stack:
    """settings: SCALE, window (seconds here), Quota of the provider, latency in
    real seconds ("uniform:A,B"), guard, sim_extra, rgov_extra."""

    def __init__(self, strategy, settings):
        self.strategy = strategy
        self.settings = settings
        self.rgovd = None
        self.users = None  # while somebody asks
        self.stopped = False
        self._own = contextlib.ExitStack()

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self._own.close()
            raise
        return self

    def __exit__(self, *_):
        """From another thread than ask()'s, too, which then fails."""
        self.stopped = True
        if self.users is not None:
            self.users.kill()
        self._own.close()

    def _start(self):
        s = self.settings
        self.sim = self._own.enter_context(harness.Sim(
            rpm=s.quota.starts, minute=s.window_here, concurrency=s.quota.slots,
            latency=s.scaled_latency(), seed=s.seed,
            extra=["--latency-by", "body", "--output-tokens", "100,100",
                   "--fault", f"429:{s.throttle:g}", *s.sim_extra]))
        env = self._environment()
        if self.strategy == "rgov":
            self.rgovd = self._own.enter_context(
                harness.Rgovd(s.rgov_conf(), sim=self.sim,
                              env=self._clock()))
        if self.strategy == "celery":
            env["REDIS"] = self._redis()
            self._celery(env)
        self.web = self._own.enter_context(harness.Gunicorn(
            "app:app", workers=WORKERS, worker_class="gthread",
            threads=THREADS, env=env, chdir=HERE, rgovd=self.rgovd))

    def _environment(self):
        s = self.settings
        env = {"STRATEGY": self.strategy, "SCALE": s.scale,
               "MODEL_ID": harness.MODEL, "TIMEOUT_S": s.timeout_here}
        if self.strategy != "rgov":
            env.update(harness.AWS_ENV, BEDROCK_ENDPOINT=self.sim.url,
                       AWS_DEFAULT_REGION=harness.REGION,
                       AWS_DATA_PATH=HERE / "botocore",
                       AWS_EC2_METADATA_DISABLED="true",
                       MINUTE_S=s.window_here, BACKOFF_BASE_S=s.scale,
                       MAX_RETRIES=5, MAX_CONCURRENT_REQUESTS=s.quota.slots,
                       REQUESTS_PER_MINUTE=s.quota.starts,
                       MAX_REQUESTS_PER_USER=s.quota.slots,
                       RATE_PER_MINUTE=f"{s.quota.starts / s.scale:g}")
        return env

    def _clock(self):
        """The day turns settings.midnight_here after rgovd's start."""
        if not self.settings.midnight_here:
            return {}
        now = time.time()
        self.midnight = time.monotonic() + self.settings.midnight_here
        ahead = 86400 - now % 86400 - self.settings.midnight_here
        return {"LD_PRELOAD": FAKETIME, "FAKETIME": f"{ahead:+.3f}s",
                "DONT_FAKE_MONOTONIC": "1"}

    # ------------------------------------------------------------ Celery

    def _redis(self):
        folder = self._own.enter_context(harness.Scratch())
        program = folder / "redis-server"
        program.symlink_to(_redis_program())
        path = folder / "redis.sock"
        process = harness.Process(
            "redis", [program, "--port", "0", "--unixsocket", path, "--dir",
                      folder, "--save", "", "--appendonly", "no"],
            folder / "redis.log", env=harness.base_env())
        self._own.callback(process.stop)
        harness.wait_until(path.exists, what="the socket of Redis")
        return path

    def _celery(self, env):
        folder = self._own.enter_context(harness.Scratch())
        process = harness.Process(
            "celery", [harness.PYTHON, "-B", "-m", "celery", "-A", "tasks",
                       "worker", "-l", "info", "-c", self.settings.quota.slots,
                       "--without-gossip", "--without-mingle"],
            folder / "celery.log", cwd=HERE,
            env=harness.base_env(HOME=folder, **env))
        self._own.callback(process.stop)
        harness.wait_until(lambda: " ready." in process.text(), 60,
                           "the Celery worker")

    # ------------------------------------------------------------ a run

    def ask(self, questions, changes=()):
        """Users who ask these; meanwhile the changes, (seconds here, what
        bedrock-sim is told).  Returns the users' log, the provider's log, its
        report, and the instants of the changes."""
        if self.stopped:
            raise harness.Failed("stopped")
        self.sim.reset()
        instants = []
        plan = {"url": self.web.url, "poll_s": 2 * self.settings.scale,
                "timeout_s": self.settings.timeout_here,
                "questions": questions}
        begin = time.monotonic()
        users = self.users = subprocess.Popen(
            [harness.PYTHON, "-B", str(HERE / "users.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=harness.base_env())
        try:
            threading.Thread(target=self._change, daemon=True,
                             args=(begin, changes, instants)).start()
            answer, _ = users.communicate(
                json.dumps(plan), 2 * self.settings.timeout_here)
        finally:
            users.kill()
            users.wait()
        if users.returncode != 0:
            raise harness.Failed(f"users.py: status {users.returncode}")
        report = self.sim.report()
        events = [e for e in self.sim.events() if e["run"] == report["run"]]
        return json.loads(answer), events, report, instants

    def _change(self, begin, changes, instants):
        for at, told in changes:
            time.sleep(max(0.0, begin + at - time.monotonic()))
            self.sim.set(**told)
            instants.append(time.monotonic_ns())
