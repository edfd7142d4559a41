"""``frazil doctor``: looks at a set-up before its users do, and says what to do about what it finds (docs/doctor.md)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import httpx
import polars as pl
import typer
from rich.console import Console
from rich.markup import escape

import frazil
from frazil._parts import coordinator_extra
from frazil.cli import _common
from frazil.cli._serve import store_options_of
from frazil_coordinator.doctor.findings import Finding, Severity, failed, good, problem, skipped, warning
from frazil_functions.errors import FrazilError, RequestError
from frazil_functions.storage import Store, open_store

__all__ = ["doctor"]

_MARKS: Final = {
    Severity.OK: "[green]✓[/]",
    Severity.SKIPPED: "[dim]–[/]",
    Severity.WARNING: "[yellow]![/]",
    Severity.ERROR: "[red]✗[/]",
}
_TOKEN: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
_REACH_S: Final = 30.0
"""A pod may have to start first."""

_STDOUT: Final = Console(highlight=False, soft_wrap=True)


def doctor(
    store: Annotated[
        str | None, typer.Option("--store", envvar="FRAZIL_STORE_URL", help="Folder or URL of the exchange store.")
    ] = None,
    store_option: _common.StoreOptions = None,
    local: Annotated[
        bool, typer.Option("--local", help="Look at this machine only, even where there is a cluster to look at.")
    ] = False,
    kubeconfig: Annotated[
        str | None, typer.Option("--kubeconfig", envvar="KUBECONFIG", help="Kubeconfig of the cluster.")
    ] = None,
    context: Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")] = None,
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", envvar="FRAZIL_NAMESPACE", help="Where Frazil is deployed.")
    ] = None,
    as_json: _common.AsJson = False,
) -> None:
    """Look at a set-up: the object store, functions of this machine, and a Knative cluster where one is configured.

    Each finding has its evidence and its fix. The exit code is 1 when anything would make queries fail, else 0.
    """
    findings: list[Finding] = []
    for finding in _findings(store, store_options_of(store_option), local, kubeconfig, context, namespace):
        findings.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        _common.print_json({"ok": not failed(findings), "findings": findings})
    else:
        counts = {severity: sum(each.severity is severity for each in findings) for severity in Severity}
        _STDOUT.print(", ".join(f"{number} {severity}" for severity, number in counts.items() if number), markup=False)
    if failed(findings):
        raise typer.Exit(_common.EXIT_FAILED)


def _findings(
    store: str | None,
    options: dict[str, str],
    local: bool,
    kubeconfig: str | None,
    context: str | None,
    namespace: str | None,
) -> Iterator[Finding]:
    in_pod = "KUBERNETES_SERVICE_HOST" in os.environ and not (kubeconfig or context)
    cluster = not local and bool(in_pod or kubeconfig or context)
    if store is not None:
        yield from _store(store, options)
    elif local:
        yield skipped("store", "no --store: queries of this machine use a temporary folder")
    elif not cluster:  # else that of the cluster is looked at
        yield skipped("store", "no store was named", "give --store and --store-option, or set FRAZIL_STORE_URL")
    if not cluster:
        yield _functions(store, options)
        if not local:
            yield skipped("kubernetes", "no cluster is configured", "set KUBECONFIG or give --context to look at one")
        return
    if in_pod and not _TOKEN.exists():
        fix = "add the component knative/components/prescale to the overlay"
        yield skipped("kubernetes", "this pod has no token for the Kubernetes API", fix)
        return
    yield from _cluster(kubeconfig, context, namespace, in_pod=in_pod, with_store=store is None)


def _cluster(
    kubeconfig: str | None, context: str | None, namespace: str | None, *, in_pod: bool, with_store: bool
) -> Iterator[Finding]:
    try:
        from frazil_coordinator.doctor.cluster import check_cluster, store_of
        from frazil_coordinator.platform.knative.api import connect
    except ImportError as error:
        yield problem("kubernetes", f"a package is missing: {error}", "pip install 'frazil[knative]', or --local")
        return
    try:
        api = connect(kubeconfig=kubeconfig, context=context, namespace=namespace)
    except RequestError as error:
        yield problem("kubernetes", str(error), "check KUBECONFIG and --context")
        return
    try:
        if with_store:
            yield from _deployed_store(store_of(api))
        yield from check_cluster(api, polars=pl.__version__, as_coordinator=in_pod, reach=_reach if in_pod else None)
    finally:
        api.close()


def _deployed_store(found: tuple[str, dict[str, str]] | None) -> Iterator[Finding]:
    """Look at the store of a cluster from here, where it may have another name, or none."""
    if found is None:
        yield skipped("store", "the store that is deployed may not be seen", "give --store and --store-option")
        return
    for finding in _store(*found):
        if finding.check == "store.put" and finding.severity is Severity.ERROR:
            fix = "it may answer in the cluster: run frazil doctor in the coordinator's pod; else " + finding.fix
            yield warning(finding.check, f"from this machine: {finding.evidence}", fix)
        else:
            yield finding


def _store(place: str, options: dict[str, str]) -> Iterator[Finding]:
    with coordinator_extra():
        from frazil_coordinator.doctor.store import check_store
    try:
        opened: Store = open_store(place, options)
    except FrazilError as error:
        yield problem("store.put", str(error), "check --store and its options")
        return
    yield from check_store(opened)


def _functions(store: str | None, options: dict[str, str]) -> Finding:
    """Run a query on a function process of this machine."""
    try:
        with frazil.local(max_functions=1, store=store, storage_options=options) as engine:
            found = pl.LazyFrame({"x": [1, 2, 3]}).select(pl.col("x").sum()).collect(engine=engine).item()
    except ImportError as error:
        return problem("functions", str(error), "pip install 'frazil[coordinator]'")
    except (FrazilError, OSError) as error:
        return problem("functions", f"a query on a function process of this machine failed: {error}", "see the message")
    if found != 6:
        return problem("functions", f"1 + 2 + 3 is {found} here", "report this as a bug")
    return good("functions", f"a query ran on a function process of this machine ({os.cpu_count()} CPUs)")


def _reach(url: str) -> str:
    try:
        answer = httpx.get(url, timeout=_REACH_S, trust_env=False)
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}"
    return "" if answer.status_code == 200 else f"HTTP {answer.status_code}: {answer.text[:200]}"


def _show(finding: Finding) -> None:
    _STDOUT.print(f"{_MARKS[finding.severity]} [bold]{finding.check}[/]  {escape(finding.evidence)}")
    if finding.fix and finding.severity is not Severity.OK:
        _STDOUT.print(f"    fix: {finding.fix}", markup=False)
