"""The web side: a question becomes a task, and the page asks for its end.

    POST /analyze_section {"session_id", "text", "instruction"?}  -> 202, task_id
    GET  /task_status/ID  -> {"task_id", "status", "result" or "error"}
    GET  /queue_stats     -> what Celery's workers have, and rgovd's figures
    GET  /healthz
"""

import re

import rgov
import rgov.celery
from flask import Flask, jsonify, request, url_for

import tasks

TIMEOUT_S = 900  # after that nobody looks at the page any more

app = Flask(__name__)
gov = rgov.connect()


@app.post("/analyze_section")
def analyze_section():
    asked = request.get_json(silent=True)
    asked = asked if isinstance(asked, dict) else {}
    session_id, text = asked.get("session_id"), asked.get("text")
    instruction = asked.get("instruction", "Summarise this section.")
    if not all(isinstance(v, str) and v
               for v in (session_id, text, instruction)):
        return jsonify(error="session_id, text and instruction are texts, "
                             "not empty"), 400
    task = tasks.analyze_section.apply_async(
        (text, instruction),
        headers=rgov.celery.headers(user=session_id, timeout=TIMEOUT_S))
    where = url_for("task_status", task_id=task.id)
    return jsonify(task_id=task.id, status="PENDING", status_url=where), 202, {
        "Location": where, "Retry-After": "2"}


@app.get("/task_status/<task_id>")
def task_status(task_id):
    """Celery does not know whether there is such a task: PENDING is its word
    for "nothing known"."""
    if not re.fullmatch(r"[0-9a-f-]{36}", task_id):
        return jsonify(error="no id of a task"), 404
    meta = tasks.app.backend.get_task_meta(task_id)
    answer = {"task_id": task_id, "status": meta["status"]}
    if meta["status"] == "SUCCESS":
        answer["result"] = meta["result"]
    elif meta["status"] == "FAILURE":
        answer["error"] = f"{type(meta['result']).__name__}: {meta['result']}"
    return jsonify(answer)


@app.get("/queue_stats")
def queue_stats():
    """Celery's part asks every worker, and takes a second."""
    inspect = tasks.app.control.inspect(timeout=1.0)
    active, reserved = inspect.active() or {}, inspect.reserved() or {}
    n_reserved = sum(map(len, reserved.values()))
    with tasks.app.connection_for_read() as broker:
        in_redis = broker.default_channel.client.llen(
            tasks.app.conf.task_default_queue)
    try:
        governor = gov.get_stats()
    except rgov.Unavailable as e:
        governor = {"error": str(e)}
    return jsonify(available=bool(active), workers=len(active),
                   active_tasks=sum(map(len, active.values())),
                   reserved_tasks=n_reserved,
                   total_pending=n_reserved + in_redis, rgov=governor)


@app.get("/healthz")
def healthz():
    return jsonify(status="ok")
