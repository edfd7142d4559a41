"""Small documents of the API that exist nowhere else: pydantic models, for validation and OpenAPI."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

__all__ = ["Health", "Problem", "Ready", "Version"]


class Version(BaseModel):
    """Versions that must match."""

    frazil: str
    polars: str = Field(description="Plans must be serialised by the same version")
    protocol: int = Field(description="Version of the task protocol")
    install: str = Field(description="The command that installs them")


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="urn:frazil:problem:<kind>")
    title: str
    status: int = Field(description="HTTP status")
    detail: str = Field(description="What happened and what to do about it")
    instance: str = Field(description="Path of the request")
    kind: str = Field(description="Stable name of the class of error")
    where: dict[str, str] = Field(description="Stage, task and file that the error belongs to")
    exception: str = Field(description="Class of the polars error, for kind 'query'")
    state: str | None = Field(default=None, description="State of the query, where that is the problem")
    served: Version | None = Field(default=None, description="The versions that are served, for kind 'plan_version'")


class Health(BaseModel):
    """The process answers."""

    status: str = "ok"


class Ready(BaseModel):
    """The coordinator can do its work."""

    status: str = "ready"
    functions: int = Field(description="Functions that exist")
    busy: int = Field(description="Functions that run a task")
    leader: bool = Field(description="Whether this coordinator leads; without a journal it always does")
    term: int = Field(description="Its fencing token; 0 without a lease")
    journal: Literal["off", "single-writer", "fenced"] = Field(
        description="fenced: the store decides between coordinators; single-writer: it can't, and there must not be two"
    )
    detail: str = Field(description="The same in words")
