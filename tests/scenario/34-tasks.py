#!/usr/bin/python3 -B
"""Durable tasks, as the command `rgov task` sees them: every state and refusal,
with its exit code, and every way for rgovd and the host to go down.

A task of HANGS in the only place (ONE_PLACE) is what makes others wait here, until
it is cancelled: nothing depends on how long an answer takes.
"""

import http.server

from harness import *

sys.path.insert(0, str(ROOT / "tests/fault"))
from bad_provider import Provider

HANGS, BAD = "vendor.hangs-v1", "vendor.bad-v1"
FAULTS = ["--fault-model", f"{HANGS}=hang", "--fault-model", f"{BAD}=403"]
UNKNOWN = "01890a5d-ac96-774b-bcce-b302099a8057"
NOBODY = 65534

ROOMY = """max_concurrent_requests = 100
requests_per_minute = 60000
max_requests_per_user = 0
"""
ONE_PLACE = ROOMY.replace("= 100", "= 1", 1)

# sysexits
(USAGE, DATAERR, NOINPUT, UNAVAILABLE, TEMPFAIL, NOPERM, CONFIG) = (
    64, 65, 66, 69, 75, 77, 78)


class Host:
    """A simulator, an rgovd, and the command."""

    def __init__(self, config=ROOMY, endpoint=None, **sim_options):
        self.stack = contextlib.ExitStack()
        sim_options.setdefault("extra", FAULTS)
        self.sim = endpoint is None and self.stack.enter_context(
            Sim(**sim_options)) or None
        self.rgovd = self.stack.enter_context(
            Rgovd(config, sim=self.sim, endpoint=endpoint))

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        self.stack.__exit__(*failure)

    def command(self, *arguments, prefix=(), text=""):
        """`rgov task` with these arguments and this body."""
        return subprocess.run(
            [*map(str, prefix), str(BUILD / "rgov"), "task", *map(str, arguments)],
            env=self.rgovd.tool_env(), input=text, capture_output=True,
            text=True, timeout=60)

    def ask(self, *arguments, status=0, **more):
        """The same; what it prints, when its status is that."""
        done = self.command(*arguments, **more)
        equal((done.returncode, done.stderr if status == 0 else ""), (status, ""),
              f"rgov task {arguments}: {done.stderr}")
        return done.stdout if status == 0 else done.stderr

    def submit(self, word="", model=MODEL, *options, status=0):
        """A task unlike any other: its id; or the words of a refusal."""
        return self.ask("submit", model, *options, text=body(word),
                        status=status).strip()

    def look(self, task, how="show", *options, status=0):
        done = self.command(how, "--json", task, *options)
        equal(done.returncode, status, f"{how}: {done.stderr}")
        return json.loads(done.stdout)

    def rows(self, *options):
        return json.loads(self.ask("list", "--json", *options))

    def history(self, task):
        return [event["what"] for event in
                json.loads(self.ask("history", "--json", task))]

    def waits_until(self, task, state):
        wait_until(lambda: self.look(task)["state"] == state,
                   what=f"the task to be {state}")

    def holds(self):
        """The id of a task that has the only place."""
        task = self.submit("holds", HANGS)
        self.waits_until(task, "running")
        return task

    def ends_well(self, task, word):
        equal(self.look(task, "wait")["state"], "succeeded", "state")
        equal(answered_body(self.ask("result", task)),
              hashlib.sha256(body(word).encode()).hexdigest(),
              "the body that the answer is for")


def body(word):
    return json.dumps({"anthropic_version": "bedrock-2023-05-31",
                       "max_tokens": 5,
                       "messages": [{"role": "user", "content": word}]})


def has(words, *parts):
    for part in parts:
        check(part in words, f"{part!r} is not in {words!r}")


# ---------------------------------------------------------------- one task

@checks.test
def every_state_has_its_words_and_its_status():
    "show says how it stands; wait and result end as a call that ended so."
    with Host(ONE_PLACE) as h:
        runs = h.holds()
        waits = h.submit("waits", MODEL, "--user", "alice", "--priority", "batch")
        place = wait_until(lambda: (t := h.look(waits)).get("position") and t,
                           what="its place")
        equal((place["state"], place["position"], place["started"], place["runs"]),
              ("queued", 1, None, 0), "a queued one")
        has(h.ask("show", waits), "queued, place 1")
        equal(h.look(runs)["runs"], 1, "runs of a running one")
        for task, state in ((waits, "queued"), (runs, "running")):
            has(h.ask("result", task, status=TEMPFAIL), "not ended", state)
            equal(h.look(task, "wait", "--timeout", "0.05", status=TEMPFAIL)
                  ["state"], state, "after a wait")
        late = h.submit("late", MODEL, "--timeout", "0.2")
        equal(h.look(late, "wait", status=TEMPFAIL)["state"], "expired", "state")
        has(h.ask("result", late, status=TEMPFAIL), "deadline")
        equal(h.look(runs, "cancel")["state"], "cancelled", "a running one")
        equal(h.look(runs, "wait", status=TEMPFAIL)["state"], "cancelled", "state")
        h.ends_well(waits, "waits")
        bad = h.submit("bad", BAD)
        end = h.look(bad, "wait", status=NOPERM)
        equal((end["state"], end["result"], end["http_status"], end["code"]),
              ("failed", "upstream error", 403, "AccessDeniedException"), "its end")
        has(h.ask("result", bad, status=NOPERM), "HTTP 403", "AccessDenied")
        equal(h.look(waits, "cancel")["state"], "succeeded", "cancelled too late")
        equal((h.history(waits), h.history(late), h.history(runs)),
              (["submitted", "started", "ended"], ["submitted", "ended"],
               ["submitted", "started", "cancel asked", "ended"]), "histories")
        check(h.rows()[-1]["id"] == runs, "the oldest is last")


@checks.test
def a_submit_may_wait_for_its_end():
    "--wait: the reply to standard output, the id to standard error."
    with Host() as h:
        done = h.command("submit", MODEL, "--wait", text=body("at once"))
        equal((done.returncode, answered_body(done.stdout)),
              (0, hashlib.sha256(body("at once").encode()).hexdigest()), "reply")
        equal(h.rows()[0]["id"], done.stderr.split()[-1], "the id")
        done = h.command("submit", BAD, "--wait", text=body("bad"))
        equal((done.returncode, done.stdout), (NOPERM, ""), "a failed one")


@checks.test
def a_wait_is_woken_and_does_not_poll():
    "It sleeps in long slices until the end comes, and asks rgovd nothing."
    with Host(ONE_PLACE) as h, Scratch() as folder:
        holder, task = h.holds(), h.submit("woken")
        trace = folder / "trace"
        waiter = Process("rgov task wait", [
            "strace", "-T", "-o", trace, "-e", "trace=futex,sendmsg,sendto,write,"
            "poll,ppoll,epoll_wait,nanosleep,clock_nanosleep",
            BUILD / "rgov", "task", "wait", task], folder / "log",
            # Of a traced process a sanitizer cannot count the leaks.
            env=dict(h.rgovd.tool_env(), ASAN_OPTIONS="detect_leaks=0"))
        def sleeps():
            return [line for line in trace.read_text().splitlines()
                    if "FUTEX_WAIT" in line]
        n = wait_until(lambda: len(sleeps()) >= 5 and len(sleeps()),
                       what="its sleep")
        lines = trace.read_text().splitlines()
        lines = lines[lines.index(sleeps()[0]):]
        # After each slice of 0.2 s it looks whether rgovd lives; that is all.
        equal([line for line in lines if "futex" not in line
               and not re.match(r"poll\(.*, 0\) += 0", line)], [],
              "calls in its sleep")
        check(len(lines) <= 2 * n + 2, f"{len(lines)} calls for {n} slices")
        took = [float(line.split("<")[-1].rstrip(">")) for line in lines
                if "ETIMEDOUT" in line]
        check(took and min(took) > 0.15, f"it slept for {took}")
        h.look(holder, "cancel")
        equal(waiter.wait(), 0, "its status")
        check("= 0" in sleeps()[-1], f"a slice found the end: {sleeps()[-1]}")


@checks.test
def a_key_stands_for_one_request():
    "The same again is the same task; another one is refused."
    with Host() as h:
        task = h.submit("one", MODEL, "--key", "chapter 7")
        equal(h.submit("one", MODEL, "--key", "chapter 7"), task, "the same")
        h.ends_well(task, "one")
        equal(h.submit("one", MODEL, "--key", "chapter 7"), task, "once more")
        words = h.submit("two", MODEL, "--key", "chapter 7", status=DATAERR)
        has(words, "key taken", "idempotency key")
        has(h.submit("x", MODEL, "--key", "k" * 129, status=DATAERR), "1 to 128")
        equal(h.sim.report()["accepted"], 1, "calls")


@checks.test
def a_list_is_filtered_and_comes_in_pages():
    "By user, state and text, the newest first, each once."
    with Host(ONE_PLACE) as h:
        ended = [h.submit(f"e{i}", MODEL, "--user", "ann") for i in range(2)]
        for task in ended:
            h.look(task, "wait")
        holder = h.holds()
        queued = [h.submit(f"q{i}", MODEL, "--user", "ben", "--key", f"dog-{i}")
                  for i in range(3)]
        everything = [holder, *ended, *queued]
        pages = []
        while page := h.rows("-n", 2, *(["--older-than", pages[-1]]
                                        if pages else [])):
            check(len(page) <= 2, "a page is too long")
            pages += [row["id"] for row in page]
        equal(pages, sorted(everything, reverse=True), "pages")
        for options, expected in (
                (["--user", "ann"], ended), (["--state", "queued"], queued),
                (["--state", "succeeded,running"], [*ended, holder]),
                (["--text", "hangs"], [holder]), (["--text", "dog-1"], queued[1:2]),
                (["--user", "ann", "--state", "queued"], []),
                (["--text", "%"], [])):
            equal({row["id"] for row in h.rows(*options)}, set(expected),
                  f"those of {options}")
        row = h.rows("--text", "dog-1")[0]
        equal((row["state"], row["user"], row["model"], row["key"], row["uid"],
               row["has_reply"], row["ended"]),
              ("queued", "ben", MODEL, "dog-1", os.getuid(), False, None), "a row")
        check(row["deadline"] > row["submitted"] + 86000, "24 hours")
        has(h.ask("list", "--user", "ben"), *queued, "dog-2")
        h.look(holder, "cancel")
        h.look(queued[-1], "wait")


# ---------------------------------------------------------------- refusals

@checks.test
def what_is_wrong_is_said():
    "Ids that are none or name nothing, words and options that are none."
    with Host() as h:
        for when in ("without a store", "with one"):
            for how in ("show", "wait", "result", "cancel", "history"):
                has(h.ask(how, UNKNOWN, status=NOINPUT), "no task of that id")
                has(h.ask(how, "018f6b2e", status=USAGE), "36 characters")
            h.look(h.submit(when), "wait")
        has(h.ask("lst", status=USAGE), "did you mean 'list'")
        has(h.ask("show", status=USAGE), "expected the ID")
        has(h.ask("submit", status=USAGE), "expected a MODEL")
        has(h.ask("show", UNKNOWN, "--key", "k", status=USAGE), "no option -k")
        has(h.ask("list", "--state", "done", status=USAGE), "succeeded", "'done'")
        has(h.ask("submit", MODEL, "/nonexistent/x", status=NOINPUT), "open")
    with Host(ROOMY + "tasks = false\n") as h:
        for arguments in (["submit", MODEL], ["show", UNKNOWN], ["wait", UNKNOWN]):
            has(h.ask(*arguments, text=body("x"), status=CONFIG),
                "tasks = false")
        check(not list(h.rgovd.state_dir.glob("*.tasks.db")), "a store was made")


@checks.test
def another_uid_is_refused():
    "Neither shown nor cancelled; a member of task_gids may do both."
    if os.geteuid() != 0:
        raise Skip("needs root, to become another user")
    with Host(ONE_PLACE + 'socket_mode = "0666"\ntask_gids = {"4242"}\n') as h:
        h.rgovd.scratch.path.chmod(0o711)
        h.rgovd.runtime_dir.chmod(0o755)
        shutil.copy(BUILD / "rgov", h.rgovd.scratch.path / "rgov")

        def other(group, *arguments):
            return run(["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}",
                        *group, "--inh-caps=-all", h.rgovd.scratch.path / "rgov",
                        "task", *arguments], env=h.rgovd.tool_env(), cwd="/")

        task = h.holds()
        for how in ("show", "wait", "result", "cancel", "history"):
            done = other(["--clear-groups"], how, task)
            equal((done.returncode, done.stdout), (NOPERM, ""), how)
            has(done.stderr, "another user")
        equal(other(["--clear-groups"], "list", "--json").stdout.split(), ["[]"],
              "its list")
        equal(h.look(task)["state"], "running", "state")
        member = ["--groups=4242"]
        has(other(member, "list").stdout, task)
        has(other(member, "show", task).stdout, "running")
        has(other(member, "cancel", task).stdout, "cancelled")


@checks.test
def more_tasks_than_allowed_are_refused():
    "Of one user, and of all; an end makes room."
    bounds = "max_tasks = 3\nmax_tasks_per_user = 2\n"
    with Host(ONE_PLACE + bounds) as h:
        holder = h.holds()
        first = h.submit("a1", MODEL, "--user", "ann")
        second = h.submit("a2", MODEL, "--user", "ann")
        has(h.submit("b", MODEL, "--user", "ben", status=TEMPFAIL), "queue full")
        h.look(second, "cancel")
        third = h.submit("b", MODEL, "--user", "ben")
        h.look(third, "cancel")
        h.look(holder, "cancel")
        h.look(first, "wait")
        holder = h.submit("holds", HANGS, "--user", "ann")
        h.submit("a3", MODEL, "--user", "ann")
        has(h.submit("a4", MODEL, "--user", "ann", status=TEMPFAIL), "user limit")
        h.look(h.submit("b", MODEL, "--user", "ben"), "cancel")
        h.look(holder, "cancel")


@checks.test
def a_reply_that_is_too_large_fails_its_task():
    "max_reply_bytes holds for a task as for a call."
    def large(visit):
        visit.read_body()
        return visit.answer(b'{"a":"' + b"x" * 9000 + b'"}')
    with Provider(large=large) as provider:
        upstream = (f'upstream "bedrock" {{\n\tendpoint = "{provider.url}"\n'
                    f'\tregion = "{REGION}"\n\tmax_reply_bytes = "8K"\n}}\n')
        with Host(ROOMY + upstream, endpoint=provider.url) as h:
            task = h.submit("large", "large")
            end = h.look(task, "wait", status=DATAERR)
            equal((end["state"], end["result"]), ("failed", "reply too large"),
                  "its end")
            has(h.ask("result", task, status=DATAERR), "reply too large")
            equal(h.look(h.submit("good", "good"), "wait")["state"], "succeeded",
                  "another")


@checks.test
def replies_go_and_then_records():
    "After task_result_ttl the reply is gone, after task_record_ttl all of it."
    ttl = 'task_result_ttl = "1s"\ntask_record_ttl = "3s"\n'
    with Host(ROOMY + ttl) as h:
        task = h.submit("brief")
        h.look(task, "wait")
        def ends(how, status):
            return lambda: h.command(how, task).returncode == status
        wait_until(ends("result", UNAVAILABLE), what="its reply to go",
                   interval=0.1)
        has(h.ask("result", task, status=UNAVAILABLE), "task gone",
            "task_result_ttl")
        wait_until(ends("show", NOINPUT), what="its record to go", interval=0.1)
        equal(h.rows(), [], "the list")


# ---------------------------------------------------------------- callbacks

class Hook:
    """A small HTTP server: its first answers are these statuses, then 200."""

    def __init__(self, *statuses):
        self.posts, left = [], list(statuses)
        posts = self.posts

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                size = int(self.headers["Content-Length"])
                posts.append((self.path, json.loads(self.rfile.read(size))))
                self.send_response(left.pop(0) if left else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/tasks/"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.05,),
                         daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


@checks.test
def the_end_is_posted():
    "Without the reply; again where the answer is an error; not where it may not."
    with Hook(500) as hook, \
            Host(ROOMY + f'task_callbacks = {{"{hook.url}"}}\n') as h:
        for url in ("http://127.0.0.1:1/tasks/x", hook.url[:-1] + "../x",
                    "http://example.com/tasks/", "ftp://x"):
            has(h.submit("no", MODEL, "--callback", url, status=DATAERR),
                "callback")
        equal(h.rows(), [], "tasks")
        task = h.submit("told", MODEL, "--callback", hook.url + "end?a=b",
                        "--user", "zoë \"q\"")
        wait_until(lambda: "callback" in h.history(task), what="its delivery",
                   interval=0.1)
        equal(len(hook.posts), 2, "posts")
        for path, told in hook.posts:
            equal((path, told["task_id"], told["state"], told["user"],
                   told["http_status"], told["attempts"]),
                  ("/tasks/end?a=b", task, "succeeded", "zoë \"q\"", 200, 1),
                  "what is told")
            check("body" not in told and "content" not in told, f"{told}")
            check(told["submitted"] <= told["started"] <= told["ended"], "times")
        has(h.ask("history", task), "delivered")


# ---------------------------------------------------------------- deaths

def goes_on(h, tasks):
    """After rgovd has come back: one that may be sent again is, one that may not
    has failed, and what waited is performed."""
    again, once, waits = tasks
    h.waits_until(again, "running")
    equal(h.look(again)["runs"], 2, "runs")
    has(h.history(again), "reissued")
    end = h.look(once, "wait", "--timeout", "20", status=UNAVAILABLE)
    equal((end["state"], end["result"]), ("failed", "ambiguous"), "its end")
    has(h.history(once), "ambiguous", "ended")
    h.look(again, "cancel")
    h.ends_well(waits, "waits")
    equal([row["state"] for row in h.rows()].count("succeeded"), 1, "successes")


def before_a_death(h):
    again = h.submit("again", HANGS)
    once = h.submit("once", HANGS, "--not-idempotent")
    for task in (again, once):
        h.waits_until(task, "running")
    return again, once, h.submit("waits")


TWO_PLACES = ROOMY.replace("= 100", "= 2", 1)


@checks.test
def a_kill_loses_nothing():
    """Queued, running, and running what may not be sent twice; who waits for an
    end is told by the successor."""
    with Host(TWO_PLACES) as h, Scratch() as folder:
        tasks = before_a_death(h)
        waiter = Process("rgov task wait",
                         [BUILD / "rgov", "task", "wait", tasks[-1]],
                         folder / "log", env=h.rgovd.tool_env())
        wait_until(lambda: h.rgovd.stats()["sessions"] == 1, what="the waiter")
        h.rgovd.restart()
        goes_on(h, tasks)
        equal(waiter.wait(), 0, f"its status ({waiter.text()})")
        has(waiter.text(), "succeeded")


@checks.test
def a_reboot_loses_nothing():
    "The same where the board and the runtime folder are gone, too."
    short = 'quota_window = "1s"\nguard = "100ms"\n'
    with Host(TWO_PLACES + short) as h:
        tasks = before_a_death(h)
        reboot(h)
        goes_on(h, tasks)


def reboot(h):
    """As far as a process can tell."""
    h.rgovd.kill9()
    forget_governor(h.rgovd.name)
    shutil.rmtree(h.rgovd.runtime_dir)
    h.rgovd.runtime_dir.mkdir(mode=0o700)
    h.rgovd.start()


@checks.test
def a_reboot_keeps_every_window():
    "Nothing is known of what had started: no window has more than the quota."
    rpm, n = 10, 24
    with Host(limits(rpm=rpm, concurrency=10, per_user=10, minute=2, guard=0.4),
              rpm=rpm, minute=2) as h:
        tasks = [h.submit(f"n{i}") for i in range(n)]
        wait_until(lambda: h.sim.report()["accepted"] >= rpm - 2, what="starts")
        reboot(h)
        for i, task in enumerate(tasks):
            h.ends_well(task, f"n{i}")
        report = h.sim.report()
        check(report["max_starts_in_window"] <= rpm and report["throttled"] == 0,
              f"the provider saw {report}")
        check(report["accepted"] <= n + rpm, "too much was sent twice")


@checks.test
def without_credentials_tasks_wait():
    """What was accepted does not fail because a start forgot the keys."""
    with Host(ONE_PLACE) as h:
        h.holds()
        task = h.submit("waits")
        env, h.rgovd.env = h.rgovd.env, {
            key: value for key, value in h.rgovd.env.items()
            if key not in AWS_ENV}
        h.rgovd.restart()
        for _ in range(5):
            check(h.look(task)["state"] in ("queued", "running"),
                  "it has not ended")
        h.rgovd.env = env
        h.rgovd.restart()
        for row in h.rows("--state", "queued,running"):
            if row["id"] != task:
                h.ask("cancel", row["id"])
        h.ends_well(task, "waits")


@checks.test
def a_clean_stop_keeps_tasks():
    "SIGTERM and SIGINT: what waits is performed once, what was cut off again."
    with Host(ONE_PLACE) as h:
        for number in (signal.SIGTERM, signal.SIGINT):
            word = f"through {number.name}"
            holder, task = h.holds(), h.submit(word, MODEL, "--not-idempotent")
            stops = h.rgovd.process.text().count("rgovd.draining")
            h.rgovd.process.signal(number)
            wait_until(lambda: h.rgovd.process.text().count("rgovd.draining")
                       > stops, what="its first word")
            h.rgovd.process.signal(number)  # for what runs: at once
            equal(h.rgovd.process.wait(), 0, "rgovd's status")
            h.rgovd.start()
            h.waits_until(holder, "running")
            equal((h.look(holder)["runs"], h.look(task)["state"]), (2, "queued"),
                  "after the stop")
            h.look(holder, "cancel")
            h.ends_well(task, word)
            equal(h.look(task)["runs"], 1, "runs")


# ---------------------------------------------------------------- many

@checks.test
def many_of_two_users_are_served_fairly():
    "The later one is not behind the earlier one's hundred, within the limits."
    n, places = 100, 3
    quota = limits(rpm=120, concurrency=places, per_user=places, minute=1)
    with Host(quota, rpm=120, minute=1, latency="fixed:0.002") as h:
        holders = [h.submit(f"hold {i}", HANGS) for i in range(places)]
        for holder in holders:
            h.waits_until(holder, "running")
        for user in ("ann", "ben"):
            def work(i):
                return lambda: [h.submit(f"{user} {k}", MODEL, "--user", user)
                                for k in range(i, n, 4)]
            for made in in_parallel([work(i) for i in range(4)]):
                check(isinstance(made, list), repr(made))
        for holder in holders:
            h.look(holder, "cancel")
        left = ["--state", "queued,running", "-n", "1"]
        wait_until(lambda: not h.rows(*left), what="all to end", interval=0.1)
        rows = h.rows("-n", 1000, "--state", "succeeded")
        equal(len(rows), 2 * n, "successes")
        rows.sort(key=lambda row: row["started"])
        for most in (20, n):
            of_ann = sum(row["user"] == "ann" for row in rows[:most])
            check(0.35 * most <= of_ann <= 0.65 * most,
                  f"{of_ann} of the first {most} are of the earlier user")
        report = h.sim.report()
        check(report["throttled"] == 0
              and report["max_starts_in_window"] <= 120, f"report: {report}")
        equal(report["duplicates"], 0, "duplicates")


checks.main()
