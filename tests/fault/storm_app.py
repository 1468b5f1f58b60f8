"""The example's Flask application as gunicorn's workers run it in a storm: it
keeps a journal of who handled what, and does what a request asks for beside.

Environment: STORM_JOURNAL (a file, appended to), BALLAST_MB (memory that a core
dump has to write), PRELOADED (the master imports this too).  Lines of the journal:

    start ID PID          a worker has taken up a request
    end ID PID            and handed its answer to gunicorn
    child ID PID STATUS   a forked child has asked for something of its own
    quit PID FOUND_BY_SLICE SLOTS_TAKEN     a worker ends by itself

Header X-Storm-Id is the ID; X-Storm-Do is "fork", "exec" or "".
"""

import atexit
import hashlib
import json
import os
import resource
import subprocess

from app import MODEL_ID, app, claude_body

gov = app.extensions["rgov"].gov
journal = os.open(os.environ["STORM_JOURNAL"],
                  os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
ballast = bytearray(os.urandom(1 << 20)) * int(os.environ.get("BALLAST_MB", 0))


def note(*words):
    os.write(journal, " ".join(map(str, words)).encode() + b"\n")


def note_quit():
    found = gov.diagnose()
    note("quit", os.getpid(), found["found_by_slice"], found["slots_taken"])


def ask_as_child(number):
    """In a forked child, while the threads of its parent wait for answers."""
    body = claude_body(f"child of {number}", "Summarise.")
    sent = json.dumps(body, separators=(",", ":")).encode()
    try:
        said = gov.invoke(MODEL_ID, body, user="child", timeout=30).json()
        is_own = hashlib.sha256(sent).hexdigest() in said["content"][0]["text"]
        note("child", number, os.getpid(), "ok" if is_own else "foreign")
    except Exception as e:
        note("child", number, os.getpid(), type(e).__name__)


def fork(number):
    pid = os.fork()
    if pid == 0:
        try:
            ask_as_child(number)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def execute(_number):
    subprocess.run(["true"], check=True)


BESIDE = {"fork": fork, "exec": execute}


def application(environ, start_response):
    number = environ.get("HTTP_X_STORM_ID", "-")
    note("start", number, os.getpid())
    beside = BESIDE.get(environ.get("HTTP_X_STORM_DO"))
    if beside:
        beside(number)
    answer = app(environ, start_response)
    note("end", number, os.getpid())
    return answer


def dump_cores():
    """A worker that crashes leaves its memory in its folder."""
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


if ballast:
    dump_cores()
master = os.getpid() if os.environ.get("PRELOADED") else 0
atexit.register(lambda: os.getpid() == master or note_quit())
