"""Which forms of a value are needles, and which parts of a value are secret.

The table of encodings is checked against what PHP, Composer's language, and bash themselves write.
"""

from __future__ import annotations

import base64
import html
import json
import random
import shlex
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from ic_secrets.composer.credential import split_token
from ic_secrets.masking.masker import mask_bytes
from ic_secrets.masking.matcher import Matcher
from ic_secrets.masking.needles import Needle, derive_all, derive_needles, for_search
from ic_secrets.masking.parts import is_common, split_value
from ic_secrets.model.secret import SecretType, SecretValue
from needles import derive, expose

ENV, COMPOSER, RUNTIME = SecretType.ENV, SecretType.COMPOSER, SecretType.RUNTIME
PLAIN = "example-value_0123"
ODD = "p@ss/w\"rd's $x`+é&<b>\\ ~!,;%"


def forms(name: str, kind: SecretType, value: str, *encodings: str) -> set[bytes]:
    needles = derive(name, kind, SecretValue(value))
    return {needle.data for needle in needles if not encodings or needle.encoding in encodings}


def raw(name: str, value: str | list[object] | dict[str, object]) -> set[bytes]:
    return forms(name, COMPOSER, value if isinstance(value, str) else json.dumps(value), "raw")


# --- encodings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        urllib.parse.quote(ODD, safe=""),
        urllib.parse.quote_plus(ODD),
        json.dumps(ODD)[1:-1],
        json.dumps(ODD)[1:-1].replace("/", "\\/"),
        json.dumps(ODD, ensure_ascii=False)[1:-1],
        shlex.quote(ODD)[1:-1],
        ODD.replace("'", "'\\''"),
        ODD.replace("\\", "\\\\").replace("'", "\\'"),
        html.escape(ODD),
        html.escape(ODD).replace("&#x27;", "&#039;"),
        base64.b64encode(ODD.encode()).decode(),
        base64.urlsafe_b64encode(ODD.encode()).decode(),
        ODD.encode().hex(),
        ODD.encode().hex().upper(),
    ],
)
def test_each_encoding_is_masked_whole(form: str) -> None:
    """Whatever stands around it."""
    assert mask_bytes(f"<<{form}>>".encode(), derive("ODD", ENV, SecretValue(ODD))) == b"<<***>>"


def test_encodings_have_stable_words() -> None:
    """Reports are read by programs; where two encoders write the same, the first of these is named."""
    value = SecretValue(ODD + "\n" + PLAIN)
    words = list(dict.fromkeys(needle.encoding for needle in derive("ODD", ENV, value)))
    told = "raw line urlencoded json shell php xml escaped words crlf base64 base64url hex cut"
    assert sorted(words) == sorted(told.split())


def test_lower_case_percent_encoding_is_a_needle() -> None:
    """Upper and lower hex digits, the value's own letters untouched."""
    value = "A/B+C=D\xe9"
    assert forms("N", ENV, value, "urlencoded") >= {b"A%2FB%2BC%3DD%C3%A9", b"A%2fB%2bC%3dD%c3%a9"}


@given(st.binary(max_size=5), st.text(st.characters(codec="ascii", exclude_characters="\0"), min_size=8, max_size=30))
def test_base64_amid_anything_is_masked(before: bytes, value: str) -> None:
    """Whatever stands before and after: but for the edge characters, nothing of the value's own is left."""
    value = value.strip()
    if len(value) < 8:
        return
    matcher = Matcher(derive("N", ENV, SecretValue(value)))
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for after in (b"", b"x", b"yz"):
            text = encode(before + value.encode() + after)
            shown = mask_bytes(text, matcher)
            assert matcher.mark in shown
            assert len(shown) - len(matcher.mark) <= len(encode(before)) + len(encode(after)) + 4


def test_a_pair_is_a_needle_in_every_encoding() -> None:
    """`user:password`, percent-encoded, in base64, and as Composer abridges it; the user alone is not one."""
    found = forms("http-basic.repo.example.org", COMPOSER, "gituser g1t-p4ss/w5rd")
    assert found >= {
        b"g1t-p4ss/w5rd",
        b"gituser:g1t-p4ss/w5rd",
        b"gituser:g1t-p4ss%2Fw5rd",
        base64.b64encode(b"gituser:g1t-p4ss/w5rd"),
        b"g1t...5rd",
        b"git...ser:g1t...5rd",
    }
    assert b"gituser" not in found


def test_a_token_is_paired_as_composer_pairs_it() -> None:
    """`TOKEN:x-oauth-basic` for GitHub, `oauth2:TOKEN` and `TOKEN:private-token` for GitLab."""
    token = "example0123456789"
    assert base64.b64encode(f"{token}:x-oauth-basic".encode()) in forms("github-oauth.github.com", COMPOSER, token)
    assert f"oauth2:{token}".encode() in forms("gitlab-oauth.gitlab.com", COMPOSER, token)
    assert f"{token}:private-token".encode() in forms("gitlab-token.gitlab.com", COMPOSER, token)
    assert b"tok...ple" in forms("bearer.example.org", COMPOSER, "token-example")


def test_each_run_of_bytes_is_listed_once() -> None:
    """What equals the value is `raw`."""
    needles = derive("PLAIN", ENV, SecretValue(PLAIN))
    assert needles[0] == Needle("PLAIN", "raw", PLAIN.encode())
    assert len({needle.data for needle in needles}) == len(needles)
    assert {needle.encoding for needle in needles} == {"raw", "base64", "hex", "escaped", "cut"}


def test_a_needle_shows_no_data() -> None:
    assert PLAIN not in repr(derive("PLAIN", ENV, SecretValue(PLAIN)))


# --- what of a composer credential is secret ------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("http-basic.a.org", "user pass-word", {"pass-word"}),
        ("http-basic.a.org", {"username": "user", "password": "pass word"}, {"pass word"}),
        ("http-basic.a.org", "tok-3xample x-oauth-basic", {"tok-3xample"}),
        ("http-basic.a.org", {"username": "tok-3xample", "password": ""}, {"tok-3xample"}),
        ("http-basic.a.org", "x-access-token tok-3xample", {"tok-3xample"}),
        ("http-basic.a.org", "token tok-3xample", {"tok-3xample"}),
        ("http-basic.a.org", "licence-k3y https://my-site.example.org", {"licence-k3y"}),
        ("http-basic.a.org", "ghp_example0123 pass-word", {"ghp_example0123", "pass-word"}),
        ("http-basic.a.org", "only-one-word", {"only-one-word"}),
        ("http-basic.a.org", "one two-words three-words", {"two-words", "three-words"}),
        ("bearer.a.org", "tok-3xample", {"tok-3xample"}),
        ("bearer.a.org", '"tok-3xample"', {"tok-3xample"}),
        ("github-oauth.github.com", "tok-3xample", {"tok-3xample"}),
        ("gitlab-oauth.gitlab.com", "tok-3xample", {"tok-3xample"}),
        (
            "gitlab-oauth.gitlab.com",
            {"token": "tok-3xample", "refresh-token": "r3fresh-example", "expires-at": 1234567890},
            {"tok-3xample", "r3fresh-example"},
        ),
        ("gitlab-token.gitlab.com", "tok-3xample", {"tok-3xample"}),
        ("gitlab-token.gitlab.com", "someone tok-3xample", {"tok-3xample"}),
        ("gitlab-token.gitlab.com", "tok-3xample private-token", {"tok-3xample"}),
        ("gitlab-token.gitlab.com", {"username": "oauth2", "token": "tok-3xample"}, {"tok-3xample"}),
        ("bitbucket-oauth.bitbucket.org", "consumer-k3y s3cret-example", {"s3cret-example"}),
        (
            "bitbucket-oauth.bitbucket.org",
            {
                "consumer-key": "consumer-k3y",
                "consumer-secret": "s3cret-example",
                "access-token": "m1nted-example",
                "access-token-expiration": 1234567890,
            },
            {"s3cret-example", "m1nted-example"},
        ),
        ("forgejo-token.codeberg.org", "someone tok-3xample", {"tok-3xample"}),
        ("custom-headers.a.org", "X-Key: k3y-example", {"k3y-example"}),
        ("custom-headers.a.org", ["X-Key: k3y-example", "X-Two: tw0-example"], {"k3y-example", "tw0-example"}),
        ("custom-headers.a.org", "Authorization: Bearer tok-3xample", {"Bearer tok-3xample", "tok-3xample"}),
        (
            "custom-headers.a.org",
            "Authorization: Basic dXNlcjpwYXNzLXdvcmQ=",
            {"Basic dXNlcjpwYXNzLXdvcmQ=", "dXNlcjpwYXNzLXdvcmQ=", "pass-word"},
        ),
        (
            "client-certificate.a.org",
            {"local_cert": "/etc/ssl/client.pem", "local_pk": "/etc/ssl/client.key", "passphrase": "pass phrase"},
            {"pass phrase"},
        ),
        ("client-certificate.a.org", {"local_cert": "/etc/ssl/client.pem"}, set()),
        ("custom-headers.a.org", "Authorization: Basic not-base64!", {"Basic not-base64!", "not-base64!"}),
        ("custom-headers.a.org", "Authorization: Basic dXNlcg==", {"Basic dXNlcg==", "dXNlcg=="}),
        ("bearer.a.org", "{not json", {"{not", "json"}),
    ],
)
def test_what_is_secret_in_a_credential(
    name: str, value: str | list[object] | dict[str, object], secret: set[str]
) -> None:
    """User names, consumer keys, paths and header names are not needles by themselves, unless one is the token."""
    assert raw(name, value) == {one.encode() for one in secret}


def test_a_short_password_is_hidden_with_its_user() -> None:
    """The pair is long enough where the password is not."""
    exposed = expose("http-basic.a.org", COMPOSER, SecretValue("user abc"))
    assert b"user:abc" in {needle.data for needle in derive_all([exposed])}
    assert exposed.parts.are_short


# --- lines and leaves -----------------------------------------------------------------------------


def test_each_telling_line_is_a_needle() -> None:
    """Borders and brackets are not, nor is a line that is too short, but together with the line beside them."""
    value = "-----BEGIN EXAMPLE KEY-----\nQUJDREVGR0hJSktM\nTU5PUA==\nQQ==\n-----END EXAMPLE KEY-----\n"
    by_themselves = {line for line in forms("PEM", ENV, value, "line") if b"\n" not in line}
    assert by_themselves == {b"QUJDREVGR0hJSktM", b"TU5PUA=="}
    lines = forms("CONF", RUNTIME, "{\n  option = example-1;\n}\n};;;;\n", "line")
    assert {line for line in lines if b"\n" not in line} == {b"option = example-1;"}


def test_leaves_of_json_are_needles_and_its_lines_are_not() -> None:
    """Whatever is under a key that sounds secret, and what is long; `{` and `"type": …` never."""
    value = json.dumps(
        {
            "type": "service_account",
            "mode": "dev",
            "project": "my-project-4711",
            "password": "abcd",
            "nested": [{"private_key": "-----BEGIN EXAMPLE-----\nQUJDREVGR0hJ\n-----END EXAMPLE-----\n"}],
            "token_uri": "https://oauth2.example.com/token",
            "hook": "https://hooks.example.com/T0/B0/a1b2c3d4e5f6a7b8c9d0",
        },
        indent=2,
    )
    found = derive("ACCOUNT", ENV, SecretValue(value))
    by_encoding = {
        encoding: {needle.data for needle in found if needle.encoding == encoding}
        for encoding in ("raw", "leaf", "line")
    }
    assert by_encoding["raw"] - {value.encode()} == {
        b"my-project-4711",
        b"abcd",
        b"-----BEGIN EXAMPLE-----\nQUJDREVGR0hJ\n-----END EXAMPLE-----",
        b"https://hooks.example.com/T0/B0/a1b2c3d4e5f6a7b8c9d0",
    }
    assert by_encoding["leaf"] == {b"service_account", b"https://oauth2.example.com/token"}
    assert {line for line in by_encoding["line"] if b"\n" not in line} == {b"QUJDREVGR0hJ"}


def test_the_password_in_an_address_is_a_needle() -> None:
    """As it is written, and as it is meant."""
    found = forms("DATABASE_URL", ENV, "mysql://app:p%40ss-example@db/app", "raw", "urlencoded")
    assert found >= {b"p@ss-example", b"p%40ss-example"}


def test_a_password_in_an_address_is_masked_however_short() -> None:
    """With the user's name where it is too short, or a common word, by itself."""
    assert b"short" in forms("DATABASE_URL", ENV, "mysql://app:short@db/app", "raw")
    found = forms("DATABASE_URL", ENV, "mysql://drupal:drupal@db/app")
    assert b"drupal:drupal" in found
    assert b"drupal" not in found
    assert b"app:abc" in forms("DATABASE_URL", ENV, "mysql://app:abc@db/app")


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        (
            "APP_KEY=base64:a1b2c3d4\nDB_PASSWORD='pa ss-1'\nMAIL_PASSWORD=m4il # mine\n",
            ["base64:a1b2c3d4", "pa ss-1", "m4il"],
        ),
        ("export A_TOKEN=t0ken-example\nB=1", ["t0ken-example"]),
        ("DB_PASSWORD=p%40ss-example\nB=1", ["p%40ss-example", "p@ss-example"]),
        ('{"client": {"secret": 8812345566778899}, "pin": 99887766}', ["8812345566778899", "99887766"]),
        (json.dumps({"inner": json.dumps({"password": "s3cret"})}), ["s3cret"]),
        (json.dumps({"url": "pgsql://app:s3cret@db/app"}), ["s3cret"]),
        ("mysql://app:p@ss@db/app", ["p@ss"]),
        ("mysql://app:p/a?ss@db/app", ["p/a?ss"]),
        ("mysql://app:p%40ss@db/app", ["p@ss"]),
        ("https://api.example.org/feed?user=u&api_key=k3y-x&b=1", ["k3y-x"]),
        ("Server=db;User Id=app;Password=s3cret;Encrypt=yes", ["s3cret"]),
        ("host=db user=app password=s3cret", ["s3cret"]),
        ("AccountName=a;AccountKey=QUJDRA==;Suffix=core", ["QUJDRA=="]),
        ("https://a1b2c3d4e5f6@sentry.example.org/1", ["a1b2c3d4e5f6"]),
        ("https://ghx_0123456789:x-oauth-basic@github.com/o/r", ["ghx_0123456789"]),
    ],
)
def test_a_value_inside_a_value_is_masked_by_itself(value: str, secret: list[str]) -> None:
    """Settings, numbers and strings of JSON, logins of addresses, and those inside each other."""
    needles = derive("N", ENV, SecretValue(value))
    for one in secret:
        assert one.encode() in {needle.data for needle in needles}
        assert mask_bytes(f"<{one}>".encode(), needles) == b"<***>"


@pytest.mark.parametrize("user", ["deploy", "build-server"])
def test_a_short_or_plain_user_beside_a_placeholder_is_not_a_token(user: str) -> None:
    """It is a name, which output and files hold for reasons of their own."""
    assert user.encode() not in forms("N", ENV, f"https://{user}:x-oauth-basic@github.com/o/r")


def test_a_value_inside_values_is_looked_for_only_so_deep() -> None:
    """Six of JSON inside each other; nobody writes more, and each one doubles the quotes."""

    def wrap(value: str, times: int) -> str:
        return value if not times else json.dumps({"inner": wrap(value, times - 1)})

    parts = [split_value(wrap('{"password": "s3cret-example"}', times)) for times in (6, 7)]
    assert ["s3cret-example" in part.texts for part in parts] == [True, False]


def test_settings_that_say_nothing_are_not_searched_for() -> None:
    """Hosts, paths and words of a file of settings are in honest files, too."""
    value = "APP_ENV=production\nAPP_URL=https://www.example.org\nSSL_KEY=/etc/ssl/site.key\nAPI_KEY=k3y-example\n"
    found = {needle.data for needle in for_search(derive("N", ENV, SecretValue(value)))}
    assert b"k3y-example" in found
    assert not found & {b"production", b"https://www.example.org", b"/etc/ssl/site.key"}


@pytest.mark.parametrize(
    "form",
    [
        json.dumps(json.dumps(ODD)[1:-1])[1:-1],
        urllib.parse.quote(urllib.parse.quote(ODD, safe=""), safe=""),
        ODD.replace('"', '""'),
        repr(ODD.encode())[2:-1],
        "".join(f"\\x{byte:02x}" for byte in ODD.encode()),
        "".join(f"\\x{byte:02X}" for byte in ODD.encode()),
        urllib.parse.quote(ODD, safe="!$%&'()*+,~"),
        *(
            json.dumps(ODD)[1:-1].replace("<", "\\u003c").replace(">", "\\u003e").replace(mark, f"\\u{ord(mark):04x}")
            for mark in "&'"
        ),
    ],
)
def test_encoded_twice_or_for_html_csv_and_c_is_masked_whole(form: str) -> None:
    """JSON in JSON, URLs in URLs, JavaScript's `new URL()`, HTML-safe JSON with any of its flags, `\\x..`."""
    assert mask_bytes(f"<<{form}>>".encode(), derive("ODD", ENV, SecretValue(ODD))) == b"<<***>>"


@pytest.mark.parametrize("value", [PLAIN, ODD, "Ünïcode-value-0123"])
def test_what_php_shows_in_a_trace_is_masked_and_not_searched_for(value: str) -> None:
    """The first fifteen bytes of an argument, and three dots; a file may hold so little by chance."""
    needles = derive("N", ENV, SecretValue(value))
    start = value.encode()[:15]
    assert mask_bytes(b"#0 a.php(1): f('" + start + b"...')", needles) == b"#0 a.php(1): f('***')"
    assert start + b"..." not in {needle.data for needle in for_search(needles)}


@pytest.mark.parametrize("encode", [base64.b64encode, bytes.hex, json.dumps, urllib.parse.quote, base64.b16encode])
def test_each_line_of_a_value_is_masked_in_every_encoding(encode: Callable[..., str | bytes]) -> None:
    """Programs read a value line by line, and print what they make of each."""
    lines = ['one "first" line/1', "another <second> line", "third&last"]
    needles = derive("N", ENV, SecretValue("\n".join(lines)))
    for line in lines:
        form = encode(line if encode is json.dumps else line.encode())
        form = (form if isinstance(form, bytes) else form.encode()).strip(b'"')
        assert mask_bytes(b"[" + form + b"]", needles) == b"[***]"


def test_a_value_that_a_shell_has_split_into_words_is_masked() -> None:
    """`echo $VALUE`, without quotes."""
    value = "first line of it\n  ab\n\tand the last"
    needles = derive("N", ENV, SecretValue(value))
    assert mask_bytes(" ".join(value.split()).encode(), needles) == b"***"


def test_half_characters_in_json_do_no_harm() -> None:
    assert derive("N", ENV, SecretValue(r'{"token": "abc\ud800def"}'))
    assert derive("N", ENV, SecretValue("[" * 16_000))


# --- short and common values ----------------------------------------------------------------------


@pytest.mark.parametrize("value", ["a", "abc", "\u20ac", "  abc \n"])
def test_a_value_below_four_bytes_is_named_not_masked(value: str) -> None:
    assert derive("SHORT", ENV, SecretValue(value)) == ()
    assert expose("SHORT", ENV, SecretValue(value)).parts.are_short


def test_an_empty_value_is_not_too_short() -> None:
    assert derive("EMPTY", ENV, SecretValue("")) == ()
    assert not expose("EMPTY", ENV, SecretValue("")).parts.are_short


def test_derived_forms_need_six_bytes() -> None:
    """`true` is masked, and so is its hex, but not five characters of its base64."""
    found = derive("FLAG", ENV, SecretValue("true"))
    assert all(len(needle.data) >= 6 for needle in found if needle.encoding != "raw")
    assert {needle.data for needle in found if needle.encoding == "raw"} == {b"true"}


@pytest.mark.parametrize("value", ["true", "production", "localhost", "1234", "20240101", "********", "Password"])
def test_a_common_value_is_masked_and_named_but_not_searched_for(value: str) -> None:
    """Declared secret, it is masked; but files are full of it, and an honest build must pass."""
    exposed = [expose("COMMON", ENV, SecretValue(value)), expose("OTHER", ENV, SecretValue(PLAIN))]
    assert [one.name for one in exposed if one.parts.are_common] == ["COMMON"]
    needles = derive_all(exposed)
    assert mask_bytes(f"mode={value};".encode(), needles).count(value.encode()) == 0
    assert value.encode() not in {needle.data for needle in for_search(needles)}


def test_the_search_looks_for_eight_bytes_and_more() -> None:
    """And not for what a JSON value says in public."""
    value = json.dumps({"type": "service_account", "token": "abcdefg", "id": "example-0123"})
    found = {needle.data for needle in for_search(derive("N", ENV, SecretValue(value)))}
    assert b"example-0123" in found
    assert not found & {b"abcdefg", b"service_account"}
    assert min(map(len, found)) >= 8


@pytest.mark.parametrize("cut", range(64, 2900, 97))
def test_a_long_value_is_found_by_pieces_wherever_a_database_cuts_it(cut: int) -> None:
    """The search finds a piece on each side that is long enough to hold one."""
    value = random.Random(cut).randbytes(1500).hex()
    pieces = [each.data for each in for_search(derive("N", ENV, SecretValue(value))) if each.encoding == "piece"]
    for side in (value[:cut], value[cut:]):
        assert len(side) < 64 + 192 or any(piece.decode() in side for piece in pieces)
    assert {len(piece) for piece in pieces} == {64}


@pytest.mark.parametrize("value", [random.Random(1).randbytes(256).hex(), "ab0-" * 400])
def test_a_value_that_is_not_long_or_hardly_varies_has_no_pieces(value: str) -> None:
    """The one is kept in one run of bytes; a piece of the other could be anybody's."""
    assert "piece" not in {each.encoding for each in for_search(derive("N", ENV, SecretValue(value)))}


def test_an_uncommon_value_is_not_common() -> None:
    assert not any(map(is_common, [PLAIN, "correct horse", "12345678901234", "aab"]))


# --- tokens found later ---------------------------------------------------------------------------


def test_a_token_that_was_minted_has_needles_too() -> None:
    found = {
        needle.data
        for needle in derive_needles(
            "bitbucket-oauth.bitbucket.org", split_token("bitbucket-oauth.bitbucket.org", "m1nted-example\n")
        )
    }
    assert found >= {b"m1nted-example", b"x-token-auth:m1nted-example", b"m1n...ple"}


# --- how many -------------------------------------------------------------------------------------


def test_fifty_secrets_have_some_hundreds_of_needles() -> None:
    """Enough for every encoding, few enough for the matcher."""
    chance = random.Random(1)
    values = ["".join(chance.choices("ABCDEFGHJKLMNPQRSTabcdefghijkmnp23456789", k=32)) for _ in range(50)]
    needles = derive_all(expose(f"N{at}", ENV, SecretValue(value)) for at, value in enumerate(values))
    assert 300 < len(needles) < 1000
