"""The Kubernetes API as a test double: a real HTTP server of loopback that behaves as the real one where we depend on it.

Server-side apply with field managers and conflicts, resourceVersion, merge patch, dry run, strict decoding, the refusals of
Knative's schemas and webhook, list and watch with bookmarks, resume and 410 Gone, 429 with Retry-After, RBAC by the rules of
Roles, SelfSubjectAccessReview, garbage collection of what is owned, and so much discovery that the real ``kubectl`` works.
Not there: admission of other kinds, quotas, lists merged by key, protobuf.
"""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from support.authority import Authority
from support.kube_api.fields import Object
from support.kube_api.knative import Knative
from support.kube_api.objects import KINDS, Kind, Objects, matches
from support.kube_api.rights import ADMIN, Rights, Wish
from support.kube_api.schema import Refused

__all__ = ["KubeApi", "kube_api"]

_PATCHES = {"application/merge-patch+json", "application/strategic-merge-patch+json"}
_APPLY = {"application/apply-patch+yaml", "application/apply-patch+cbor", "application/apply-patch+json"}
_BOOKMARK_S = 0.2


@dataclass
class KubeApi:
    """The API: its objects, rights, troubles, and what was asked of it."""

    now: Callable[[], float] = time.time
    rights: Rights = field(default_factory=Rights)
    url: str = ""
    version: str = "v1.34.1"
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path with query of each request."""

    troubles: list[tuple[int, str | None]] = field(default_factory=list)
    """Statuses with their Retry-After that the next requests get in place of an answer."""

    authority: Authority = field(default_factory=Authority)
    """Who vouches for the server: it speaks TLS, without which ``kubectl`` sends no token."""

    watches: int = 0
    """Watches that are open."""

    def __post_init__(self) -> None:
        self.objects = Objects(self.now)
        self.knative = Knative(self.objects)
        self._cut = 0

    # What tests say and ask

    def kind(self, resource: str, group: str = "") -> Kind:
        """Return a kind by its resource; ``services`` with the group ``serving.knative.dev`` are Knative's."""
        return next(each for each in KINDS if (each.group, each.resource) == (group, resource))

    def put(self, obj: Object, manager: str = "test") -> Object:
        """Apply an object as somebody who may do everything."""
        group, _, version = obj["apiVersion"].rpartition("/")
        kind = next(each for each in KINDS if (each.group, each.version, each.kind) == (group, version, obj["kind"]))
        return self.objects.apply(kind, obj, manager, force=True)

    def named(self, resource: str, name: str, namespace: str = "frazil", group: str = "serving.knative.dev") -> Object:
        """Return an object that must be there."""
        found = self.objects.get(self.kind(resource, group), namespace, name)
        assert found is not None, f"no {resource} {name}"
        return found

    def names(self, resource: str, namespace: str = "frazil", group: str = "serving.knative.dev") -> list[str]:
        """Return the names of the objects of a kind."""
        return [each["metadata"]["name"] for each in self.objects.find(self.kind(resource, group), namespace)]

    def cut_watches(self) -> None:
        """End all watches, as a load balancer or a restart does."""
        with self.objects.lock:
            self._cut += 1
            self.objects.changed.notify_all()

    def kubeconfig(self, path: Path, token: str = ADMIN, namespace: str = "frazil") -> Path:
        """Write a kubeconfig for this API."""
        authority = base64.b64encode(self.authority.pem.encode()).decode()
        context = {"cluster": "double", "user": "double", "namespace": namespace}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "double",
            "clusters": [{"name": "double", "cluster": {"server": self.url, "certificate-authority-data": authority}}],
            "users": [{"name": "double", "user": {"token": token}}],
            "contexts": [{"name": "double", "context": context}],
        }
        path.write_text(yaml.safe_dump(config))
        return path

    # HTTP

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        self.requests.append((request.method, request.path_qs))
        if self.troubles:
            status, retry_after = self.troubles.pop(0)
            headers = {} if retry_after is None else {"Retry-After": retry_after}
            return _status(
                status, "TooManyRequests" if status == 429 else "InternalError", "please try again later", headers
            )
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        user = self.rights.users.get(token) if scheme.lower() == "bearer" else None
        if user is None:
            return _status(401, "Unauthorized", "Unauthorized")
        if request.method == "GET" and (found := self._discovery(request.path.strip("/"))) is not None:
            return web.json_response(found)
        try:
            return await self._resource(request, user)
        except Refused as error:
            return _status(error.code, error.reason, error.message)

    async def _resource(self, request: web.Request, user: str) -> web.StreamResponse:
        kind, namespace, name, sub = self._place(request.path)
        if kind is None:
            if request.path.endswith("/selfsubjectaccessreviews") and request.method == "POST":
                return web.json_response(self._review(json.loads(await request.read()), user), status=201)
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        verb = self._verb(request, name)
        wish = Wish(verb=verb, group=kind.group, resource=kind.resource + sub, namespace=namespace, name=name)
        if not self.rights.allows(user, wish):
            raise Refused(403, "Forbidden", wish.denial(user))
        if verb == "watch":
            return await self._watch(request, kind, namespace)
        if verb == "list":
            return web.json_response(self._list(request, kind, namespace))
        if verb == "get":
            found = self.objects.get(kind, namespace, name)
            if found is None:
                raise Refused(404, "NotFound", f'{kind.resource}{"." if kind.group else ""}{kind.group} "{name}" not found')
            return web.json_response(found)
        body = await request.read()
        if body.startswith(b"k8s\x00"):
            raise Refused(415, "UnsupportedMediaType", "protobuf is not spoken here")
        return self._write(request, kind, (kind.group, kind.resource, namespace, name), verb, yaml.safe_load(body) or {})

    def _write(
        self, request: web.Request, kind: Kind, key: tuple[str, str, str, str], verb: str, body: Object
    ) -> web.Response:
        query, sub = request.query, request.path.endswith("/status")
        manager = query.get("fieldManager") or request.headers.get("User-Agent", "unknown").split("/")[0]
        rest = {"dry_run": query.get("dryRun") == "All", "strict": query.get("fieldValidation") == "Strict"}
        if verb == "delete":
            made = self.objects.delete(kind, key, body.get("preconditions"), dry_run=rest["dry_run"])
            return web.json_response(made)
        if kind.namespaced and verb in ("create", "patch"):
            body.setdefault("metadata", {}).setdefault("namespace", key[2])
        if verb == "create":
            return web.json_response(self.objects.create(kind, body, manager, **rest), status=201)
        if verb == "update":
            return web.json_response(self.objects.update(kind, key, body, manager, status=sub, **rest))
        content = request.content_type
        if content in _APPLY:
            if not query.get("fieldManager"):
                raise Refused(400, "BadRequest", "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value")
            if body.get("metadata", {}).get("managedFields"):
                raise Refused(400, "BadRequest", "metadata.managedFields must be nil")
            body["metadata"].setdefault("name", key[3])
            new = self.objects.get(kind, key[2], key[3]) is None
            made = self.objects.apply(kind, body, manager, force=query.get("force") == "true", **rest)
            return web.json_response(made, status=201 if new else 200)
        if content in _PATCHES:
            return web.json_response(self.objects.patch(kind, key, body, manager, status=sub, **rest))
        raise Refused(415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {content}")

    def _list(self, request: web.Request, kind: Kind, namespace: str) -> Object:
        with self.objects.lock:
            query = request.query
            items = self.objects.find(kind, namespace, query.get("labelSelector", ""), query.get("fieldSelector", ""))
            meta = {"resourceVersion": str(self.objects.version)}
            return {"apiVersion": kind.api_version, "kind": f"{kind.kind}List", "metadata": meta, "items": items}

    async def _watch(self, request: web.Request, kind: Kind, namespace: str) -> web.StreamResponse:
        query = request.query
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        version = int(query.get("resourceVersion") or self.objects.version)
        ends = time.monotonic() + float(query.get("timeoutSeconds") or 300)
        cut, selector = self._cut, query.get("labelSelector", "")
        self.watches += 1
        try:
            if query.get("sendInitialEvents") == "true":
                with self.objects.lock:
                    found, version = (
                        self.objects.find(kind, namespace, selector, query.get("fieldSelector", "")),
                        self.objects.version,
                    )
                for obj in found:
                    await response.write(_line("ADDED", obj))
                await response.write(_bookmark(kind, version, {"k8s.io/initial-events-end": "true"}))
            while time.monotonic() < ends and cut == self._cut:
                events, at = self._since(kind, namespace, selector, version)
                if at is None:
                    error = _status_object(410, "Expired", f"too old resource version: {version}")
                    await response.write(_line("ERROR", error))
                    break
                for event, obj in events:
                    await response.write(_line(event, obj))
                if not events and at > version and query.get("allowWatchBookmarks") == "true":
                    await response.write(_bookmark(kind, at, {}))
                version = at
                await asyncio.to_thread(self._wait, version, cut)
            await response.write_eof()
        except ConnectionResetError:
            pass  # the client has gone
        finally:
            self.watches -= 1
        return response

    def _wait(self, version: int, cut: int) -> None:
        with self.objects.lock:
            if self.objects.version == version and cut == self._cut:
                self.objects.changed.wait(_BOOKMARK_S)

    def _since(self, kind: Kind, namespace: str, selector: str, version: int) -> tuple[list[tuple[str, Object]], int | None]:
        objects = self.objects
        with objects.lock:
            if version < objects.compacted:
                return [], None
            found = [
                (event, obj)
                for at, event, key, obj in objects.history
                if at > version and key[:2] == (kind.group, kind.resource) and namespace in ("", key[2])
                if matches(obj, selector)
            ]
            return found, objects.version

    def _review(self, body: Object, user: str) -> Object:
        wanted: Any = body["spec"]["resourceAttributes"]
        resource = wanted["resource"] + (f"/{wanted['subresource']}" if wanted.get("subresource") else "")
        wish = Wish(
            verb=wanted["verb"],
            group=wanted.get("group", ""),
            resource=resource,
            namespace=wanted.get("namespace", ""),
            name=wanted.get("name", ""),
        )
        used = set(self.rights.used)
        allowed = self.rights.allows(user, wish)
        self.rights.used = used  # to ask is not to do
        return {**body, "status": {"allowed": allowed}}

    @staticmethod
    def _verb(request: web.Request, name: str) -> str:
        if request.method == "GET":
            if name:
                return "get"
            return "watch" if request.query.get("watch") in ("true", "1") else "list"
        verbs = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete" if name else "deletecollection"}
        return verbs[request.method]

    @staticmethod
    def _place(path: str) -> tuple[Kind | None, str, str, str]:
        """Return kind, namespace, name and subresource of a path."""
        parts = path.strip("/").split("/")
        group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
        namespace = ""
        if len(rest) > 2 and rest[0] == "namespaces" and rest[2] != "status":
            namespace, rest = rest[1], rest[2:]
        found = [each for each in KINDS if (each.group, each.version, each.resource) == (group, version, rest[0])]
        sub = f"/{rest[2]}" if len(rest) > 2 else ""
        return (found[0] if found else None), namespace, rest[1] if len(rest) > 1 else "", sub

    def _discovery(self, path: str) -> Object | None:
        groups = sorted({(each.group, each.version) for each in KINDS if each.group})
        if path == "version":
            major, minor, _ = self.version.removeprefix("v").split(".")
            return {"gitVersion": self.version, "major": major, "minor": minor}
        if path == "api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "apis":
            listed = [
                {"name": group, "versions": [one], "preferredVersion": one}
                for group, version in groups
                for one in [{"groupVersion": f"{group}/{version}", "version": version}]
            ]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
        for group, version in [("", "v1"), *groups]:
            if path == (f"apis/{group}/{version}" if group else "api/v1"):
                verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
                resources = [
                    {
                        "name": each.resource,
                        "singularName": "",
                        "namespaced": each.namespaced,
                        "kind": each.kind,
                        "verbs": verbs,
                    }
                    for each in KINDS
                    if (each.group, each.version) == (group, version)
                ]
                name = f"{group}/{version}" if group else "v1"
                return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources}
        return None


def _line(event: str, obj: Object) -> bytes:
    return json.dumps({"type": event, "object": obj}).encode() + b"\n"


def _bookmark(kind: Kind, version: int, annotations: dict[str, str]) -> bytes:
    meta = {"resourceVersion": str(version), "annotations": annotations}
    return _line("BOOKMARK", {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": meta})


def _status_object(code: int, reason: str, message: str) -> Object:
    kind = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**kind, "message": message, "reason": reason, "code": code}


def _status(code: int, reason: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(_status_object(code, reason, message), status=code, headers=headers)


@contextmanager
def kube_api(api: KubeApi | None = None, namespace: str = "frazil") -> Iterator[KubeApi]:
    """Serve the API on a free port of loopback from a thread of its own."""
    api = api or KubeApi()
    api.objects.create(api.kind("namespaces"), {"metadata": {"name": namespace}})
    url: Future[str] = Future()
    stop: Future[Callable[[], None]] = Future()

    async def serve() -> None:
        done, loop = asyncio.Event(), asyncio.get_running_loop()

        def end() -> None:
            loop.call_soon_threadsafe(done.set)

        stop.set_result(end)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", api.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        with tempfile.TemporaryDirectory() as folder:
            shown = api.authority.context(Path(folder))
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=shown).start()
        url.set_result(f"https://127.0.0.1:{runner.addresses[0][1]}")
        await done.wait()
        api.cut_watches()
        await runner.cleanup()
        # Clients have gone, but of TLS both sides say good-bye, and nobody answers any more.
        for transport in list(getattr(loop, "_transports", {}).values()):
            transport.abort()
        await asyncio.sleep(0)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="kube-api", daemon=True)
    thread.start()
    try:
        api.url = url.result(30)
        yield api
    finally:
        stop.result(30)()
        thread.join(30)
