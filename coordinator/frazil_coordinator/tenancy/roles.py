"""What who asks has a right to. Who has which role: :mod:`~frazil_coordinator.tenancy.model`."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Role"]


class Role(StrEnum):
    """What a token gives a right to."""

    ADMIN = "admin"
    """Everything, and the queries of all tenants."""

    SUBMIT = "submit"
    """To submit queries for its tenant, and to see and cancel those of its tenant."""

    NOTIFY = "notify"
    """To send events (``POST /``, ``POST /ingest/s3``), and nothing else: for producers, whose URLs get around."""

    READ = "read"
    """To see the queries of its tenant."""
