"""The way through rgovd: no credentials, no limits, no retries here, and no word
about what can go wrong, which rgov.flask answers."""

from rgov.flask import Rgov, accepted, routes

import page
from model_call import Refused, Reply, first_text

rgov = Rgov()


def init_app(app, user):
    """Opens nothing: safe in a master that forks its workers later."""
    rgov.init_app(app, user=user, result=analysis_of)
    app.register_blueprint(routes)  # /task_status/<id>, /queue_stats, ...
    app.register_blueprint(page.page)


def ask(model_id, body, user, timeout):
    """The caller waits for it."""
    reply = rgov.gov.invoke(model_id, body, user=user, timeout=timeout)
    return Reply(text=words_of(reply),
                 input_tokens=reply.usage.input_tokens,
                 output_tokens=reply.usage.output_tokens,
                 execution_s=reply.execution_time, attempts=reply.attempts,
                 request_id=reply.request_id)


def submit(model_id, body):
    """Takes it in: when this returns it is on rgovd's disk."""
    return accepted(rgov.submit(model_id, body))


def words_of(reply):
    try:
        return first_text(reply.json())
    except ValueError:
        raise Refused("the reply is no JSON") from None


def analysis_of(reply):
    """The result of a task.  A reply without text is shown as it came."""
    try:
        return {"analysis": words_of(reply)}
    except Refused:
        return {"analysis": reply.body.decode(errors="replace")}
