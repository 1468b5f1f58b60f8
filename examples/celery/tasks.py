"""The tasks.  What rgov changes in a Celery application is marked; everything else
is as it was.

Environment: REDIS_URL, MODEL_ID.
"""

import os

import celery
import rgov.celery

MODEL_ID = os.environ.get("MODEL_ID",
                          "anthropic.claude-sonnet-4-20250514-v1:0")
REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")

app = celery.Celery("sections", broker=REDIS_URL, backend=REDIS_URL,
                    task_cls="rgov.celery:GovernedTask")  # rgov
app.conf.update(
    task_soft_time_limit=240,  # a call ends before; in threads, too
    task_time_limit=270,
    task_track_started=True,
    result_expires=24 * 3600,
)
rgov.celery.configure(app)  # rgov: acknowledge late, prefetch one


@app.task(bind=True, name="analyze_section")
def analyze_section(self, text, instruction):
    reply = self.invoke(MODEL_ID, {  # rgov: instead of boto3 and a retry loop
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 400,
        "messages": [{"role": "user", "content": f"{instruction}\n\n{text}"}],
    })
    return {"analysis": "".join(part["text"] for part in reply.json()["content"]
                                if part.get("type") == "text"),
            "waited_s": round(reply.wait_time, 3),
            "waited_for": reply.waited_for}
