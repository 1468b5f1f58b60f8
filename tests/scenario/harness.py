"""What every scenario needs: real processes on loopback, started by condition
and stopped by pid, and a small frame for tests.

    from harness import *

    @checks.test
    def every_reply_belongs_to_its_request():
        "Each user gets the answer to the body that this user sent."
        with Sim(rpm=30, minute=3) as sim, Rgovd(sim=sim) as rgovd:
            with Gunicorn("app:app", rgovd=rgovd) as web:
                ...

    checks.main()

It knows nothing of what is tested.  It needs Python 3.11 and no package beside
the standard library.  Start processes from the main thread: each dies with the
thread that started it (PR_SET_PDEATHSIG), whatever ends this program.

Environment: BUILD (folder with the programs), PYTHON (interpreter of the
workers), RGOV_LOOP (event loop of rgovd), RGOV_KEEP_LOGS=1 (leave the logs).
"""

import atexit
import collections
import contextlib
import ctypes
import glob
import hashlib
import http.client
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.path.join(ROOT, os.environ.get("BUILD") or "build"))
PYTHON = os.environ.get("PYTHON") or "/usr/bin/python3"

ACCESS_KEY = "AKIDEXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
REGION = "us-east-1"
AWS_ENV = {
    "AWS_ACCESS_KEY_ID": ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    "AWS_REGION": REGION,
}
MODEL = "anthropic.claude-sonnet-4-20250514-v1:0"

# Settings of the machine's user that would change what is tested.
_FOREIGN = ("AWS_", "RGOV_", "GUNICORN_", "NOTIFY_SOCKET", "PYTHONPATH",
            "MAX_CONCURRENT_REQUESTS", "REQUESTS_PER_MINUTE",
            "MAX_REQUESTS_PER_USER", "RATE_LIMIT_PRESET",
            "ENABLE_REQUEST_MANAGER", "http_proxy", "https_proxy",
            "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")

# A test must not fail because the machine is slow: waits are long, and end at
# once when their condition holds.
PATIENCE_S = 30.0


class Skip(Exception):
    """Raised by a test that cannot run here; says why."""


class Failed(AssertionError):
    """A claim does not hold."""


# ---------------------------------------------------------------- waiting

def wait_until(condition, timeout=PATIENCE_S, what="a condition",
               interval=0.02):
    """Looks until condition() is true and returns what it returned; fails with
    `what` after timeout seconds.  An exception of the condition means: not yet,
    and is told when the time is over."""
    end = time.monotonic() + timeout
    last = None
    while True:
        try:
            value = condition()
            if value:
                return value
            last = None
        except (OSError, ValueError, KeyError, http.client.HTTPException) as e:
            last = e
        if time.monotonic() >= end:
            reason = f" (last: {last!r})" if last else ""
            raise Failed(f"waited {timeout:g} s for {what}{reason}")
        time.sleep(interval)


def check(condition, claim):
    """Fails with the claim when the condition is false."""
    if not condition:
        raise Failed(claim)


def equal(found, expected, what):
    if found != expected:
        raise Failed(f"{what}: expected {expected!r}, found {found!r}")


# ---------------------------------------------------------------- processes

_prctl = ctypes.CDLL(None, use_errno=True).prctl
_PR_SET_PDEATHSIG = 1
_live = []  # every Process that runs
_seen = []  # every Process of the present test, for its log
_scratches = []


def _die_with_parent(death_signal):
    def prepare():
        _prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    return prepare


def base_env(**more):
    """The environment without anything that would change what is tested."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
    env.update({k: str(v) for k, v in more.items() if v is not None})
    return env


class Process:
    """A child with its own process group, its output in a file, and no way to
    outlive us."""

    def __init__(self, name, argv, log, env=None, pass_fds=(), cwd=None,
                 death_signal=signal.SIGKILL):
        self.name = name
        self.log = pathlib.Path(log)
        if not shutil.which(argv[0]):
            raise Failed(f"{argv[0]} is not built")
        with open(self.log, "ab") as out:
            self.popen = subprocess.Popen(
                [str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, env=env, pass_fds=pass_fds, cwd=cwd,
                process_group=0, preexec_fn=_die_with_parent(death_signal))
        _live.append(self)
        _seen.append(self)

    @property
    def pid(self):
        return self.popen.pid

    @property
    def returncode(self):
        return self.popen.returncode

    def alive(self):
        return self.popen.poll() is None

    def signal(self, number):
        if self.alive():
            os.kill(self.pid, number)

    def wait(self, timeout=PATIENCE_S):
        """Its exit status; fails when it has not ended by then."""
        try:
            status = self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} still runs after {timeout:g} s") from None
        self._forget()
        return status

    def stop(self, timeout=15.0):
        """SIGTERM, then SIGKILL to what is left of its group.  Returns the
        exit status.  Calling it twice is fine."""
        if self.alive():
            os.kill(self.pid, signal.SIGTERM)
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                pass
        self.kill_group()
        return self.popen.wait()

    def stop_well(self, failing):
        """stop(), and fails unless it ended with status 0 -- a sanitizer, for
        one, speaks at the end.  Not while an exception is on its way."""
        # Whoever ends it on purpose, by kill9() or wait(), takes it off.
        was_expected = self not in _live
        early = "" if self.alive() else " before its test did"
        status = self.stop()
        if not was_expected and (early or status != 0) and not failing:
            raise Failed(f"{self.name} ended with status {status}{early}:\n"
                         + self.tail())

    def kill9(self):
        """SIGKILL to the process itself, and waits until it is gone."""
        if self.alive():
            os.kill(self.pid, signal.SIGKILL)
        self.popen.wait()
        self._forget()

    def kill_group(self):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._forget()

    def _forget(self):
        with contextlib.suppress(ValueError):
            _live.remove(self)

    def text(self):
        """All it has printed."""
        try:
            return self.log.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def tail(self, lines=40):
        return "\n".join(self.text().splitlines()[-lines:])


def stop_all():
    """Ends everything that was started here; newest first."""
    for process in reversed(list(_live)):
        process.stop(timeout=3.0)
    for scratch in list(_scratches):
        scratch.remove()


def _on_sigterm(_number, _frame):
    raise SystemExit(128 + signal.SIGTERM)


atexit.register(stop_all)
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGTERM, _on_sigterm)
    signal.signal(signal.SIGHUP, _on_sigterm)
    # An interactive shell's background job has SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def run(argv, env=None, timeout=PATIENCE_S, **more):
    """Runs a short program to its end.  Returns subprocess.CompletedProcess
    with text output."""
    return subprocess.run([str(a) for a in argv], env=env, timeout=timeout,
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, errors="replace",
                          preexec_fn=_die_with_parent(signal.SIGKILL), **more)


class Scratch:
    """A private folder of short path (a socket's path has 107 bytes at most),
    removed at the end; in a test, after the verdict: the logs are in it."""

    held = None  # a list while a test runs

    def __init__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="rgov-t."))
        _scratches.append(self)

    def __enter__(self):
        return self.path

    def __exit__(self, *_):
        self.remove()

    def remove(self):
        with contextlib.suppress(ValueError):
            _scratches.remove(self)
        if Scratch.held is not None:
            Scratch.held.append(self.path)
        else:
            self._delete(self.path)

    @classmethod
    def release(cls):
        for path in cls.held or []:
            cls._delete(path)
        cls.held = None

    @staticmethod
    def _delete(path):
        if not os.environ.get("RGOV_KEEP_LOGS"):
            shutil.rmtree(path, ignore_errors=True)


# ---------------------------------------------------------------- HTTP

Response = collections.namedtuple("Response", "status headers body")


class HttpResponse(Response):
    def json(self):
        return json.loads(self.body)


def http_request(method, url, body=None, headers=None, timeout=60.0):
    """One request over a new connection.  body: bytes, or an object that is
    sent as JSON.  An HTTP error is an answer, not an exception."""
    parts = urllib.parse.urlsplit(url)
    headers = dict(headers or {})
    if body is not None and not isinstance(body, (bytes, bytearray)):
        body = json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
    connection = http.client.HTTPConnection(parts.hostname, parts.port,
                                            timeout=timeout)
    try:
        path = parts.path or "/"
        if parts.query:
            path += "?" + parts.query
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return HttpResponse(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


# ---------------------------------------------------------------- bedrock-sim

class Sim:
    """bedrock-sim on a free port.  Keywords are its quotas; None leaves the
    program's default.  extra: further arguments."""

    def __init__(self, rpm=None, minute=None, concurrency=None, latency=None,
                 seed=1, auth="strict", extra=()):
        self.scratch = Scratch()
        self.log_file = self.scratch.path / "sim.jsonl"
        self.report_file = self.scratch.path / "sim-report.json"
        self.port_file = self.scratch.path / "ports.json"
        flags = {"--requests-per-minute": rpm, "--minute": minute,
                 "--concurrency": concurrency, "--latency": latency,
                 "--seed": seed, "--auth": auth}
        self.argv = [BUILD / "bedrock-sim", "--port", "0", "--port-file",
                     self.port_file, "--log", self.log_file, "--report",
                     self.report_file]
        for flag, value in flags.items():
            if value is not None:
                self.argv += [flag, str(value)]
        self.argv += [str(a) for a in extra]
        self.process = None
        self.ports = None

    def __enter__(self):
        self.start()
        return self

    def start(self):
        self.process = Process("bedrock-sim", self.argv,
                               self.scratch.path / "sim.log", env=base_env())
        wait_until(self._ports, what="bedrock-sim's port file")

    def _ports(self):
        if not self.process.alive():
            raise Failed("bedrock-sim ended at its start:\n"
                         + self.process.tail())
        self.ports = json.loads(self.port_file.read_text())
        return self.ports

    def __exit__(self, failure, *_):
        try:
            self.process.stop_well(failure is not None)
        finally:
            self.scratch.remove()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.ports['http']}"

    @property
    def tls_url(self):
        return f"https://localhost:{self.ports['https']}"

    def report(self):
        return http_request("GET", self.url + "/_sim/report").json()

    def reset(self):
        answer = http_request("POST", self.url + "/_sim/reset", b"")
        check(answer.status < 300, f"/_sim/reset answered {answer.status}")

    def set(self, **values):
        """Changes quotas, or outage="503" and outage="none", from now on."""
        query = "&".join(f"{name.replace('_', '-')}={value}"
                         for name, value in values.items())
        answer = http_request("POST", self.url + "/_sim/set?" + query, b"")
        equal(answer.status, 200, f"/_sim/set?{query}: {answer.body!r}")

    def events(self):
        """The lines of its log that are whole, as objects."""
        lines = self.log_file.read_text().split("\n")[:-1]
        return [json.loads(line) for line in lines if line]


def answered_body(text):
    """The SHA-256 of the body that an answer of the simulator is for."""
    found = re.search(r"\bsha256 ([0-9a-f]{64})\b", text)
    return found and found[1]


def check_own_answers(answers):
    """answers: (body sent, text of the answer).  Each is for its own body."""
    for body, text in answers:
        equal(answered_body(text), hashlib.sha256(body).hexdigest(),
              f"the body that the answer to {body[:60]!r} is for")


# ---------------------------------------------------------------- rgovd

_names = itertools.count(1)


def unique_name():
    """A governor's name that no other run on this machine uses."""
    return f"t{os.getpid()}-{next(_names)}"


def limits(rpm=30, concurrency=3, per_user=2, minute=4.0, guard=0.3):
    """The settings of a quota whose minute is short.  The guard is what a busy
    machine may delay a request between its stamp and its arrival."""
    return f"""requests_per_minute = {rpm}
max_concurrent_requests = {concurrency}
max_requests_per_user = {min(per_user, concurrency)}
quota_window = "{minute * 1000:g}ms"
guard = "{guard * 1000:g}ms"
"""


class Rgovd:
    """One rgovd with a name, a configuration and a runtime folder of its own.
    restart() starts a successor of the same name."""

    def __init__(self, config_text="", sim=None, env=None, loop=None,
                 name=None, credentials=True, argv=(), endpoint=None):
        self.name = name or unique_name()
        self.scratch = Scratch()
        self.runtime_dir = self.scratch.path / "run"
        self.runtime_dir.mkdir(mode=0o700)
        self.state_dir = self.scratch.path / "state"
        self.config = self.scratch.path / "rgov.conf"
        self.endpoint = endpoint or (sim.url if sim is not None else None)
        self.loop = loop or os.environ.get("RGOV_LOOP") or "auto"
        self.extra_argv = [str(a) for a in argv]
        self.write_config(config_text)
        self.env = base_env(HOME=self.scratch.path,
                            AWS_EC2_METADATA_DISABLED="true",
                            **(AWS_ENV if credentials else {}))
        self.env.update({k: str(v) for k, v in (env or {}).items()})
        self.process = None

    def write_config(self, text):
        """The text is the body of the configuration; where it names no
        upstream, the one of this object is added."""
        lines = [f'runtime_dir = "{self.runtime_dir}"', text]
        if "state_dir" not in text:
            lines.append(f'state_dir = "{self.state_dir}"')
        if self.endpoint and "upstream " not in text:
            lines.append(f'upstream "bedrock" {{\n\tendpoint = "{self.endpoint}"'
                         f'\n\tregion = "{REGION}"\n}}')
        # By rename: a reload that is under way reads the old one or the new.
        written = self.config.with_suffix(".new")
        written.write_text("\n".join(lines) + "\n")
        written.rename(self.config)

    def argv(self):
        return [BUILD / "rgovd", "--name", self.name, "--config", self.config,
                "--loop", self.loop, *self.extra_argv]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, failure, *_):
        try:
            self.process.stop_well(failure is not None)
        finally:
            self.stop()

    def start(self, wait=True):
        """Starts it; returns when it has said READY=1, or at once."""
        path = self.scratch.path / f"notify{next(_names)}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(path))
            notify.settimeout(0.05)
            env = dict(self.env, NOTIFY_SOCKET=str(path))
            self.process = Process(f"rgovd {self.name}", self.argv(),
                                   self.scratch.path / "rgovd.log", env=env)
            if wait:
                wait_until(lambda: self._is_ready(notify),
                           what="rgovd's READY=1")

    def _is_ready(self, notify):
        try:
            if b"READY=1" in notify.recv(4096):
                return True
        except TimeoutError:
            pass
        if not self.process.alive():
            raise Failed(f"rgovd ended at its start with status "
                         f"{self.process.returncode}:\n{self.process.tail()}")
        return False

    def kill9(self):
        self.process.kill9()

    def restart(self):
        """kill -9, and a successor that takes its place."""
        self.kill9()
        self.start()

    def stop(self):
        try:
            if self.process is not None:
                self.process.stop()
        finally:
            forget_governor(self.name)
            self.scratch.remove()

    @property
    def socket(self):
        return self.runtime_dir / f"{self.name}.sock"

    def client_env(self, **more):
        """The environment of a worker: knows the governor, no credentials."""
        env = base_env(RGOV_NAME=self.name, RGOV_RUNTIME_DIR=self.runtime_dir,
                       RGOV_SOCKET=self.socket, HOME=self.scratch.path,
                       PYTHONPATH=BUILD / "python")
        env.update({k: str(v) for k, v in more.items()})
        return env

    def tool_env(self):
        return base_env(RGOV_NAME=self.name, RGOV_RUNTIME_DIR=self.runtime_dir,
                        RGOV_SOCKET=self.socket)

    def rgov(self, *arguments, timeout=PATIENCE_S):
        """Runs the command `rgov` against this governor."""
        return run([BUILD / "rgov", *arguments], env=self.tool_env(),
                   timeout=timeout)

    def stats(self):
        """The object that `rgov stats --json` prints."""
        done = self.rgov("stats", "--json")
        check(done.returncode == 0,
              f"rgov stats --json: status {done.returncode}: {done.stderr}")
        return json.loads(done.stdout)

    def is_idle(self):
        stats = self.stats()
        return stats["active_requests"] == 0 and stats["queue_size"] == 0

    def python(self, source, *arguments, timeout=PATIENCE_S, **env):
        """Runs Python source as a client, to its end."""
        return run([PYTHON, "-c", source, *arguments],
                   env=self.client_env(**env), timeout=timeout)


def forget_governor(name):
    """Removes the board of a governor that has ended, and its lock."""
    for pattern in (f"/dev/shm/rgov.{name}", f"/dev/shm/rgov.{name}#*"):
        for path in glob.glob(pattern):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


# ---------------------------------------------------------------- Redis

class Redis:
    """redis-server on a free loopback port, which it keeps over a restart; what
    was written is there after kill9() and start().  argv: further arguments."""

    def __init__(self, argv=()):
        self.scratch = Scratch()
        self.extra_argv = [str(a) for a in argv]
        self.port = None
        self.process = None

    def __enter__(self):
        # Somebody may take the port before Redis does.
        for attempt in range(3):
            with socket.socket() as finder:
                finder.bind(("127.0.0.1", 0))
                self.port = finder.getsockname()[1]
            try:
                self.start()
                return self
            except Failed:
                if attempt == 2 or "in use" not in self.process.tail():
                    raise

    def __exit__(self, failure, *_):
        try:
            self.process.stop_well(failure is not None)
        finally:
            self.scratch.remove()

    def start(self):
        folder = self.scratch.path
        self.process = Process(
            "redis-server",
            ["redis-server", "--bind", "127.0.0.1", "--port", self.port,
             "--dir", folder, "--save", "", "--appendonly", "yes",
             *self.extra_argv],
            folder / f"redis{next(_names)}.log", env=base_env())
        wait_until(self._is_ready, what="an answer of Redis")

    def _is_ready(self):
        if not self.process.alive():
            raise Failed("redis-server ended at its start:\n"
                         + self.process.tail())
        # While it reads its files it answers LOADING; with a password, NOAUTH.
        with socket.create_connection(("127.0.0.1", self.port), 5) as link:
            link.sendall(b"PING\r\n")
            return link.recv(64).startswith((b"+PONG", b"-NOAUTH"))

    def kill9(self):
        self.process.kill9()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"


# ---------------------------------------------------------------- gunicorn

class Gunicorn:
    """gunicorn with an application of a folder, on a free port."""

    def __init__(self, app, workers=4, worker_class="sync", threads=None,
                 preload=False, env=None, chdir=None, rgovd=None, argv=(),
                 timeout=120, health="/healthz"):
        self.scratch = Scratch()
        self.env = rgovd.client_env() if rgovd else base_env(
            PYTHONPATH=BUILD / "python")
        self.env["PYTHONDONTWRITEBYTECODE"] = "1"
        self.env.update({k: str(v) for k, v in (env or {}).items()})
        self.health = health
        self.workers = workers
        self.options = ["--workers", workers, "--worker-class", worker_class,
                        "--timeout", timeout, "--graceful-timeout", 5,
                        "--worker-tmp-dir", self.scratch.path]
        if threads:
            self.options += ["--threads", threads]
        if preload:
            self.options += ["--preload"]
        if chdir:
            self.options += ["--chdir", chdir]
        self.options += [*argv, app]
        self.process = None
        self.port = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        # The socket is made here, so that nobody can take the port between.
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", 0))
            listener.listen(512)
            self.port = listener.getsockname()[1]
            # SIGTERM: the master then ends its workers too.
            self.process = Process(
                "gunicorn",
                [PYTHON, "-m", "gunicorn", "--bind",
                 f"fd://{listener.fileno()}", *self.options],
                self.scratch.path / "gunicorn.log", env=self.env,
                pass_fds=(listener.fileno(),), death_signal=signal.SIGTERM)
        wait_until(self._is_healthy, timeout=60.0,
                   what=f"{self.url}{self.health}", interval=0.05)

    def _is_healthy(self):
        if not self.process.alive():
            raise Failed("gunicorn ended at its start:\n"
                         + self.process.tail())
        return (http_request("GET", self.url + self.health,
                             timeout=10.0).status == 200
                and len(self.worker_pids()) == self.workers)

    def stop(self):
        if self.process is not None:
            self.process.stop()
        self.scratch.remove()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def worker_pids(self):
        """The workers that live now, from /proc."""
        path = f"/proc/{self.process.pid}/task/{self.process.pid}/children"
        return [int(pid) for pid in pathlib.Path(path).read_text().split()]

    def get(self, path, **more):
        return http_request("GET", self.url + path, **more)

    def post(self, path, body, **more):
        return http_request("POST", self.url + path, body, **more)


# ---------------------------------------------------------------- load

def in_parallel(jobs):
    """Calls every function of the list in a thread of its own, waits for all
    and returns their results; an exception is returned in its place."""
    results = [None] * len(jobs)

    def work(i):
        try:
            results[i] = jobs[i]()
        except Exception as e:  # a thread has nobody to tell
            results[i] = e

    threads = [threading.Thread(target=work, args=(i,), daemon=True)
               for i in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class Background:
    """in_parallel() that runs while the test does something else."""

    def __init__(self, jobs):
        self.results = None
        self._thread = threading.Thread(target=self._run, args=(jobs,),
                                        daemon=True)
        self._thread.start()

    def _run(self, jobs):
        self.results = in_parallel(jobs)

    def running(self):
        return self._thread.is_alive()

    def wait(self, timeout):
        """Until the end or the time-out, whichever comes first."""
        self._thread.join(timeout)

    def join(self, timeout):
        self.wait(timeout)
        check(not self._thread.is_alive(),
              f"the load has not ended after {timeout:g} s")
        return self.results


# ---------------------------------------------------------------- tests

class Checks:
    """Functions as tests.  Prints one line each and `N passed, N failed,
    N skipped` last.  Arguments of the command line select by substring."""

    def __init__(self):
        self.tests = []
        self.passed = self.failed = self.skipped = 0

    def test(self, function):
        self.add(function.__name__, function)
        return function

    def add(self, name, function):
        self.tests.append((name, function))

    def cases(self, *cases):
        """For tests with a table: the function is called with each case, which
        begins with its name."""
        def register(function):
            for case in cases:
                self.add(f"{function.__name__}[{case[0]}]",
                         lambda case=case: function(*case))
            return function
        return register

    def main(self):
        wanted = sys.argv[1:]
        try:
            for name, function in self.tests:
                if not wanted or any(w in name for w in wanted):
                    self._run(name, function)
        except KeyboardInterrupt:
            self.failed += 1
            print("FAIL interrupted", flush=True)
        finally:
            stop_all()
        print(f"{self.passed} passed, {self.failed} failed, "
              f"{self.skipped} skipped", flush=True)
        sys.exit(1 if self.failed else 0)

    def _run(self, name, function):
        _seen.clear()
        begin = time.monotonic()
        Scratch.held = []
        try:
            function()
        except Skip as why:
            self.skipped += 1
            print(f"skip {name} # {why}", flush=True)
        except Exception as e:
            self.failed += 1
            print(f"FAIL {name}: {e}", flush=True)
            if not isinstance(e, Failed):
                _indent(traceback.format_exc())
            _show_logs()
        else:
            self.passed += 1
            print(f"ok {name} ({time.monotonic() - begin:.1f} s)", flush=True)
        finally:
            stop_all()
            Scratch.release()


def _show_logs():
    shown = set()
    for process in _seen:
        if process.log not in shown:
            shown.add(process.log)
            print(f"     --- {process.name} ({process.log.name}), status "
                  f"{process.popen.poll()}", flush=True)
            _indent(process.tail())


def _indent(text):
    for line in text.splitlines():
        print("     " + line, flush=True)


checks = Checks()
