"""Which coordinator a command asks: options, variables, profiles of a file."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from frazil.cli import _common, _config
from frazil.cli._queries import since_unix_s

FILE = """
default = "near"

[profiles.near]
url = "http://near:1"
token = "near-token"

[profiles.far]
url = "http://far:2"
token_command = ["printf", "far-token\\n"]
"""


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("FRAZIL_URL", "FRAZIL_TOKEN", "FRAZIL_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "config.toml"
    monkeypatch.setenv("FRAZIL_CONFIG", str(path))
    return path


def write(file: Path, text: str = FILE) -> None:
    file.write_text(text)
    file.chmod(0o600)


def asked(*arguments: str, default: bool = True, **environment: str) -> str:
    """Return the address and the token that a command with these options asks, or what it says of them."""
    app = typer.Typer()

    @app.command()
    def command(url: _common.Url = None, token: _common.Token = None, profile_name: _common.ProfileName = None) -> None:
        place = _config.place_of(*_common._named(url, token, profile_name), use_default=default)
        typer.echo("nobody" if place is None else f"{place.url} {place.token}")

    result = CliRunner().invoke(app, list(arguments), env=environment)
    return " ".join(result.output.replace("│", " ").split())


def test_without_a_file_or_an_option_nobody_is_named() -> None:
    assert asked() == "nobody"


def test_a_profile_is_chosen_by_option_by_variable_or_by_default(file: Path) -> None:
    write(file)
    assert asked() == "http://near:1 near-token"
    assert asked(default=False) == "nobody"
    assert asked("--profile-name", "far") == "http://far:2 far-token"
    assert asked(FRAZIL_PROFILE="far") == "http://far:2 far-token"


def test_an_option_counts_more_than_a_variable_of_the_other_kind(file: Path) -> None:
    write(file)
    assert asked("--url", "http://x", FRAZIL_PROFILE="far") == "http://x None"
    assert asked("--profile-name", "far", FRAZIL_URL="http://x", FRAZIL_TOKEN="x") == "http://far:2 far-token"
    assert "both given" in asked("--url", "http://x", "--profile-name", "far")
    assert "both given" in asked(FRAZIL_URL="http://x", FRAZIL_PROFILE="far")


def test_a_token_goes_to_no_other_address(file: Path) -> None:
    write(file)
    assert asked("--url", "http://x") == "http://x None"
    assert asked("--url", "http://x", FRAZIL_TOKEN="x") == "http://x x"
    assert asked(FRAZIL_TOKEN="of another") == "http://near:1 near-token"
    assert asked("--token", "mine") == "http://near:1 mine"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = [", "not TOML"),
        ("other = 1", "unknown: other"),
        ('[profiles.near]\ntoken = "t"', "url is missing"),
        ('[profiles.near]\nurl = "u"\npassword = "p"', "password is unknown"),
        ('[profiles.near]\nurl = "u"\ntoken = "t"\ntoken_command = "c"', "one of them is enough"),
        ('[profiles.near]\nurl = "u"\ntoken_command = 3', "must be a command"),
        ('[profiles.near]\nurl = "u"\ntoken_command = "no-such-command-x"', "FileNotFoundError"),
        ('[profiles.near]\nurl = "u"\ntoken_command = "false"', "ended with 1 and gave no token"),
        ('[profiles.other]\nurl = "u"', "there is no profile 'near'; there are: other"),
    ],
)
def test_a_file_that_is_wrong_is_told_with_its_place(file: Path, text: str, words: str) -> None:
    write(file, text)
    told = asked("--profile-name", "near")
    assert words in told
    assert "Traceback" not in told


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_a_file_with_a_token_that_others_may_read_is_refused(file: Path) -> None:
    write(file)
    file.chmod(0o644)
    assert "others may read it" in asked()
    assert asked("--profile-name", "far") == "http://far:2 far-token"  # it holds no token itself


def test_names_of_profiles_are_completed(file: Path) -> None:
    assert _config.profile_names() == []
    write(file)
    assert _config.profile_names() == ["far", "near"]


def test_the_file_is_looked_for_where_the_desktop_standard_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FRAZIL_CONFIG")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert _config.config_file() == tmp_path / "frazil" / "config.toml"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert _config.config_file() == Path("/home/somebody/.config/frazil/config.toml")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90.0), ("30m", 1800.0), ("2h", 7200.0), ("1.5d", 129_600.0), ("1w", 604_800.0)],
)
def test_an_age_is_a_time_before_now(monkeypatch: pytest.MonkeyPatch, text: str, seconds: float) -> None:
    monkeypatch.setattr("time.time", lambda: 1e9)
    assert since_unix_s(text) == 1e9 - seconds


def test_a_time_is_one_too_and_anything_else_is_bad_usage() -> None:
    assert since_unix_s(None) is None
    assert since_unix_s("2026-11-30T08:00:00+00:00") == 1_796_025_600.0
    with pytest.raises(typer.BadParameter, match="an age"):
        since_unix_s("yesterday")
