"""The one way in which a rule says that it has no distributed form of something, and why; its caller falls back."""

from __future__ import annotations

from frazil_coordinator.plan.exprs import to_expr
from frazil_coordinator.plan.nodes import RawExpr

__all__ = ["NotDistributedError", "describe"]


class NotDistributedError(Exception):
    """An expression has no distributed form.

    Parameters
    ----------
    reason
        Why not, for people.
    raw
        The part of an expression that it is about.
    """

    def __init__(self, reason: str, raw: RawExpr | None = None) -> None:
        super().__init__(reason if raw is None else f"{describe(raw)}: {reason}")


def describe(raw: RawExpr, limit: int = 60) -> str:
    """Return an expression as text for people, at most `limit` characters."""
    text = " ".join(str(to_expr(raw)).split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
