"""Which coordinator a command asks: options and variables, or a profile of the configuration file (docs/cli.md).

The file is ``$FRAZIL_CONFIG``, else ``config.toml`` in ``$XDG_CONFIG_HOME/frazil`` or ``~/.config/frazil``. The token
of a profile goes to the profile's own address and to no other.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import typer

__all__ = ["Place", "config_file", "place_of", "profile_names"]

_KEYS: Final = frozenset({"url", "token", "token_command"})
_TOKEN_COMMAND_S: Final = 60.0
_OTHERS_MAY_READ: Final = 0o044


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A coordinator, and what it is shown."""

    url: str
    token: str | None


def config_file() -> Path:
    """Return where the configuration is looked for; it may not be there."""
    if (named := os.environ.get("FRAZIL_CONFIG")) is not None:
        return Path(named)
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "frazil" / "config.toml"


def place_of(url: str | None, token: str | None, profile: str | None, *, use_default: bool) -> Place | None:
    """Return the coordinator that is asked; None when nobody named one.

    Parameters
    ----------
    url, token
        Of the options or variables. With an address, no profile is looked at; with a profile, a token goes before its own.
    profile
        Name of a profile.
    use_default
        Whether the file's default profile counts when nothing is named.

    Raises
    ------
    typer.BadParameter
        When an address and a profile are both given, the file is wrong, or there is no such profile.
    """
    if url is not None:
        if profile is not None:
            raise typer.BadParameter("an address and a profile are both given: leave out --url (FRAZIL_URL) or the profile")
        return Place(url=url, token=token)
    if profile is None and not (use_default and config_file().is_file()):
        return None
    document = _read(config_file())
    name = profile or document.get("default")
    if name is None:
        return None
    return _profile(document, str(name), token)


def profile_names() -> list[str]:
    """Return the names of the profiles, for completion; none when there is no file."""
    return sorted(_profiles(_read(config_file()))) if config_file().is_file() else []


def _read(file: Path) -> dict[str, object]:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file}: can't be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise typer.BadParameter(f"{file}: not TOML: {error}") from error
    if unknown := sorted(document.keys() - {"default", "profiles"}):
        raise typer.BadParameter(f"{file}: unknown: {', '.join(unknown)}; there are default and the tables [profiles.NAME]")
    return document


def _profiles(document: Mapping[str, object]) -> Mapping[str, object]:
    profiles = document.get("profiles", {})
    if not isinstance(profiles, dict):
        raise typer.BadParameter(f"{config_file()}: profiles must be tables [profiles.NAME]")
    return profiles


def _profile(document: Mapping[str, object], name: str, token: str | None) -> Place:
    file, profiles = config_file(), _profiles(document)
    table = profiles.get(name)
    place = f"{file}: [profiles.{name}]"
    if not isinstance(table, dict):
        known = ", ".join(sorted(profiles)) or "none"
        raise typer.BadParameter(f"{file}: there is no profile {name!r}; there are: {known}")
    if unknown := sorted(table.keys() - _KEYS):
        raise typer.BadParameter(f"{place} {unknown[0]} is unknown: there are {', '.join(sorted(_KEYS))}")
    url, kept, command = table.get("url"), table.get("token"), table.get("token_command")
    if not isinstance(url, str):
        raise typer.BadParameter(f"{place} url is missing, or not a text")
    if kept is not None and command is not None:
        raise typer.BadParameter(f"{place} has token and token_command: one of them is enough")
    if token is not None:
        return Place(url=url, token=token)
    if kept is None:
        return Place(url=url, token=None if command is None else _told(command, place))
    if not isinstance(kept, str):
        raise typer.BadParameter(f"{place} token must be a text")
    if os.name == "posix" and file.stat().st_mode & _OTHERS_MAY_READ:
        raise typer.BadParameter(f"{file} holds a token and others may read it: chmod 600 {shlex.quote(str(file))}")
    return Place(url=url, token=kept)


def _told(command: object, place: str) -> str:
    """Return what a command prints; nothing of its output is ever shown."""
    words = shlex.split(command) if isinstance(command, str) else command
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise typer.BadParameter(f"{place} token_command must be a command: a text, or a list of its words")
    try:
        # Without a shell; its errors go to the terminal, where it may ask for something.
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=_TOKEN_COMMAND_S, check=False)  # noqa: S603  # the user's own file
    except (OSError, subprocess.TimeoutExpired) as error:
        raise typer.BadParameter(f"{place} token_command {words[0]!r}: {type(error).__name__}: {error}") from error
    if done.returncode != 0 or not (token := done.stdout.strip()):
        raise typer.BadParameter(f"{place} token_command {words[0]!r} ended with {done.returncode} and gave no token")
    return token
