"""Every module of terraform/ by its text: typed, described, pinned, documented, and referring to nothing that is not there.

For modules whose providers can't be had here (Google, Helm, Kubernetes) this and the policies of ``make policy`` are all the
checks there are; docs/terraform.md says so. The others are really planned and applied by the modules beside this one.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from support.crd import REPOSITORY
from support.hcl import Module, module_at, plain
from support.terraform import EXAMPLES, MODULES
from support.terraform_docs import folders, with_tables

ALL = folders()
PROVIDERS = {"aws", "google", "helm", "kubernetes", "local", "random"}
FREE_TEXT = {"string", "map(string)", "list(string)", "set(string)", "bool", "map(map(string))"}
"""Types of which any value may be right; a number or an object has values that are not."""

everywhere = pytest.mark.parametrize("folder", ALL, ids=lambda path: f"{path.parent.name}/{path.name}")


@everywhere
def test_a_module_has_the_files_where_one_looks_for_them(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert {"main.tf", "variables.tf", "outputs.tf", "versions.tf", "README.md"} <= names
    for name, kinds in (("variables.tf", "variable"), ("outputs.tf", "output")):
        elsewhere = [path.name for path in folder.glob("*.tf") if path.name != name and f'\n{kinds} "' in path.read_text()]
        assert elsewhere == []


@everywhere
def test_variables_are_typed_and_described_and_outputs_are_described(folder: Path) -> None:
    module = module_at(folder)
    for name, variable in module.variables.items():
        assert {"type", "description"} <= variable.keys(), name
        assert str(plain(variable["description"])).endswith((".", '"')), name
    for name, output in module.outputs.items():
        assert str(plain(output["description"])).endswith("."), name


@pytest.mark.parametrize("folder", [path for path in ALL if path.parent == MODULES], ids=lambda path: path.name)
def test_numbers_and_choices_are_validated_with_a_message_that_says_what_is_right(folder: Path) -> None:
    for name, variable in module_at(folder).variables.items():
        kind = str(plain(variable["type"]))
        checked = variable.get("validation", [])
        # What `overlay` checks is checked when `frazil` passes it on.
        passed_on = folder.name == "frazil" and name in module_at(folder).called("overlay").variables
        optional = str(variable.get("default")) == "None"
        assert checked or kind in FREE_TEXT or optional or passed_on, name
        for each in checked:
            assert f"var.{name}" in str(each["condition"])
            assert str(plain(each["error_message"])).endswith(".")


@everywhere
def test_terraform_and_providers_are_pinned_from_below_and_above(folder: Path) -> None:
    module = module_at(folder)
    assert re.fullmatch(r">= 1\.\d+, < 2\.0", module.required_version)
    for name, provider in module.providers.items():
        assert name in PROVIDERS
        assert provider["source"] == f"hashicorp/{name}"
        assert re.fullmatch(r">= \d+\.\d+(\.\d+)?, < \d+\.0", provider["version"])


@everywhere
def test_only_examples_configure_providers(folder: Path) -> None:
    assert bool(module_at(folder).configured) == (folder.parent == EXAMPLES)


def needed(module: Module) -> set[str]:
    types = [address.removeprefix("data.").removeprefix("ephemeral.") for address in module.resources]
    found = {each.partition("_")[0] for each in types} - {"terraform"}
    return found.union(*(needed(module.called(name)) for name in module.calls))


@everywhere
def test_providers_that_are_used_are_required_and_no_others(folder: Path) -> None:
    assert set(module_at(folder).providers) == needed(module_at(folder))


@everywhere
def test_each_reference_names_something_of_the_module(folder: Path) -> None:
    assert module_at(folder).unresolved() == []


@everywhere
def test_calls_give_a_module_what_it_asks_for_and_use_what_it_yields(folder: Path) -> None:
    module = module_at(folder)
    text = "\n".join(path.read_text() for path in folder.glob("*.tf"))
    for name, call in module.calls.items():
        inputs = call.keys() - {"source", "count", "for_each", "depends_on", "providers", "__is_block__", "__comments__"}
        called = module.called(name)
        assert inputs <= called.variables.keys()
        assert called.required() <= inputs
        assert set(re.findall(rf"\bmodule\.{name}\.(\w+)", text)) <= called.outputs.keys()


@everywhere
def test_every_variable_and_every_local_is_used(folder: Path) -> None:
    module = module_at(folder)
    text = "\n".join(path.read_text() for path in folder.glob("*.tf") if path.name != "variables.tf")
    assert [name for name in module.variables if f"var.{name}" not in text] == []
    assert [name for name in module.locals if f"local.{name}" not in text] == []


@everywhere
def test_the_tables_of_a_readme_are_those_of_its_files(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    assert text == with_tables(text, module_at(folder)), "run `make terraform-docs`"


def test_every_module_is_used_by_an_example_or_another_module_and_told_of_in_the_docs() -> None:
    docs = (REPOSITORY / "docs" / "terraform.md").read_text()
    called = {module_at(folder).called(name).folder for folder in ALL for name in module_at(folder).calls}
    for folder in ALL:
        assert folder.parent == EXAMPLES or folder in called
        assert f"terraform/{folder.parent.name}/{folder.name}/README.md" in docs


def test_function_nodes_carry_what_the_spot_component_looks_for() -> None:
    component = (REPOSITORY / "knative" / "components" / "spot" / "function.yaml").read_text()
    assert "key: frazil.dev/functions" in component
    for module, resource in (("aws", "aws_eks_node_group.functions"), ("gcp", "google_container_node_pool.functions")):
        block = module_at(MODULES / module).resources[resource]
        (taint,) = block.get("taint") or block["node_config"][0]["taint"]
        assert plain(taint["key"]) == "frazil.dev/functions"
        assert plain(taint["effect"]) == "NO_SCHEDULE"


def test_knative_gets_the_flags_that_the_components_of_the_clouds_name() -> None:
    default = module_at(MODULES / "knative").variables["feature_flags"]["default"]
    flags = {str(plain(name)) for name in default if name != "__is_block__"}
    named: set[str] = set()
    for folder in (REPOSITORY / "knative" / "components").iterdir():
        text = (folder / "kustomization.yaml").read_text()
        for each in re.findall(r"frazil.dev/feature-flags: (.+)", text):
            named |= set(each.split(","))
    assert flags == named


def test_no_output_shows_a_secret_and_no_secret_is_kept_in_the_state() -> None:
    frazil = module_at(MODULES / "frazil")
    assert "ephemeral.random_password.secret" in frazil.resources
    assert "data" not in frazil.resources["kubernetes_secret_v1.this"]
    assert frazil.variables["store_options"]["ephemeral"] is True
    for folder in ALL:
        for output in module_at(folder).outputs.values():
            assert "random_password" not in str(output["value"])


@pytest.mark.parametrize(
    ("file", "old", "new", "found"),
    [
        ("main.tf", "var.versioning ?", "var.versoning ?", "var.versoning"),
        ("main.tf", "aws_s3_bucket.this.id\n  policy", "aws_s3_bucket.that.id\n  policy", "aws_s3_bucket.that"),
        ("notifications.tf", "document.events[0]", "document.event[0]", "data.aws_iam_policy_document.event"),
        ("outputs.tf", "s3://${aws_s3_bucket.this.id}", "s3://${local.name}", "local.name"),
        ("notifications.tf", "var.notification_prefixes)", "var.prefixes)", "var.prefixes"),
    ],
)  # fmt: skip
def test_a_reference_to_nothing_is_found(file: str, old: str, new: str, found: str, tmp_path: Path) -> None:
    shutil.copytree(MODULES / "bucket", tmp_path / "bucket")
    path = tmp_path / "bucket" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert module_at(tmp_path / "bucket").unresolved() == [found]


def test_a_readme_that_is_behind_its_files_is_found(tmp_path: Path) -> None:
    shutil.copytree(MODULES / "bucket", tmp_path / "bucket")
    path = tmp_path / "bucket" / "variables.tf"
    path.write_text(path.read_text().replace('variable "versioning"', 'variable "versions"'))
    text = (MODULES / "bucket" / "README.md").read_text()
    assert with_tables(text, module_at(tmp_path / "bucket")) != text


def test_the_costs_in_the_docs_add_up() -> None:
    docs = (REPOSITORY / "docs" / "terraform.md").read_text()
    for title in ("### Idle", "### Busy"):
        section = docs.partition(title)[2].partition("\n###")[0]
        rows = re.findall(r"^\| ([^*|]+) \| ([\d.× /]+) \| ([\d.]+) \|$", section, re.MULTILINE)
        assert len(rows) >= 5
        for what, reckoned, dollars in rows:
            product = math.prod(float(each) for each in reckoned.partition("/")[0].split("×"))
            assert f"{product / float(reckoned.partition('/')[2] or 1):.4f}" == dollars, what
        (total,) = re.findall(r"\*\*([\d.]+)\*\*", section)
        assert f"{sum(float(dollars) for *_, dollars in rows):.4f}" == total


def test_the_chart_beside_the_module_knative_makes_what_the_operator_is_told(tmp_path: Path) -> None:
    helm = shutil.which(os.environ.get("FRAZIL_HELM", "helm"))
    if helm is None:
        pytest.skip("helm is not on this machine: put it into the PATH, or name it by FRAZIL_HELM")
    serving = {"version": "1.22", "config": {"features": {"kubernetes.podspec-affinity": "enabled"}}}
    (tmp_path / "values.yaml").write_text(yaml.safe_dump({"serving": serving, "eventing": None}))
    command = [helm, "template", "knative", str(MODULES / "knative" / "charts" / "knative"), "--values", "values.yaml"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    text = subprocess.run(
        command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True, timeout=60
    ).stdout
    made = list(yaml.safe_load_all(text))
    assert [(each["kind"], each["metadata"]["name"]) for each in made] == [
        ("Namespace", "knative-serving"),
        ("KnativeServing", "knative-serving"),
    ]
    assert made[1]["spec"] == serving
