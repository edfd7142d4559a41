"""A small client of the Kubernetes API: what Frazil does there, and no more.

The package ``kubernetes`` gives authentication (in a pod, or by a kubeconfig) and the connection; the requests are ours, so
that answers stay as they came (unknown fields too), failures are typed (:mod:`.errors`) and retried as the API asks. All
methods block; asyncio calls them in threads. Next: :mod:`.watching` follows changes, :mod:`.models` gives objects types.
"""

from __future__ import annotations

import logging
import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import urllib3

from frazil_coordinator.platform.knative.errors import KubeError, NotFoundError, UnreachableError, error_of
from frazil_coordinator.platform.knative.models import Object
from frazil_functions.errors import RequestError

__all__ = ["REVISIONS", "SERVICES", "Access", "KubeApi", "Resource", "Watched", "connect", "is_in_cluster"]

_LOG = logging.getLogger(__name__)

FIELD_MANAGER: Final = "frazil"
_TIMEOUT_S: Final = 30.0
_TRIES: Final = 6
_BACKOFF_S: Final = 0.25
_LONGEST_WAIT_S: Final = 30.0
"""A Retry-After beyond it is not waited for."""

_AGAIN: Final = frozenset({429, 500, 502, 503, 504})
_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A kind of object, and where it is."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """As it stands in an object."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str, name: str = "") -> str:
        """Return the path of the collection, or of one object."""
        base = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        inside = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{base}{inside}/{self.plural}{f'/{name}' if name else ''}"


SERVICES: Final = Resource(group="serving.knative.dev", version="v1", plural="services", kind="Service")
REVISIONS: Final = Resource(group="serving.knative.dev", version="v1", plural="revisions", kind="Revision")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Something that an account may or may not do."""

    verb: str
    group: str
    resource: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{f'.{self.group}' if self.group else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A change that a watch tells."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Object

    @property
    def version(self) -> str:
        """Where to resume from after it."""
        return str(self.object["metadata"]["resourceVersion"])


def is_in_cluster() -> bool:
    """Return whether this process is a pod that may speak to its cluster's API."""
    return "KUBERNETES_SERVICE_HOST" in os.environ and (_ACCOUNT / "token").exists()


def connect(*, kubeconfig: str | None = None, context: str | None = None, namespace: str | None = None) -> KubeApi:
    """Return a client: of the cluster that this pod is in, or of a kubeconfig (``$KUBECONFIG``, ``~/.kube/config``).

    Parameters
    ----------
    kubeconfig, context
        A file, and a context of it; by default its current one.
    namespace
        Where objects are, unless a call says otherwise; by default that of the pod or of the context, else ``default``.

    Raises
    ------
    RequestError
        When there is no configuration, or it can't be read; when the extra ``knative`` is missing.
    """
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise RequestError("the Kubernetes API needs another package: pip install 'frazil[knative]'") from error
    made = client.Configuration()
    made.retries = False  # ours say what is waited for
    found = "default"
    try:
        if kubeconfig is None and context is None and is_in_cluster():
            config.load_incluster_config(client_configuration=made)  # type: ignore[no-untyped-call]  # the package's own
            found = (_ACCOUNT / "namespace").read_text().strip()
        else:
            contexts: Any
            current: Any
            contexts, current = config.list_kube_config_contexts(config_file=kubeconfig)  # type: ignore[no-untyped-call]
            if context is not None:
                current = next((each for each in contexts if each["name"] == context), None)
            if current is None:
                raise RequestError(f"no Kubernetes cluster: the kubeconfig has no context {context!r}")
            config.load_kube_config(config_file=kubeconfig, context=context, client_configuration=made)  # type: ignore[no-untyped-call]
            found = current["context"].get("namespace") or found
    except (config.ConfigException, OSError, KeyError, ValueError) as error:
        raise RequestError(f"no Kubernetes cluster: {error}; set KUBECONFIG or give --context") from error
    return KubeApi(client.ApiClient(made), namespace or found)


class KubeApi:
    """The Kubernetes API of one cluster, as one account.

    Parameters
    ----------
    client
        A ``kubernetes.client.ApiClient``.
    namespace
        Where objects are, unless a call says otherwise.
    sleep
        Waits between tries; by default until :meth:`close` at most.
    """

    def __init__(self, client: Any, namespace: str, *, sleep: Callable[[float], object] | None = None) -> None:  # noqa: ANN401  # its own types say nothing of what is used here
        self._client = client
        self._closed = threading.Event()
        self._sleep = sleep or self._closed.wait
        self.namespace = namespace
        self._resources: dict[tuple[str, str], Resource] = {}

    @property
    def host(self) -> str:
        """Address of the API server."""
        return str(self._client.configuration.host)

    def close(self) -> None:
        """Close the connections; what waits to be tried again fails."""
        self._closed.set()
        self._client.rest_client.pool_manager.clear()

    def version(self) -> str:
        """Return the version of Kubernetes, e.g. ``v1.34.1``."""
        return str(self._call("GET", "/version")["gitVersion"])

    def resource_of(self, api_version: str, kind: str) -> Resource:
        """Return where objects of a kind are; asked once.

        Raises
        ------
        NotFoundError
            When the cluster does not know the kind.
        """
        known = self._resources.get((api_version, kind))
        if known is not None:
            return known
        group, _, version = api_version.rpartition("/")
        try:
            listed = self._call("GET", f"/apis/{api_version}" if group else f"/api/{version}")["resources"]
        except NotFoundError as error:
            raise NotFoundError(f"the cluster does not know {api_version}: is what defines {kind} installed?") from error
        for each in listed:
            if "/" not in each["name"]:
                self._resources[api_version, each["kind"]] = Resource(
                    group=group, version=version, plural=each["name"], kind=each["kind"], namespaced=each["namespaced"]
                )
        if (api_version, kind) not in self._resources:
            raise NotFoundError(f"the cluster does not know {kind} of {api_version}")
        return self._resources[api_version, kind]

    def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        """Return an object.

        Raises
        ------
        NotFoundError
            When there is none; so do all that take a name.
        DeniedError, KubeError
            When the API refuses or fails; so do all methods.
        """
        return self._call("GET", resource.path(self.namespace if namespace is None else namespace, name))

    def list(self, resource: Resource, *, selector: str = "", namespace: str | None = None) -> tuple[list[Object], str]:
        """Return the objects whose labels `selector` takes, and the version to watch from."""
        query = {"labelSelector": selector} if selector else {}
        found = self._call("GET", resource.path(self.namespace if namespace is None else namespace), query)
        items = [{"apiVersion": resource.api_version, "kind": resource.kind, **each} for each in found.get("items") or []]
        return items, str(found["metadata"]["resourceVersion"])

    def apply(
        self,
        resource: Resource,
        wanted: Object,
        *,
        force: bool = False,
        dry_run: bool = False,
        manager: str = FIELD_MANAGER,
    ) -> Object:
        """Apply an object server-side, with unknown fields refused, and return what it is then.

        Raises
        ------
        ConflictError
            Without `force`, when somebody else owns a field with another value.
        InvalidError
            When a schema or an admission webhook refuses it.
        """
        meta = wanted["metadata"]
        path = resource.path(meta.get("namespace") or self.namespace, meta["name"])
        query = {"fieldManager": manager, "fieldValidation": "Strict", "force": str(force).lower()}
        if dry_run:
            query["dryRun"] = "All"
        return self._call("PATCH", path, query, wanted, "application/apply-patch+yaml")

    def patch(self, resource: Resource, name: str, patch: Object, *, namespace: str | None = None) -> Object:
        """Merge `patch` into an object; its ``metadata.resourceVersion``, if there is one, must still be the object's.

        Raises
        ------
        ConflictError
            When it is not.
        """
        path = resource.path(self.namespace if namespace is None else namespace, name)
        query = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"}
        return self._call("PATCH", path, query, patch, "application/merge-patch+json")

    def delete(self, resource: Resource, name: str, *, version: str | None = None, namespace: str | None = None) -> None:
        """Delete an object and what it owns; with `version`, only if nobody wrote it since.

        Raises
        ------
        ConflictError
            When somebody wrote it since.
        """
        body: Object = {"propagationPolicy": "Background"}
        if version is not None:
            body["preconditions"] = {"resourceVersion": version}
        self._call("DELETE", resource.path(self.namespace if namespace is None else namespace, name), {}, body)

    def allowed(self, access: Access) -> bool:
        """Return whether this account may."""
        wanted = {"verb": access.verb, "group": access.group, "resource": access.resource}
        wanted["namespace"] = access.namespace or self.namespace
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        body = {**review, "spec": {"resourceAttributes": wanted}}
        found = self._call("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", {}, body)
        return bool(found["status"]["allowed"])

    def watch(
        self,
        resource: Resource,
        version: str,
        *,
        selector: str = "",
        timeout_s: float = 240.0,
        on_open: Callable[[urllib3.BaseHTTPResponse], None] = lambda _: None,
    ) -> Iterator[Watched]:
        """Yield changes since `version` until the server ends the watch, which is no error.

        Parameters
        ----------
        resource, selector
            What is watched, in the client's namespace.
        version
            That of a list, or of the last change.
        timeout_s
            After which the server ends it.
        on_open
            Is given the response, to end it from another thread.

        Raises
        ------
        GoneError
            When `version` is forgotten.
        UnreachableError
            When the connection breaks.
        """
        query = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
        query |= {"timeoutSeconds": str(int(timeout_s))} | ({"labelSelector": selector} if selector else {})
        response = self._send("GET", resource.path(self.namespace), query, None, None, stream=True, timeout_s=timeout_s + 15)
        try:
            if response.status >= 400:
                raise error_of(response.status, response.read())
            on_open(response)
            for line in _lines(response):
                event = msgspec.json.decode(line)
                if event["type"] == "ERROR":
                    raise error_of(int(event["object"].get("code", 500)), msgspec.json.encode(event["object"]))
                yield Watched(type=event["type"], object=event["object"])
        except (urllib3.exceptions.HTTPError, OSError, msgspec.DecodeError) as error:
            raise UnreachableError(f"the watch of {resource.plural} broke: {error}") from error
        finally:
            response.close()

    # Requests

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
        content: str = "application/json",
    ) -> Object:
        """Ask, again where that may help, and return the answer."""
        error: KubeError | None = None
        for attempt in range(_TRIES):
            try:
                response = self._send(method, path, query or {}, body, content)
            except UnreachableError as broken:
                error = broken
                wait_s: float | None = None if method == "POST" else 0.0
            else:
                if response.status < 400:
                    return _decoded(response.data)
                error = error_of(response.status, response.data)
                if response.status not in _AGAIN:
                    raise error
                wait_s = _retry_after(response.headers.get("Retry-After"))
            if self._closed.is_set() or wait_s is None or wait_s > _LONGEST_WAIT_S or attempt + 1 == _TRIES:
                raise error
            # Never sooner than the API asks, and not all clients at once.
            backoff_s = _BACKOFF_S * 2**attempt
            self._sleep(max(wait_s, backoff_s * random.uniform(0.5, 1.0)))  # noqa: S311  # not a secret
            _LOG.debug("asking again", extra={"path": path, "error": str(error), "attempt": attempt + 1})
        raise AssertionError("unreachable")

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Object | None,
        content: str | None,
        *,
        stream: bool = False,
        timeout_s: float = _TIMEOUT_S,
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": "application/json", "User-Agent": f"{FIELD_MANAGER}/1"}
        if body is not None and content is not None:
            headers["Content-Type"] = content
        _, url, headers, *_ = self._client.param_serialize(
            method, path, query_params=list(query.items()), header_params=headers, auth_settings=["BearerToken"]
        )
        try:
            found: urllib3.BaseHTTPResponse = self._client.rest_client.pool_manager.request(
                method,
                url,
                headers=headers,
                body=None if body is None else msgspec.json.encode(body),
                preload_content=not stream,
                timeout=urllib3.Timeout(connect=10.0, read=timeout_s),
                retries=False,
                redirect=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnreachableError(f"no answer from the Kubernetes API at {self.host}: {error}") from error
        return found


def _decoded(body: bytes) -> Object:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise UnreachableError(f"what answers is not the Kubernetes API: {body[:200]!r}") from error


def _retry_after(text: str | None) -> float:
    """Return the seconds of a Retry-After; a date is not waited for."""
    try:
        return max(0.0, float(text or 0))
    except ValueError:
        return 0.0


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    pending = b""
    for chunk in response.stream(65536):
        *whole, pending = (pending + chunk).split(b"\n")
        yield from (line for line in whole if line.strip())
