#!/usr/bin/python3 -B
"""rgov-plan: known results of queueing theory, what it compares itself with,
and what it says to files that are wrong.  Virtual time: no process runs long.
"""

import math
import xml.dom.minidom

from harness import *

PLAN = BUILD / "rgov-plan"
OPEN = {"max_concurrent_requests": 0, "requests_per_minute": 0,
        "max_requests_per_user": 0, "max_queued_per_user": 100000,
        "max_queued": 1000000, "default_timeout": "24h"}
DATA_ERROR, USAGE, NO_INPUT, CANNOT_CREATE, IO_ERROR, CONFIG = \
    65, 64, 66, 73, 74, 78
HEADER = '{"rgov_trace":1}'
GOOD = ('{"arrival":1,"user":"u","model":"m","input_tokens":5,'
        '"outcome":"ok","execution_s":2}')


def plan(*arguments, **more):
    return run([PLAN, *arguments], env=base_env(), **more)


def planned(*arguments, limits=None, folder):
    """The runs that it printed as JSON; limits: settings beside OPEN."""
    conf = folder / "limits.conf"
    settings = {**OPEN, **(limits or {})}
    conf.write_text("".join(f'{k} = "{v}"\n' for k, v in settings.items()))
    done = plan("--json", "--config", conf, *arguments)
    equal(done.returncode, 0, f"status; it said {done.stderr}")
    return json.loads(done.stdout)["runs"]


def near(found, expected, part, what):
    check(abs(found - expected) <= part * expected,
          f"{what}: expected {expected:.4g} within {part:.0%}, "
          f"found {found:.4g}")


def erlang_c(servers, load):
    """The part of the customers of M/M/c that has to wait."""
    last = load ** servers / math.factorial(servers) \
        * servers / (servers - load)
    return last / (sum(load ** k / math.factorial(k)
                       for k in range(servers)) + last)


# ---------------------------------------------------------------- truth

@checks.cases(
    ("M/D/1", 1, "fixed:1", 48, 0.8 / (2 * 0.2)),
    ("M/M/1", 1, "exp:1", 48, 0.8 / 0.2),
    ("M/M/4", 4, "exp:4", 48, erlang_c(4, 3.2) * 4 / (4 * 0.2)),
)
def it_waits_as_theory_says(_name, servers, latency, rate, wait_s):
    """One user, Poisson arrivals, so many places and no other limit."""
    with Scratch() as folder:
        one = planned("-n", 1, "-r", 0, "-a", f"poisson:{rate}", "-l", latency,
                      "-d", "3d", folder=folder,
                      limits={"max_concurrent_requests": servers})[0]
    check(one["all"]["requests"] > 200000, "three days of requests")
    near(one["all"]["avg_wait_s"], wait_s, 0.05, "average wait")
    near(one["schedules"]["fifo"]["avg_wait_s"], wait_s, 0.05, "FIFO's")
    near(one["wait_over_fifo"], 1, 0.001, "wait over FIFO")


@checks.test
def what_is_saturated_runs_at_its_quota():
    """30 a minute of a window of 60 s, and half a second of guard: a burst of
    3000 takes 99 windows of 60.5 s, the best possible ones of 60 s.  (Adaptive,
    the starts of the last window would be spread over 7.5 s.)"""
    with Scratch() as folder:
        one = planned("-n", 10, "-a", "burst:300", "-r", 0, "-l", "fixed:1",
                      folder=folder, limits={"requests_per_minute": 30,
                              "adaptive": "false"})[0]
    near(one["total_s"], 99 * 60.5 + 1, 1e-6, "total")
    near(one["schedules"]["bound"]["total_s"], 99 * 60, 1e-6, "bound")
    near(one["schedules"]["fair"]["total_s"], 99 * 60 + 1, 1e-6, "fair")
    near(one["jain"], 1, 0.01, "fairness")
    near(one["utilisation"][0]["used"], 60 / 60.5, 0.001, "use of the window")


@checks.test
def tokens_are_used_as_they_come_back():
    """600 tokens a minute, 100 reserved and 50 used each: twelve a minute if
    nothing had to be kept for what may still be used, eleven as it is."""
    with Scratch() as folder:
        conf = folder / "t.conf"
        conf.write_text('model "*" { tokens_per_minute = 600 }\n')
        done = plan("-j", "-c", conf, "-n", 2, "-a", "burst:120", "-r", 0,
                    "-i", 40, "-m", 60, "-o", 10, "-l", "fixed:1",
                    "-s", "max_concurrent_requests=0",
                    "-s", "requests_per_minute=0",
                    "-s", "max_requests_per_user=0",
                    "-s", "max_queued_per_user=500",
                    "-s", "default_timeout=24h")
        equal(done.returncode, 0, done.stderr)
    one = json.loads(done.stdout)["runs"][1]
    near(one["schedules"]["bound"]["total_s"], 240 / 12 * 60 - 60, 0.001,
         "bound")
    near(one["total_s"], 240 / 11 * 60, 0.05, "total")
    near(one["total_over_ideal"], 1, 0.05, "total over ideal")


@checks.test
def who_was_not_served_is_not_compared():
    """Ten at a time, one place, a deadline after two: the best schedule serves
    all ten, so it says nothing of this one."""
    done = plan("-n", 10, "-a", "burst:1", "-l", "fixed:10s",
                "-s", "max_concurrent_requests=1",
                "-s", "default_timeout=15s", "-j")
    equal(done.returncode, 0, done.stderr)
    one = json.loads(done.stdout)["runs"][1]
    check(one["all"]["deadline"] > 0, "some ended by their deadline")
    equal([one[name] for name in ("total_over_ideal", "total_over_bound",
                                  "wait_over_fair", "wait_over_fifo")],
          [None] * 4, "ratios")


@checks.test
def a_provider_that_changes_is_felt():
    """Its quota is half of ours from half-time on; a minute it is away: there
    are throttles, some retries, one probe at a time, and everything ends."""
    with Scratch() as folder:
        scenario = folder / "s.conf"
        scenario.write_text('''
            duration = 20m
            users "u" { count = 5  arrival = "poisson:4" latency = "fixed:1s" }
            provider { requests_per_minute = 30 }
            change "10m" { requests_per_minute = 15 }
            outage "15m" { for = 1m }''')
        one = planned(scenario, folder=folder,
                      limits={"requests_per_minute": 30,
                              "max_attempts": 10})[0]
    check(0 < one["throttled"], "throttles")
    check(one["probes"] > 0 and one["retries"] > 0, "probes and retries")
    equal(one["all"]["requests"], one["all"]["started"], "all started")


@checks.test
def the_same_seed_is_the_same_output():
    """To the byte; another seed is another one; a setting shows."""
    arguments = ("-n", 5, "-r", 50, "-a", "poisson:20", "-l", "exp:3")
    with Scratch() as folder:
        first = plan(*arguments, "-g", folder / "a.svg")
        again = plan(*arguments, "-g", folder / "b.svg")
        other = plan(*arguments, "-e", 2)
        equal(again.stdout, first.stdout, "the text")
        check(other.stdout != first.stdout, "another seed")
        equal((folder / "a.svg").read_text(), (folder / "b.svg").read_text(),
              "the picture")


@checks.test
def what_if_is_shown_beside_what_is():
    """--set, of the file's settings and of a block that is not there."""
    arguments = ("-n", 8, "-r", 20, "-l", "fixed:1")
    with Scratch() as folder:
        svg = folder / "x.svg"
        before, after = planned(
            *arguments, "-s", "requests_per_minute=20", "-s",
            "model.mod*.max_concurrent_requests=1", "-g", svg, folder=folder,
            limits={"requests_per_minute": 10})
        equal(before["set"], None, "set of the first")
        check(after["total_s"] < before["total_s"], "it is faster")
        limits = [l for l in after["utilisation"] if l["model"] == "model"]
        equal(limits[0]["value"], 1, "the model's limit")
        svg = xml.dom.minidom.parse(str(svg))
        equal(svg.documentElement.tagName, "svg", "the picture's root")
        check(len(svg.getElementsByTagName("path")) >= 6, "curves and axes")


@checks.test
def the_weights_of_a_scenario_are_those_of_the_order():
    """Twice the weight: half the wait, while both want more."""
    with Scratch() as folder:
        scenario = folder / "s.conf"
        scenario.write_text('users "a" { weight = 2 arrival = "burst:400" }\n'
                            'users "b" { arrival = "burst:200" }\n')
        one = planned(scenario, folder=folder,
                      limits={"max_concurrent_requests": 3})[0]
    a, b = one["users"]
    near(a["avg_wait_s"], b["avg_wait_s"], 0.02, "both end together")
    near(one["jain"], 1, 0.001, "service over weight")


@checks.test
def it_needs_no_network_and_no_shared_memory():
    names = run(["nm", "-D", "--undefined-only", PLAN]).stdout
    for name in ("socket", "connect", "shm_open", "mmap", "curl", "uring"):
        check(not re.search(rf"\bU {name}", names), f"it calls {name}")


# ---------------------------------------------------------------- wrong files

@checks.cases(
    ("not JSON", "{nonsense", "2: record: expected a JSON object"),
    ("not an object", "[1]", "2: record: expected a JSON object, found [1]"),
    ("no user", '{"arrival":1,"model":"m","input_tokens":1,"outcome":"ok",'
     '"execution_s":1}', '2: user: expected a text of 1 to 63 bytes, '
     'found nothing'),
    ("negative", GOOD.replace('"arrival":1', '"arrival":-1'),
     "2: arrival: expected a number of 0 to 31622400, found -1"),
    ("absurd", GOOD.replace('"input_tokens":5', '"input_tokens":1e17'),
     "2: input_tokens: expected a number of 0 to 1000000000000, found 1"),
    ("not whole", GOOD.replace('"input_tokens":5', '"input_tokens":0.5'),
     "2: input_tokens: expected a whole number, found 0.5"),
    ("a text", GOOD.replace('"execution_s":2', '"execution_s":"2"'),
     '2: execution_s: expected a number of 0 to 31622400, found "2"'),
    ("class", GOOD.replace("{", '{"class":"urgent",'),
     '2: class: expected interactive, normal or batch, found "urgent"'),
    ("outcome", GOOD.replace('"ok"', '"fine"'),
     "2: outcome: expected ok, error"),
    ("time runs back", GOOD.replace("{", '{"end":5,') + "\n"
     + GOOD.replace("{", '{"end":4,'),
     "3: end: expected a time not before that of the record before, found 4"),
    ("end before arrival", GOOD.replace("{", '{"end":0.5,'),
     "2: end: expected a time not before arrival"),
    ("twice", GOOD.replace("{", '{"user":"u",'), "2: record: expected"),
    ("version", '{"rgov_trace":2}', "2: rgov_trace: expected 1, found 2"),
    ("control bytes", '{"user":"\x1b[2J"}', "2: record: expected"),
)
def a_bad_line_is_named(_name, lines, words):
    """And ends the run, unless it is told to leave it out."""
    with Scratch() as folder:
        trace = folder / "t.jsonl"
        trace.write_text(f"{HEADER}\n{lines}\n{GOOD}\n")
        done = plan("-t", trace)
        equal(done.returncode, DATA_ERROR, "status")
        check(f"{trace}:{words}" in done.stderr, f"it said {done.stderr!r}")
        equal(done.stdout, "", "output")
        check(done.stderr.isprintable() or "\x1b" not in done.stderr,
              "no control bytes")
        done = plan("-t", trace, "--skip-bad", "-j")
        equal(done.returncode, 0, f"status; {done.stderr}")
        equal(json.loads(done.stdout)["bad_lines"], 1, "bad lines")


@checks.test
def a_line_that_was_cut_is_forgiven():
    """At the end of the file, and where a successor goes on."""
    half = GOOD[:40]
    with Scratch() as folder:
        trace = folder / "t.jsonl"
        trace.write_text(f"{HEADER}\n{GOOD}\n{half}\n{HEADER}\n{GOOD}\n{half}")
        done = plan("-t", trace, "-j")
        equal(done.returncode, 0, f"status; {done.stderr}")
        for line in (3, 6):
            check(f"{trace}:{line}: the line was cut" in done.stderr,
                  f"line {line} is told: {done.stderr!r}")
        equal(json.loads(done.stdout)["runs"][0]["all"]["requests"], 2,
              "requests")


@checks.cases(
    ("empty", "", "expected a header"),
    ("header alone", HEADER + "\n", "expected at least one record"),
    ("no header", GOOD + "\n", "1: rgov_trace: expected a header"),
    ("a long line", HEADER + "\n" + "x" * 70000 + "\n",
     "2: record: expected at most 65536 bytes, found 70000"),
)
def a_trace_of_nothing_is_no_trace(name, text, words):
    with Scratch() as folder:
        trace = folder / "t.jsonl"
        trace.write_text(text)
        done = plan("-t", trace)
    equal(done.returncode, DATA_ERROR, "status")
    check(words in done.stderr or (name == "empty" and "at least one record"
                                   in done.stderr),
          f"it said {done.stderr!r}")


@checks.cases(
    ("no users", "duration = 1h\n", "users: expected at least one block"),
    ("rate 0", 'users "a" {\narrival = "poisson:0"\n}',
     "2: arrival: expected poisson:N a minute above 0"),
    ("negative latency", 'users "a" {\nlatency = "fixed:-1"\n}',
     "2: latency: expected fixed:TIME"),
    ("endless", 'users "a" {\nlatency = "fixed:0"\n}',
     'users "a": arrival: expected requests, a latency or a pause'),
    ("count 0", 'users "a" { count = 0 }', "count: expected 1 to 1000000"),
    ("unknown key", 'users "a" {\ncolour = red\n}', "2: no such option"),
    ("twice", 'users "a" { }\nusers "a" { }', "2: found duplicate title"),
    ("order of changes", 'users "a" {}\nchange "5m" {}\nchange "2m" {}',
     'change "2m": expected a time after'),
    ("outage without end", 'users "a" {}\noutage "5m" {}',
     'outage "5m": expected for'),
    ("share", 'users "a" {}\nprovider {\nthrottle = 1.5\n}',
     "3: throttle: expected a share of 0 to 1, found '1.5'"),
    ("too many", 'users "a" { count = 900000 }\nusers "b" { count = 900000 }',
     "users: expected at most 1000000 together"),
    ("output", 'users "a" { max_tokens = 5 output_tokens = "9" }',
     "output_tokens: expected not more than max_tokens"),
    ("not closed", 'users "a" {', "1: expected }, found the end of the file"),
    ("a zero byte", 'users "a" { }\n\0\n', "expected text, found"),
)
def a_wrong_scenario_is_named(_name, text, words):
    with Scratch() as folder:
        scenario = folder / "s.conf"
        scenario.write_text(text)
        done = plan(scenario)
    equal(done.returncode, DATA_ERROR, f"status; it said {done.stderr!r}")
    check(words in done.stderr, f"it said {done.stderr!r}")
    equal(done.stdout, "", "output")


@checks.cases(
    ("nothing", (), USAGE, "expected a SCENARIO"),
    ("two files", ("a", "b"), USAGE, "one SCENARIO"),
    ("users and trace", ("-n", "2", "-t", "x"), USAGE, "no users beside it"),
    ("latency", ("-n", "2", "-l", "soon"), USAGE, "--latency: expected fixed"),
    ("users", ("-n", "0"), USAGE, "count: expected 1"),
    ("no file", ("/nonexistent/s.conf",), NO_INPUT, "No such file"),
    ("no trace", ("-t", "/nonexistent/t"), NO_INPUT, "No such file"),
    ("set", ("-n", "2", "-s", "x"), USAGE, "--set: expected KEY=VALUE"),
    ("unknown set", ("-n", "2", "-s", "request_per_minute=5"), CONFIG,
     'did you mean "requests_per_minute"'),
    ("unknown set of a block", ("-n", "2", "-s", "model.a.b*.rpm=5"), CONFIG,
     "unknown setting"),
    ("wrong set", ("-n", "2", "-s", "user.a.weight=0"), CONFIG,
     "--set: weight: expected"),
    ("config", ("-n", "2", "-c", "/nonexistent/c"), CONFIG, "No such file"),
    ("picture", ("-n", "2", "-g", "/nonexistent/x.svg"), CANNOT_CREATE,
     "No such file"),
    ("full picture", ("-n", "2", "-g", "/dev/full"), IO_ERROR, "/dev/full"),
)
def wrong_usage_is_said(_name, arguments, status, words):
    done = plan(*arguments)
    equal(done.returncode, status, f"status; it said {done.stderr!r}")
    check(words in done.stderr, f"it said {done.stderr!r}")
    equal(done.stdout, "", "output")


@checks.test
def a_reader_that_has_gone_is_no_death():
    """Its pipe is closed before it prints."""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([PLAN, "-n", "2"], stdout=writer,
                          stderr=subprocess.PIPE, text=True, env=base_env())
    os.close(writer)
    equal(done.returncode, IO_ERROR, "status")
    check("Broken pipe" in done.stderr, done.stderr)


@checks.test
def the_manual_names_every_option():
    manual = (ROOT / "docs/man/rgov-plan.1").read_text()
    table = (ROOT / "tools/rgov-plan/options.def").read_text()
    names = re.findall(r"OPTION\('(.)', +\"([a-z-]+)\"", table)
    check(len(names) > 10, "the table was read")
    for letter, name in names:
        check(re.search(rf"^\.It Fl {letter} .*Fl -{name}\b", manual, re.M),
              f"--{name} is not in the manual")


checks.main()
