#!/usr/bin/python3 -B
"""Clients of durable tasks whose time ends at the worst moment: rgovd is under
sanitizers, and what it has said holds.
"""

from hostile import Sanitized
from shortage import *

LARGE = 24000000


@checks.test
def a_deadline_while_the_body_is_read():
    """The slot is its client's again, so nothing may be read from it any more;
    nor is there anybody to be told that there is no room."""
    with Sim(latency="fixed:600") as sim, \
            Sanitized(limits(60000, 1, 1, minute=60) + "max_tasks = 1\n",
                      sim=sim) as rgovd, Puppet(rgovd) as puppet:
        puppet.tell("open")
        puppet.begin("task", 1, 64, 300)  # takes the only place
        wait_until(lambda: rgovd.stats()["host"]["tasks"] == 1,
                   what="a task that runs")
        puppet.answer()
        ends = collections.Counter()
        for i in range(40):
            answer = puppet.tell("task", i + 2, LARGE, 10 + 10 * i)
            ends[answer["result"]] += 1
            check(rgovd.process.alive(), f"rgovd has died: {rgovd.process.tail()}")
            if ends["queue full"] >= 3:
                break
        check(ends["deadline"] > 0 and ends["queue full"] > 0,
              f"the deadlines were not in the middle: {dict(ends)}")
        rgovd.kill9()  # what runs has ten minutes yet


checks.main()
