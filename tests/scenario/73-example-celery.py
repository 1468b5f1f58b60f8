#!/usr/bin/python3 -B
"""The start script of examples/celery brings its deployment up, which answers
what its users ask, and takes it down again.
"""

from harness import *

START = ROOT / "examples/celery/start"


def free_ports(count):
    """All open at once, so that they differ."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]


@contextlib.contextmanager
def deployment():
    """The start script, until its users may ask; yields it and their URL."""
    ports = dict(zip(("HTTP_PORT", "REDIS_PORT", "SIM_PORT"), free_ports(3)))
    name = unique_name()
    with Scratch() as scratch:
        start = Process("start", [START], scratch / "start.log", env=base_env(
            RUN=scratch / "run", RGOV_NAME=name, BUILD=BUILD, PYTHON=PYTHON,
            SIM_OPTIONS="--latency fixed:0.05", **ports),
            death_signal=signal.SIGTERM)
        try:
            wait_until(lambda: "Running: " in start.text()
                       or not start.alive(), 60, "the deployment")
            check(start.alive(), f"it ended: {start.tail()}")
            yield start, f"http://127.0.0.1:{ports['HTTP_PORT']}"
        finally:
            start.stop(timeout=40)
            forget_governor(name)


def group_of(process):
    """The processes of its group, but itself."""
    found = run(["pgrep", "-g", process.pid]).stdout.split()
    return [int(pid) for pid in found if int(pid) != process.pid]


def ask(url, user, text):
    answer = http_request("POST", url + "/analyze_section",
                          {"session_id": user, "text": text})
    equal(answer.status, 202, f"status ({answer.body!r})")
    equal(answer.headers["Location"], answer.json()["status_url"], "Location")
    return answer.json()["status_url"]


def status_of(url, where):
    return http_request("GET", url + where).json()


@checks.test
def it_serves_and_ends():
    """Twelve questions of three users become answers; then SIGTERM ends every
    process, and the script says 0."""
    with deployment() as (start, url):
        stats = http_request("GET", url + "/queue_stats").json()
        equal((stats["available"], stats["workers"]), (True, 3), "workers")
        asked = [ask(url, f"user-{n % 3}", f"Section {n}.") for n in range(12)]
        for where in asked:
            wait_until(lambda: status_of(url, where)["status"] == "SUCCESS",
                       what=f"the answer at {where}", interval=0.05)
        answers = [status_of(url, w)["result"]["analysis"] for w in asked]
        equal(len({answered_body(text) for text in answers}), 12, "answers")
        stats = http_request("GET", url + "/queue_stats").json()
        equal((stats["total_pending"], stats["rgov"]["successful_requests"],
               stats["rgov"]["throttled_requests"]), (0, 12, 0),
              "pending, answered, throttled")
        equal(http_request("GET", url + "/task_status/nonsense").status, 404,
              "status of no task")
        equal(http_request("POST", url + "/analyze_section", b"{}").status,
              400, "status of no question")
        check(len(group_of(start)) >= 7, "the deployment's processes")
        start.signal(signal.SIGTERM)
        equal(start.wait(40), 0, f"status of the script ({start.tail()})")
        wait_until(lambda: not group_of(start), what="the end of them all")


checks.main()
