"""The application of 71-celery.py: what its workers run and its tests send.

Environment: REDIS_URL, and what names the governor.
"""

import json
import os

import celery
import rgov
import rgov.celery

# A test only wants to know what the tasks send.
REDIS_URL = os.environ.get("REDIS_URL", "memory://")
MODEL = "anthropic.claude-sonnet-4-20250514-v1:0"

app = celery.Celery("scenario", broker=REDIS_URL, backend=REDIS_URL,
                    task_cls="rgov.celery:GovernedTask")
app.conf.update(task_track_started=True, worker_hijack_root_logger=False)
rgov.celery.configure(app)
gov = rgov.connect()


def body_of(text):
    return json.dumps({"anthropic_version": "bedrock-2023-05-31",
                       "max_tokens": 50,
                       "messages": [{"role": "user", "content": text}]})


@app.task(bind=True, name="ask", rgov_max_countdown=1.0)
def ask(self, text, model=MODEL):
    reply = self.invoke(model, body_of(text))
    return {"answer": reply.json()["content"][0]["text"],
            "refusals": self.request.get("rgov_refusals") or 0}


@app.task(bind=True, name="ask_twice", rgov_max_countdown=1.0,
          rgov_max_retries=1)
def ask_twice(self, text, model=MODEL):
    return self.invoke(model, body_of(text)).status


@app.task(bind=True, name="ask_long", soft_time_limit=2)
def ask_long(self, text, model):
    """Waits beyond its time limit, as code does that knows nothing of it."""
    try:
        return self.governor.invoke(model, body_of(text), timeout=60).status
    except celery.exceptions.SoftTimeLimitExceeded:
        return "soft time limit"


@app.task(name="old_code", rgov_max_countdown=1.0)
def old_code(text):
    """A task that is not bound and has a governor of its own."""
    with gov.permit(MODEL, user="old"):
        return text


@app.task(bind=True, name="relay")
def relay(self):
    return who.delay().id


@app.task(bind=True, name="who")
def who(self):
    asks = self._who(None, None, None)
    return [asks["user"], asks["priority"], asks["timeout"] <= 100]
