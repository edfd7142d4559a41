"""The triggers of a coordinator in this process; :mod:`frazil._local` has it, on a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from frazil_coordinator.events.model import DeadLetter, Trigger, TriggerSource, TriggerView
from frazil_coordinator.tenancy import DEFAULT_TENANT

if TYPE_CHECKING:
    from frazil_coordinator.events.triggers import Triggers

__all__ = ["LocalTriggers"]

_T = TypeVar("_T")


class Call(Protocol):
    """Does work on the coordinator's thread."""

    def __call__(self, work: Callable[[Triggers], Coroutine[object, object, _T]]) -> _T:
        """Do it, and return what comes of it."""
        ...


class LocalTriggers:
    """See :class:`frazil._session.TriggerSession`.

    Parameters
    ----------
    call
        Does work on the coordinator's thread.
    """

    def __init__(self, call: Call) -> None:
        self._call = call

    def list(self) -> tuple[TriggerView, ...]:
        """Return all."""

        async def look(triggers: Triggers) -> tuple[TriggerView, ...]:
            found = await triggers.list(DEFAULT_TENANT)
            return tuple(TriggerView(trigger=one, status=triggers.status(DEFAULT_TENANT, one.name)) for one in found)

        return self._call(look)

    def show(self, name: str) -> TriggerView:
        """Return one."""

        async def look(triggers: Triggers) -> TriggerView:
            found = await triggers.get(DEFAULT_TENANT, name)
            return TriggerView(trigger=found, status=triggers.status(DEFAULT_TENANT, name))

        return self._call(look)

    def put(self, name: str, source: TriggerSource, expected: int | None) -> Trigger:
        """Make or replace one."""
        return self._call(lambda triggers: triggers.put(name, source, expected=expected, tenant=DEFAULT_TENANT))

    def drop(self, name: str, expected: int | None) -> None:
        """Drop one."""
        self._call(lambda triggers: triggers.drop(DEFAULT_TENANT, name, expected))

    def pause(self, name: str, *, paused: bool) -> Trigger:
        """Pause or resume one."""
        return self._call(lambda triggers: triggers.pause(DEFAULT_TENANT, name, paused=paused))

    def run(self, name: str) -> None:
        """List its source now, and take up what is new."""

        async def force(triggers: Triggers) -> None:
            triggers.force(DEFAULT_TENANT, name)

        self._call(force)

    def replay(self, name: str, since_unix_s: float) -> None:
        """Let objects modified since a time be new again."""
        self._call(lambda triggers: triggers.replay(DEFAULT_TENANT, name, since_unix_s))

    def dead(self, name: str) -> tuple[DeadLetter, ...]:
        """Return the objects that it gave up."""

        async def look(triggers: Triggers) -> tuple[DeadLetter, ...]:
            return triggers.dead(DEFAULT_TENANT, name)

        return self._call(look)

    def revive(self, name: str, urls: Sequence[str] | None) -> int:
        """Try dead letters again."""
        return self._call(lambda triggers: triggers.revive(DEFAULT_TENANT, name, urls))
