"""The web page in a real browser, of a coordinator that runs real queries on real function processes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import httpx
import polars as pl
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from frazil_coordinator.settings import Settings
from frazil_coordinator.tenancy import Role, Tenant, Tenants, Token
from support.browser import chromium
from support.serving import serving

TINY = {"start_small": False, "max_rows_per_split": 4, "inline_limit_bytes": 0, "broadcast_limit_bytes": 0}
MARKUP = "<img src=x onerror=document.title='owned'>"
TENANTS = Tenants(
    by_name=MappingProxyType({"etl": Tenant(name="etl", max_running_tasks=8), "other": Tenant(name="other")}),
    tokens=(
        Token.of("admin-token", tenant="etl"),
        Token.of("read-token", tenant="etl", role=Role.READ),
        Token.of("other-token", tenant="other", role=Role.SUBMIT),
    ),
)


@dataclass
class Site:
    """A coordinator with a query that succeeded and one that failed, both of strange names."""

    url: str
    data: Path
    good: str
    bad: str

    def submit(self, lf: pl.LazyFrame, *labels: str, token: str = "admin-token", reuse: str = "off") -> str:
        headers = {
            "Authorization": f"Bearer {token}",
            "Frazil-Settings": json.dumps({**TINY, "reuse": reuse}),
            "Content-Type": "application/vnd.frazil.plan",
        }
        params = httpx.QueryParams([("label", label) for label in labels])
        answer = httpx.post(f"{self.url}/v1/queries", content=lf.serialize(), headers=headers, params=params, timeout=60)
        assert answer.status_code == 202, answer.text
        query: str = answer.json()["id"]
        return query

    def ask(self, path: str, **params: str) -> httpx.Response:
        return httpx.get(f"{self.url}/v1/{path}", params=params, headers={"Authorization": "Bearer admin-token"}, timeout=90)

    def ended(self, query: str) -> str:
        state: str = self.ask(f"queries/{query}", wait_s="60").json()["state"]
        return state


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def site(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    data = tmp_path_factory.mktemp("data")
    left = pl.DataFrame({"key": [row % 4 for row in range(40)], "value": [float(row) for row in range(40)]})
    left.write_parquet(data / "left.parquet")
    pl.DataFrame({"key": [0, 1, 2, 3], "name": list("abcd")}).write_parquet(data / "right.parquet")
    pl.DataFrame({"key": range(6_000)}).write_parquet(data / "long.parquet")
    pl.DataFrame({"text": [MARKUP]}).write_parquet(data / "text.parquet")
    with serving(tmp_path_factory.mktemp("exchange"), Settings(), TENANTS) as url:
        made = Site(url, data, "", "")
        joined = pl.scan_parquet(data / "left.parquet").join(pl.scan_parquet(data / "right.parquet"), on="key")
        made.good = made.submit(
            joined.rename({"name": MARKUP}).group_by(MARKUP).agg(pl.col("value").sum()), "nightly", MARKUP
        )
        made.bad = made.submit(pl.scan_parquet(data / "text.parquet").select(pl.col("text").cast(pl.Int64)), "broken")
        assert made.ended(made.good) == "succeeded"
        assert made.ended(made.bad) == "failed"
        yield made


@pytest.fixture
def visit(browser: Browser, site: Site) -> Iterator[Callable[..., Page]]:
    """Give what opens the page in a browser of its own; nothing that the page does may break its policy or raise."""
    wrong: list[str] = []
    asked: list[str] = []
    opened = []

    def heard(message: ConsoleMessage) -> None:
        if "Content Security" in message.text or "TrustedHTML" in message.text:
            wrong.append(message.text)

    def open_page(path: str = "#/queries", *, token: str | None = "admin-token", **options: object) -> Page:
        context = browser.new_context(**options)  # type: ignore[arg-type]  # playwright's options
        opened.append(context)
        if token is not None:
            context.add_init_script(f"sessionStorage.setItem('frazil-token', '{token}')")
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", heard)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{site.url}/ui/{path}")
        return page

    yield open_page
    for context in opened:
        context.close()
    assert wrong == []
    assert asked
    assert all(url.startswith(site.url) for url in asked)


def test_it_asks_for_a_token_and_keeps_it_in_the_tab_only(site: Site, visit: Callable[..., Page]) -> None:
    page = visit("", token=None)
    page.fill("#token-input", "wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#token-error")).to_have_text("This token is not known here.")
    page.fill("#token-input", "admin-token")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name=site.good)).to_be_visible()
    assert page.evaluate("sessionStorage.getItem('frazil-token')") == "admin-token"
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
    assert "admin-token" not in page.url
    page.get_by_role("button", name="Forget token").click()
    expect(page.locator("#token-dialog")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_what_strangers_wrote_stays_text(site: Site, visit: Callable[..., Page]) -> None:
    page = visit()
    expect(page.locator(".label", has_text=MARKUP)).to_be_visible()
    expect(page.locator(".why", has_text=MARKUP)).to_be_visible()
    page.goto(f"{site.url}/ui/#/queries/{site.bad}")
    expect(page.locator(".error pre")).to_contain_text(MARKUP)
    expect(page.locator(".error .again")).to_contain_text(f"frazil replay {site.bad}/")
    page.goto(f"{site.url}/ui/#/queries/{site.good}")
    expect(page.locator(".plan")).to_contain_text(MARKUP)
    assert page.locator("main img").count() == 0
    assert page.title() == f"{site.good} – Frazil"


def test_a_query_shows_its_stages_attempts_and_figures(site: Site, visit: Callable[..., Page]) -> None:
    page = visit(f"#/queries/{site.good}")
    told = site.ask(f"queries/{site.good}/tasks").json()
    profile = site.ask(f"queries/{site.good}/profile").json()
    expect(page.locator(".timeline .run:not(.waited)")).to_have_count(told["total"])
    assert told["total"] == sum(stage["attempts"] for stage in profile["stages"])
    cold = sum(attempt["cold_start"] for attempt in told["attempts"])
    expect(page.locator(".timeline .run-cold:not(.waited)")).to_have_count(cold)
    ran = [stage for stage in profile["stages"] if stage["attempts"]]
    expect(page.locator(".node-done")).to_have_count(len(ran))
    expect(page.locator(".figures").first.locator("tbody tr")).to_have_count(len(ran))
    expect(page.locator(".histograms figure").first).to_be_visible()
    expect(page.locator(".tile", has_text="Result")).to_contain_text("4 rows")


def test_choosing_a_stage_shows_its_attempts_alone_and_the_keyboard_goes_through_them(
    site: Site, visit: Callable[..., Page]
) -> None:
    page = visit(f"#/queries/{site.good}")
    scans = site.ask(f"queries/{site.good}/tasks", stage="0").json()["total"]
    node = page.locator("[data-key=stage-0]")
    node.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".timeline .run:not(.waited)")).to_have_count(scans)
    expect(node).to_have_attribute("aria-pressed", "true")
    page.locator(".timeline").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".detail h3")).to_contain_text("Stage 0, task")


def run_to_its_end(site: Site, lf: pl.LazyFrame) -> str:
    query = site.submit(lf, reuse="tasks")
    assert site.ended(query) == "succeeded"
    return query


def test_tasks_that_were_reused_are_marked_and_attempts_tell_their_requests(site: Site, visit: Callable[..., Page]) -> None:
    lf = pl.scan_parquet(site.data / "left.parquet").filter(pl.col("value") > 2)
    first, query = (run_to_its_end(site, lf.group_by("key").len()) for _ in range(2))
    page = visit(f"#/queries/{first}")
    expect(page.locator(".timeline .run title").first).to_have_text(re.compile(r"store: [1-9]\d* (GET|PUT)"))
    expect(page.locator(".node-reused, .fill-reused, .run-reused")).to_have_count(0)
    told = site.ask(f"queries/{query}/tasks").json()
    reused = sum(stage["tasks"] for stage in told["reused"])
    assert reused > 1
    page = visit(f"#/queries/{query}")
    expect(page.locator(".timeline .run-reused")).to_have_count(reused)
    expect(page.locator(".legend")).to_contain_text(f"reused: nothing ran ({reused})")
    expect(page.locator(".node-reused")).to_have_text([f"{stage['tasks']} reused" for stage in told["reused"]])
    page.locator(".timeline").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".detail")).to_contain_text("reused")


def test_a_running_query_is_followed_and_can_be_cancelled_but_not_by_who_may_only_read(
    site: Site, visit: Callable[..., Page]
) -> None:
    query = site.submit(pl.scan_parquet(site.data / "long.parquet").group_by(pl.col("key") % 7).len())
    reader = visit(f"#/queries/{query}", token="read-token")
    page = visit(f"#/queries/{query}")
    expect(reader.locator("h1 + .badge")).to_have_text("running", timeout=30_000)
    expect(reader.locator("#who")).to_contain_text("read only")
    assert reader.locator("#cancel").count() == 0
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel query").click()
    for one in (page, reader):
        expect(one.locator("h1 + .badge")).to_have_text("cancelled", timeout=30_000)
        expect(one.get_by_role("button", name="Cancel query")).to_have_count(0)
    assert site.ended(query) == "cancelled"


def test_filters_are_part_of_the_address_and_the_keyboard_is_enough(site: Site, visit: Callable[..., Page]) -> None:
    page = visit("#/queries?state=failed")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody th")).to_have_text(site.bad)
    page.select_option("select[name=state]", "")
    page.keyboard.press("Escape")
    page.locator("h1").click()
    page.keyboard.press("/")
    page.keyboard.type("NIGHT")
    expect(page.locator("tbody th")).to_have_text([site.good])
    assert page.evaluate("location.hash") == "#/queries?text=NIGHT"
    page.keyboard.press("Tab")
    page.locator("h1").click()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(site.good)


def test_the_cluster_shows_an_administrator_all_tenants_and_others_their_own(site: Site, visit: Callable[..., Page]) -> None:
    page = visit("#/cluster")
    expect(page.locator("tbody th")).to_have_text(["etl", "other"])
    expect(page.locator("tbody tr").first).to_contain_text("/8")
    other = visit("#/cluster", token="other-token")
    expect(other.locator("tbody th")).to_have_text(["other"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_has_the_colours_that_are_wanted(scheme: str, site: Site, visit: Callable[..., Page]) -> None:
    page = visit(color_scheme=scheme, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    for path in ("#/queries", f"#/queries/{site.good}", f"#/queries/{site.bad}", "#/cluster"):
        page.goto(f"{site.url}/ui/{path}")
        expect(page.locator("h1")).to_be_visible()
        expect(page.locator("table").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
    red = int(page.evaluate("getComputedStyle(document.documentElement).backgroundColor").split("(")[1].split(",")[0])
    assert (red < 80) is (scheme == "dark")
