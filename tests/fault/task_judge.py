"""What became of the tasks of a storm: the journal of those who submitted, the
store, and the simulator's log must agree.

What is violated comes back as sentences.  acknowledged, ended_once, lost and
duplicated count tasks.
"""

import collections
import contextlib
import sqlite3

import storm_judge
from task_worker import sha256_of

ENDED, AMBIGUOUS = 2, 7  # enum store_event
SUCCEEDED, FAILED, CANCELLED, EXPIRED = 2, 3, 4, 5  # enum store_state
FINAL = (SUCCEEDED, FAILED, CANCELLED, EXPIRED)
EVENT_BITS = 8
MAY_END = {"a": {SUCCEEDED}, "o": {SUCCEEDED, FAILED},
           "t": {SUCCEEDED, EXPIRED}, "c": {SUCCEEDED, CANCELLED}}
# What a machine may need to wake a process, and a client to find a successor.
GRACE_S = 10.0


class TaskJudge:
    def __init__(self, storm):
        self.storm = storm
        self.broken = []
        self.figures = dict.fromkeys(
            ("acknowledged", "ended_once", "lost", "duplicated",
             "unacknowledged", "refused", "waits", "ambiguous", "again"), 0)
        self.kinds, self.acknowledged = {}, collections.defaultdict(set)
        self._read_journal()
        self._read_store()

    def blame(self, why):
        self.broken.append(why)

    # ---------------------------------------------------------- the files

    def _read_journal(self):
        self.waits = {}  # (number, pid) -> [limit, pid] that are out
        struck = {s.pid for s in self.storm.struck}
        for line in self.storm.journal.read_text().splitlines():
            match line.split():
                case ["B", number, _, kind, _]:
                    self.kinds[int(number)] = kind
                case ["A", number, task]:
                    self.acknowledged[int(number)].add(task)
                case ["N", _, _]:
                    self.figures["refused"] += 1
                case ["W", number, pid, limit]:
                    self.waits[number, pid] = float(limit)
                case ["E", number, pid, seconds, how]:
                    self.figures["waits"] += 1
                    limit = self.waits.pop((number, pid))
                    if float(seconds) > limit + GRACE_S:
                        self.blame(f"wait: task {number} {how} after "
                                   f"{seconds} s, not {limit}")
                    if how not in ("QUEUED", "RUNNING", "SUCCEEDED", "FAILED",
                                   "CANCELLED", "EXPIRED", "Unavailable",
                                   "Timeout", "Draining"):
                        self.blame(f"wait: task {number} was told {how}")
                case words:
                    self.blame(f"journal: {words}")
        for number, pid in self.waits:
            if int(pid) not in struck:
                self.blame(f"wait: {pid} was never told of {number}")

    def _read_store(self):
        """rgovd has ended."""
        path = self.storm.store
        self.rows, self.ends = [], collections.Counter()
        with contextlib.closing(sqlite3.connect(path)) as db:
            said = db.execute("PRAGMA integrity_check").fetchall()
            if said != [("ok",)]:
                self.blame(f"the store: {said[:3]}")
            db.row_factory = sqlite3.Row
            self.rows = db.execute(
                "SELECT seq, id, state, key, body_sha256, is_idempotent, runs,"
                " result, code FROM task").fetchall()
            self.ends.update(self._those_with(db, ENDED))
            self.said_ambiguous = set(self._those_with(db, AMBIGUOUS))

    @staticmethod
    def _those_with(db, event):
        return [place >> EVENT_BITS for place, in db.execute(
            "SELECT place FROM event WHERE event = ?", (event,))]

    # ---------------------------------------------------------- the verdict

    def judge(self):
        numbers = {sha256_of(number): number for number in self.kinds}
        arrivals = storm_judge.arrivals_of(self.storm.sim.events())
        by_sha, ids = collections.Counter(), {}
        for row in self.rows:
            sha, text = row["body_sha256"].hex(), text_of(row["id"])
            number = numbers.get(sha)
            by_sha[sha] += 1
            ids[text] = row
            if number is not None:
                self._one(number, row, arrivals.get(sha, []))
        for number, tasks in self.acknowledged.items():
            self._acknowledged(number, tasks, ids)
        for sha, n in by_sha.items():
            if n > 1:
                self.figures["duplicated"] += 1
                self.blame(f"{n} tasks of request {numbers.get(sha)}")
        self.figures["unacknowledged"] = (
            len(self.rows) - self.figures["acknowledged"])
        return self.broken

    def _acknowledged(self, number, tasks, ids):
        self.figures["acknowledged"] += 1
        if len(tasks) > 1:
            self.figures["duplicated"] += 1
            self.blame(f"request {number} was told of {len(tasks)} tasks")
        for task in tasks:
            row = ids.get(task)
            if row is None or row["state"] not in FINAL:
                self.figures["lost"] += 1
                self.blame(f"lost: {task} of request {number}: "
                           f"{dict(row) if row else 'not there'}")
            elif self.ends[row["seq"]] == 1:
                self.figures["ended_once"] += 1

    def _one(self, number, row, arrivals):
        """Ended once, as its kind may, and called as often as it says."""
        kind, ends = self.kinds[number], self.ends[row["seq"]]
        self.figures["again"] += max(0, len(arrivals) - 1)
        if ends != 1:
            self.blame(f"request {number} has {ends} ends")
        if row["state"] not in MAY_END[kind]:
            self.blame(f"request {number} ({kind}) ended {row['state']} "
                       f"{row['code']}")
        if row["state"] == SUCCEEDED and not any(
                a.ending.startswith("ok") for a in arrivals):
            self.blame(f"request {number} succeeded without an answer")
        if len(arrivals) > row["runs"]:
            self.blame(f"request {number} arrived {len(arrivals)} times in "
                       f"{row['runs']} runs")
        if kind == "o":
            self._once(number, row, arrivals)

    def _once(self, number, row, arrivals):
        if len(arrivals) > 1:
            self.blame(f"request {number} is not idempotent, and arrived "
                       f"{len(arrivals)} times")
        if row["state"] == FAILED:
            self.figures["ambiguous"] += 1
            if row["seq"] not in self.said_ambiguous:
                self.blame(f"request {number} failed: {row['result']} "
                           f"{row['code']}, and its history does not say why")


def text_of(raw):
    """The id of 16 bytes."""
    digits = raw.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20],
                     digits[20:]))
