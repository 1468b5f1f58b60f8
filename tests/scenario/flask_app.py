"""The application behind 69-flask.py: every view is one thing that rgov.flask
does.  Who asks is the header X-User; which process answered is X-Pid.
"""

import os

from flask import Flask, g, request

from rgov.flask import Rgov, accepted, routes

MODEL = "anthropic.claude-sonnet-4-20250514-v1:0"

rgov = Rgov()


def create_app():
    app = Flask(__name__)
    app.config.from_prefixed_env()
    rgov.init_app(app, user=lambda: request.headers.get("X-User"))
    app.register_blueprint(routes, url_prefix=os.environ.get("PREFIX"))
    app.after_request(say_who)
    app.post("/ask")(ask)
    app.post("/call")(call)
    app.post("/permit")(under_a_permit)
    return app


def say_who(answer):
    answer.headers["X-Pid"] = str(os.getpid())
    return answer


def ask():
    options = request.args.to_dict()
    if "timeout" in options:
        options["timeout"] = float(options["timeout"])
    model = options.pop("model", MODEL)
    return accepted(rgov.submit(model, request.get_data(), **options))


def call():
    timeout = float(request.args.get("timeout", "30"))
    return rgov.gov.invoke(MODEL, request.get_data(), user=rgov.user(),
                           timeout=timeout).json()


@rgov.limit(model=MODEL, cost=lambda: 50, timeout=20)
def under_a_permit():
    held = g.rgov_permit.held
    if request.args.get("raise"):
        raise RuntimeError("the view's own")
    return {"held": held, "user": g.rgov_permit.user}
