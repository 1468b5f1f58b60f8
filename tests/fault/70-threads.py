#!/usr/bin/python3
"""ThreadSanitizer sees both ends: librgov and a real door as threads of one
process on one mapping of each file (tests/unit/one_mapping_test.c), on both
event loops, with restarts of rgovd in between.  A word that one side reads
unordered is a violation.  The fences of sleep and wake and librgov's own
threads are run with it."""

import re

from campaign import *

TSAN = BUILD / "tsan/tests/unit"
PROGRAMS = (("one_mapping_test", ("io_uring", "epoll")),
            ("wake_test", ("",)),
            ("channel_test", ("io_uring",)),
            ("progress_test", ("io_uring",)))
LIMIT_S = 240


def races_in(output):
    """The functions in which ThreadSanitizer found races, each pair once."""
    return sorted(set(re.findall(r"SUMMARY: ThreadSanitizer: (.*)", output)))


@checks.test
def no_word_is_read_unordered():
    "One mapping for both ends: no data race, on io_uring and on epoll."
    found = []
    for program, loops in PROGRAMS:
        if not (TSAN / program).exists():
            raise Skip(f"{TSAN / program} is not built")
        for loop in loops:
            done = run([TSAN / program], timeout=LIMIT_S,
                       env={**os.environ, "RGOV_LOOP": loop})
            output = done.stdout + done.stderr
            races = races_in(output)
            if done.returncode != 0 and not races:
                races = output.splitlines()[-12:]
            found += [f"{program} ({loop or 'no loop'}): {r}" for r in races]
            row(program=program, loop=loop or "-", races=len(races))
    count("violations", len(found))
    equal(found, [], "races")


checks.main()
