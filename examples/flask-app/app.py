"""The section analyser: a small Flask application that asks a Claude model on
Amazon Bedrock about one section of a document.

How it reaches the model is one line, chosen by STRATEGY:

    rgov    through rgovd, which keeps the limits of this host (the default)
    direct  by itself, with a request manager and back-off in each worker, as
            applications do that have no governor

It shows the adoption of rgov and nothing else: no database, no login.
"""

import os

from flask import Flask, jsonify, request

import model_call

MODEL_ID = os.environ.get("MODEL_ID",
                          "anthropic.claude-sonnet-4-20250514-v1:0")
TIMEOUT_S = float(os.environ.get("REQUEST_TIMEOUT_S", "300"))

app = Flask(__name__)
backend = model_call.choose(os.environ.get("STRATEGY", "rgov"))


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


@app.post("/analyze_section")
def analyze_section():
    """{"session_id", "text", "instruction"?} -> the model's words."""
    asked = request.get_json(silent=True)
    if not isinstance(asked, dict):
        return problem(400, "bad request", "the body is no JSON object")
    session_id, text = asked.get("session_id"), asked.get("text")
    instruction = asked.get("instruction", "Summarise this section.")
    if not all(isinstance(v, str) and v
               for v in (session_id, text, instruction)):
        return problem(400, "bad request",
                       "session_id, text and instruction are texts, not empty")
    try:
        reply = backend.ask(MODEL_ID, claude_body(text, instruction),
                            user=session_id, timeout=TIMEOUT_S)
    except ValueError as e:
        return problem(400, "bad request", str(e))
    except model_call.Busy as e:
        return problem(429, "busy", str(e), e.retry_after_s)
    except model_call.Away as e:
        return problem(503, "not available", str(e), e.retry_after_s)
    except model_call.Late as e:
        return problem(504, "too late", str(e))
    except model_call.TooLarge as e:
        return problem(413, "too large", str(e))
    except model_call.Refused as e:
        return problem(502, "the model's service refused", str(e))
    return jsonify(session_id=session_id, analysis=reply.text,
                   input_tokens=reply.input_tokens,
                   output_tokens=reply.output_tokens,
                   execution_s=reply.execution_s, attempts=reply.attempts,
                   request_id=reply.request_id)


@app.get("/queue_stats")
def queue_stats():
    """The nine figures of the request manager; host-wide with rgov, of this
    one worker without."""
    try:
        return jsonify(backend.stats())
    except model_call.Away as e:
        return problem(503, "not available", str(e))


@app.get("/healthz")
def healthz():
    """The process serves.  It asks nobody else: a busy model is no reason to
    restart this worker."""
    return jsonify(status="ok", pid=os.getpid())
