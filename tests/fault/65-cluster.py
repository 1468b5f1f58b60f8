#!/usr/bin/python3 -B
"""The scenario of several hosts over 20 windows, with Redis lost again and
again, and in network namespaces: tests/scenario/72-cluster.py with RGOV_LONG.
"""

import os
import pathlib
import runpy
import sys

SCENARIO = pathlib.Path(__file__).resolve().parents[1] / "scenario"

os.environ["RGOV_LONG"] = "1"
sys.path.insert(0, str(SCENARIO))
sys.argv[1:] = sys.argv[1:] or ["never_exceeded", "lost_redis", "on_loss",
                                "namespaces"]
runpy.run_path(str(SCENARIO / "72-cluster.py"), run_name="__main__")
