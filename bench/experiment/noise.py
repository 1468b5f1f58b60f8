#!/usr/bin/python3 -B
"""How late this machine is: sleeps 5 ms again and again and writes, for each
time, CLOCK_MONOTONIC and the lateness, both in nanoseconds as 64 bit numbers.

usage: noise.py FILE      until it is ended
"""

import struct
import sys
import time

with open(sys.argv[1], "wb", buffering=0) as out:
    while True:
        due = time.monotonic_ns() + 5_000_000
        time.sleep(0.005)
        now = time.monotonic_ns()
        out.write(struct.pack("=qq", now, max(0, now - due)))
