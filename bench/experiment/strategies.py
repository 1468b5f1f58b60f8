"""How a worker reaches the model.  Each strategy has ask(body, user), which
returns an HTTP status and bytes.  Only what is asked for is imported.

Environment: as stack.py sets it.  SCALE: how long a second of real use takes
here; what cannot be told a time base otherwise gets a scaled clock.
"""

import json
import os
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
SCALE = float(os.environ.get("SCALE", "1"))
MODEL_ID = os.environ.get("MODEL_ID", "")
TIMEOUT_S = float(os.environ.get("TIMEOUT_S", "600"))


# The Flask example's way without a governor.
sys.path.insert(0, str(HERE.parents[1] / "examples/flask-app"))


class Naive:
    """Each thread by itself: 2^attempt seconds and a random part after a
    throttle, then again."""

    def __init__(self):
        import direct
        import model_call
        self.direct, self.busy = direct, model_call.Busy
        self.errors = (model_call.Busy, model_call.Away, model_call.Late,
                       model_call.Refused)

    def call(self, body, _user):
        self.direct._call_with_backoff(MODEL_ID, body,
                                       time.monotonic() + TIMEOUT_S)

    def ask(self, body, user):
        try:
            self.call(body, user)
        except self.errors as e:
            return (429 if isinstance(e, self.busy) else 502), str(e)
        return 200, b""


class InProcess(Naive):
    """The request manager of one process: slots, a window of starts, a queue in
    which the user with fewer active calls goes first; and the retry loop."""

    def call(self, body, user):
        self.direct.ask(MODEL_ID, json.loads(body), user, TIMEOUT_S)


class _ScaledTime:
    """The module time, with seconds of SCALE.  botocore's retry handlers have
    no setting for their pauses."""

    def __getattr__(self, name):
        return getattr(time, name)

    @staticmethod
    def sleep(seconds):
        time.sleep(seconds * SCALE)

    @staticmethod
    def time():
        return time.time() / SCALE


class Botocore:
    """One client per worker, retries as botocore's mode does them, with the
    default number of attempts.  The service's model is our own."""

    def __init__(self, mode):
        import boto3
        import botocore.config
        import botocore.endpoint
        import botocore.exceptions
        import botocore.retries.bucket
        botocore.endpoint.time = _ScaledTime()  # legacy, standard: pauses
        botocore.retries.bucket.time = _ScaledTime()  # adaptive: its clock
        self.exceptions = botocore.exceptions
        # 3600 s to read, as AWS advises for models: the default of 60 s would
        # run a call of 75 s again and again.
        self.client = boto3.client(
            "bedrock-runtime", endpoint_url=os.environ["BEDROCK_ENDPOINT"],
            config=botocore.config.Config(retries={"mode": mode},
                                          read_timeout=3600))

    def ask(self, body, _user):
        try:
            self.client.invoke_model(modelId=MODEL_ID, body=body,
                                     contentType="application/json"
                                     )["body"].read()
        except self.exceptions.ClientError as e:
            return e.response["ResponseMetadata"]["HTTPStatusCode"], str(e)
        except self.exceptions.BotoCoreError as e:
            return 502, str(e)
        return 200, b""


class Celery:
    """The question becomes a task of Celery; the page asks for its end."""

    def __init__(self):
        import tasks
        self.tasks = tasks

    def ask(self, body, _user):
        return 202, self.tasks.call.delay(body.decode()).id

    def ended(self, ids):
        """{id: HTTP status} of those that have ended, in one question."""
        backend = self.tasks.app.backend
        found = backend.mget([backend.get_key_for_task(i) for i in ids])
        metas = [(i, json.loads(m)) for i, m in zip(ids, found) if m]
        return {i: meta["result"] if meta["status"] == "SUCCESS" else 502
                for i, meta in metas
                if meta["status"] in ("SUCCESS", "FAILURE")}


class Rgov:
    """Through rgovd."""

    def __init__(self):
        import rgov
        self.rgov = rgov
        self.gov = rgov.connect(slots=1024)

    def ask(self, body, user):
        try:
            self.gov.invoke(MODEL_ID, body, user=user,
                            priority="interactive", timeout=TIMEOUT_S)
        except self.rgov.UpstreamError as e:
            return e.status or 502, str(e)
        except self.rgov.Error as e:
            return 503, f"{type(e).__name__}: {e}"
        return 200, b""


_ALL = {
    "naive": Naive,
    "botocore-legacy": lambda: Botocore("legacy"),
    "botocore-standard": lambda: Botocore("standard"),
    "botocore-adaptive": lambda: Botocore("adaptive"),
    "in-process": InProcess,
    "celery": Celery,
    "rgov": Rgov,
}


def choose(name):
    return _ALL[name]()
