"""The parts of the suite for a cluster that can be looked at without one: its overlay, its queries, what it asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.pdsh.data import generate
from benchmarks.pdsh.tables import Tables
from e2e.test_cluster import answer, heavy
from support.cluster import Wanted, wanted, write_overlay
from support.kustomize import kustomized
from support.manifests import Resource, flags, schema_problems
from support.references import reference_problems

ENVIRONMENT = {
    "KUBECONFIG": "/a/kubeconfig",
    "FRAZIL_E2E_COORDINATOR_IMAGE": "registry.example:5000/frazil-coordinator:1",
    "FRAZIL_E2E_FUNCTION_IMAGE": "registry.example:5000/frazil-function:1",
    "FRAZIL_E2E_NEXT_FUNCTION_IMAGE": "registry.example:5000/frazil-function:2",
    "FRAZIL_E2E_STORE": "s3://bucket/e2e/",
    "FRAZIL_E2E_STORE_OPTIONS": '{"aws_region": "eu-central-1"}',
}


def images(resources: list[Resource]) -> dict[str, str]:
    services = [each for each in resources if each["apiVersion"] == "serving.knative.dev/v1"]
    return {each["metadata"]["name"]: each["spec"]["template"]["spec"]["containers"][0]["image"] for each in services}


def test_what_is_missing_is_named_when_there_is_no_cluster() -> None:
    with pytest.raises(pytest.skip.Exception, match="set FRAZIL_E2E_STORE "):
        wanted({name: value for name, value in ENVIRONMENT.items() if name != "FRAZIL_E2E_STORE"})


def test_the_store_is_opened_from_here_as_by_pods_unless_something_else_is_said() -> None:
    assert wanted(ENVIRONMENT).client_options == {"aws_region": "eu-central-1"}
    other = wanted({**ENVIRONMENT, "FRAZIL_E2E_CLIENT_STORE_OPTIONS": "{}"})
    assert (other.client_options, other.store_options) == ({}, {"aws_region": "eu-central-1"})


@pytest.fixture
def asked() -> Wanted:
    return wanted(ENVIRONMENT)


def test_the_overlay_is_valid_and_needs_no_flag(tmp_path: Path, asked: Wanted) -> None:
    resources = kustomized(write_overlay(tmp_path, asked))
    assert [problem for each in resources for problem in schema_problems(each)] == []
    assert reference_problems(resources) == []
    assert flags(resources) == set()
    assert set(images(resources).values()) == {asked.coordinator_image, asked.function_image}


def test_an_update_has_the_next_images_and_makes_every_pod_anew(tmp_path: Path, asked: Wanted) -> None:
    before = kustomized(write_overlay(tmp_path / "before", asked))
    after = kustomized(write_overlay(tmp_path / "after", asked, rolled=True))
    assert set(images(after).values()) == {asked.coordinator_image, "registry.example:5000/frazil-function:2"}
    for old, new in zip(before, after, strict=True):
        assert (old != new) == (old["apiVersion"] == "serving.knative.dev/v1")


def test_the_answer_of_the_heavy_query_is_known_without_running_it(tmp_path: Path) -> None:
    generate(tmp_path, scale_factor=0.001, parts=1)
    tables = Tables.scan(str(tmp_path), scale_factor=0.001)
    assert heavy(tables, 3).collect().equals(answer(tables, 3))
