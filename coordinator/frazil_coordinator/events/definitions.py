"""Triggers in the object store: one object a version, each created once by a conditional PUT and never changed.

``<prefix>/<tenant in hex>/<name>/definitions/<version, 8 digits>``: the greatest version is the trigger; one without a body
says that it was dropped, and stays, so that a version is never given twice. The plan in it is sealed as the journal seals
plans, since it may hold credentials. All methods block. Next: :mod:`frazil_coordinator.events.log` keeps what a trigger
did.
"""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from frazil_coordinator.events.log import TriggerLog
from frazil_coordinator.events.model import Owned, Trigger, TriggerConflictError, UnknownTriggerError, check_trigger_name
from frazil_coordinator.journal.log import create_once
from frazil_coordinator.journal.sealing import Sealer
from frazil_functions.errors import FrazilError, JournalError
from frazil_functions.storage import Store

__all__ = ["Definitions"]

_LOGGER = logging.getLogger(__name__)
_DROPPED: Final = b""
_TAIL: Final = "definitions"


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    trigger: Trigger
    plan: bytes
    """Sealed."""


class Definitions:
    """The triggers of all tenants.

    Parameters
    ----------
    store
        Where they are kept.
    sealer
        Seals their plans.
    prefix
        Key prefix that they have alone.
    """

    def __init__(self, store: Store, sealer: Sealer, prefix: str = "triggers") -> None:
        self._store = store
        self._sealer = sealer
        self._prefix = prefix

    def all(self) -> tuple[Owned, ...]:
        """Return all triggers, by tenant and name: 1 LIST, and 1 GET each. One that can't be read is logged and left out."""
        found = list[Owned]()
        for (tenant, name), version in sorted(self._newest(self._prefix).items()):
            try:
                one = self._read(tenant, name, version)
            except FrazilError as error:
                _LOGGER.error("a trigger can't be read", extra={"trigger": name, "tenant": tenant, "error": error.message})
                continue
            if one is not None:
                found.append(one)
        return tuple(found)

    def get(self, tenant: str, name: str) -> Owned:
        """Return a trigger: 1 LIST, 1 GET.

        Raises
        ------
        UnknownTriggerError
            When the tenant has none of that name.
        """
        version = self._version(tenant, check_trigger_name(name))
        one = self._read(tenant, name, version) if version else None
        if one is None:
            raise UnknownTriggerError(f"there is no trigger {name!r}")
        return one

    def put(self, owned: Owned, expected: int | None = None) -> Owned:
        """Make or replace a trigger: 1 LIST, 1 GET, 1 conditional PUT, and it deletes older versions.

        Parameters
        ----------
        owned
            What it becomes; its version is given here.
        expected
            Version that it replaces; 0: there must be none. None: whatever is there.

        Raises
        ------
        TriggerConflictError
            When it is of another version.
        """
        name, tenant = check_trigger_name(owned.trigger.name), owned.tenant
        version = self._expected(tenant, name, expected) + 1
        trigger = msgspec.structs.replace(owned.trigger, version=version)
        made = Owned(tenant=tenant, trigger=trigger, plan=owned.plan)
        sealed = self._sealer.seal(owned.plan, context=self._context(tenant, trigger))
        self._write(tenant, name, version, msgspec.msgpack.encode(_Stored(trigger=trigger, plan=sealed)))
        return made

    def drop(self, tenant: str, name: str, expected: int | None = None) -> None:
        """Drop a trigger; its log and its output stay. Raises as :meth:`get` and :meth:`put`."""
        self.get(tenant, name)
        self._write(tenant, name, self._expected(tenant, name, expected) + 1, _DROPPED)

    def log(self, owned: Owned) -> TriggerLog:
        """Return the log of a trigger."""
        return TriggerLog(self._store, f"{self._folder(owned.tenant, owned.trigger.name)}/{owned.trigger.id}")

    def _expected(self, tenant: str, name: str, expected: int | None) -> int:
        version = self._version(tenant, name)
        now = self._read(tenant, name, version) if version else None
        if expected is not None and expected != (0 if now is None else now.trigger.version):
            raise TriggerConflictError(
                f"the trigger {name!r} is {'not there' if now is None else f'of version {version}'}, and not "
                f"{'new' if expected == 0 else f'of version {expected}'}: read it, and change it again"
            )
        return version

    def _write(self, tenant: str, name: str, version: int, body: bytes) -> None:
        made = create_once(self._store, self._key(tenant, name, version), body)
        if not made or self._version(tenant, name) > version:  # greater: this process slept since it looked
            raise TriggerConflictError(f"the trigger {name!r} was changed by somebody else: read it, and change it again")
        folder = f"{self._folder(tenant, name)}/{_TAIL}"
        older = [one.key for one in self._store.list(folder) if int(one.key.rpartition("/")[2]) < version]
        self._store.delete(older)

    def _read(self, tenant: str, name: str, version: int) -> Owned | None:
        key = self._key(tenant, name, version)
        body = self._store.get(key)
        if body == _DROPPED:
            return None
        try:
            stored = msgspec.msgpack.decode(body, type=_Stored)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise JournalError(f"the trigger {name!r} was written by another version of Frazil: {error}") from error
        plan = self._sealer.unseal(stored.plan, context=self._context(tenant, stored.trigger))
        return Owned(tenant=tenant, trigger=stored.trigger, plan=plan)

    def _version(self, tenant: str, name: str) -> int:
        found = self._newest(f"{self._folder(tenant, name)}/{_TAIL}")
        return max(found.values(), default=0)

    def _newest(self, folder: str) -> dict[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        for one in self._store.list(folder):
            tenant, name, kind, number = one.key.removeprefix(f"{self._prefix}/").split("/", 3)
            if kind == _TAIL:
                place = (bytes.fromhex(tenant).decode(), name)
                found[place] = max(found.get(place, 0), int(number))
        return found

    @staticmethod
    def _context(tenant: str, trigger: Trigger) -> str:
        return f"trigger/{tenant.encode().hex()}/{trigger.name}/{trigger.id}/{trigger.version}"

    def _folder(self, tenant: str, name: str) -> str:
        return f"{self._prefix}/{tenant.encode().hex()}/{name}"

    def _key(self, tenant: str, name: str, version: int) -> str:
        return f"{self._folder(tenant, name)}/{_TAIL}/{version:08d}"
