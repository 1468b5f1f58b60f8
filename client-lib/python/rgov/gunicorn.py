"""For gunicorn's configuration: ``from rgov.gunicorn import *``, or
``gunicorn -c python:rgov.gunicorn app:app``.

rgov needs no hook in gunicorn, with ``preload_app`` or without.  This warns of the
one setting that kills governed calls: a sync worker says that it lives only between
two requests, and gunicorn kills one that is silent for ``timeout`` seconds, in the
middle of a call that waits its turn.
"""

from __future__ import annotations

from typing import Any

__all__ = ["on_starting", "warn_of_timeout"]

# The default timeout of Governor.invoke(), in seconds.
_CALL_TIMEOUT = 300.0


def warn_of_timeout(server: Any, call_timeout: float = _CALL_TIMEOUT) -> bool:
    """Log a warning when a sync worker would be killed during a call that may
    last ``call_timeout`` seconds.  True: it was.  ``server``: what gunicorn passes
    to on_starting."""
    timeout = server.cfg.timeout
    if server.cfg.worker_class_str != "sync" or not 0 < timeout <= call_timeout:
        return False
    server.log.warning(
        "rgov: sync workers are killed after timeout = %s s, but a governed call may"
        " wait and run for %g s: raise gunicorn's timeout above that, pass a smaller"
        " timeout to the call, or use gthread workers",
        timeout,
        call_timeout,
    )
    return True


def on_starting(server: Any) -> None:
    """gunicorn's hook: before the first worker."""
    warn_of_timeout(server)
