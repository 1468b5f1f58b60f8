"""rgov in a Flask application.

::

    from rgov.flask import Rgov, accepted, routes

    rgov = Rgov()

    def create_app():
        app = Flask(__name__)
        app.config.from_prefixed_env()            # FLASK_RGOV_NAME, ...
        rgov.init_app(app, user=lambda: session["user"])
        app.register_blueprint(routes)            # /task_status/<id> and the rest
        return app

    @app.post("/ask")                             # durable; answers 202 at once
    def ask():
        return accepted(rgov.submit(MODEL_ID, request.get_json()))

    @app.post("/ask_now")                         # the caller waits
    def ask_now():
        return rgov.gov.invoke(MODEL_ID, request.get_json(), user=rgov.user()).json()

    @app.post("/other_api")                       # your own client, under a permit
    @rgov.limit(model=MODEL_ID, cost=2000)
    def other_api(): ...

Configuration, read by ``init_app``: ``RGOV_NAME``, ``RGOV_SOCKET``, ``RGOV_APP``,
``RGOV_CONNECT_TIMEOUT``, ``RGOV_SLOTS``, ``RGOV_WAIT``: as of
:func:`rgov.connect`.  ``RGOV_ERRORS`` (True): answer rgov's exceptions, as
:data:`rgov.web.STATUS` says.  ``RGOV_MAX_WAIT`` (30 s): the longest ``?wait=``.
``RGOV_WAITERS``: how many requests of a process may be held waiting at a time, by
``?wait=`` and by event streams; each holds a thread, so keep it below their number.
The default is 4, and 0 in a worker without threads, which would serve nobody
meanwhile; who finds no place is answered at once, and told when to come back.
``RGOV_HEARTBEAT`` (3 s): how often an event stream says something at least, which
is how it finds out that its client left.
``RGOV_STREAM_TIME`` (300 s): its longest life; browsers come back by themselves.

Everything is lazy: an application may be made before its workers are forked.
"""

from __future__ import annotations

import functools
import json
import math
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import click
from flask import Blueprint, Flask, Response, current_app, g, jsonify, request, url_for
from flask.cli import with_appcontext

from . import web
from .ask import Body, Priority
from .compat import user_of
from .errors import Error, Invalid, TaskGone, UnknownTask
from .governor import Governor, connect
from .reply import Reply
from .status import TaskState, TaskStatus
from .task import Task

__all__ = ["Rgov", "accepted", "problem", "routes"]

_View = TypeVar("_View", bound=Callable[..., Any])

_MAX_IDS = 50  # of one event stream
_THREADED_WAITERS = 4

_DEFAULTS: dict[str, Any] = {
    "RGOV_NAME": None,
    "RGOV_SOCKET": None,
    "RGOV_APP": None,
    "RGOV_CONNECT_TIMEOUT": None,
    "RGOV_SLOTS": None,
    "RGOV_WAIT": "auto",
    "RGOV_ERRORS": True,
    "RGOV_MAX_WAIT": 30,
    "RGOV_WAITERS": None,
    "RGOV_HEARTBEAT": 3,
    "RGOV_STREAM_TIME": 300,
}


# ---------------------------------------------------------------- of one application


class _State(NamedTuple):
    """What ``app.extensions["rgov"]`` holds."""

    gov: Governor
    user: Callable[[], object]
    result: Callable[[Reply], object]
    max_wait: float
    waiters: int | None
    heartbeat: float
    stream_time: float
    places: web.Places

    def limit(self) -> int:
        """How many requests of this process may be held."""
        if self.waiters is not None:
            return self.waiters
        return _THREADED_WAITERS if request.environ.get("wsgi.multithread") else 0


def _state() -> _State:
    try:
        return cast(_State, current_app.extensions["rgov"])
    except KeyError:
        raise RuntimeError(
            "rgov.flask: init_app() was not called for this application"
        ) from None


def _text(value: object) -> str | None:
    """from_prefixed_env() makes a number of a name that looks like one."""
    return None if value is None or value == "" else str(value)


def _connect(config: dict[str, Any]) -> Governor:
    timeout, slots = config["RGOV_CONNECT_TIMEOUT"], config["RGOV_SLOTS"]
    return connect(
        _text(config["RGOV_NAME"]),
        socket=_text(config["RGOV_SOCKET"]),
        app=_text(config["RGOV_APP"]),
        timeout=None if timeout is None else float(timeout),
        slots=None if slots is None else int(slots),
        wait=config["RGOV_WAIT"],
    )


def _nobody() -> str:
    return "-"


def _whole_body(reply: Reply) -> object:
    """The model's JSON; where it is none, its text."""
    try:
        return reply.json()
    except ValueError:
        return reply.body.decode(errors="replace")


# ---------------------------------------------------------------- the extension


class Rgov:
    """The extension.  One object serves any number of applications: what belongs
    to one is in its ``app.extensions["rgov"]``."""

    def __init__(self, app: Flask | None = None, **options: Any) -> None:
        """With an application: as :meth:`init_app`."""
        if app is not None:
            self.init_app(app, **options)

    def init_app(
        self,
        app: Flask,
        *,
        user: Callable[[], object] | None = None,
        result: Callable[[Reply], object] | None = None,
    ) -> None:
        """Read the configuration; opens nothing.

        ``user``: called within a request, says on whose behalf it is; only he sees
        the tasks that he submitted.  None: all are "-", and whoever knows a task's
        id sees it.  ``result``: makes of a task's Reply what ``/task_status`` gives
        as its result, for ``jsonify``; None: the reply's JSON, whole.

        ConfigError, ValueError: a setting is wrong.
        """
        for name, value in _DEFAULTS.items():
            app.config.setdefault(name, value)
        waiters = app.config["RGOV_WAITERS"]
        app.extensions["rgov"] = _State(
            gov=_connect(app.config),
            user=user or _nobody,
            result=result or _whole_body,
            max_wait=float(app.config["RGOV_MAX_WAIT"]),
            waiters=None if waiters is None else int(waiters),
            heartbeat=float(app.config["RGOV_HEARTBEAT"]),
            stream_time=float(app.config["RGOV_STREAM_TIME"]),
            places=web.Places(),
        )
        if app.config["RGOV_ERRORS"]:
            app.register_error_handler(Error, _answer_error)
        app.cli.add_command(_commands)

    @property
    def gov(self) -> Governor:
        """The :class:`rgov.Governor` of the application that serves."""
        return _state().gov

    def user(self) -> str:
        """The user of this request, as rgovd takes it: 1 to 63 bytes."""
        return user_of(_state().user())

    def submit(self, model_id: str, body: Body, **options: Any) -> Task:
        """:meth:`rgov.Governor.submit` for this request: its user, and the key of
        its ``Idempotency-Key`` header, which is the user's own (two users may
        choose the same).  ``options`` are passed on."""
        user = options.setdefault("user", self.user())
        key = request.headers.get("Idempotency-Key")
        if key is not None:
            options.setdefault("key", web.key_of(user, key))
        web.check_alive(self.gov)
        return self.gov.submit(model_id, body, **options)

    def limit(
        self,
        model: str | Callable[[], str],
        *,
        user: Callable[[], object] | None = None,
        cost: int | Callable[[], int] | None = None,
        priority: Priority = "interactive",
        timeout: float | None = 300.0,
    ) -> Callable[[_View], _View]:
        """Decorator: the view runs under a permit, ``g.rgov_permit``.

        ``model``: whose limits count.  ``user``: instead of the application's.
        ``cost``: tokens the call may answer with.  Callables are called within the
        request.  The permit is settled at the view's return (a streamed answer is
        not waited for): by what it raised, or as the view has settled it.
        """

        def decorate(view: _View) -> _View:
            @functools.wraps(view)
            def governed(*args: Any, **kwargs: Any) -> Any:
                with self.gov.permit(
                    model() if callable(model) else model,
                    user=self.user() if user is None else user_of(user()),
                    tokens=cost() if callable(cost) else cost,
                    priority=priority,
                    timeout=timeout,
                ) as permit:
                    g.rgov_permit = permit
                    return current_app.ensure_sync(view)(*args, **kwargs)

            return cast(_View, governed)

        return decorate


# ---------------------------------------------------------------- answers


def problem(
    status: int,
    title: str,
    detail: str,
    retry_after: float | None = None,
) -> Response:
    """An error as JSON: ``error`` and ``detail``.  ``retry_after`` in seconds;
    None: not said."""
    answer = _json({"error": title, "detail": detail}, status)
    if retry_after is not None:
        answer.headers["Retry-After"] = web.whole_seconds(retry_after)
    return answer


def _json(told: dict[str, Any], status: int = 200) -> Response:
    answer = jsonify(told)
    answer.status_code = status
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _answer_error(error: Error) -> Response:
    told = web.problem_of(error)
    if told.is_private:
        current_app.logger.warning("rgov: %s", error)
    return problem(told.status, told.title, told.detail, told.retry_after)


def accepted(task: Task) -> Response:
    """202 for a task that was submitted: ``task_id``, ``status``, ``status_url``
    and ``events_url``, with ``Location`` and ``Retry-After``.  The application has
    registered :data:`routes`."""
    status = task.status()
    where = url_for("rgov.task_status", task_id=task.id)
    told = {
        "task_id": task.id,
        "status": web.CELERY_STATES[status.state],
        "status_url": where,
        "events_url": url_for("rgov.task_events", task_ids=task.id),
    }
    answer = _json(told, 202)
    answer.headers["Location"] = where
    answer.headers["Retry-After"] = _come_back(status)
    return answer


def _come_back(status: TaskStatus) -> str:
    return web.come_back(status, _state().gov.get_stats()["avg_execution_time"])


# ---------------------------------------------------------------- the routes

routes = Blueprint("rgov", __name__)


def _own_task(task_id: str) -> Task:
    """The task, if this request's user submitted it.  Invalid: it is no id.
    UnknownTask: there is none, or it is somebody else's, which he need not know."""
    state = _state()
    task = state.gov.task(task_id)
    web.check_alive(state.gov)
    user = user_of(state.user())
    # The newest of his that is not newer than this one: is it this one?
    next_id = str(uuid.UUID(int=(uuid.UUID(task.id).int + 1) % (1 << 128)))
    rows = state.gov.tasks(user=user, after=next_id, limit=1)
    if not rows or rows[0].id != task.id:
        raise UnknownTask(f"no task {task.id} of user {user!r}")
    return task


def _with_result(task: Task, status: TaskStatus) -> dict[str, Any]:
    """What is said of it, with the result where it has ended well.  TaskGone: that
    was removed."""
    told = web.describe(task.id, status)
    if status.state is TaskState.SUCCEEDED:
        told["result"] = _state().result(task.result(timeout=0))
    return told


def _asked_wait() -> float:
    text = request.args.get("wait", "0")
    try:
        wait = float(text)
    except ValueError:
        wait = math.nan
    if not 0 <= wait < math.inf:
        raise Invalid(
            f"wait: expected seconds, 0 or more, found {text[:40]!r}", reason="invalid"
        )
    return min(wait, _state().max_wait)


def _wait_in_place(task: Task, wait: float) -> TaskStatus:
    """How it stands: at its end, after the wait, or at once where too many
    requests of this process wait already."""
    state = _state()
    if wait == 0 or not state.places.take(state.limit()):
        return task.status()
    try:
        return task.wait(wait)
    finally:
        state.places.give()


@routes.get("/task_status/<task_id>")
def task_status(task_id: str) -> Response:
    """How a task stands; ``?wait=20``: when it has ended, or after 20 s."""
    wait = _asked_wait()
    task = _own_task(task_id)
    status = _wait_in_place(task, wait)
    try:
        answer = _json(_with_result(task, status))
    except TaskGone as e:
        told = web.problem_of(e)
        error = {"error": told.title, "detail": told.detail}
        return _json({**web.describe(task.id, status), **error}, told.status)
    if not status.done:
        answer.headers["Retry-After"] = _come_back(status)
    return answer


@routes.delete("/task_status/<task_id>")
def task_cancel(task_id: str) -> Response:
    """It is no longer wanted: 200 where it has ended, 202 where it ends soon."""
    task = _own_task(task_id)
    status = task.cancel()
    return _json(web.describe(task.id, status), 200 if status.done else 202)


@routes.get("/task_events/<task_ids>")
def task_events(task_ids: str) -> Response:
    """Server-Sent Events of a task, or of several, separated by commas: see
    :class:`rgov.web.EventStream`; a ``status`` is what /task_status says."""
    if request.headers.get("Last-Event-ID") == "end":
        return Response(status=204)  # the browser stops asking
    ids = task_ids.split(",")
    if len(ids) > _MAX_IDS:
        raise Invalid(
            f"expected at most {_MAX_IDS} ids, found {len(ids)}", reason="invalid"
        )
    tasks = [_own_task(task_id) for task_id in ids]
    state = _state()
    stream = web.EventStream(
        state.gov,
        tasks,
        _teller(),
        state.places,
        state.limit(),
        state.heartbeat,
        state.stream_time,
    )
    answer = Response(stream, mimetype="text/event-stream")
    answer.headers["Cache-Control"] = "no-store"
    answer.headers["X-Accel-Buffering"] = "no"
    return answer


def _teller() -> Callable[[Task, TaskStatus], dict[str, Any]]:
    """For a stream, which goes on when the request's own context has ended."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]

    def tell(task: Task, status: TaskStatus) -> dict[str, Any]:
        try:
            with app.app_context():
                return _with_result(task, status)
        except TaskGone:
            return {**web.describe(task.id, status), "gone": True}

    return tell


@routes.get("/queue_stats")
def queue_stats() -> Response:
    """See :func:`rgov.web.queue_stats`."""
    return _json(web.queue_stats(_state().gov.get_stats()))


@routes.get("/healthz")
def healthz() -> Response:
    """The process serves.  It asks nobody else: a busy model is no reason to
    restart this worker."""
    return _json({"status": "ok"})


# ---------------------------------------------------------------- command line

_commands = click.Group("rgov", help="The request governor of this host.")
_in_application: Callable[[_View], _View] = with_appcontext


def _command(name: str, help: str, figures: Callable[[], dict[str, Any]]) -> None:
    @_in_application
    def run(as_json: bool) -> None:
        try:
            found = figures()
        except Error as e:
            raise click.ClickException(str(e)) from e
        _print(found, as_json)

    as_json = click.Option(["--json", "as_json"], is_flag=True, help="One JSON object.")
    _commands.add_command(
        click.Command(name, callback=run, params=[as_json], help=help)
    )


def _print(figures: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(figures))
        return
    plain = {k: v for k, v in figures.items() if not isinstance(v, dict)}
    width = max(map(len, plain), default=0)
    for name, value in plain.items():
        shown = f"{value:.3f}" if isinstance(value, float) else value
        click.echo(f"{name:{width}}  {shown}")


_command(
    "stats", "What rgovd does now, host-wide.", lambda: _state().gov.get_stats()
)
_command(
    "limits",
    "The limits in force, and the preset they come from.",
    lambda: dict(_state().gov.get_stats()["limits"]),
)
