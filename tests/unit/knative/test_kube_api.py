"""The client of the Kubernetes API over HTTP: what it does, how it fails, what it tries again, how it follows changes."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from frazil_coordinator.platform.knative.api import REVISIONS, SERVICES, Access, KubeApi, connect
from frazil_coordinator.platform.knative.errors import (
    ConflictError,
    DeniedError,
    GoneError,
    InvalidError,
    KubeError,
    NotFoundError,
    UnreachableError,
)
from frazil_coordinator.platform.knative.models import FUNCTIONS, Object, Revision, Route, Service
from frazil_coordinator.platform.knative.watching import Follower
from frazil_functions.errors import RequestError
from support.kube_api import ADMIN, kube_api
from support.kube_api import KubeApi as Double
from support.kube_world import client_of, function_service_object
from support.polling import eventually

SMALL = "frazil-function-small"


class Later(dt.datetime):
    """A clock that is an hour ahead."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:
        return dt.datetime.now(tz) + dt.timedelta(hours=1)


@pytest.fixture
def double() -> Iterator[Double]:
    with kube_api() as api:
        yield api


@pytest.fixture
def admin(double: Double, tmp_path: Path) -> Iterator[KubeApi]:
    with client_of(double, tmp_path, ADMIN) as client:
        yield client


def service_named(double: Double) -> Service:
    return Service.of(double.named("services", SMALL))


# Writing


def test_an_applied_service_becomes_ready_with_a_url_and_a_revision_and_keeps_what_nobody_here_knows(
    double: Double, admin: KubeApi
) -> None:
    wanted = function_service_object()
    wanted["spec"]["template"]["spec"]["idleTimeoutSeconds"] = 30
    admin.apply(SERVICES, wanted)
    service = Service.of(admin.get(SERVICES, SMALL))
    assert (service.ready.status, service.url) == ("True", f"http://{SMALL}.frazil.svc.cluster.local")
    assert service.latest_ready == f"{SMALL}-00001"
    assert service.raw["spec"]["template"]["spec"]["idleTimeoutSeconds"] == 30
    revision = Revision.of(admin.get(REVISIONS, service.latest_ready))
    assert (revision.service, revision.max_scale, revision.ready.status) == (SMALL, 50, "True")
    route = Route.of(double.named("routes", SMALL))
    assert [each.revision_name for each in route.traffic] == [f"{SMALL}-00001"]


def test_a_changed_template_makes_a_revision_and_an_equal_one_makes_none(double: Double, admin: KubeApi) -> None:
    admin.apply(SERVICES, function_service_object())
    before = double.objects.version
    admin.apply(SERVICES, function_service_object())
    assert double.objects.version == before
    admin.apply(SERVICES, function_service_object(image="registry/frazil-function@sha256:bb"))
    assert double.names("revisions") == [f"{SMALL}-00001", f"{SMALL}-00002"]
    assert service_named(double).latest_ready == f"{SMALL}-00002"


def test_a_revision_that_is_not_ready_leaves_the_traffic_where_it_was_and_says_why(double: Double, admin: KubeApi) -> None:
    admin.apply(SERVICES, function_service_object())
    double.knative.not_ready["no/such@sha256:cc"] = ("RevisionMissing", "Unable to fetch image")
    admin.apply(SERVICES, function_service_object(image="no/such@sha256:cc"))
    service = Service.of(admin.get(SERVICES, SMALL))
    assert (service.ready.status, service.ready.message) == ("False", "Unable to fetch image")
    assert (service.latest_created, service.latest_ready) == (f"{SMALL}-00002", f"{SMALL}-00001")


def test_a_field_of_somebody_else_is_a_conflict_unless_it_is_taken_by_force(double: Double, admin: KubeApi) -> None:
    double.put(function_service_object(timeout_s=300), manager="argocd")
    with pytest.raises(ConflictError, match=r'conflict with "argocd": \.spec\.template\.spec\.timeoutSeconds'):
        admin.apply(SERVICES, function_service_object(timeout_s=600))
    assert service_named(double).timeout_s == 300
    admin.apply(SERVICES, function_service_object(timeout_s=600), force=True)
    assert service_named(double).timeout_s == 600


def test_what_is_applied_no_more_goes_and_what_others_wrote_stays(double: Double, admin: KubeApi) -> None:
    first = function_service_object()
    first["metadata"]["annotations"] = {"ours": "1"}
    admin.apply(SERVICES, first)
    admin.patch(SERVICES, SMALL, {"metadata": {"annotations": {"theirs": "2"}}})
    admin.apply(SERVICES, function_service_object())
    assert double.named("services", SMALL)["metadata"]["annotations"] == {"theirs": "2"}


def test_a_dry_run_answers_and_changes_nothing(double: Double, admin: KubeApi) -> None:
    assert admin.apply(SERVICES, function_service_object(), dry_run=True)["metadata"]["name"] == SMALL
    assert double.names("services") == []


def test_a_patch_of_an_older_version_is_a_conflict(double: Double, admin: KubeApi) -> None:
    admin.apply(SERVICES, function_service_object())
    version = service_named(double).meta.resource_version
    admin.patch(SERVICES, SMALL, {"metadata": {"resourceVersion": version, "labels": {"a": "1"}}})
    with pytest.raises(ConflictError, match="has been modified"):
        admin.patch(SERVICES, SMALL, {"metadata": {"resourceVersion": version, "labels": {"a": "2"}}})
    with pytest.raises(ConflictError, match="Precondition failed"):
        admin.delete(SERVICES, SMALL, version=version)
    admin.delete(SERVICES, SMALL, version=service_named(double).meta.resource_version)
    assert double.names("services") == double.names("revisions") == []


# Failures


def test_what_is_not_there_is_not_found(admin: KubeApi) -> None:
    with pytest.raises(NotFoundError, match=r'services\.serving\.knative\.dev "nobody" not found'):
        admin.get(SERVICES, "nobody")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"timeoutSecond": 1}, 'unknown field "spec.template.spec.timeoutSecond"'),
        ({"timeoutSeconds": "600"}, "timeoutSeconds: not of type integer"),
        ({"timeoutSeconds": 601}, "expected 0 <= 601 <= 600"),
        ({"containers": [{"env": []}]}, "missing field"),
    ],
    ids=["misspelt", "wrong type", "refused by the webhook", "without an image"],
)
def test_a_bad_service_is_refused_with_the_field_at_fault(admin: KubeApi, change: Object, words: str) -> None:
    bad = function_service_object()
    bad["spec"]["template"]["spec"] |= change
    with pytest.raises(InvalidError, match=words.replace("(", r"\(")):
        admin.apply(SERVICES, bad)


def test_a_misspelt_field_that_others_write_without_asking_for_strictness_is_dropped_without_a_word(double: Double) -> None:
    bad = function_service_object()
    bad["spec"]["template"]["spec"]["timeoutSecond"] = 1
    kind = double.kind("services", SERVICES.group)
    double.objects.apply(kind, bad, "others", strict=False)
    assert "timeoutSecond" not in double.named("services", SMALL)["spec"]["template"]["spec"]


def test_the_spec_of_a_revision_can_not_be_changed_and_its_annotations_can(double: Double, admin: KubeApi) -> None:
    admin.apply(SERVICES, function_service_object())
    with pytest.raises(InvalidError, match="Immutable"):
        admin.patch(REVISIONS, f"{SMALL}-00001", {"spec": {"timeoutSeconds": 1}})
    admin.patch(REVISIONS, f"{SMALL}-00001", {"metadata": {"annotations": {"autoscaling.knative.dev/min-scale": "7"}}})
    with pytest.raises(InvalidError, match="max-scale=50 is less than min-scale=51"):
        admin.patch(REVISIONS, f"{SMALL}-00001", {"metadata": {"annotations": {"autoscaling.knative.dev/min-scale": "51"}}})


def test_a_missing_right_is_named_by_its_verb(double: Double, tmp_path: Path) -> None:
    double.put(function_service_object())
    with client_of(double, tmp_path) as client:
        double.rights.take("system:serviceaccount:frazil:frazil-coordinator", "patch", "revisions")
        assert not client.allowed(Access(verb="patch", group=REVISIONS.group, resource="revisions"))
        assert client.allowed(Access(verb="list", group=REVISIONS.group, resource="revisions"))
        with pytest.raises(DeniedError, match="lacks the verb patch on revisions") as caught:
            client.patch(REVISIONS, f"{SMALL}-00001", {"metadata": {}})
    assert (caught.value.verb, caught.value.resource, caught.value.group) == ("patch", "revisions", REVISIONS.group)


def test_a_token_that_nobody_knows_is_told_from_a_missing_right(double: Double, tmp_path: Path) -> None:
    with client_of(double, tmp_path, "expired") as client, pytest.raises(DeniedError, match="does not know who asks"):
        client.version()


def test_too_many_requests_and_failures_of_the_server_are_tried_again_no_sooner_than_asked(
    double: Double, tmp_path: Path
) -> None:
    waits: list[float] = []
    with client_of(double, tmp_path, ADMIN, waits) as client:
        double.troubles += [(429, "7"), (503, None), (500, "1")]
        assert client.version() == "v1.34.1"
        assert waits[0] == 7.0
        assert len(waits) == 3
        double.troubles += [(429, None)] * 6
        with pytest.raises(KubeError, match="429"):
            client.version()
        assert double.troubles == []
        double.troubles += [(429, "3600")]
        with pytest.raises(KubeError, match="429"):
            client.version()


def test_a_cluster_that_is_not_there_is_unreachable_and_a_missing_kubeconfig_says_what_to_do(
    double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    double.url = "https://127.0.0.1:1"
    with client_of(double, tmp_path, ADMIN) as client, pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1"):
        client.version()
    with pytest.raises(RequestError, match="set KUBECONFIG"):
        connect(kubeconfig=str(tmp_path / "none"))
    with pytest.raises(RequestError, match="no context 'other'"):
        connect(kubeconfig=str(double.kubeconfig(tmp_path / "k")), context="other")


def test_a_pod_speaks_with_the_token_that_its_account_has_now_and_trusts_its_clusters_authority(
    double: Double, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("token", "first"), ("ca.crt", double.authority.pem), ("namespace", "frazil\n")):
        (tmp_path / name).write_text(text)
    host, _, port = double.url.removeprefix("https://").partition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    monkeypatch.setattr("frazil_coordinator.platform.knative.api._ACCOUNT", tmp_path)
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    double.rights.users["first"] = "admin"
    client = connect()
    assert (client.namespace, client.version()) == ("frazil", "v1.34.1")
    del double.rights.users["first"]
    (tmp_path / "token").write_text("second")  # the kubelet changes it long before it expires
    double.rights.users["second"] = "admin"
    later = SimpleNamespace(datetime=Later, timedelta=dt.timedelta)
    monkeypatch.setattr("kubernetes.config.incluster_config.datetime", later)
    assert client.version() == "v1.34.1"
    client.close()


def test_a_client_that_is_closed_waits_no_longer(double: Double, tmp_path: Path) -> None:
    client = connect(kubeconfig=str(double.kubeconfig(tmp_path / "kubeconfig")))
    double.troubles += [(429, "20")] * 2
    began = time.monotonic()

    def ask() -> None:
        with pytest.raises(KubeError):
            client.version()

    asking = threading.Thread(target=ask)
    asking.start()
    eventually(lambda: len(double.troubles) == 1, "it was refused once")
    client.close()
    asking.join()
    assert time.monotonic() - began < 15


# Following


def names_of(follower_seen: list[set[str]]) -> set[str]:
    return follower_seen[-1] if follower_seen else set()


@pytest.fixture
def seen(double: Double, admin: KubeApi) -> Iterator[tuple[Follower, list[set[str]]]]:
    found: list[set[str]] = []
    follower = Follower(admin, SERVICES, selector=FUNCTIONS, on_change=lambda objects: found.append(set(objects)))
    follower.start()
    try:
        yield follower, found
    finally:
        follower.stop()


def test_a_follower_sees_what_comes_and_goes_and_nothing_of_others(
    double: Double, seen: tuple[Follower, list[set[str]]]
) -> None:
    _, found = seen
    assert found == [set()]
    other = function_service_object()
    other["metadata"].update(name="other", labels={})
    double.put(other)
    double.put(function_service_object())
    eventually(lambda: names_of(found) == {SMALL}, "the service is seen")
    double.objects.delete(double.kind("services", SERVICES.group), (SERVICES.group, "services", "frazil", SMALL))
    eventually(lambda: names_of(found) == set(), "its end is seen")


def test_a_watch_that_ends_is_resumed_where_it_ended_without_another_list(
    double: Double, seen: tuple[Follower, list[set[str]]]
) -> None:
    follower, found = seen
    eventually(lambda: double.watches == 1, "it watches")
    double.cut_watches()
    double.put(function_service_object())
    eventually(lambda: names_of(found) == {SMALL}, "the service is seen")
    assert follower.lists == 1


def test_a_version_that_is_forgotten_means_to_list_again(double: Double, admin: KubeApi) -> None:
    _, version = admin.list(SERVICES)
    double.put(function_service_object())
    double.objects.compact()
    with pytest.raises(GoneError):
        list(admin.watch(SERVICES, version))
    found: list[set[str]] = []
    follower = Follower(admin, SERVICES, selector=FUNCTIONS, on_change=lambda objects: found.append(set(objects)))
    follower.start()
    try:
        eventually(lambda: double.watches == 1, "it watches")
        with double.objects.lock:  # while it is away, something happens and is forgotten
            double.cut_watches()
            double.put(function_service_object("large"))
            double.objects.compact()
            double.objects.bump()
        eventually(lambda: names_of(found) == {SMALL, "frazil-function-large"}, "all are seen")
        assert follower.lists == 2
    finally:
        follower.stop()


def test_bookmarks_keep_a_watch_fresh_that_sees_nothing_of_its_own(
    double: Double, seen: tuple[Follower, list[set[str]]]
) -> None:
    follower, found = seen
    eventually(lambda: double.watches == 1, "it watches")
    for _ in range(3):
        double.put(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "frazil"}, "data": {"a": "b"}}
        )
        double.objects.bump()
    eventually(lambda: int(follower._version) >= double.objects.version, "the bookmark came")
    double.objects.compact()
    double.cut_watches()
    double.put(function_service_object())
    eventually(lambda: names_of(found) == {SMALL}, "the service is seen")
    assert follower.lists == 1
