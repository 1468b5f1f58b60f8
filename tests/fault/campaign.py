"""What the fault campaigns share: the harness of the scenarios, and figures.

    from campaign import *

    @checks.test
    def nothing_is_left_behind():
        "After each kill rgovd is as it was before the client came."
        count("client_instruction_kills", kills)
        count("violations", violations)
        row(path="submit", instructions=871, kills=871, violations=violations)
        equal(violations, 0, "violations")

    checks.main()

The figures of count() are summed over all campaigns into build/faults/summary.json
by `tests/run --faults`, which names the file of each in RGOV_FAULTS_FILE.  The
file is written at every change: a campaign that is ended has told what it did.
"""

import json
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "scenario"))

from harness import *  # noqa: E402  (found by the line above)

FAULT_BUILD = BUILD / "fault"

COUNTERS = ("client_instruction_kills", "daemon_kills", "storm_kills",
            "hostile_writes", "nth_failures", "violations",
            "mutations_tried", "mutations_caught", "model_states")

_figures = {}


def count(name, amount=1):
    """Adds to one of the campaign's figures."""
    if name not in COUNTERS:
        raise ValueError(f"no figure is called {name}: expected one of "
                         + ", ".join(COUNTERS))
    _figures[name] = _figures.get(name, 0) + int(amount)
    target = os.environ.get("RGOV_FAULTS_FILE")
    if target:
        written = pathlib.Path(target + ".new")
        written.write_text(json.dumps(_figures) + "\n")
        written.rename(target)


def row(**cells):
    """Prints one line of the campaign's table: name=value, in the order given."""
    print("  " + "  ".join(f"{name}={value}" for name, value in cells.items()),
          flush=True)
