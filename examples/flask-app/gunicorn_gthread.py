"""gunicorn settings: workers with threads, so that a few processes can have
many requests waiting for the model.

    gunicorn --config gunicorn_gthread.py app:app
    PRELOAD_APP=1 gunicorn --config gunicorn_gthread.py app:app

All threads of a worker share one session with rgovd.  Each open page holds one
thread with its event stream, so some of them are kept for everything else.  The
settings that both kinds have in common are explained in gunicorn_sync.py.
"""

import os

bind = os.environ.get("BIND", "127.0.0.1:8000")
workers = int(os.environ.get("WORKERS", "4"))
worker_class = "gthread"
threads = int(os.environ.get("THREADS", "8"))
raw_env = ["FLASK_RGOV_WAITERS=" + os.environ.get(
    "FLASK_RGOV_WAITERS", str(threads * 3 // 4))]
timeout = int(float(os.environ.get("REQUEST_TIMEOUT_S", "300"))) + 30
graceful_timeout = 30
preload_app = os.environ.get("PRELOAD_APP") == "1"
