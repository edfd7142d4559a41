"""The files of the web page: what is served, with which headers, and what the page's scripts may not do."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from frazil_coordinator import api
from frazil_coordinator.api import create_app
from frazil_coordinator.coordinator import Coordinator
from frazil_coordinator.settings import Settings
from frazil_functions.storage import FolderStore
from support.fragments import FragmentPlatform, plan_in_stages

FILES = sorted((Path(api.__file__).parent / "ui").iterdir())
SCRIPTS = [file for file in FILES if file.suffix == ".js"]


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    store = FolderStore(tmp_path)
    coordinator = Coordinator(settings=Settings(), platform=FragmentPlatform(store), store=store, planner=plan_in_stages(1))
    transport = httpx.ASGITransport(create_app(coordinator, tokens=["secret"]))
    async with httpx.AsyncClient(transport=transport, base_url="http://coordinator") as opened:
        yield opened
    await coordinator.aclose()


@pytest.mark.parametrize("name", ["", *(file.name for file in FILES)])
async def test_every_file_is_served_without_a_token_and_with_a_strict_policy(client: httpx.AsyncClient, name: str) -> None:
    response = await client.get(f"/ui/{name}")
    assert response.status_code == 200
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    again = await client.get(f"/ui/{name}", headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == policy


async def test_the_address_without_a_slash_leads_to_the_page(client: httpx.AsyncClient) -> None:
    response = await client.get("/ui")
    assert (response.status_code, response.headers["location"]) == (308, "ui/")


@pytest.mark.parametrize(
    "path", ["/ui/nothing.js", "/ui/../pages.py", "/ui/%2e%2e/pages.py", "/ui/..%2fpages.py", "/ui/%2fetc%2fpasswd"]
)
async def test_nothing_else_is_served(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert response.status_code == 404


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_no_file_names_another_host(file: Path) -> None:
    found = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}[^\s\"')]*", file.read_text()))
    assert found <= {"http://www.w3.org/2000/svg"}  # a namespace, that nobody loads


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.name)
def test_no_script_makes_markup_of_text_or_keeps_what_is_secret(file: Path) -> None:
    code = re.sub(r"^\s*//.*$", "", file.read_text(), flags=re.MULTILINE)
    forbidden = (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "localStorage",
        "cookie",
    )
    assert [word for word in forbidden if word in code] == []
    assert len(file.read_text().splitlines()) <= 500


def test_every_script_that_is_imported_is_there() -> None:
    names = {file.name for file in FILES}
    wanted = {name for file in SCRIPTS for name in re.findall(r'from "\./([\w.]+)"', file.read_text())}
    assert wanted <= names
    assert len(wanted) > 5
