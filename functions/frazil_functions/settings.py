"""The settings of a function process, read once from its environment; each knob with its default, unit and effect."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from frazil_functions.cloudevent import MAX_AGE_S
from frazil_functions.errors import RequestError

__all__ = ["FunctionSettings"]

_MIB = 1024 * 1024
_ANY_ADDRESS = "0.0.0.0"  # noqa: S104  # a pod is reached on its own address; the local platform passes a socket
_LOG_LEVELS = ("debug", "info", "warning", "error", "critical")


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSettings:
    """Knobs of a function process.

    Raises
    ------
    RequestError
        When a value is missing or out of its range. The message holds no secret.
    """

    task_keys: tuple[str, ...] = field(repr=False)
    """``FRAZIL_TASK_KEYS``: comma-separated secrets; a task signed with any of them is accepted. Required."""

    store_url: str
    """``FRAZIL_STORE_URL``: where exchange objects live. Required."""

    store_options: Mapping[str, str] = field(default_factory=dict, repr=False)
    """``FRAZIL_STORE_OPTIONS``: JSON object of options of the store (endpoint, credentials)."""

    host: str = _ANY_ADDRESS
    """``FRAZIL_FUNCTION_HOST``: address to listen on."""

    port: int = 8080
    """``PORT``: port to listen on (Knative sets it)."""

    socket_fd: int | None = None
    """``FRAZIL_FUNCTION_FD``: file descriptor of an inherited listening socket, instead of `host` and `port`."""

    memory_limit_bytes: int | None = None
    """``FRAZIL_MEMORY_LIMIT_BYTES``: resident memory above which a task fails. None: no limit."""

    concurrency: int = 1
    """``FRAZIL_FUNCTION_CONCURRENCY``: tasks at once; one more is answered with 503."""

    allow_udfs: bool = False
    """``FRAZIL_ALLOW_UDFS``: whether fragments may hold Python functions and Python sources."""

    hedge: bool = True
    """``FRAZIL_HEDGE``: whether a request that a remote store is slow to answer is made once more."""

    parent_pid: int | None = None
    """``FRAZIL_PARENT_PID``: end when this process is no longer the parent."""

    log_level: str = "info"
    """``FRAZIL_LOG_LEVEL``: debug, info, warning, error or critical."""

    cancel_grace_s: float = 30.0
    """Seconds that a task whose client went away has to stop, before its process ends for it."""

    max_body_bytes: int = 64 * _MIB
    """Largest request body; a larger one is answered with 413."""

    max_age_s: float = MAX_AGE_S
    """Seconds after which a signed event is refused as a replay."""

    def __post_init__(self) -> None:
        if not self.task_keys or not all(self.task_keys):
            raise RequestError("settings: FRAZIL_TASK_KEYS must hold at least one secret, and no empty one")
        if not self.store_url:
            raise RequestError("settings: FRAZIL_STORE_URL must say where exchange objects live")
        if self.log_level not in _LOG_LEVELS:
            raise RequestError(f"settings: FRAZIL_LOG_LEVEL must be one of {', '.join(_LOG_LEVELS)}")
        if self.concurrency < 1:
            raise RequestError("settings: FRAZIL_FUNCTION_CONCURRENCY must be at least 1")
        if self.memory_limit_bytes is not None and self.memory_limit_bytes <= 0:
            raise RequestError("settings: FRAZIL_MEMORY_LIMIT_BYTES must be above 0")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> FunctionSettings:
        """Read the settings.

        Parameters
        ----------
        environ
            The variables; by default the process's.

        Raises
        ------
        RequestError
            When a value is missing, can't be read or is out of its range.

        Notes
        -----
        ``POLARS_MAX_THREADS`` is read by polars itself when it is imported.
        """
        environ = os.environ if environ is None else environ
        keys = tuple(key.strip() for key in environ.get("FRAZIL_TASK_KEYS", "").split(",") if key.strip())
        return cls(
            task_keys=keys,
            store_url=environ.get("FRAZIL_STORE_URL", ""),
            store_options=_options(environ.get("FRAZIL_STORE_OPTIONS", "")),
            host=environ.get("FRAZIL_FUNCTION_HOST") or _ANY_ADDRESS,
            port=_integer(environ, "PORT") or 8080,
            socket_fd=_integer(environ, "FRAZIL_FUNCTION_FD"),
            memory_limit_bytes=_integer(environ, "FRAZIL_MEMORY_LIMIT_BYTES"),
            concurrency=_integer(environ, "FRAZIL_FUNCTION_CONCURRENCY", default=1) or 0,
            allow_udfs=_flag(environ, "FRAZIL_ALLOW_UDFS"),
            hedge=_flag(environ, "FRAZIL_HEDGE", default=True),
            parent_pid=_integer(environ, "FRAZIL_PARENT_PID"),
            log_level=environ.get("FRAZIL_LOG_LEVEL", "info").lower(),
        )


def _integer(environ: Mapping[str, str], name: str, *, default: int | None = None) -> int | None:
    text = environ.get(name, "").strip()
    if not text:
        return default
    try:
        return int(text)
    except ValueError as error:
        raise RequestError(f"settings: {name}={text!r} is not a whole number") from error


def _flag(environ: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    text = environ.get(name, "").strip().lower()
    found = {"true": True, "1": True, "false": False, "0": False, "": default}.get(text)
    if found is None:
        raise RequestError(f"settings: {name}={text!r} is neither true nor false")
    return found


def _options(text: str) -> dict[str, str]:
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        # The text holds credentials: it is not repeated, and neither is the parser's error, which quotes it.
        raise RequestError("settings: FRAZIL_STORE_OPTIONS must be a JSON object")
    return {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}
