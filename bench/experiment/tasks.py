"""The Celery side: one task with a rate limit, which calls the model with the
retry loop.  Environment: REDIS (its socket), RATE_PER_MINUTE."""

import os

import celery

import strategies

REDIS = os.environ["REDIS"]

app = celery.Celery("tasks", broker=f"redis+socket://{REDIS}",
                    backend=f"redis+socket://{REDIS}")
app.conf.update(
    worker_prefetch_multiplier=1, task_acks_late=True,
    worker_hijack_root_logger=False, broker_connection_retry=True,
    result_expires=3600)
_caller = None


@app.task(name="call", rate_limit=os.environ.get("RATE_PER_MINUTE", "30") + "/m")
def call(body):
    """Returns the HTTP status that its user sees."""
    global _caller
    if _caller is None:
        _caller = strategies.Naive()
    return _caller.ask(body.encode(), "-")[0]
