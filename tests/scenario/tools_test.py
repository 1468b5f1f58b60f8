#!/usr/bin/python3
"""rgov-top and rgov: what they show, of a board that fake_board made and of a
real rgovd; that nothing on a board can hurt them; their words and exit codes.

Golden screens are in golden/; UPDATE=1 writes them anew.
"""

import difflib

from harness import *

GOLDEN = pathlib.Path(__file__).resolve().parent / "golden"
UNUSABLE, USAGE, DATA, AGAIN = 69, 64, 65, 75
BODY = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 5,
                   "messages": [{"role": "user", "content": "hi"}]})


class Board:
    """A board made by fake_board, with a writer that beats."""

    def __init__(self, kind="calm", name=None):
        self.kind = kind
        self.name = name or unique_name()
        self.scratch = Scratch()
        self.process = None

    def __enter__(self):
        self.process = Process(
            "fake_board", [BUILD / "tests/fake_board", self.name, self.kind],
            self.scratch.path / f"fake{next_number()}.log", env=base_env())
        wait_until(lambda: "ready" in self.process.text(), what="a board")
        if self.kind in ("stopped", "leased", "apart"):
            self.process.wait()
        return self

    def __exit__(self, *_):
        self.process.stop()
        forget_governor(self.name)
        self.scratch.remove()

    @property
    def path(self):
        return f"/dev/shm/rgov.{self.name}"

    def env(self, **more):
        return dict(base_env(RGOV_NAME=self.name, LC_ALL="C.UTF-8", TZ="UTC"),
                    **more)

    def top(self, *arguments, **env):
        return run([BUILD / "rgov-top", *arguments], env=self.env(**env))

    def rgov(self, *arguments, **env):
        return run([BUILD / "rgov", *arguments], env=self.env(**env))


_numbers = itertools.count(1)


def next_number():
    return next(_numbers)


class Terminal:
    """A program in a tmux of its own."""

    def __init__(self, argv, env, columns=80, rows=24):
        if shutil.which("tmux") is None:
            raise Skip("tmux is not installed")
        self.scratch = Scratch()
        self.columns, self.rows = columns, rows
        # tmux can miss the end of its child: the status goes to a file.
        self.status = self.scratch.path / "status"
        self.argv = ["sh", "-c", f'trap : INT; "$@"; echo $? >{self.status}',
                     "sh", *(str(a) for a in argv)]
        # tmux gives the program its own TERM, unless the test does.
        self.env = [f"{k}={v}" for k, v in env.items()
                    if k not in ("TERM", "TMUX") or v == "dumb"]

    def tmux(self, *arguments):
        return run(["tmux", "-S", self.scratch.path / "tmux", "-f", "/dev/null",
                    *arguments], env=base_env(LC_ALL="C.UTF-8", TERM="xterm"))

    def __enter__(self):
        done = self.tmux("new-session", "-d", "-x", str(self.columns), "-y",
                         str(self.rows), "env", *self.env, *self.argv, ";",
                         "set-option", "-g", "remain-on-exit", "on")
        equal(done.returncode, 0, f"tmux's status ({done.stderr})")
        return self

    def __exit__(self, *_):
        self.end()
        self.tmux("kill-server")
        self.scratch.remove()

    def end(self):
        """Before its terminal goes.  LeakSanitizer attaches to the program at
        its end with a SIGSTOP; the SIGCONT that the kernel sends when the
        terminal's shell dies takes that back, and both would wait for ever."""
        with contextlib.suppress(OSError, IndexError):
            pid = self.pid()
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGCONT)
            self.ended()

    def screen(self, escapes=False):
        return self.tmux("capture-pane", "-p",
                         *(["-e"] if escapes else [])).stdout

    def keys(self, *keys):
        self.tmux("send-keys", *keys)

    def type(self, text):
        self.tmux("send-keys", "-l", text)

    def resize(self, columns, rows):
        self.columns, self.rows = columns, rows
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def shows(self, text):
        """Waits until the screen has the text."""
        try:
            wait_until(lambda: text in self.screen(), what=repr(text))
        except Failed as why:
            raise Failed(f"{why}; the screen is\n{self.screen()}") from None

    def shows_not(self, text):
        wait_until(lambda: text not in self.screen(),
                   what=f"a screen without {text!r}")

    def ended(self):
        """Waits for the program's end; its exit status."""
        return int(wait_until(
            lambda: self.status.exists() and self.status.read_text().strip(),
            what="the end of the program"))

    def pid(self):
        """Of the program."""
        shell = self.tmux("display-message", "-p", "#{pane_pid}").stdout.strip()
        return int(pathlib.Path(f"/proc/{shell}/task/{shell}/children")
                   .read_text().split()[0])


def top_terminal(board, *arguments, columns=80, rows=24, **env):
    return Terminal([BUILD / "rgov-top", *arguments], board.env(**env),
                    columns=columns, rows=rows)


def masked(screen):
    """What differs from one run to the next is made the same."""
    lines = [line.rstrip() for line in screen.rstrip().split("\n")]
    lines[0] = re.sub(r"\d\d:\d\d:\d\d$", "hh:mm:ss", lines[0])
    lines[0] = re.sub(r"order \d+ s ago", "order N s ago", lines[0])
    lines[0] = re.sub(r"^\S+:", "NAME:", lines[0])
    lines[0] = re.sub(r"   +", "  ", lines[0])
    return "\n".join(lines) + "\n"


def golden_board(kind="stopped"):
    """Its name is always as wide: what fits beside it is part of a screen."""
    return Board(kind, name=f"t{os.getpid() % 100000:05}-g")


def is_golden(name, screen):
    path = GOLDEN / name
    found = masked(screen)
    if os.environ.get("UPDATE"):
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(found)
    wanted = path.read_text() if path.exists() else ""
    diff = "\n".join(difflib.unified_diff(wanted.splitlines(),
                                          found.splitlines(), "golden", "found",
                                          lineterm=""))
    check(not diff, f"{name} differs:\n{diff}")


# ---------------------------------------------------------------- screens

@checks.cases(("80",), ("100",), ("200",))
def a_plain_screen_is_as_it_was(columns):
    "rgov-top --once prints the overview, in the width of COLUMNS."
    with golden_board() as board:
        done = board.top("--once", COLUMNS=columns)
        equal(done.returncode, 0, f"exit status ({done.stderr})")
        check(max(map(len, done.stdout.split("\n"))) <= int(columns),
              "no line is wider")
        is_golden(f"rgov-top-plain-{columns}.txt", done.stdout)


@checks.cases(("80",), ("150",))
def the_queue_is_as_it_was(columns):
    "rgov-top --once --view queue: what waits, in order, and for what."
    with golden_board() as board:
        done = board.top("--once", "--view", "queue", COLUMNS=columns)
        equal(done.returncode, 0, f"exit status ({done.stderr})")
        is_golden(f"rgov-top-queue-{columns}.txt", done.stdout)


@checks.cases(("80x24", 80, 24), ("100x30", 100, 30), ("200x60", 200, 60))
def a_terminal_screen_is_as_it_was(name, columns, rows):
    "The overview on a terminal of that size."
    with golden_board() as board, \
            top_terminal(board, "-d", "3600", columns=columns,
                         rows=rows) as terminal:
        terminal.shows("rgovd 0.0-fake started")
        is_golden(f"rgov-top-{name}.txt", terminal.screen())


@checks.test
def a_new_size_is_used():
    "After a resize the screen is the one of the new size; too small says so."
    with golden_board() as board, \
            top_terminal(board, "-d", "3600") as terminal:
        terminal.shows("q quit")
        terminal.resize(100, 30)
        terminal.shows("PRIORITY")
        is_golden("rgov-top-100x30.txt", terminal.screen())
        terminal.resize(60, 20)
        terminal.shows("rgov-top needs 80x24, has 60x20")
        terminal.resize(80, 24)
        terminal.shows("q quit")
        is_golden("rgov-top-80x24.txt", terminal.screen())


@checks.cases(("leased", "80"), ("leased", "200"), ("apart", "100"))
def a_shared_quota_is_shown(kind, columns):
    "A line of its own above the tables, and in the lanes what is leased."
    with golden_board(kind) as board:
        done = board.top("--once", COLUMNS=columns)
        equal(done.returncode, 0, f"exit status ({done.stderr})")
        is_golden(f"rgov-top-{kind}-{columns}.txt", done.stdout)
        stats = board.rgov("stats").stdout
        check(f"mode                     {kind}" in stats, stats)
        check("10.0.0.1" in stats and "\x1b" not in stats, stats)
        found = json.loads(board.rgov("stats", "--json").stdout)["cluster"]
        equal(found["mode"], kind, "mode in JSON")
        equal(found["lease"]["starts_others"], 18, "what others have")
        doctor = board.rgov("doctor").stdout
        wanted = ("ok    cluster: " if kind == "leased" else
                  "FAIL  cluster: redis://:***@10.0.0.1:6379/0: Redis: "
                  "it does not let us in (WRONGPASS")
        check(wanted in doctor, doctor)


@checks.test
def keys_do_what_the_help_says():
    "Views, sort, filter, pause, help, quit."
    with Board("busy") as board, \
            top_terminal(board, columns=100, rows=30) as terminal:
        terminal.shows("[1 Overview]")
        for key, title in (("2", "Lanes"), ("3", "Users"), ("4", "Live"),
                           ("5", "Queue"), ("6", "Events"),
                           ("7", "Counters")):
            terminal.keys(key)
            terminal.shows(f"[{key} {title}]")
        terminal.keys("Tab")
        terminal.shows("[1 Overview]")
        terminal.keys("3")
        terminal.type("/")
        terminal.type("USER-04")
        terminal.keys("Enter")
        terminal.shows("/USER-04")
        terminal.shows("user-042")
        terminal.shows_not("user-100")
        terminal.keys("Escape")
        terminal.shows_not("/USER-04")
        terminal.type("<")
        terminal.shows("sort RUN/LIM v")
        terminal.type("r")
        terminal.shows("sort RUN/LIM ^")
        terminal.keys("Space")
        terminal.shows("PAUSED")
        terminal.keys("Space")
        terminal.shows_not("PAUSED")
        terminal.keys("?")
        terminal.shows("half (p50)")
        terminal.keys("G")
        terminal.shows("MEANING")
        terminal.keys("x")
        terminal.shows("[3 Users]")
        terminal.keys("4", "G")
        terminal.shows("user-")
        terminal.keys("q")
        equal(terminal.ended(), 0, "exit status")


@checks.cases(("q",), ("F10",), ("C-c",))
def it_ends_and_gives_the_terminal_back(key):
    "q, F10 and ^C end it with status 0."
    with Board() as board, top_terminal(board) as terminal:
        terminal.shows("q quit")
        terminal.keys(key)
        equal(terminal.ended(), 0, "exit status")
        check("q quit" not in terminal.screen(), "the screen is given back")


@checks.test
def colours_only_where_wanted():
    "Red and green on a terminal; none with -C or NO_COLOR."
    coloured = re.compile(r"\x1b\[[0-9;]*3[0-7]m")
    with Board() as board:
        for arguments, env, wanted in (((), {}, True), (("-C",), {}, False),
                                       ((), {"NO_COLOR": "1"}, False)):
            with top_terminal(board, *arguments, **env) as terminal:
                terminal.shows("q quit")
                equal(bool(coloured.search(terminal.screen(escapes=True))),
                      wanted, f"colours with {arguments} {env}")


@checks.test
def a_dumb_terminal_gets_plain_text():
    "TERM=dumb: one screen, then the end."
    with Board() as board, \
            top_terminal(board, columns=100, rows=40, TERM="dumb") as terminal:
        equal(terminal.ended(), 0, "exit status")
        check("STATE" in terminal.screen(), terminal.screen())


@checks.test
def ascii_only_where_asked():
    "-U shows no byte above 126; otherwise names are shown as they are."
    with Board() as board:
        check("j\u00e9r\u00f4me" in board.top().stdout, "the name as it is")
        check("j?r?me" in board.top("-U").stdout, "the name with -U")
        check(board.top("-U").stdout.isascii(), "ASCII")
        check(board.top(LC_ALL="C").stdout.isascii(), "ASCII in the C locale")


# ---------------------------------------------------------------- JSON

NINE = ["total_requests", "successful_requests", "failed_requests",
        "throttled_requests", "active_requests", "queue_size", "active_users",
        "avg_wait_time", "avg_execution_time"]


@checks.test
def json_has_the_promised_names():
    "The nine keys first, then every part; the same from both tools."
    with Board("stopped") as board:
        stats = json.loads(board.rgov("stats", "--json").stdout)
        equal(list(stats)[:9], NINE, "the first keys")
        equal(stats["avg_wait_time"], 1.5, "avg_wait_time (s)")
        equal(stats["queue_size"], 17, "queue_size")
        equal(stats["host"]["running_limit"], 3, "running_limit")
        equal(stats["limits"]["requests_per_minute"], 30, "a limit")
        equal([lane["gate_open"] for lane in stats["lanes"]], [True, False],
              "gates")
        equal([user["name"] for user in stats["users"]],
              ["alice", "bob", "carol", "dave", "j\u00e9r\u00f4me"], "users")
        equal([live["state"] for live in stats["live"]],
              ["running", "running", "permit out", "queued", "queued"],
              "live requests")
        equal(stats["live"][3]["wait_s"], 4.0, "a wait (s)")
        equal([live.get("held_by") for live in stats["live"]],
              [None, None, None, "host_requests", "user_concurrency"],
              "what holds those that wait")
        equal([lane["held_by"] for lane in stats["lanes"]],
              ["host_requests", "gate"], "what holds the lanes")
        equal([user["held_by"] for user in stats["users"]],
              [""] + ["user_concurrency"] * 4, "what holds the users")
        equal(json.loads(board.rgov("queue", "--json").stdout),
              stats["live"][3:], "the queue alone")
        lines = board.rgov("queue").stdout.splitlines()
        equal([(line.split()[0], line.split()[4]) for line in lines[1:]],
              [("103", "1"), ("104", "2")], "the queue in order")
        equal([event["kind"] for event in stats["events"]],
              ["start", "throttle"], "events, the oldest first")
        equal(stats["counters"]["ended_requests"], 1000, "a counter")
        equal(stats["rgovd"]["health"], "stopped", "health")
        top = json.loads(board.top("--json").stdout)
        for varies in ("heartbeat_age_s", "health_text"):
            del stats["rgovd"][varies], top["rgovd"][varies]
        equal(top, stats, "rgov-top's document")


@checks.test
def json_comes_one_a_line_when_repeated():
    "-j -n 3: three lines, each a document."
    with Board() as board:
        lines = board.top("-j", "-n", "3", "-d", "0.1").stdout.splitlines()
        equal(len(lines), 3, "lines")
        for line in lines:
            equal(list(json.loads(line))[:9], NINE, "the first keys")


@checks.test
def every_name_in_json_is_in_the_manual():
    "rgov(1) names every field."
    manual = (ROOT / "docs/man/rgov.1").read_text()
    with Board() as board:
        stats = json.loads(board.rgov("stats", "--json").stdout)

    def names(value):
        if isinstance(value, dict):
            for key, inner in value.items():
                yield key
                if key != "counters":
                    yield from names(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from names(inner)
    missing = {n for n in names(stats) if not re.search(rf"\b{n}\b", manual)}
    check(not missing, f"not in rgov.1: {sorted(missing)}")


# ---------------------------------------------------------------- trouble

@checks.test
def hostile_text_is_harmless():
    "No control byte of the board reaches the output; JSON stays JSON."
    with Board("hostile") as board:
        for done in (board.top(COLUMNS="200"), board.rgov("stats"),
                     board.rgov("doctor"), board.rgov("presets"),
                     board.rgov("queue"),
                     *(board.top("-v", view) for view in
                       ("lanes", "users", "live", "queue", "events",
                        "counters"))):
            bad = re.search("[\x00-\x09\x0b-\x1f\x7f\u202e\ufffd]", done.stdout)
            check(bad is None, f"{bad!r} in\n{done.stdout}")
            check(done.returncode in (0, UNUSABLE), f"{done}")
        stats = json.loads(board.rgov("stats", "--json").stdout)
        names = [user["name"] for user in stats["users"]]
        equal(names[0], "?[2J?]0;owned?evil", "an escape sequence")
        equal(names[1], "bad??utf???", "bytes that are no UTF-8")
        equal(names[2], "rtl???end", "a change of direction")
        equal(names[4], "A" * 63, "a name without an end")
        equal(stats["users"][1]["weight"], 0.0, "a weight that is no number")


@checks.test
def a_torn_record_hides_itself_only():
    "rgovd died inside one record of each table: the others are shown."
    with Board("torn") as board:
        stats = json.loads(board.rgov("stats", "--json").stdout)
        equal(stats["rgovd"]["unreadable_records"], 4, "unreadable records")
        equal([len(stats[part]) for part in
               ("lanes", "users", "live", "events")], [1, 4, 4, 1], "the rest")
        check("unreadable 4" in board.top().stdout, "rgov-top says so")


@checks.test
def no_board_is_said_clearly():
    "No governor of that name: status 69, the board's name, what to do."
    env = base_env(RGOV_NAME="nobody-here")
    for argv in (["rgov-top"], ["rgov-top", "--json"], ["rgov", "stats"]):
        done = run([BUILD / argv[0], *argv[1:]], env=env)
        equal(done.returncode, UNUSABLE, f"status of {argv}")
        equal(done.stdout, "", "stdout")
        check("/rgov.nobody-here" in done.stderr
              and "start rgovd" in done.stderr, done.stderr)


@checks.test
def another_layout_is_refused():
    "A board of another version, a cut one and a FIFO: status 69 and words."
    with Board("stopped") as board:
        data = bytearray(pathlib.Path(board.path).read_bytes())
        data[8] += 1  # layout_version
        pathlib.Path(board.path).write_bytes(data)
        done = board.rgov("stats")
        equal(done.returncode, UNUSABLE, "status")
        check("another layout" in done.stderr, done.stderr)
        check("has layout 2" in board.rgov("doctor").stdout, "doctor says which")
        os.truncate(board.path, 5000)
        equal(board.top().returncode, UNUSABLE, "status with a cut board")
        os.unlink(board.path)
        os.mkfifo(board.path)
        equal(board.top().returncode, UNUSABLE, "status with a FIFO")


@checks.test
def a_board_cut_off_below_it_does_not_kill_it():
    "Truncated while rgov-top shows it: it says so, and follows to a new one."
    with Board() as board, top_terminal(board, "-d", "0.2") as terminal:
        terminal.shows("ok  heartbeat")
        os.truncate(board.path, 4096)
        terminal.shows("the board was cut off")
        with Board("calm", name=board.name):
            terminal.shows("ok  heartbeat")


@checks.test
def it_says_how_rgovd_does():
    "Stopped by a signal, alive again, dead, started anew; ended in good order."
    with Board() as board, top_terminal(board, "-d", "0.2") as terminal:
        terminal.shows("ok  heartbeat")
        board.process.signal(signal.SIGSTOP)
        terminal.shows("rgovd does not answer since")
        terminal.shows(f"kill -CONT {board.process.pid}")
        board.process.signal(signal.SIGCONT)
        terminal.shows("ok  heartbeat")
        board.process.kill9()
        terminal.shows("rgovd is gone since")
        terminal.shows("alice")
        with Board("calm", name=board.name) as successor:
            terminal.shows(f"rgovd {successor.process.pid} ok")
            successor.process.stop()
            terminal.shows("stopped in good order")


@checks.test
def a_real_rgovd_hangs_and_dies():
    "The same with rgovd itself, and rgov-top goes on after its restart."
    with Rgovd(endpoint="http://127.0.0.1:9") as rgovd, \
            Terminal([BUILD / "rgov-top", "-d", "0.2"],
                     dict(rgovd.tool_env(), LC_ALL="C.UTF-8")) as terminal:
        terminal.shows(f"rgovd {rgovd.process.pid} ok")
        rgovd.process.signal(signal.SIGSTOP)
        terminal.shows("rgovd does not answer since")
        equal(rgovd.stats()["rgovd"]["health"], "suspended", "health")
        rgovd.process.signal(signal.SIGCONT)
        terminal.shows("ok  heartbeat")
        rgovd.kill9()
        terminal.shows("rgovd is gone since")
        done = rgovd.rgov("doctor")
        equal(done.returncode, UNUSABLE, "doctor's status")
        check("FAIL  rgovd: rgovd is gone" in done.stdout, done.stdout)
        rgovd.start()
        terminal.shows(f"rgovd {rgovd.process.pid} ok")


@checks.test
def an_inspector_changes_nothing():
    "rgov-top stopped and killed in the middle: rgovd does not notice."
    with Sim() as sim, Rgovd(limits(), sim=sim) as rgovd, \
            Terminal([BUILD / "rgov-top"],
                     dict(rgovd.tool_env(), LC_ALL="C.UTF-8")) as terminal:
        terminal.shows("ok  heartbeat")
        pid = terminal.pid()
        os.kill(pid, signal.SIGSTOP)
        equal(call(rgovd, "-m", MODEL).returncode, 0, "a call meanwhile")
        os.kill(pid, signal.SIGKILL)
        equal(call(rgovd, "-m", MODEL).returncode, 0, "a call afterwards")


# ---------------------------------------------------------------- rgov

def call(rgovd, *arguments, body=BODY, **env):
    return subprocess.run(
        [str(a) for a in (BUILD / "rgov", "call", *arguments)], input=body,
        env=dict(rgovd.tool_env(), **env), capture_output=True, text=True,
        timeout=PATIENCE_S)


@checks.test
def a_call_from_the_shell():
    "The reply's body on stdout, figures on stderr with -v, the body of a file."
    with Sim() as sim, Rgovd(limits(), sim=sim) as rgovd:
        done = call(rgovd, "--model", MODEL, "--user", "alice")
        equal((done.returncode, done.stderr), (0, ""), "status and stderr")
        check_own_answers([(BODY.encode(), done.stdout)])
        done = call(rgovd, "-m", MODEL, "-v", "-p", "batch", "-t", "20")
        check("tokens in" in done.stderr, done.stderr)
        path = rgovd.scratch.path / "body.json"
        path.write_text(BODY)
        done = call(rgovd, "-m", MODEL, path, body="")
        check_own_answers([(BODY.encode(), done.stdout)])


@checks.test
def a_call_that_fails_has_its_exit_code():
    "64 usage, 65 wrong data, 66 no file, 69 no rgovd, 75 try again."
    with Sim(latency="fixed:5") as sim, Rgovd(limits(), sim=sim) as rgovd:
        for arguments, body, status in (
                ((), BODY, USAGE), (("-m", MODEL, "a", "b"), BODY, USAGE),
                (("-m", MODEL, "-p", "urgent"), BODY, USAGE),
                (("-m", MODEL, "-t", "never"), BODY, USAGE),
                (("-m", MODEL, "-H", "no colon"), BODY, USAGE),
                (("-m", MODEL, "-H", "a: b\r\nEvil: c"), BODY, USAGE),
                (("-m", MODEL), "no json", DATA),
                (("-m", "bad\x01model"), BODY, DATA),
                (("-m", MODEL, "-u", "u" * 64), BODY, DATA),
                (("-m", MODEL, "/nowhere/body"), BODY, 66),
                (("-m", MODEL, "-s", "/nowhere/s"), BODY, UNUSABLE),
                (("-m", MODEL, "-t", "0.2"), BODY, AGAIN)):
            done = call(rgovd, *arguments, body=body)
            equal(done.returncode, status, f"{arguments}: {done.stderr}")
            equal(done.stdout, "", "stdout")
            check(done.stderr.startswith("rgov call: "), done.stderr)
        done = call(rgovd, "-m", MODEL, body="x" * 25000001)
        equal(done.returncode, DATA, f"too large a body: {done.stderr}")


@checks.test
def an_unknown_word_is_quoted_back():
    "A wrong verb or option: status 64, the word, the nearest verb."
    for argv, words in ((["statz"], ["'statz'", "'stats'"]), ([], ["a verb"]),
                        (["stats", "--jsn"], ["jsn"]),
                        (["stats", "extra"], ["'extra'"]),
                        (["help", "docter"], ["'docter'", "'doctor'"]),
                        (["stats", "-S", "a/b"], ["'a/b'"])):
        done = run([BUILD / "rgov", *argv], env=base_env())
        equal(done.returncode, USAGE, f"status of {argv}")
        equal(done.stdout, "", "stdout")
        check(all(word in done.stderr for word in words), done.stderr)
    for argv in (["-v", "nothing"], ["-d", "0"], ["-n", "x"], ["word"],
                 ["--colour"], ["-S", "../x"]):
        done = run([BUILD / "rgov-top", *argv], env=base_env())
        equal(done.returncode, USAGE, f"status of {argv}")
        check(argv[-1].lstrip("-") in done.stderr, done.stderr)


@checks.test
def help_and_version_are_on_stdout():
    "Status 0, every verb and option in the help, and in the manual."
    rows = re.compile(r'^OPTION\((?:(?:NULL|"(\w+)"),\s*)?\'(.)\',\s*"([\w-]+)"',
                      re.M)
    for tool in ("rgov", "rgov-top"):
        manual = (ROOT / f"docs/man/{tool}.1").read_text()
        table = (ROOT / f"tools/{tool}/options.def").read_text()
        for verb, letter, name in rows.findall(table):
            argv = ["help", verb] if verb else ["--help"]
            done = run([BUILD / tool, *argv], env=base_env())
            equal((done.returncode, done.stderr), (0, ""), f"{tool} {argv}")
            check(f"-{letter}, --{name}" in done.stdout, f"{name} in the help")
            check(re.search(rf"Fl {re.escape(letter)}\b.* Fl -{name}\b", manual),
                  f"-{letter}, --{name} of {verb or tool} in {tool}.1")
        done = run([BUILD / tool, "--version"], env=base_env(RGOV_NAME="none"))
        equal((done.returncode, done.stderr), (0, ""), f"{tool} --version")
        check(re.match(rf"{tool} \S+, layout \d+ \([0-9a-f]{{16}}\)\n$",
                       done.stdout), done.stdout)
    verbs = re.findall(r"^VERB\((\w+)",
                       (ROOT / "tools/rgov/verbs.def").read_text(), re.M)
    overview = run([BUILD / "rgov", "help"], env=base_env()).stdout
    manual = (ROOT / "docs/man/rgov.1").read_text()
    for verb in verbs:
        check(f"\n  {verb} " in overview, f"{verb} in the help")
        check(f"Ic {verb}" in manual, f"{verb} in the manual")


@checks.test
def the_presets_are_those_of_rgovd():
    "rgov presets lists what rgovd has; the one in force is marked."
    ours = re.findall(r'PRESET\("([\w-]+)",\s*(\d+),\s*(\d+),\s*(\d+)',
                      (ROOT / "tools/rgov/presets.def").read_text())
    theirs = re.findall(r'\{"([\w-]+)", "(\d+)", "(\d+)", "(\d+)"\}',
                        (ROOT / "coordinator/config_keys.c").read_text())
    equal(ours, theirs, "presets")
    with Board("stopped") as board:
        lines = board.rgov("presets").stdout.splitlines()
        equal([line.split()[1] for line in lines if line.startswith("*")],
              ["production-low"], "the preset in force")


@checks.test
def doctor_finds_nothing_wrong_where_all_is_well():
    "A running rgovd: status 0, no FAIL; legacy variables are pointed at."
    with Rgovd(endpoint="http://127.0.0.1:9") as rgovd:
        done = rgovd.rgov("doctor")
        equal(done.returncode, 0, f"status:\n{done.stdout}")
        check("FAIL" not in done.stdout, done.stdout)
        for line in done.stdout.splitlines():
            check(re.match(r"(ok  |warn|FAIL)  [\w/ ]+: ", line), line)
        for what in ("board", "rgovd", "socket", "wire", "credentials",
                     "/dev/shm", "clock", "boot id", "io_uring"):
            check(f"  {what}: " in done.stdout, f"{what} in\n{done.stdout}")
        env = dict(rgovd.tool_env(), REQUESTS_PER_MINUTE="99",
                   RATE_LIMIT_PRESET="single-user")
        done = run([BUILD / "rgov", "doctor"], env=env)
        equal(done.returncode, 0, "status with warnings")
        for what in ("REQUESTS_PER_MINUTE=99", "RATE_LIMIT_PRESET=single-user"):
            check(f"warn  environment: {what}" in done.stdout, done.stdout)


@checks.test
def doctor_names_blocks_that_surprise():
    "A block that nothing has matched, and one that another stands before."
    blocks = 'model "a.*" {}\nmodel "*x" {}\nmodel "never" {}\n'
    with Sim() as sim, Rgovd(blocks, sim=sim) as rgovd:
        ask = 'import rgov; rgov.connect().invoke("a.x", {"max_tokens": 5}, user="u")'
        equal(rgovd.python(ask).returncode, 0, "a call")
        said = rgovd.rgov("doctor").stdout
        path = rgovd.config
        check(f'hint: model a.x: the block "a.*" ({path}:2) counts; "*x" '
              f'({path}:3) matches as well' in said, said)
        check(f'hint: the block model "never" ({path}:4) has counted for no '
              "model so far" in said, said)
        check('"a.*" (' + str(path) + ":2) has counted" not in said, said)
        equal(rgovd.process.text().count("event=config.overlap"), 1,
              "lines of the log")


@checks.test
def doctor_says_what_is_missing():
    "No credentials, no rgovd: what it is and what to do."
    with Rgovd(endpoint="http://127.0.0.1:9", credentials=False) as rgovd:
        check("warn  credentials: rgovd has none" in rgovd.rgov("doctor").stdout,
              "no credentials")
    done = run([BUILD / "rgov", "doctor", "-s", "/nowhere/s.sock"],
               env=base_env(RGOV_NAME="nobody-here"))
    equal(done.returncode, UNUSABLE, "status")
    check("FAIL  board: " in done.stdout
          and "FAIL  socket: /nowhere/s.sock" in done.stdout, done.stdout)


checks.main()
