"""``frazil token``: a new token, and what a file of tenants keeps of it."""

from __future__ import annotations

import json
import secrets
from typing import Annotated, Final

import typer

from frazil.cli import _common
from frazil_coordinator.tenancy import Role, Token

__all__ = ["token"]

_BYTES: Final = 32


def token(
    tenant: Annotated[str, typer.Option("--tenant", help="Whose token it is: a table [tenants.NAME] of the file.")],
    role: Annotated[Role, typer.Option("--role", help="What it gives a right to.")] = Role.SUBMIT,
    as_json: _common.AsJson = False,
) -> None:
    """Make a token, and print it and the lines of it for the file of tenants, which holds its hash only.

    The token goes to standard error, and is shown this once; the lines go to standard output:
    frazil token --tenant etl >> tenants.toml

    With --json all of it goes to standard output, for programs.
    """
    made = secrets.token_urlsafe(_BYTES)
    kept = Token.of(made, tenant=tenant, role=role)
    if as_json:
        typer.echo(json.dumps({"token": made, "sha256": kept.sha256, "tenant": tenant, "role": role.value}))
        return
    typer.echo(f"token: {made}", err=True)
    # A text of JSON is one of TOML.
    lines = {"sha256": kept.sha256, "tenant": tenant, "role": role.value}
    typer.echo("\n[[tokens]]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in lines.items()))
