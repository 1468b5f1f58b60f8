"""The section analyser: a small Flask application that asks a Claude model on
Amazon Bedrock about one section of a document.

How it reaches the model is one line, chosen by STRATEGY:

    rgov    through rgovd, which keeps the limits of this host (the default)
    direct  by itself, with a request manager and back-off in each worker, as
            applications do that have no governor

With rgov it also takes sections in to answer later, and has a page that shows
them: see with_rgov.py and page.py.  It shows the adoption of rgov and nothing
else: no database, no login.  Whoever names a session_id is that user.
"""

import os

from flask import Flask, jsonify, request

import model_call

MODEL_ID = os.environ.get("MODEL_ID",
                          "anthropic.claude-sonnet-4-20250514-v1:0")
TIMEOUT_S = float(os.environ.get("REQUEST_TIMEOUT_S", "300"))


def session_id():
    """Who asks: the body says so, a header, or the page's cookie."""
    asked = request.get_json(silent=True)
    named = asked.get("session_id") if isinstance(asked, dict) else None
    return (named or request.headers.get("X-Session-Id")
            or request.cookies.get("session_id"))


app = Flask(__name__)
app.config.from_prefixed_env()  # FLASK_RGOV_WAITERS=12, ...
backend = model_call.choose(os.environ.get("STRATEGY", "rgov"))
backend.init_app(app, user=session_id)


def claude_body(text, instruction):
    """The Messages body of one analysis."""
    return {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 400,
        "messages": [{"role": "user", "content": f"{instruction}\n\n{text}"}],
    }


def problem(status, title, detail, retry_after_s=None):
    answer = jsonify(error=title, detail=detail)
    answer.status_code = status
    if retry_after_s is not None:
        answer.headers["Retry-After"] = str(max(1, round(retry_after_s)))
    return answer


@app.errorhandler(model_call.Failure)
def failed(error):
    return problem(error.status, error.title, str(error), error.retry_after_s)


def wants_to_come_back(asked):
    """RFC 7240, or a word in the body where a client cannot set headers."""
    preferences = request.headers.get("Prefer", "").lower().split(",")
    return (asked.get("async") is True
            or "respond-async" in (p.strip() for p in preferences))


@app.post("/analyze_section")
def analyze_section():
    """{"text", "session_id"?, "instruction"?, "async"?} -> the model's words, or
    202 and where they will be."""
    asked = request.get_json(silent=True)
    if not isinstance(asked, dict):
        return problem(400, "bad request", "the body is no JSON object")
    user, text = session_id(), asked.get("text")
    instruction = asked.get("instruction", "Summarise this section.")
    if not all(isinstance(v, str) and v for v in (user, text, instruction)):
        return problem(400, "bad request",
                       "session_id, text and instruction are texts, not empty")
    body = claude_body(text, instruction)
    if wants_to_come_back(asked):
        return backend.submit(MODEL_ID, body)
    reply = backend.ask(MODEL_ID, body, user=user, timeout=TIMEOUT_S)
    return jsonify(session_id=user, analysis=reply.text,
                   input_tokens=reply.input_tokens,
                   output_tokens=reply.output_tokens,
                   execution_s=reply.execution_s, attempts=reply.attempts,
                   request_id=reply.request_id)
