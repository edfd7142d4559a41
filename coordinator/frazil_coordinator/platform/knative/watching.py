"""Follows the objects of a kind: lists, watches from there, resumes where a watch ended, and lists again after 410 Gone.

A thread reads; what is known is handed out as an immutable mapping. Nothing is decided here.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

import urllib3

from frazil_coordinator.platform.knative.api import KubeApi, Resource
from frazil_coordinator.platform.knative.errors import GoneError, KubeError
from frazil_coordinator.platform.knative.models import Object

__all__ = ["Follower"]

_LOG = logging.getLogger(__name__)

_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 30.0


class Follower:
    """Keeps the objects of one kind up to date.

    Parameters
    ----------
    api, resource, selector
        What is followed.
    on_change
        Called in the reader's thread, with all objects by name, after the first list and after each change.
    watch_s
        Seconds after which a watch is begun anew by the server.
    """

    def __init__(
        self,
        api: KubeApi,
        resource: Resource,
        *,
        selector: str,
        on_change: Callable[[Mapping[str, Object]], None],
        watch_s: float = 240.0,
    ) -> None:
        self._api, self._resource, self._selector = api, resource, selector
        self._on_change = on_change
        self._watch_s = watch_s
        self._known: dict[str, Object] = {}
        self._stopped = threading.Event()
        self._response: urllib3.BaseHTTPResponse | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"frazil-follow-{resource.plural}", daemon=True)
        self.lists = 0
        """How often all objects were listed."""

    def start(self) -> None:
        """List, once and in this thread; then follow in another.

        Raises
        ------
        KubeError
            When the list fails.
        """
        version = self._list()
        self._version = version
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for it."""
        self._stopped.set()
        with self._lock:
            if self._response is not None:
                # The reader waits in a read: this ends it.
                with contextlib.suppress(OSError, ValueError, RuntimeError):
                    self._response.shutdown()
        if self._thread.ident is not None:
            self._thread.join()

    def _list(self) -> str:
        items, version = self._api.list(self._resource, selector=self._selector)
        self.lists += 1
        self._known = {each["metadata"]["name"]: each for each in items}
        self._tell()
        return version

    def _tell(self) -> None:
        self._on_change(MappingProxyType(dict(self._known)))

    def _run(self) -> None:
        failures = 0
        version: str | None = self._version
        while not self._stopped.is_set():
            try:
                if version is None:
                    version = self._list()
                version = self._follow(version)
                failures = 0
            except GoneError:
                version = None
            except Exception as error:
                if self._stopped.is_set():
                    return
                # A version that was good stays good: only 410 says that it is not. After what nobody foresaw, all is new.
                foreseen = isinstance(error, KubeError)
                version = self._version if foreseen else None
                failures += 1
                extra = {"resource": self._resource.plural, "error": str(error), "failures": failures}
                _LOG.warning("watch failed", extra=extra, exc_info=not foreseen)
                self._stopped.wait(min(_PAUSE_S * 2 ** min(failures - 1, 10), _LONGEST_PAUSE_S))

    def _follow(self, version: str) -> str:
        """Watch until the server ends it; return where to go on."""
        self._version = version
        events = self._api.watch(
            self._resource, version, selector=self._selector, timeout_s=self._watch_s, on_open=self._opened
        )
        for event in events:
            self._version = event.version
            name = event.object["metadata"].get("name", "")
            if event.type == "BOOKMARK":
                continue
            if event.type == "DELETED":
                self._known.pop(name, None)
            else:
                self._known[name] = event.object
            self._tell()
        return self._version

    def _opened(self, response: urllib3.BaseHTTPResponse) -> None:
        with self._lock:
            self._response = response
        if self._stopped.is_set():
            with contextlib.suppress(OSError, ValueError, RuntimeError):
                response.shutdown()
