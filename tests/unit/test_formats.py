"""Formats of files: what each says, what it leaves out, what is refused, and that nothing is lost on the way."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, strategies as st

from ic_secrets.errors import IcSecretsError, ImportFileError
from ic_secrets.model.resolve import Holdings
from ic_secrets.model.secret import MAX_TIME, Hosts, Override, Owner, Scope, Secret, SecretType, SecretValue
from ic_secrets.transfer.formats import auth, definitions, dotenv, pantheon
from ic_secrets.transfer.formats.base import Omission, ParsedFile, ReadOptions
from ic_secrets.transfer.merge import SecretSet

SITE = Owner.site("my-site")
AGENCY = Owner.organization("agency")
BUILD = frozenset({Scope.IC})
CANARY = "a-canary-of-a-format"


def make_options(
    kind: SecretType | None = SecretType.ENV, organization: str | None = None, *, with_org: bool = False
) -> ReadOptions:
    return ReadOptions(SITE, kind, BUILD, organization, with_org, 1000)


def list_values(content: ParsedFile) -> dict[tuple[str, str | None, str], str | None]:
    """Every value by owner, environment and name."""
    found = {}
    for held in content.secret_set.holdings:
        items: tuple[Secret | Override, ...] = (*held.secrets, *held.overrides)
        for item in items:
            environment = item.environment if isinstance(item, Override) else None
            found[str(item.owner), environment, item.name] = item.value.reveal() if item.value else None
    return found


def left(content: ParsedFile) -> list[str]:
    return [one.what for one in content.omissions]


# --- .env --------------------------------------------------------------------------------------------------

LINES = {
    "A=plain": "plain",
    "A=": "",
    "A = spaced ": "spaced",
    "  export A=x": "x",
    "A=two words # a comment": "two words",
    "A=a#b": "a#b",
    "A= # nothing": "",
    "A='# $HOME \\n'": "# $HOME \\n",
    "A='two\nlines'  # c": "two\nlines",
    'A="a\\nb\\t\\"q\\" \\\\ \\$x \\z"': 'a\nb\t"q" \\ $x \\z',
    'A="two\nlines"': "two\nlines",
    'A="\\\\\\$x"': "\\$x",
    'A="C:\\\\"  # a "comment" for $5': "C:\\",
    "A='a'\r\n": "a",
    "# c\n\nA=ü": "ü",
}


@pytest.mark.parametrize("text", LINES)
def test_a_line_of_an_env_file_is_read(text: str) -> None:
    assert list_values(dotenv.read(text, make_options())) == {("my-site", None, "A"): LINES[text]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (f"A=b\n{CANARY}", "line 2: this is not NAME=VALUE"),
        (f"A={CANARY}\nA=x", "line 2: A is set twice"),
        (f"A='{CANARY}", "a quote does not end"),
        (f"A='x' {CANARY}", "a quote does not end where the value does"),
        (f"1A={CANARY}", "not NAME=VALUE"),
        (f"\n\n'A'={CANARY}", "line 3: this is not NAME=VALUE"),
    ],
)
def test_what_an_env_file_cannot_mean_is_refused_without_its_text(text: str, told: str) -> None:
    with pytest.raises(ImportFileError) as caught:
        dotenv.read(text, make_options())
    assert told in str(caught.value)
    assert CANARY not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("expand", [False, True])
@pytest.mark.parametrize(
    ("value", "told"),
    [
        (f"${CANARY}", "needs single quotes"),
        (f'"${CANARY}"', "would be replaced"),
        (f'"`{CANARY}`"', "would be replaced"),
        (f'"$({CANARY})"', "would be replaced"),
        (f'"${{OTHER:-{CANARY}}}"', "would be replaced"),
        (f"#{CANARY}", "needs single quotes"),
        (f"{CANARY}\\n", "needs single quotes"),
        (f"'\\\\{CANARY}'", "use double quotes"),
        (f'"\\\\${CANARY}"', "would be replaced"),
        (f"${{OTHER}}{CANARY}", "it refers to"),
        (f'"${{OTHER}}{CANARY}"', "it refers to"),
    ],
)
def test_a_variable_of_an_env_file_that_readers_differ_on_is_left_out_by_name(
    value: str, told: str, expand: bool
) -> None:
    """The others are read; nothing of the value is shown."""
    content = dotenv.read(f"A={value}\nB=b", make_options()._replace(expand=expand))
    (refusal,) = content.refused
    assert (refusal.what, refusal.name) == ("my-site A", "A")
    assert told in refusal.reason or (expand and "no earlier line" in refusal.reason)
    assert "(line 1)" in refusal.reason
    assert CANARY.rpartition("-")[2] not in refusal.reason
    assert list_values(content) == {("my-site", None, "B"): "b"}


def test_a_variable_of_an_env_file_is_filled_from_its_earlier_lines() -> None:
    """With --expand: in double quotes and without any, where an escaped one stays. CR alone ends lines."""
    text = "A=a\rB=\"$A ${A}\\n\\$A\"\rC=${B}c\rD='${A}'\rE=${F}\rF=f\rG=${E}\r"
    content = dotenv.read(text, make_options()._replace(expand=True))
    told = {name: value for (_, _, name), value in list_values(content).items()}
    assert told == {"A": "a", "B": "a a\n$A", "C": "a a\n$Ac", "D": "${A}", "F": "f"}
    assert [(one.name, one.reason) for one in content.refused] == [
        ("E", "it refers to a variable that no earlier line of the file sets (line 5)"),
        ("G", "it refers to a variable that no earlier line of the file sets (line 7)"),
    ]


def test_chosen_secrets_come_alone() -> None:
    """What is refused elsewhere in the file is of no account; a name that it lacks is an error."""
    content = dotenv.read("A=a\nB=${X}\nC=c", make_options())
    chosen = content.select(frozenset({"A"}))
    assert list_values(chosen) == {("my-site", None, "A"): "a"}
    assert chosen.refused == ()
    assert len(content.select(frozenset({"A", "B"})).refused) == 1
    with pytest.raises(ImportFileError, match="the file has no D"):
        content.select(frozenset({"A", "D"}))


@pytest.mark.parametrize(
    ("kind", "scopes"), [(SecretType.ENV, None), (None, BUILD), (SecretType.COMPOSER, BUILD)], ids=str
)
def test_an_env_file_has_neither_type_nor_scopes(kind: SecretType | None, scopes: frozenset[Scope] | None) -> None:
    with pytest.raises(ImportFileError):
        dotenv.read("A=b", ReadOptions(SITE, kind, scopes))


# --- auth.json ---------------------------------------------------------------------------------------------


def test_each_credential_is_a_secret_and_the_rest_is_named() -> None:
    basic = {"username": "u", "password": "two words"}
    document = {
        "http-basic": {"h.example:8443": basic},
        "bearer": {"h.example": "token"},
        "github-oauth": {},
        "process-timeout": 5,
    }
    content = auth.read(json.dumps(document), make_options(None))
    told = list_values(content)
    assert told["my-site", None, "bearer.h.example"] == "token"
    assert json.loads(told["my-site", None, "http-basic.h.example:8443"] or "") == basic
    assert left(content) == ["'process-timeout'"]


@pytest.mark.parametrize(
    ("host", "what", "reason"),
    [
        ("https://repo.example.org", "bearer for https://repo.example.org", "write repo.example.org"),
        (f"https://H.Example:8443/{CANARY}?x", "bearer for https://H.Example:8443", "write h.example:8443"),
        (f"https://u:12/{CANARY}@h.example/p", "bearer for https://h.example", "write h.example"),
        ("Repo.example.org", "bearer for Repo.example.org", "write repo.example.org"),
        ("repo.example.org/", "bearer for repo.example.org", "write repo.example.org"),
        (f"{CANARY} {CANARY}", "host 1 of bearer", "it is not HOST or HOST:PORT"),
        (f"https://u:{CANARY}/x", "host 1 of bearer", "it is not HOST or HOST:PORT"),
    ],
)
def test_a_host_that_is_a_url_is_named_and_the_good_ones_come_in(host: str, what: str, reason: str) -> None:
    """Composer would never match it. A login or path in it is not shown."""
    (refusal,) = auth.read(json.dumps({"bearer": {host: "x"}}), make_options()).refused
    assert refusal.what == what
    assert reason in refusal.reason
    assert CANARY not in str(refusal)
    good = auth.read(json.dumps({"bearer": {host: "x", "h.example": "token"}, "http-basic": CANARY}), make_options())
    assert list_values(good) == {("my-site", None, "bearer.h.example"): "token"}
    assert [one.what for one in good.refused][-1] == "http-basic"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        f'{{"a": "{CANARY}',
        f'{{"bearer": {{"h": "{CANARY}", "h": "b"}}}}',
    ],
)
def test_what_is_no_auth_json_is_refused_without_its_text(text: str) -> None:
    with pytest.raises(ImportFileError) as caught:
        auth.read(text, make_options())
    assert CANARY not in str(caught.value)


# --- Pantheon ----------------------------------------------------------------------------------------------


def entry(**fields: object) -> dict[str, object]:
    return {"Type": "env", "Value": None, "Scopes": ["ic"], "EnvValues": {}, "OrgValues": {}} | fields


def file(**secrets: object) -> str:
    return json.dumps({"SiteID": "x", "Secrets": secrets, "Count": len(secrets), "Version": "", "Scopes": ["ic"]})


PANTHEON: dict[str, tuple[dict[str, object], bool, dict[tuple[str, str | None, str], str | None], list[str]]] = {
    "a site's": (entry(Value="v"), False, {("my-site", None, "A"): "v"}, []),
    "overridden": (
        entry(Value="v", EnvValues={"dev": "d"}),
        False,
        {("my-site", None, "A"): "v", ("my-site", "dev", "A"): "d"},
        [],
    ),
    "not given": (entry(), False, {}, ["my-site A"]),
    "an override not given": (
        entry(Value="v", EnvValues={"dev": None}),
        False,
        {("my-site", None, "A"): "v"},
        ["my-site.dev A"],
    ),
    "an organization's": (
        entry(OrgValues={"default": "o", "live": "l"}),
        True,
        {("org:agency", None, "A"): "o", ("org:agency", "live", "A"): "l"},
        [],
    ),
    "an organization's, which is not to change": (entry(OrgValues={"default": "o"}), False, {}, ["org:agency A"]),
    "of both": (
        entry(Value="v", OrgValues={"default": "o"}),
        True,
        {("my-site", None, "A"): "v", ("org:agency", None, "A"): "o"},
        [],
    ),
    "an override of what is inherited": (
        entry(EnvValues={"dev": "d"}, OrgValues={"default": "o"}),
        False,
        {("my-site", "dev", "A"): "d"},
        ["org:agency A"],
    ),
    "an organization's override without its base": (
        entry(OrgValues={"default": None, "live": "l"}),
        True,
        {},
        ["org:agency A", "org:agency.live A"],
    ),
    "a type that may be a value": (entry(Value="v", Type=CANARY + "-1"), False, {}, ["A"]),
    "an empty one": (entry(Value=""), False, {("my-site", None, "A"): ""}, []),
    "another type": (entry(Value="v", Type="file"), False, {}, ["A"]),
    "another scope beside": (
        entry(Value="v", Scopes=["ic", "ops"]),
        False,
        {("my-site", None, "A"): "v"},
        ["the scope 'ops' of A"],
    ),
    "another scope alone": (entry(Value="v", Scopes=["ops"]), False, {}, ["A"]),
    "lists for maps, as PHP writes them": (
        entry(Value="v", EnvValues=[], OrgValues=[]),
        False,
        {("my-site", None, "A"): "v"},
        [],
    ),
}


@pytest.mark.parametrize("case", PANTHEON)
def test_what_pantheons_file_says(case: str) -> None:
    secret, with_org, told, omissions = PANTHEON[case]
    content = pantheon.read(file(A=secret), make_options(None, "agency", with_org=with_org))
    assert list_values(content) == told
    assert left(content) == omissions
    assert CANARY not in str(content.omissions)


def test_a_site_without_an_organization_takes_none_from_a_file() -> None:
    content = pantheon.read(file(A=entry(OrgValues={"default": "o"})), make_options(None, None, with_org=True))
    assert (list_values(content), left(content)) == ({}, ["the organization's A"])


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"Secrets": 5}',
        file(A=5),
        file(A=entry(Value=5)),
        file(A=entry(EnvValues="x")),
        file(A=entry(Value="v", EnvValues={"No Env": "x"})),
        '{"Secrets": {"A": 1, "A": 2}}',
    ],
)
def test_what_is_no_file_of_pantheons_is_refused(text: str) -> None:
    with pytest.raises(IcSecretsError):
        pantheon.read(text, make_options())


def make(name: str, text: str, owner: Owner = SITE) -> Secret:
    return Secret(f"{owner} {name}", owner, name, SecretType.RUNTIME, BUILD, SecretValue(text))


# --- YAML and TOML -----------------------------------------------------------------------------------------

READERS = {"yaml": definitions.read_yaml, "toml": definitions.read_toml}
SAME = {
    "yaml": "secrets:\n  A: {type: env, scopes: [ic], value: 007, expires: 2027-01-31, overrides: {dev: d},\n"
    "    hosts: [b.org, a.org]}\n  B.b:\n    type: runtime\n    scopes: ic,web\n    value:\n",
    "toml": '[secrets.A]\ntype = "env"\nscopes = ["ic"]\nvalue = "007"\nexpires = 2027-01-31\noverrides = {dev = "d"}\n'
    'hosts = "b.org, a.org"\n[secrets."B.b"]\ntype = "runtime"\nscopes = "ic,web"\nvalue = ""\n',
}


@pytest.mark.parametrize("form", READERS)
def test_definitions_say_all_of_a_secret_and_may_leave_its_value_open(form: str) -> None:
    content = READERS[form](SAME[form], make_options())
    assert list_values(content) == {
        ("my-site", None, "A"): "007",
        ("my-site", "dev", "A"): "d",
        ("my-site", None, "B.b"): None,
    }
    assert content.empty == ((SITE, None, "B.b"),)
    first = content.secret_set.holdings[0].secrets[0]
    assert (first.type, first.scopes, first.expires) == (SecretType.ENV, BUILD, 1_801_439_999)
    assert first.hosts == ("a.org", "b.org")


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("yaml", "secrets: &a {A: {type: env, scopes: [ic], value: x}}\nmore: *a"),
        ("yaml", "secrets:\n  A: {type: env, scopes: [ic], value: x}\n  A: {type: env, scopes: [ic], value: y}"),
        ("yaml", "secrets: " + "[" * 100_000),
        ("yaml", "secrets: {A: {type: env, scopes: [ic], value: [x]}}"),
        ("yaml", "secrets: {A: {type: env, scopes: [ic], value: x, more: y}}"),
        ("yaml", "secrets: {A: {type: env, value: x}}"),
        ("yaml", "secrets: {A: {type: env, scopes: [ic], value: x, hosts: {a: b}}}"),
        ("yaml", f"secrets: {{A: {{type: env, scopes: [ic], value: x, hosts: ['https://{CANARY}@a.org']}}}}"),
        ("yaml", "secrets: {A: {type: runtime, scopes: [ic], value: x, hosts: [a.org]}}"),
        ("yaml", "secrets: {A: {type: env, scopes: [ic], expires: never}}"),
        ("yaml", "secrets: {A: {type: env, scopes: [ic], value: x, overrides: {No Env: y}}}"),
        ("yaml", f"secrets: {CANARY}: {CANARY}"),
        ("yaml", f"!!python/object/apply:os.system [{CANARY}]"),
        ("toml", f"secrets = '{CANARY}"),
        ("toml", "[secrets.A]\ntype = 'env'\nscopes = ['ic']\nvalue = 5"),
        ("toml", "a." * 20_000 + "b = 1"),
        ("toml", "[secrets.A]\ntype = 'env'\nscopes = ['ic']\n[secrets.A]\n"),
        ("toml", "secrets = 1"),
    ],
    ids=str,
)
def test_what_defines_nothing_is_refused_without_its_text(form: str, text: str) -> None:
    with pytest.raises(IcSecretsError) as caught:
        READERS[form](text, make_options())
    assert CANARY not in str(caught.value)


# --- there and back ----------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
NAMES = st.from_regex("[A-Z_][A-Z0-9_]{0,8}", fullmatch=True)
ENVIRONMENTS = st.sampled_from(["dev", "live", "pr-17"])
SECRETS = st.dictionaries(
    NAMES,
    st.tuples(
        st.sampled_from([SecretType.ENV, SecretType.RUNTIME]),
        st.sets(st.sampled_from(list(Scope)), min_size=1).map(frozenset),
        TEXTS,
        st.dictionaries(ENVIRONMENTS, TEXTS),
        st.none() | st.integers(0, MAX_TIME - 1),
        st.sampled_from([(), ("a.org",), ("a.org", "b.org:8443")]),
    ),
    max_size=5,
)
Drawn = dict[str, tuple[SecretType, frozenset[Scope], str, dict[str, str], int | None, Hosts]]


def hold(drawn: Drawn, owner: Owner = SITE) -> Holdings:
    secrets, overrides = [], []
    for name, (kind, scopes, text, places, expires, hosts) in sorted(drawn.items()):
        times = (1000, 1000, expires)
        hosts = hosts if kind is SecretType.ENV else ()
        secrets.append(Secret(f"{owner} {name}", owner, name, kind, scopes, SecretValue(text), 1, *times, hosts))
        for place, other in sorted(places.items()):
            overrides.append(
                Override(f"{owner} {name}", owner, place, name, kind, scopes, SecretValue(other), 1, 1000, 1000)
            )
    return Holdings(owner, tuple(secrets), tuple(overrides))


def without_expiry(held: Holdings) -> Holdings:
    """Without what Pantheon's file cannot say."""
    return held._replace(secrets=tuple(secret._replace(expires=None, hosts=()) for secret in held.secrets))


@given(SECRETS)
def test_definitions_come_back_as_they_went(drawn: Drawn) -> None:
    held = hold(drawn)
    for write, read in (
        (definitions.write_yaml, definitions.read_yaml),
        (definitions.write_toml, definitions.read_toml),
    ):
        text, omissions = write(SecretSet((), (held,)), SITE)
        assert omissions == ()
        assert read(text, make_options()).secret_set.holdings == (held,)


@given(SECRETS, SECRETS)
def test_pantheons_file_comes_back_as_it_went(drawn: Drawn, lent: Drawn) -> None:
    lent = {name: one for name, one in lent.items() if name not in drawn or one[:2] == drawn[name][:2]}
    own, theirs = without_expiry(hold(drawn)), without_expiry(hold(lent, AGENCY))
    text, omissions = pantheon.write(SecretSet((), (own, theirs)), SITE)
    assert omissions == ()
    content = pantheon.read(text, make_options(None, "agency", with_org=True))
    assert content.omissions == ()
    holdings = {held.owner: held for held in content.secret_set.holdings}
    assert holdings[SITE] == own
    assert holdings.get(AGENCY, Holdings(AGENCY)) == theirs


@given(st.dictionaries(NAMES, TEXTS, max_size=5))
def test_an_env_file_comes_back_as_it_went(values: dict[str, str]) -> None:
    held = hold({name: (SecretType.ENV, BUILD, text, {}, None, ()) for name, text in values.items()})
    text, omissions = dotenv.write(SecretSet((), (held,)), SITE)
    assert omissions == ()
    assert dotenv.read(text, make_options()).secret_set.holdings == (held,)


def test_what_a_format_cannot_say_is_named() -> None:
    held = hold({"A": (SecretType.ENV, BUILD, "v", {"dev": "d"}, 5, ("a.org",))})
    secret_set = SecretSet((), (held, Holdings(AGENCY, (make("B", "b", AGENCY),))))
    written: dict[str, tuple[Omission, ...]] = {
        "env": dotenv.write(secret_set, SITE)[1],
        "auth": auth.write(secret_set, SITE)[1],
        "yaml": definitions.write_yaml(secret_set, SITE)[1],
        "pantheon": pantheon.write(secret_set, SITE)[1],
    }
    assert {form: [one.what for one in omissions] for form, omissions in written.items()} == {
        "env": ["my-site.dev A", "the binding of my-site A to its hosts", "org:agency B"],
        "auth": ["my-site.dev A", "my-site A", "org:agency B"],
        "yaml": ["org:agency B"],
        "pantheon": ["when my-site A expires", "the binding of my-site A to its hosts"],
    }
