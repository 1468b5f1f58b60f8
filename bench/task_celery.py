"""The Celery side of bench/tasks: a task that makes one HTTP call, as rgovd makes
it for its own.  Environment: REDIS (its port), PROVIDER (host:port).

As a program: measures the way from submit to result.
usage: task_celery.py TRIPS POLLED_TRIPS POLL_S
"""

import http.client
import json
import os
import statistics
import sys
import time

import celery

URL = f"redis://127.0.0.1:{os.environ['REDIS']}/0"

app = celery.Celery("tasks", broker=URL, backend=URL)
app.conf.update(worker_prefetch_multiplier=1, worker_hijack_root_logger=False)
_connection = None


@app.task(name="call")
def call(body):
    """The status of the answer."""
    global _connection
    if _connection is None:
        _connection = http.client.HTTPConnection(os.environ["PROVIDER"])
    _connection.request("POST", "/model/bench.model-v1:0/invoke", body)
    answer = _connection.getresponse()
    answer.read()
    return answer.status


def waiting(body):
    if call.delay(body).get(timeout=30) != 200:
        sys.exit("the call failed")


def polling(body, pause_s):
    task = call.delay(body)
    while True:
        time.sleep(pause_s)
        if task.ready():
            return


def median_s(trip, times):
    took = []
    for _ in range(times):
        begin = time.monotonic()
        trip()
        took.append(time.monotonic() - begin)
    return statistics.median(took)


def main():
    trips, polled_trips, pause_s = sys.argv[1:]
    body = json.dumps({"max_tokens": 5, "prompt": "x"})
    median_s(lambda: waiting(body), 5)
    told = {"get_s": median_s(lambda: waiting(body), int(trips)),
            "polled_s": median_s(lambda: polling(body, float(pause_s)),
                                 int(polled_trips))}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
