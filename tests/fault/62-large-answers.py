#!/usr/bin/python3 -B
"""An answer of 24 MB, made to be slow to read, does not stop rgovd: while it
is taken in and judged, permits of another session come and go.

What counts is the processor time that rgovd's loop spends while one permit goes
there and back, beside what the same answer costs altogether, in the same run:
were an answer judged in one piece, the two would be nearly the same.  The times
of a clock are printed too; on a busy machine they say little.
"""

from bad_provider import *
from campaign import *
from worker import *

BYTES = 24 << 20
ROUNDS = 3
# Of an answer's whole work, what may lie between a permit and its end.
SHARE_MOST = 0.3


def filled(first, piece, last):
    n = (BYTES - len(first) - len(last)) // len(piece)
    return first + piece * n + last


ANSWERS = (  # what makes them slow
    ("numbers", b'{"a":[', b"1,", b"1]}"),
    ("escapes", b'{"a":"', b"\\n", b'"}'),
    ("members", b"{", b'"":0,', b'"a":1}'),
    ("arrays", b'{"a":[', b"[],", b"1]}"),
    ("numbers-in-its-usage", b'{"usage":{"a":[', b"1,", b"1]}}"),
    ("escapes-in-its-usage", b'{"usage":{"a":"', b"\\n", b'"}}'),
    ("an-error", b'{"message":"', b"\\n", b'"}'),
)

# Rounds are begun and ended by a line; tells the most that one permit took.
PERMITS = r"""
import rgov, select, sys, time
gov = rgov.connect()

def spent_s():
    with open(f"/proc/{sys.argv[1]}/schedstat") as file:  # the loop's thread
        return int(file.read().split()[0]) / 1e9

def look():
    return time.monotonic(), spent_s()

def round_trip():
    begin = look()
    gov.permit("other", user="other").settle()
    return [b - a for a, b in zip(begin, look())]

round_trip()
print("begun", flush=True)
while sys.stdin.readline():
    wait, work, n, begin = 0, 0, 0, spent_s()
    while not select.select([0], [], [], 0)[0]:
        found = round_trip()
        wait, work, n = max(wait, found[0]), max(work, found[1]), n + 1
    sys.stdin.readline()
    print(wait, work, n, flush=True)
"""


class Permits:
    """The other session."""

    def __init__(self, rgovd):
        self.pid = rgovd.process.pid
        self.client = subprocess.Popen(
            [PYTHON, "-c", PERMITS, str(self.pid)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env=rgovd.client_env(), text=True,
            bufsize=1)
        equal(self.client.stdout.readline(), "begun\n", "its first line")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.kill()
        self.client.communicate()

    def during(self, work):
        """The longest wait and the most work beside one permit, how many there
        were, and what work() returned."""
        self.client.stdin.write("go\n")
        result = work()
        self.client.stdin.write("stop\n")
        wait, most, n = self.client.stdout.readline().split()
        return float(wait), float(most), int(n), result

    def spent_s(self):
        text = pathlib.Path(f"/proc/{self.pid}/schedstat").read_text()
        return int(text.split()[0]) / 1e9


@checks.cases(*ANSWERS)
def others_do_not_wait(name, first, piece, last):
    """In the best of 3 rounds (what else runs here only adds to it) no permit
    had more than three tenths of the answer's work before it."""
    body = filled(first, piece, last)
    is_error = name == "an-error"

    def answers(visit):
        visit.read_body()
        return visit.answer(body, b"400 Bad Request" if is_error else b"200 OK")

    with Provider(large=answers) as provider, \
            Rgovd(limits(rpm=50000, concurrency=9), endpoint=provider.url
                  ) as rgovd, Worker(rgovd) as worker, \
            Permits(rgovd) as permits:
        def ask():
            found = worker.invoke("large").result()["type"]
            equal(found, "UpstreamError" if is_error else "Reply", "its type")

        waits, most, costs, total = [], [], [], 0
        for _ in range(ROUNDS):
            before = permits.spent_s()
            ask()
            costs.append(permits.spent_s() - before)
            wait, work, n, _ = permits.during(ask)
            waits.append(wait)
            most.append(work)
            total += n
        share = min(most) / min(costs)
        row(answer=name, work_ms=f"{min(costs) * 1e3:.0f}",
            most_before_a_permit_ms=f"{min(most) * 1e3:.1f}",
            share=f"{share:.2f}", longest_wait_ms=f"{min(waits) * 1e3:.1f}",
            permits=total)
        check(share < SHARE_MOST, f"a permit had to wait for {share:.2f} of "
              "the answer's work")


checks.main()
