"""The page of `report` in a real Chromium: by keyboard, without scripts, in the dark, on paper, off the network."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from browser import Browser
from commandline import Cli
from ic_secrets.keys.sealing import MasterKey
from ic_secrets.model.resolve import Holdings
from ic_secrets.model.secret import Owner, Scope, Secret, SecretType, SecretValue, Site
from ic_secrets.report.owners import Limits, Totals, report_site
from ic_secrets.report.page import render_owner, render_page
from ic_secrets.stores.base import Place, Write
from ic_secrets.stores.embedded import store as local

CANARY = "hunter2-canary"
KEY = MasterKey(bytes(range(32)))
DAY = 86_400
BUILD = frozenset({Scope.IC})
LEGACY, FRESH = 400, 3

# Which rows and sections are shown, whether the section is open or not.
SHOWN = """(() => {
  const there = (each) => getComputedStyle(each).display !== "none";
  return [...document.querySelectorAll(".owner")].filter(there).map((owner) => [
    owner.querySelector("h3").textContent,
    [...owner.querySelectorAll("tbody tr")].filter(there).map((row) => row.querySelector("th").firstChild.textContent),
  ]);
})()"""
# Contrast of every text that is shown, as WCAG 2 counts it: the worst, and what it is the contrast of.
CONTRAST = """(() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = parse(colour).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if ((parse(colour)[3] ?? 1) > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  let worst = [99, ""];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility() || element.closest("script")) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, walker.currentNode.textContent];
  }
  return worst;
})()"""


def fill(store: local.LocalStore) -> None:
    """Two sites of an organization, with something of every flag and type."""
    now = int(time.time())
    agency, bakery = Owner.organization("agency"), Owner.site("bakery")
    store.set_site(Site("bakery", "agency"))
    store.set_site(Site("clinic", "agency"))

    def put(owner: Owner, name: str, kind: SecretType | None, age: int = FRESH, **more: Any) -> None:
        environment = more.pop("environment", None)
        scopes = more.pop("scopes", BUILD) if kind else None
        times = (now - age * DAY, now - age * DAY)
        value = SecretValue(f"user {CANARY}-{owner}-{environment}-{name}")
        store.put(Place(owner, environment, name), Write(value, type=kind, scopes=scopes, times=times, **more))

    put(agency, "LICENSE", SecretType.ENV, LEGACY)
    put(agency, "http-basic.repo.example.org", SecretType.COMPOSER, expires=now + 5 * DAY)
    put(agency, "GONE", SecretType.ENV)
    put(bakery, "GONE", None, environment="dev")
    store.delete(Place(agency, None, "GONE"))
    put(bakery, "LICENSE", SecretType.ENV)
    put(bakery, "OLD_TOKEN", SecretType.ENV, LEGACY, expires=now - DAY)
    put(bakery, "SALT", SecretType.RUNTIME, LEGACY, scopes=frozenset({Scope.WEB, Scope.USER}))
    put(bakery, "LICENSE", None, environment="pr-1")


@pytest.fixture
def page(cli: Cli, tmp_path: Path) -> Path:
    """The report of a small store."""
    path = tmp_path / "report.html"
    with local.create(str(tmp_path / "store.db"), KEY) as store, store.transaction():
        fill(store)
    cli.home |= {"IC_SECRETS_STORE": str(tmp_path / "store.db"), "IC_SECRETS_KEY": KEY.format()}
    cli("report", "--html", path, check=0)
    return path


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path) as started:
        yield started


def tab_to(browser: Browser, identity: str) -> None:
    """Press Tab until the control has the focus."""
    for _ in range(60):
        if browser.evaluate("document.activeElement.id") == identity:
            return
        browser.press("Tab")
    pytest.fail(f"no Tab reaches {identity}")


ALL = [
    ["org:agency", ["LICENSE", "http-basic."]],
    ["bakery", ["GONE", "LICENSE", "OLD_TOKEN", "SALT", "http-basic."]],
    ["clinic", ["LICENSE", "http-basic."]],
]


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_filters_hide_rows_and_sites_by_keyboard_alone(browser: Browser, page: Path, scripts: bool) -> None:
    browser.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
    browser.open(page)
    assert browser.evaluate(SHOWN) == ALL
    tab_to(browser, "f-expired")
    browser.press(" ")
    assert browser.evaluate(SHOWN) == [["bakery", ["OLD_TOKEN"]]]
    tab_to(browser, "f-stale")
    browser.press(" ")  # what has one flag or the other
    assert browser.evaluate(SHOWN) == [["org:agency", ["LICENSE"]], ["bakery", ["OLD_TOKEN", "SALT"]]]
    tab_to(browser, "t-any")
    browser.press("ArrowRight")
    browser.press("ArrowRight")  # composer, then env
    assert browser.evaluate(SHOWN) == [["org:agency", ["LICENSE"]], ["bakery", ["OLD_TOKEN"]]]
    browser.press("ArrowRight")
    assert browser.evaluate(SHOWN) == [["bakery", ["SALT"]]]
    for _ in range(4):
        browser.press("Tab")
        if browser.evaluate("document.activeElement.type") == "reset":
            break
    browser.press("Enter")
    assert browser.evaluate(SHOWN) == ALL
    for flag, names in {"soon": 1, "inert": 1, "shadowed": 1, "unused": 1}.items():
        browser.evaluate("document.activeElement.blur(), document.getElementById('filters').reset()")
        tab_to(browser, f"f-{flag}")
        browser.press(" ")
        assert sum(len(rows) for _, rows in browser.evaluate(SHOWN)) == names, flag


def test_a_search_and_the_buttons_need_a_script_and_are_not_there_without_one(browser: Browser, page: Path) -> None:
    browser.ask("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(page)
    assert browser.evaluate("document.getElementById('q').checkVisibility()") is False
    browser.ask("Emulation.setScriptExecutionDisabled", value=False)
    browser.open(page)
    browser.evaluate("document.getElementById('close').click()")
    assert browser.evaluate("document.querySelectorAll('.owner[open]').length") == 0
    tab_to(browser, "q")
    browser.type("salt")
    browser.press("Enter")  # submits nothing
    waited = "new Promise((done) => setTimeout(() => done(document.getElementById('shown').textContent), 300))"
    assert browser.evaluate(waited) == "1 shown"
    assert browser.evaluate(SHOWN) == [["bakery", ["SALT"]]]
    assert browser.evaluate("document.querySelectorAll('.owner[open]').length") == 1
    browser.type("y dog")
    assert browser.evaluate(waited) == "nothing fits"
    assert complaints(browser) == []


def complaints(browser: Browser) -> list[str]:
    """What the console would show, and every request beyond the page itself."""
    found = []
    for event in browser.events:
        method, details = event.get("method", ""), event.get("params", {})
        if method in {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"}:
            found.append(f"{method}: {details}")
        if method == "Network.requestWillBeSent" and details["type"] != "Document":
            found.append(f"asked for {details['request']['url']}")
    return found


def test_the_page_asks_the_network_for_nothing_and_complains_of_nothing(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.evaluate("new Promise((done) => setTimeout(done, 300))")
    assert complaints(browser) == []
    assert browser.evaluate("document.documentElement.classList.contains('scripted')")


def test_the_policy_lets_no_other_script_or_style_of_the_page_run(browser: Browser, page: Path) -> None:
    text = page.read_text()
    hostile = '<script>document.title = "owned"</script><img src=x onerror=\'document.title = "owned"\'>'
    page.write_text(
        text.replace('<div id="owners"', f'{hostile}<style>body {{ display: none }}</style><div id="owners"')
    )
    browser.open(page)
    assert browser.evaluate("[document.title, getComputedStyle(document.body).display]") == [
        "Secrets: where each value comes from",
        "block",
    ]
    assert len(complaints(browser)) >= 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast_in_the_light_and_in_the_dark(browser: Browser, page: Path, scheme: str) -> None:
    browser.emulate(scheme)
    browser.open(page)
    browser.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    ratio, text = browser.evaluate(CONTRAST)
    assert ratio >= 4.5, text


def test_dark_and_light_look_different_and_the_focus_is_seen(browser: Browser, page: Path) -> None:
    browser.emulate("light")
    browser.open(page)
    light = browser.picture()
    browser.press("Tab")
    browser.press("Tab")
    assert browser.evaluate("getComputedStyle(document.activeElement.nextElementSibling).outlineStyle") == "solid"
    assert browser.picture() != light
    browser.emulate("dark")
    browser.open(page)
    assert browser.picture() != light
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 22, 25)"


def test_on_paper_every_site_is_open_and_no_control_is_left(browser: Browser, page: Path) -> None:
    browser.open(page)
    browser.evaluate("document.getElementById('close').click(), dispatchEvent(new Event('beforeprint'))")
    browser.emulate("dark", media="print")
    assert browser.evaluate("document.querySelectorAll('.owner:not([open])').length") == 0
    assert browser.evaluate("document.getElementById('filters').checkVisibility()") is False
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_what_a_screen_reader_goes_by_is_there(browser: Browser, page: Path) -> None:
    """Every control has a name, every table a caption and headers with scopes, every id is one of its kind."""
    browser.open(page)
    assert browser.evaluate("document.querySelectorAll('header, main, form[aria-label]').length") == 3
    assert browser.evaluate(
        "[...document.querySelectorAll('input, button')].every((e) => e.labels?.[0] || e.textContent)"
    )
    assert browser.evaluate("[...document.querySelectorAll('table')].every((e) => e.caption.textContent)")
    assert browser.evaluate("[...document.querySelectorAll('th')].every((e) => e.scope)")
    identities = browser.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(identities) == len(set(identities))
    tree = browser.ask("Accessibility.getFullAXTree")["nodes"]
    names = {node["name"]["value"] for node in tree if node.get("role", {}).get("value") == "checkbox"}
    assert len(names) == 6
    assert "stale unchanged for 90 days 3" in {" ".join(name.split()) for name in names}


def test_a_page_of_a_thousand_sites_is_closed_and_answers_at_once(browser: Browser, tmp_path: Path) -> None:
    owners = [Owner("site", f"site-{number}") for number in range(1000)]
    limits, totals, sections = Limits(100 * DAY, 90 * DAY, 14 * DAY), Totals(), []
    for number, owner in enumerate(owners):
        changed = number % 50 * DAY
        secrets = tuple(
            Secret(f"{name}", owner, f"NAME_{name}", SecretType.ENV, BUILD, None, changed=changed) for name in range(12)
        )
        report = report_site(Site(owner.name), [Holdings(owner, secrets)], limits)
        totals = totals.add(report)
        sections.append(render_owner(report, number, limits, is_open=False))
    page = tmp_path / "many.html"
    page.write_text("".join(render_page(totals, limits, "", [], sections)))
    browser.open(page)
    started = time.monotonic()
    browser.evaluate("document.getElementById('f-stale').click()")
    browser.picture()
    assert time.monotonic() - started < 10
    assert browser.evaluate("document.getElementById('shown').textContent") == "2,400 shown"
    there = "[...document.querySelectorAll('.owner')].filter((each) => each.checkVisibility()).length"
    assert browser.evaluate(there) == 200


def test_no_value_is_in_the_page_or_in_what_the_browser_kept_of_it(browser: Browser, page: Path, cli: Cli) -> None:
    browser.open(page)
    assert CANARY not in browser.evaluate("document.documentElement.outerHTML")
    assert CANARY.encode() not in page.read_bytes()
    assert CANARY.encode() not in cli("report", "--json", check=0).stdout
    assert os.stat(page).st_mode & 0o777 == 0o600
