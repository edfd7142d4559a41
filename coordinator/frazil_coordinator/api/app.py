"""The FastAPI app: routes, tokens, problem documents, OpenAPI."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from fastapi import Depends, FastAPI

from frazil_coordinator.api.auth import require_token
from frazil_coordinator.api.catalogs import catalogs_router
from frazil_coordinator.api.cluster import cluster_router
from frazil_coordinator.api.events import events_router
from frazil_coordinator.api.health import probes_router, version_router
from frazil_coordinator.api.measuring import Measured
from frazil_coordinator.api.models import Problem
from frazil_coordinator.api.pages import pages_router
from frazil_coordinator.api.problems import PROBLEM_JSON, add_handlers
from frazil_coordinator.api.queries import queries_router
from frazil_coordinator.api.schemas import add_schemas
from frazil_coordinator.api.tables import tables_router
from frazil_coordinator.api.triggers import triggers_router
from frazil_coordinator.api.versions import TellVersions
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.events.triggers import Triggers
from frazil_coordinator.identity import Identities
from frazil_coordinator.tenancy import Token

__all__ = ["create_app"]


def create_app(
    coordinator: Coordinator,
    *,
    tokens: Sequence[str | Token] = (),
    identities: Identities | None = None,
    triggers: Triggers | None = None,
) -> FastAPI:
    """Return the HTTP face of `coordinator`.

    Parameters
    ----------
    coordinator
        It stays the caller's: the app does not close it.
    tokens
        Bearer tokens that are let in under ``/v1``, those that are strings as administrators.
    identities
        Who can tell whose another token is. With none, and no tokens, everybody is let in.
    triggers
        The coordinator's triggers, which stay the caller's, who runs them. None: some that do not run.
    """
    app = FastAPI(
        title="Frazil coordinator",
        version=version("frazil"),
        description="Runs Polars queries on functions that scale from zero.",
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        responses={"4XX": {"model": Problem, "content": {PROBLEM_JSON: {}}, "description": "What is wrong"}},
    )
    guarded = [Depends(require_token(tokens, identities, refused=coordinator.metrics.http.refused_tokens))]
    app.include_router(probes_router(coordinator))
    app.include_router(version_router(), dependencies=guarded)
    app.include_router(queries_router(coordinator), dependencies=guarded)
    app.include_router(cluster_router(coordinator), dependencies=guarded)
    app.include_router(tables_router(coordinator), dependencies=guarded)
    known = triggers or Triggers(coordinator)
    app.include_router(triggers_router(coordinator, known), dependencies=guarded)
    app.include_router(events_router(coordinator, known), dependencies=guarded)
    app.include_router(catalogs_router(coordinator), dependencies=guarded)
    app.include_router(pages_router())
    add_handlers(app)
    app.add_middleware(TellVersions)
    app.add_middleware(Measured, metrics=coordinator.metrics)
    add_schemas(app)
    return app
