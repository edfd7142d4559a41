"""Findings: what was looked at, what was seen, and what to do about it. Values only."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

__all__ = ["Finding", "Severity", "failed", "good", "problem", "skipped", "warning"]


class Severity(StrEnum):
    """How bad it is."""

    OK = "ok"
    SKIPPED = "skipped"
    """It could not be looked at, for the reason that is given."""

    WARNING = "warning"
    """It works, but worse than it could, or not for ever."""

    ERROR = "error"
    """Queries fail, or will."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one check."""

    check: str
    """Stable name, e.g. ``store.conditional-put``."""

    severity: Severity
    evidence: str
    """What was seen."""

    fix: str = ""
    """What to do; empty when nothing is to be done."""


def good(check: str, evidence: str) -> Finding:
    """Return a finding that nothing is wrong."""
    return Finding(check=check, severity=Severity.OK, evidence=evidence)


def skipped(check: str, evidence: str, fix: str = "") -> Finding:
    """Return a finding that nothing could be seen."""
    return Finding(check=check, severity=Severity.SKIPPED, evidence=evidence, fix=fix)


def warning(check: str, evidence: str, fix: str) -> Finding:
    """Return a finding of something that could be better."""
    return Finding(check=check, severity=Severity.WARNING, evidence=evidence, fix=fix)


def problem(check: str, evidence: str, fix: str) -> Finding:
    """Return a finding of something that makes queries fail."""
    return Finding(check=check, severity=Severity.ERROR, evidence=evidence, fix=fix)


def failed(findings: Iterable[Finding]) -> bool:
    """Return whether anything makes queries fail."""
    return any(each.severity is Severity.ERROR for each in findings)
