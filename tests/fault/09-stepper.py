#!/usr/bin/python3
"""The leash of the instruction campaigns is tested itself: were a step two
instructions, or a kill late, they would prove less than they say."""

from campaign import *


@checks.test
def a_step_is_an_instruction_and_a_kill_is_exact():
    "Kills between stores, sleeping calls, signals, threads, forks, symbols."
    done = run([FAULT_BUILD / "stepper_test"])
    if "skip" in done.stdout:
        raise Skip(done.stdout.strip())
    check(done.returncode == 0, f"stepper_test: {done.stdout}{done.stderr}")


checks.main()
