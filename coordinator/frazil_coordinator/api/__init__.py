"""The coordinator over HTTP: a FastAPI app (:func:`create_app`), and :func:`frazil_coordinator.api.server.serve`.

It translates and nothing more: every answer is made by :class:`frazil_coordinator.coordinator.Coordinator`, the next module
on the main path. docs/http-api.md describes it for users. pydantic lives here and nowhere else.
"""

from frazil_coordinator.api.app import create_app

__all__ = ["create_app"]
