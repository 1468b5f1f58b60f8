"""gunicorn settings: sync workers, one request each at a time.

    gunicorn --config gunicorn_sync.py app:app
    PRELOAD_APP=1 gunicorn --config gunicorn_sync.py app:app

A request may wait in rgovd's queue for minutes; a worker that answers to
nobody for `timeout` is killed by gunicorn, so timeout is above the
application's own REQUEST_TIMEOUT_S.
"""

import os

bind = os.environ.get("BIND", "127.0.0.1:8000")
workers = int(os.environ.get("WORKERS", "4"))
worker_class = "sync"
timeout = int(float(os.environ.get("REQUEST_TIMEOUT_S", "300"))) + 30
graceful_timeout = 30

# With preload the application is imported once, before the workers are
# forked.  rgov needs no hook for it: rgov.connect() is lazy, and a child
# registers anew at its first request.
preload_app = os.environ.get("PRELOAD_APP") == "1"
