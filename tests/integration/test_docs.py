"""The documentation builds without a warning, and every page of it works in a browser, off the network."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from browser import Browser

CANARY = "hunter2-canary"
DOCS = Path(__file__).parents[2] / "docs"
# What hangs over the right edge of the window: the page's width beyond it, in pixels.
OVERHANG = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# The links of the search's results, once one leads to the security model; the results come one after the other.
FOUND = """new Promise((resolve, reject) => {
  const wait = (rounds) => {
    const links = [...document.querySelectorAll("#search-results li a")].map((each) => each.getAttribute("href"));
    if (links.some((each) => each.startsWith("security.html"))) resolve(links.length);
    else if (rounds) setTimeout(wait, 50, rounds - 1);
    else reject(links);
  };
  wait(400);
})"""


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files and logs nothing."""

    def log_message(self, *_: object) -> None:
        pass


def build(source: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build the site as `make docs` does."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", f"{site}.doctrees", source, site]
    environment = {**os.environ, "CANARY": CANARY}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("docs") / "site"
    done = build(DOCS, built)
    assert done.returncode == 0, done.stderr
    return built


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served."""
    handler = functools.partial(QuietHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def list_problems(browser: Browser, address: str) -> list[str]:
    """What went wrong on the page that was opened: requests to elsewhere, missing files, messages of the console."""
    problems = []
    for event in browser.events:
        method, details = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            url = details["request"]["url"]
            if not url.startswith((f"{address}/", "data:", "blob:")):
                problems.append(f"asks for {url}")
        elif method == "Network.responseReceived" and details["response"]["status"] >= 400:
            problems.append(f"{details['response']['status']} for {details['response']['url']}")
        elif method in {"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"}:
            problems.append(f"says {details}")
    return problems


def test_every_page_loads_by_itself_and_fits_a_phone(site: Path, address: str, browser: Browser) -> None:
    pages = sorted(str(path.relative_to(site)) for path in site.rglob("*.html"))
    assert {"index.html", "security.html", "reference/generated/commands/run.html"} <= set(pages)
    problems = {}
    for page in pages:
        browser.resize(1280, 900)
        browser.open(f"{address}/{page}")
        found = list_problems(browser, address)
        if page != "search.html" and not browser.evaluate("document.querySelector('h1').textContent.length > 1"):
            found.append("has no heading")
        browser.resize(390, 844)
        overhang = browser.evaluate(OVERHANG)
        if overhang > 0:
            found.append(f"is {overhang} pixels too wide for a phone")
        if found:
            problems[page] = found
    assert problems == {}


def test_search_finds_a_page(address: str, browser: Browser) -> None:
    browser.resize(1280, 900)
    browser.open(f"{address}/search.html?q=watchdog")
    assert browser.evaluate(FOUND)
    assert list_problems(browser, address) == []


def test_no_page_shows_the_environment_that_it_was_built_in(site: Path) -> None:
    pages = [path for path in site.rglob("*") if path.is_file()]
    assert pages
    assert [path for path in pages if CANARY.encode() in path.read_bytes()] == []


def test_every_command_and_setting_has_its_place(site: Path) -> None:
    from ic_secrets.cli import COMMANDS
    from ic_secrets.config.catalogue import SETTINGS

    commands = {name for name, entry in COMMANDS.items() if entry.summary}
    assert {path.stem for path in (site / "reference/generated/commands").glob("*.html")} == commands
    settings = (site / "reference/settings.html").read_text()
    assert [name for name in SETTINGS if f">{name}<" not in settings] == []


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "_ext").symlink_to(DOCS / "_ext")
    (source / "_static").symlink_to(DOCS / "_static")
    (source / "conf.py").write_text((DOCS / "conf.py").read_text())
    (source / "index.md").write_text("# A page\n\n[nowhere](nowhere.md) and [no heading](#no-heading)\n")
    done = build(source, tmp_path / "site")
    assert done.returncode != 0
    assert "nowhere.md" in done.stderr
    assert "no-heading" in done.stderr
