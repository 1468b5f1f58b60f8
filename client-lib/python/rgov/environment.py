"""What the environment of a worker may say, and what it may not.

It may switch the package off (``ENABLE_REQUEST_MANAGER=false`` or
``RGOV_ENABLED=0``) and choose how to wait (``RGOV_WAIT``); which governor is
librgov's business (``RGOV_NAME``, ``RGOV_SOCKET``, ``RGOV_RUNTIME_DIR``).  Limits
belong to rgovd: the names that the old in-process manager read set nothing here,
and a difference is told once.
"""

from __future__ import annotations

import logging
import os

__all__ = ["enabled", "warn_of_limits"]

_log = logging.getLogger("rgov")

_FALSE = frozenset(("0", "false", "no", "off"))

# Old name -> the key of get_stats() that has rgovd's value.
_LIMITS = {
    "MAX_CONCURRENT_REQUESTS": "max_concurrent_requests",
    "REQUESTS_PER_MINUTE": "requests_per_minute",
    "MAX_REQUESTS_PER_USER": "max_requests_per_user",
    "RATE_LIMIT_PRESET": "preset",
}


def enabled() -> bool:
    """False where the environment tells the package to step aside.

    ``RGOV_ENABLED`` decides where it is set, else ``ENABLE_REQUEST_MANAGER``.
    False then means: permits are granted at once and hold nothing,
    ``rgov.compat`` calls the function directly, and ``invoke``, ``converse`` and
    all that is about tasks raise ConfigError, because rgovd alone holds the credentials for them: call
    the provider with your own client.
    """
    for name in ("RGOV_ENABLED", "ENABLE_REQUEST_MANAGER"):
        value = os.environ.get(name, "").strip().lower()
        if value:
            return value not in _FALSE
    return True


def has_old_limits() -> bool:
    """Is there anything warn_of_limits() would have to compare?"""
    return any(name in os.environ for name in _LIMITS)


def warn_of_limits(stats: dict[str, int | float | bool | str]) -> None:
    """Log one warning, on the logger "rgov", when limits of the old manager in
    this process's environment differ from those that rgovd keeps."""
    differing = []
    for name, key in _LIMITS.items():
        here = os.environ.get(name, "").strip()
        if here and here != str(stats[key]):
            differing.append(f"{name}={here} (rgovd: {stats[key]})")
    if differing:
        _log.warning(
            "rgov: %s in this process's environment set nothing; the limits are"
            " host-wide and rgovd's: change them in its configuration",
            ", ".join(differing),
        )
