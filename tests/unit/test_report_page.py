"""The page as text: whatever a store's names hold, they are shown and do nothing."""

from __future__ import annotations

from html.parser import HTMLParser

import hypothesis
from hypothesis import strategies as st

from ic_secrets.model.resolve import Holdings
from ic_secrets.model.secret import Override, Owner, Scope, Secret, SecretType, SecretValue, Site
from ic_secrets.report.owners import Limits, OwnerReport, Totals, report_site
from ic_secrets.report.page import START, render_owner, render_page

CANARY = "hunter2-canary"
LIMITS = Limits(1_800_000_000, 90 * 86_400, 14 * 86_400)
HOSTILE = "<script>alert(1)</script>\"'>&amp;\x1b[31m\u202e\n\udc80"


def report(site: str, organization: str, name: str, environment: str) -> OwnerReport:
    """A site of such names, as a store of somebody else's might give them."""
    owner = Owner("site", site)
    scopes, value = frozenset({Scope.IC}), SecretValue(CANARY)
    kinds = SecretType.COMPOSER, SecretType.ENV
    secrets = tuple(Secret(f"{n}", owner, f"{name}{n}", kind, scopes, value) for n, kind in enumerate(kinds))
    override = Override("0", owner, environment, f"{name}0", kinds[0], scopes, value, expires=1)
    inert = Override("9", owner, environment, f"{name}9", kinds[0], scopes, value)
    chain = (Holdings(owner, secrets, (override, inert)), Holdings(Owner("organization", organization)))
    return report_site(Site(site, organization, (organization,)), chain, LIMITS)


def render(found: OwnerReport) -> str:
    section = render_owner(found, 1, LIMITS, is_open=True)
    return "".join(render_page(Totals().add(found), LIMITS, found.owner.name, [], [section]))


class _Reader(HTMLParser):
    """Counts tags and collects the text between them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: dict[str, int] = {}
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return reader


@hypothesis.given(*[st.text(min_size=1, max_size=20) | st.just(HOSTILE)] * 4)
def test_no_name_becomes_a_tag_an_attribute_or_a_control_character(
    site: str, organization: str, name: str, environment: str
) -> None:
    plain = read(render(report("site", "org", "name.", "env")))
    environment = f"x{environment}"  # none that is there anyway
    page = render(report(site, organization, name, environment))
    found = read(page)
    assert found.tags | {"wbr": 0, "span": 0} == plain.tags | {"wbr": 0, "span": 0}
    assert found.attributes == plain.attributes
    assert all(character.isprintable() or character == "\n" for character in page)
    page.encode()


def test_a_page_says_what_is_in_it_and_no_value() -> None:
    page = render(report("my-site", "agency", "http-basic.repo.example.org", "pr-1"))
    assert page.startswith(START)
    for word in ("my-site", "agency", "repo.example.org0", "pr-1", "site override", "expired 1970-01-01"):
        assert word in page
    assert CANARY not in page


def test_a_page_names_nothing_that_would_be_fetched() -> None:
    page = render(report("my-site", "agency", "NAME", "pr-1"))
    assert "://" not in page
    assert "url(" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page
    assert not read(page).attributes & {"src", "srcset", "style", "onclick", "action", "background", "poster"}
