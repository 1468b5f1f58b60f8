#!/usr/bin/python3 -B
"""What is wrong with a start is said in one line, with the right exit status:
settings, a second rgovd of one name, no credentials, no room for the board.
"""

import re

from harness import *

USAGE, UNAVAILABLE, CANNOT_CREATE, CONFIGURATION = 64, 69, 73, 78


def attempt(rgovd, *more, env=None, before=(), timeout=PATIENCE_S):
    """Runs an rgovd that should end by itself."""
    try:
        return run([*before, *rgovd.argv(), *more], env=env or rgovd.env,
                   timeout=timeout)
    except subprocess.TimeoutExpired:
        raise Failed("it started, or hangs") from None


@contextlib.contextmanager
def unstarted(text="", **more):
    """A governor that is configured and does not run."""
    rgovd = Rgovd(text, endpoint=more.pop("endpoint", "http://127.0.0.1:9"),
                  **more)
    try:
        yield rgovd
    finally:
        rgovd.stop()


# name, settings from the file's second line on, the line that is wrong, a word
# that the message must contain
BAD_SETTINGS = (
    ("unknown-key", "colour = 3", 2, "colour"),
    ("unknown-key-later", "spin_us = 5\n\nmax_concurent_requests = 3", 4,
     "max_concurent_requests"),
    ("unknown-block", 'planet "x" { size = 1 }', 2, "planet"),
    ("unknown-key-in-block", 'model "x" {\n\tcolour = 3\n}', 3, "colour"),
    ("negative", "max_concurrent_requests = -1", 2, "max_concurrent_requests"),
    ("absurd", "requests_per_minute = 99999999999", 2, "requests_per_minute"),
    ("no-number", 'max_queued = "many"', 2, "max_queued"),
    ("no-time", 'default_timeout = "soon"', 2, "default_timeout"),
    ("zero-where-one-is-least", "max_queued = 0", 2, "max_queued"),
    ("unknown-preset", 'preset = "huge"', 2, "huge"),
    ("unknown-choice", 'on_client_death = "mourn"', 2, "mourn"),
    ("negative-weight", 'user "u" {\n\tweight = -1\n}', 3, "weight"),
    ("no-weight", 'application "uid 1" {\n\tweight = 0\n}', 3, "weight"),
    ("window-of-zero", "quota_window = 0", 2, "quota_window"),
    ("same-pattern-twice", 'model "a*" {}\nmodel "a*" {}', 3, "a*"),
    ("hidden-pattern", 'model "*" {}\nmodel "a*" {}', 3, "nothing reaches"),
    ("contradiction", "tokens_per_minute = 99\n"
     'user "u" {\n\ttokens_per_minute = 100\n}', 4, "tokens_per_minute"),
    ("cannot-start", 'model "m" {\n\ttokens_per_minute = 99\n'
     "\tdefault_max_tokens = 100\n}", 4, "could never start"),
    ("falls-back-to-itself", 'model "m*" {\n\tfallback = {"m1"}\n}', 3,
     "m1"),
    ("http-to-the-world",
     'upstream "bedrock" {\n\tendpoint = "http://example.com"\n}', 3,
     "example.com"),
    ("endpoint-is-no-url", 'upstream "bedrock" {\n\tendpoint = "bedrock"\n}',
     3, "endpoint"),
    ("ca-file-is-absent",
     'upstream "bedrock" {\n\tca_file = "/nonexistent/ca.pem"\n}', 3,
     "ca_file"),
    ("syntax", 'model "x" {\n\tmax_concurrent_requests = 3\n', None, ""),
    ("quote-is-open", 'preset = "production-low\n', None, ""),
)


@checks.cases(*BAD_SETTINGS)
def a_bad_setting_is_named(_name, text, line, word):
    """file:line and the word, exit status 78; --check-config says the same."""
    with unstarted(text) as rgovd:
        for arguments in ((), ("--check-config",)):
            done = attempt(rgovd, *arguments)
            said = done.stdout + done.stderr
            equal(done.returncode, CONFIGURATION, f"exit status ({said})")
            found = re.search(re.escape(str(rgovd.config)) + r":(\d+): ", said)
            check(found, f"the message names file and line: {said}")
            if line is not None:
                equal(int(found[1]), line, f"the line ({said})")
            check(word in said, f"the message names {word!r}: {said}")


@checks.test
def a_good_configuration_is_called_good():
    """--check-config ends with 0 and starts nothing."""
    with unstarted(limits()) as rgovd:
        done = attempt(rgovd, "--check-config")
        equal(done.returncode, 0, f"exit status ({done.stderr})")
        check(not rgovd.socket.exists(), "there is no socket")


@checks.test
def a_bad_environment_is_named():
    """The names of the old request manager are judged like settings."""
    with unstarted() as rgovd:
        done = attempt(rgovd, env=dict(rgovd.env, MAX_CONCURRENT_REQUESTS="x"))
        equal(done.returncode, CONFIGURATION, f"exit status ({done.stderr})")
        check("MAX_CONCURRENT_REQUESTS" in done.stderr, done.stderr)


@checks.test
def a_configuration_that_is_not_there_is_named():
    """A file that was asked for by name must exist."""
    with unstarted() as rgovd:
        rgovd.config.unlink()
        done = attempt(rgovd)
        equal(done.returncode, CONFIGURATION, f"exit status ({done.stderr})")
        check(str(rgovd.config) in done.stderr, done.stderr)


@checks.test
def an_unknown_option_is_quoted():
    with unstarted() as rgovd:
        done = attempt(rgovd, "--colour")
        equal(done.returncode, USAGE, f"exit status ({done.stderr})")
        check("colour" in done.stderr, done.stderr)


@checks.test
def a_bad_reload_keeps_what_runs():
    """SIGHUP and `rgov reload` with a wrong file change nothing and say why;
    with a right one the new limits hold, and the counters go on."""
    with Sim() as sim, Rgovd(limits(concurrency=3), sim=sim) as rgovd:
        ask = 'import rgov; rgov.connect().invoke("m", {"max_tokens": 5}, user="u")'
        equal(rgovd.python(ask).returncode, 0, "a call before")
        rgovd.write_config(limits(concurrency=4) + "colour = 3")
        line = rgovd.config.read_text().split("\n").index("colour = 3") + 1
        where = f"{rgovd.config}:{line}: "
        done = rgovd.rgov("reload")
        check(done.returncode != 0, "rgov reload failed")
        check(where in done.stderr + done.stdout,
              f"it says where: {done.stdout}{done.stderr}")
        before = rgovd.process.text().count(where)
        rgovd.process.signal(signal.SIGHUP)
        wait_until(lambda: rgovd.process.text().count(where) > before,
                   what="rgovd's line about the bad file")
        equal(rgovd.stats()["max_concurrent_requests"], 3, "the limit kept")
        done = rgovd.python(ask)
        equal(done.returncode, 0, f"a call after ({done.stderr})")

        rgovd.write_config(limits(concurrency=4))
        done = rgovd.rgov("reload")
        equal(done.returncode, 0, f"rgov reload ({done.stderr})")
        wait_until(lambda: rgovd.stats()["max_concurrent_requests"] == 4,
                   what="the new limit")
        equal(rgovd.stats()["total_requests"], 2, "total_requests")


@checks.test
def a_second_rgovd_names_the_first():
    """It takes nothing away from the one that runs, and --replace does."""
    with Sim() as sim, Rgovd(sim=sim) as rgovd:
        first = rgovd.process
        done = attempt(rgovd)
        equal(done.returncode, UNAVAILABLE, f"exit status ({done.stderr})")
        check(str(first.pid) in done.stderr, f"it names {first.pid}: "
              + done.stderr)
        check(first.alive(), "the first one runs")
        ask = 'import rgov; rgov.connect().invoke("m", {"max_tokens": 5}, user="u")'
        done = rgovd.python(ask)
        equal(done.returncode, 0, f"a call ({done.stderr})")

        rgovd.extra_argv = ["--replace"]
        rgovd.start()
        first.wait()
        done = rgovd.python(ask)
        equal(done.returncode, 0, f"a call to the new one ({done.stderr})")


@checks.test
def the_same_socket_is_not_shared():
    """Another name, the same socket: refused too."""
    with Sim() as sim, Rgovd(sim=sim) as rgovd:
        with unstarted(f'socket = "{rgovd.socket}"') as other:
            done = attempt(other, timeout=5)
            check(done.returncode in (UNAVAILABLE, CANNOT_CREATE),
                  f"exit status {done.returncode} ({done.stderr})")
            check(str(rgovd.socket) in done.stderr, done.stderr)
        still = rgovd.python('import rgov; rgov.connect().invoke("m",'
                             ' {"max_tokens": 5}, user="u")')
        equal(still.returncode, 0, f"a call to the first ({still.stderr})")


@checks.test
def without_credentials_calls_are_refused():
    """rgovd runs (permits need none), says so, and refuses calls by name."""
    source = """
import rgov
gov = rgov.connect()
try:
    gov.invoke("m", {"max_tokens": 5}, user="u")
except rgov.Rejected as e:
    print(e.reason)
with gov.permit("m", user="u") as permit:
    permit.settle(input_tokens=1, output_tokens=1)
print("permit")
"""
    with Sim() as sim, Rgovd(sim=sim, credentials=False) as rgovd:
        done = rgovd.python(source)
        equal(done.stdout, "no_credentials\npermit\n",
              f"the client's words ({done.stderr})")
        equal(sim.report()["arrivals"], 0, "arrivals")
        check("credentials" in rgovd.process.text(), "rgovd's log says so")


@checks.test
def a_full_dev_shm_is_named():
    """The board needs memory: without it rgovd ends and says what is full."""
    if os.geteuid() != 0:
        raise Skip("needs root, to mount a small /dev/shm")
    with unstarted() as rgovd:
        probe = run(["unshare", "-m", "true"])
        if probe.returncode != 0:
            raise Skip("this machine allows no mount namespace")
        done = attempt(rgovd, before=[
            "unshare", "-m", "sh", "-c",
            'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"', "sh"])
        equal(done.returncode, CANNOT_CREATE, f"exit status ({done.stderr})")
        check("/dev/shm" in done.stderr or "rgov." in done.stderr,
              f"it names what is full: {done.stderr}")
        check(not rgovd.socket.exists(), "no socket is left")


@checks.test
def a_runtime_folder_that_cannot_be_written_is_named():
    """The folder for the socket is a file."""
    with unstarted() as rgovd:
        rgovd.runtime_dir.rmdir()
        rgovd.runtime_dir.write_text("")
        done = attempt(rgovd)
        equal(done.returncode, CANNOT_CREATE, f"exit status ({done.stderr})")
        check(str(rgovd.runtime_dir) in done.stderr, done.stderr)


checks.main()
