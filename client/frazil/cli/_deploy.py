"""``frazil deploy`` and ``frazil undeploy``: Frazil on a Knative cluster, and away from it again (docs/deploy.md)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

import polars as pl
import typer

from frazil.cli import _common
from frazil_functions.errors import RequestError

if TYPE_CHECKING:
    from frazil_coordinator.deployment.applying import Deployment, Plan
    from frazil_coordinator.deployment.rendering import Wanted
    from frazil_coordinator.platform.knative.api import KubeApi

__all__ = ["deploy", "undeploy"]

_DEFAULT_COMPONENTS: Final = ["prescale"]

_Kubeconfig: TypeAlias = Annotated[
    str | None, typer.Option("--kubeconfig", envvar="KUBECONFIG", help="Kubeconfig of the cluster.")
]
_Context: TypeAlias = Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")]
_Namespace: TypeAlias = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Where to; by default that of the context.")
]
_Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
_DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")]


def deploy(
    coordinator_image: Annotated[
        str | None, typer.Option("--coordinator-image", help="With registry, and tag or digest.")
    ] = None,
    function_image: Annotated[
        str | None, typer.Option("--function-image", help="With registry, and tag or (better) digest.")
    ] = None,
    store: Annotated[str | None, typer.Option("--store", help="URL of the exchange store, e.g. s3://bucket/frazil.")] = None,
    overlay: Annotated[
        Path | None, typer.Option("--overlay", "-k", help="A kustomization of yours, in place of the base of Frazil.")
    ] = None,
    component: Annotated[
        list[str] | None,
        typer.Option("--component", help="A component of Frazil's, or a path; by default prescale, with an overlay none."),
    ] = None,
    create_secret: Annotated[
        bool, typer.Option("--create-secret", help="Make the Secret frazil-secrets with fresh keys, if it is missing.")
    ] = False,
    store_option: _common.StoreOptions = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Of frazil-settings, or FRAZIL_<NAME> of frazil-knobs."),
    ] = None,
    polars: Annotated[str, typer.Option("--polars", help="Version of polars in the images.")] = pl.__version__,
    by_release: Annotated[
        bool, typer.Option("--release/--no-release", help="Whether function services are named by their release.")
    ] = True,
    kubeconfig: _Kubeconfig = None,
    context: _Context = None,
    namespace: _Namespace = None,
    dry_run: _DryRun = False,
    yes: _Yes = False,
    force_conflicts: Annotated[
        bool, typer.Option("--force-conflicts", help="Take over fields that other managers own.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Show new objects in full too.")] = False,
    timeout_s: Annotated[float, typer.Option("--timeout-s", min=1.0, help="Seconds until all must be ready.")] = 300.0,
    as_json: _common.AsJson = False,
) -> None:
    """Render the manifests, show what would change in the cluster, ask, apply, and wait until Frazil is ready.

    Run again, it changes only what has changed. A new image is a new release: its functions come beside the old ones, which
    stay until no query uses them.
    """
    with _deployment(kubeconfig, context, namespace, force=force_conflicts) as (api, deployment):
        from frazil_coordinator.deployment.objects import with_release
        from frazil_coordinator.deployment.rendering import render

        components = component if component is not None else ([] if overlay else _DEFAULT_COMPONENTS)
        images = (coordinator_image, function_image)
        objects = render(_wanted(api.namespace, overlay, components, images, store, set_))
        objects, release = with_release(objects, polars) if by_release else (objects, "")
        if by_release and not any(each["kind"] == "Role" for each in objects):
            _common.note(
                "the coordinator gets no rights in the cluster: old releases stay until you delete them, and pods start "
                "only as requests come; --component prescale gives it them"
            )
        plan = deployment.plan(objects)
        if not as_json:
            _show(plan, full=full)
        if dry_run:
            _report(plan, release, "", as_json=as_json)
            return
        options = _common.pairs(store_option, "--store-option") if create_secret else None
        _agree(api, deployment, plan, options, yes=yes, as_json=as_json)
        url = deployment.apply(
            plan, release, timeout_s=timeout_s, on_event=lambda text: None if as_json else _common.note(text)
        )
        _report(plan, release, url, as_json=as_json)


def undeploy(
    kubeconfig: _Kubeconfig = None,
    context: _Context = None,
    namespace: _Namespace = None,
    dry_run: _DryRun = False,
    yes: _Yes = False,
    as_json: _common.AsJson = False,
) -> None:
    """Delete what `frazil deploy` applied, and nothing else: secrets, the namespace and what lies in the store stay."""
    with _deployment(kubeconfig, context, namespace) as (api, deployment):
        found = deployment.deployed()
        names = [str(each) for each in found]
        if not as_json:
            for name in names:
                _common.note(f"- {name}")
        if not found:
            _common.note(f"namespace {api.namespace} of {api.host} has nothing that frazil deploy applied")
        if found and not dry_run:
            _ask(f"Delete these from {api.host}, namespace {api.namespace}?", yes=yes, as_json=as_json)
        if not dry_run:
            for each in deployment.undeploy(found):
                if not as_json:
                    _common.note(f"{each} deleted")
        if as_json:
            _common.print_json({"namespace": api.namespace, "deleted": [] if dry_run else names, "found": names})


@contextmanager
def _deployment(
    kubeconfig: str | None, context: str | None, namespace: str | None, *, force: bool = False
) -> Iterator[tuple[KubeApi, Deployment]]:
    try:
        from frazil_coordinator.deployment import rendering  # noqa: F401  # what it needs is missing now, or never
        from frazil_coordinator.deployment.applying import Deployment
        from frazil_coordinator.platform.knative.api import connect
    except ModuleNotFoundError as error:
        raise ImportError(f"deploying needs more packages ({error}): pip install 'frazil[knative]'") from error
    api = connect(kubeconfig=kubeconfig, context=context, namespace=namespace)
    try:
        yield api, Deployment(api, force=force)
    finally:
        api.close()


def _wanted(
    namespace: str,
    overlay: Path | None,
    components: list[str],
    images: tuple[str | None, str | None],
    store: str | None,
    pairs: list[str] | None,
) -> Wanted:
    from frazil_coordinator.deployment.rendering import Wanted

    given = _common.pairs(pairs, "--set")
    settings = {name: value for name, value in given.items() if not name.startswith("FRAZIL_")}
    return Wanted(
        namespace=namespace,
        overlay=overlay,
        components=components,
        coordinator_image=images[0],
        function_image=images[1],
        settings=settings | ({"store-url": store} if store else {}),
        knobs={name: value for name, value in given.items() if name.startswith("FRAZIL_")},
    )


def _show(plan: Plan, *, full: bool) -> None:
    for change in plan.changes:
        if change.action != "keep":
            _common.note(f"{change.action} {change.object}")
        if change.diff and (full or change.action == "change"):
            typer.echo(change.diff)
    kept = sum(each.action == "keep" for each in plan.changes)
    _common.note(f"{len(plan.changes) - kept} to change, {kept} as they are")


def _agree(
    api: KubeApi, deployment: Deployment, plan: Plan, secret: dict[str, str] | None, *, yes: bool, as_json: bool
) -> None:
    """Ask, and make the Secret when it is missing and wanted; `secret` are the store's options in it, None: not wanted."""
    missing = deployment.missing_secret()
    if missing and secret is None:
        raise RequestError(
            f"namespace {api.namespace} has no Secret frazil-secrets, without which no pod starts: make it first "
            "(docs/deploy.md#2-secrets), or give --create-secret"
        )
    if plan.changed or missing:
        _ask(f"Apply this to {api.host}, namespace {api.namespace}?", yes=yes, as_json=as_json)
    if missing:
        deployment.create_secret(secret or {})
        _common.note(
            "secret/frazil-secrets created; what clients send: "
            f"kubectl -n {api.namespace} get secret frazil-secrets -o jsonpath='{{.data.token}}' | base64 -d"
        )


def _ask(question: str, *, yes: bool, as_json: bool) -> None:
    if yes:
        return
    if as_json:
        raise typer.BadParameter("--json does not ask: add --yes, or --dry-run")
    typer.confirm(question, abort=True, err=True)


def _report(plan: Plan, release: str, url: str, *, as_json: bool) -> None:
    if as_json:
        changes = [{"object": str(each.object), "action": each.action, "diff": each.diff} for each in plan.changes]
        _common.print_json({"release": release, "url": url, "changed": plan.changed, "changes": changes})
    elif url:
        _common.note("frazil is ready; inside the cluster its address is")
        typer.echo(url)
