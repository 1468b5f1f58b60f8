"""gunicorn in a storm: workers that run storm_app.py, and users who ask it for
one thing after another and remember what they were told.
"""

import http.client
import resource

from storm import *
from storm_judge import Call

APP = ROOT / "examples/flask-app"
USERS, WORKERS, THREADS = 50, 8, 4
TIMEOUT_S = 30.0  # of each call, in the application


def claude_digest(instruction, text):
    """Of the body that the application makes of a section."""
    return hashlib.sha256(json.dumps({
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 400,
        "messages": [{"role": "user", "content": f"{instruction}\n\n{text}"}],
    }, separators=(",", ":")).encode()).hexdigest()


class Web:
    """gunicorn under a storm.  Its workers' folder is for their cores."""

    def __init__(self, storm, worker_class, preload=True, ballast_mb=0):
        self.storm = storm
        self.folder = storm.rgovd.scratch.path
        self.journal = self.folder / f"journal{next(storm.numbers)}"
        env = storm.rgovd.client_env(
            STORM_JOURNAL=self.journal, BALLAST_MB=ballast_mb,
            PRELOADED="1" if preload else None, REQUEST_TIMEOUT_S=TIMEOUT_S)
        env["PYTHONPATH"] += f":{APP}:{ROOT / 'tests/fault'}"
        self.gunicorn = Gunicorn(
            "storm_app:application", workers=WORKERS,
            worker_class=worker_class, preload=preload, env=env,
            threads=THREADS if worker_class == "gthread" else None,
            chdir=self.folder, rgovd=storm.rgovd)

    def __enter__(self):
        self.gunicorn.start()
        self.users = Users(self.storm, self.gunicorn)
        return self

    def __exit__(self, *_):
        self.users.over.set()
        self.gunicorn.stop()

    def worker(self):
        pids = self.gunicorn.worker_pids()
        return self.storm.random.choice(pids) if pids else 0

    def strike(self, number):
        self.storm.strike(self.worker(), number, "worker")

    def suspend(self, longest_s):
        self.storm.suspend(self.worker(), longest_s)

    def end(self):
        """The users finish, then the workers, then what those have forked."""
        self.storm.resume_all()
        self.users.over.set()
        self.storm.await_struck()
        self.users.end()
        self._check_workers()
        master = self.gunicorn.process
        master.signal(signal.SIGTERM)
        equal(master.wait(), 0, f"gunicorn's status ({master.tail()})")
        wait_until(lambda: group_is_gone(master.pid), timeout=60,
                   what="the end of what workers forked")

    def _check_workers(self):
        """7, on the side of the survivors: one session each, at most."""
        wait_until(lambda: len(self.gunicorn.worker_pids()) == WORKERS,
                   what="all workers")
        for pid in self.gunicorn.worker_pids():
            with contextlib.suppress(FileNotFoundError):
                held = descriptors(pid)
                files = sum(n for link, n in held.items() if "rgov:" in link)
                if files > 4 or session_maps(pid) > 2:
                    self.storm.violations.append(
                        f"7: worker {pid} holds {dict(held)}")

    def calls(self):
        """The calls of the users and of forked children, with the pids that
        the journal knows; and the numbers of those that nobody could answer."""
        calls = self.users.calls
        excused = self._accepted_by_the_struck()
        for words in self._lines():
            match words:
                case ["start", number, pid] if number.isdigit():
                    calls[int(number)].pid = int(pid)
                    if int(number) in self.users.forks:
                        child = child_of(calls[int(number)])
                        calls[child.number] = child
                case ["child", number, pid, ending]:
                    child = calls[-int(number)]
                    child.ending, child.pid = ending, int(pid)
                    if ending == "ok":
                        child.answers = child.sha256
        return calls, excused

    def _lines(self):
        for line in self.journal.read_text().splitlines():
            yield line.split()

    def _accepted_by_the_struck(self):
        """Lost without a start in the journal: some worker that was struck
        meanwhile had taken up the connection, and not yet the request."""
        started = {int(words[1]) for words in self._lines()
                   if words[0] == "start" and words[1].isdigit()}
        return {number for number, (begun_ns, ended_ns)
                in self.users.lost.items() if number not in started
                and any(s.at_ns <= ended_ns and begun_ns <= s.gone_ns
                        for s in self.storm.struck)}

    def check_wakes(self):
        for words in self._lines():
            if words[0] != "quit":
                continue
            pid, by_slice, taken = map(int, words[1:])
            excused = THREADS * len(self.storm.deaths_ns)
            if by_slice > excused and pid not in self.storm.stopped_s:
                self.storm.violations.append(
                    f"{pid} found {by_slice} answers without a wake-up")


def child_of(call):
    return Call(-call.number, call.pid, "http", TIMEOUT_S,
                claude_digest("Summarise.", f"child of {call.number}"),
                call.begun_ns)


class Users:
    """Each asks, waits for the answer, and asks again."""

    def __init__(self, storm, web):
        self.storm, self.web = storm, web
        self.over = threading.Event()
        self.calls, self.lost, self.forks = {}, {}, set()
        self.background = Background(
            [lambda n=n: self._live(n) for n in range(USERS)])

    def _live(self, user):
        dice = random.Random(self.storm.seed + user)
        while not self.over.is_set():
            self._ask(f"user-{user:02}", dice.choices(
                ("", "fork", "exec"), (30, 1, 1))[0])

    def _ask(self, user, beside):
        number = next(self.storm.numbers)
        text = f"section {number}"
        call = self.calls[number] = Call(
            number, 0, "http", TIMEOUT_S * (2 if beside else 1),
            claude_digest("Shorten.", text), time.monotonic_ns())
        if beside == "fork":
            self.forks.add(number)
        try:
            response = self.web.post(
                "/analyze_section", {"session_id": user, "text": text,
                                     "instruction": "Shorten."},
                headers={"X-Storm-Id": str(number), "X-Storm-Do": beside},
                timeout=120)
        except (http.client.HTTPException, OSError):
            self.lost[number] = (call.begun_ns, time.monotonic_ns())
            return
        call.elapsed_s = (time.monotonic_ns() - call.begun_ns) / 1e9
        call.ending = "ok" if response.status == 200 else str(response.status)
        if response.status == 200:
            call.answers = answered_body(response.json()["analysis"])

    def end(self):
        self.over.set()
        for result in self.background.join(180):
            if isinstance(result, Exception):
                raise result
