"""The web application that gunicorn serves: POST /ask with a Bedrock body, the
user in X-User; POST /tasks with ids, for the strategy that answers with tasks.

STRATEGY says how it reaches the model; strategies.py has them.
"""

import json
import os

import strategies

_REASONS = {200: "OK", 202: "Accepted", 404: "Not Found", 429: "Busy",
            502: "Bad Gateway", 503: "Unavailable", 504: "Late"}
strategy = strategies.choose(os.environ["STRATEGY"])


def _read(environ):
    return environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))


def _serve(environ):
    path = environ["PATH_INFO"]
    if path == "/healthz":
        return 200, b"ok"
    if path == "/ask":
        return strategy.ask(_read(environ), environ.get("HTTP_X_USER", "-"))
    if path == "/tasks":
        return 200, json.dumps(strategy.ended(json.loads(_read(environ))))
    return 404, b""


def app(environ, start_response):
    status, answer = _serve(environ)
    answer = answer.encode() if isinstance(answer, str) else answer
    start_response(f"{status} {_REASONS.get(status, 'Error')}",
                   [("Content-Length", str(len(answer)))])
    return [answer]
