"""What leads a build's programs to the broker, and what they trust there."""

from __future__ import annotations

import datetime
import os
import re
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ic_secrets.broker.environment import Lead, list_hosts, make_lead, make_neutral
from ic_secrets.broker.order import Bound, Order
from ic_secrets.broker.trust import find_authorities, read_curlrc, read_wgetrc, render_bundle
from ic_secrets.composer.credential import Credential
from ic_secrets.composer.methods import imply_domains, map_hosts

URL = "http://ics:pass@127.0.0.1:1234"
PLACE = "/dev/shm/ic-secrets-0-1"
BUNDLE = f"{PLACE}/broker/bundle.pem"


def order(*names: str, bound: tuple[str, ...] = ()) -> Order:
    pairs = [name.split(".", 1) for name in names]
    credentials = tuple(Credential(f"{method}.{host}", method, host, "t") for method, host in pairs)
    places = (Bound("KEY", "ics_x", "v", bound),) if bound else ()
    return Order(credentials, places, forges=map_hosts(), password="pass")


def lead(told: Order, environment: dict[str, str] | None = None, wgetrc: bytes = b"", curlrc: bytes = b"") -> Lead:
    return make_lead(told, 1234, b"PEM", PLACE, environment or {}, wgetrc, curlrc)


@pytest.mark.parametrize(
    ("program", "names"),
    [
        ("Composer", ["https_proxy", "http_proxy", "CGI_HTTP_PROXY", "cgi_http_proxy"]),
        ("curl, git and wget", ["https_proxy", "http_proxy"]),
        ("Guzzle", ["HTTPS_PROXY", "HTTP_PROXY"]),
        ("pip, whatever a pip.conf says", ["PIP_PROXY"]),
        ("npm, whatever an npmrc says", ["npm_config_proxy", "npm_config_https_proxy"]),
    ],
)
def test_each_program_finds_the_proxy_in_the_variables_that_it_reads(program: str, names: list[str]) -> None:
    variables = lead(order("bearer.a.org")).variables
    assert [variables[name] for name in names] == [URL] * len(names), program


@pytest.mark.parametrize(
    "name",
    """COMPOSER_CAFILE SSL_CERT_FILE CURL_CA_BUNDLE GIT_SSL_CAINFO NODE_EXTRA_CA_CERTS npm_config_cafile
    REQUESTS_CA_BUNDLE""".split(),
)
def test_each_program_finds_the_bundle_in_the_variable_that_it_reads(name: str) -> None:
    made = lead(order("bearer.a.org"))
    assert made.variables[name] == BUNDLE
    assert made.files["broker/bundle.pem"] == b"PEM"


@pytest.mark.parametrize(
    "name", ["no_proxy", "NO_PROXY", "No_Proxy", "npm_config_no_proxy", "NPM_CONFIG_NOPROXY", "Https_Proxy"]
)
def test_what_would_take_a_host_out_or_name_another_proxy_is_not_in_the_build(name: str) -> None:
    environment = lead(order("bearer.a.org"), {name: "a.org", "HOME": "/home/me"}).apply({name: "a.org", "HOME": "/me"})
    assert name not in environment
    assert environment["HOME"] == "/me"


def test_npm_exempts_no_host_whatever_an_npmrc_says() -> None:
    """It reads no empty variable."""
    assert (
        lead(order("bearer.a.org"), {"npm_config_noproxy": "a.org"}).variables["npm_config_noproxy"] == "none.invalid"
    )


def test_a_proxy_for_everything_is_replaced_and_otherwise_not_invented() -> None:
    assert "all_proxy" not in lead(order("bearer.a.org")).variables
    variables = lead(order("bearer.a.org"), {"ALL_PROXY": "http://corp:3128"}).variables
    assert (variables["ALL_PROXY"], variables["all_proxy"]) == (URL, URL)


def test_programs_that_few_builds_use_are_told_only_where_they_were() -> None:
    assert "PIP_CERT" not in lead(order("bearer.a.org")).variables
    assert lead(order("bearer.a.org"), {"PIP_CERT": "/own.pem"}).variables["PIP_CERT"] == BUNDLE


@pytest.mark.parametrize(
    ("inherited", "expected"),
    [
        ({}, f":{PLACE}/broker/php"),
        ({"PHP_INI_SCAN_DIR": "/mine:"}, f"/mine::{PLACE}/broker/php"),
        ({"PHP_INI_SCAN_DIR": ""}, f"{PLACE}/broker/php"),
    ],
    ids=["the system's directory stays", "the person's stays", "none stays none"],
)
def test_php_reads_our_directory_last(inherited: dict[str, str], expected: str) -> None:
    made = lead(order("bearer.a.org"), inherited)
    assert made.variables["PHP_INI_SCAN_DIR"] == expected
    lines = made.files["broker/php/ic-secrets.ini"].decode().splitlines()
    assert lines == [f"openssl.cafile = '{BUNDLE}'", f"curl.cainfo = '{BUNDLE}'"]


def test_git_is_told_a_proxy_for_each_host_after_what_it_was_told_before() -> None:
    made = lead(order("bearer.a.org", "http-basic.b.org:8443", bound=("c.org",)), {"GIT_CONFIG_COUNT": "2"})
    assert made.variables["GIT_CONFIG_COUNT"] == "3"
    assert made.variables["GIT_CONFIG_KEY_2"] == "include.path"
    assert made.variables["GIT_CONFIG_VALUE_2"] == f"{PLACE}/broker/gitconfig"
    assert made.variables["GIT_HTTP_PROXY_AUTHMETHOD"] == "basic"
    text = made.files["broker/gitconfig"].decode()
    for url in ("https://a.org/", "https://b.org:8443/", "https://c.org/", "http://a.org/"):
        assert f'[http "{url}"]\n\tproxy = "{URL}"\n' in text
    assert "insteadOf" not in text


@pytest.mark.parametrize(
    ("name", "is_turned"),
    [
        ("github-oauth.github.com", True),
        ("github-oauth.github.example.org", True),
        ("gitlab-oauth.gitlab.example.org", True),
        ("gitlab-token.gitlab.com", True),
        ("bitbucket-oauth.bitbucket.org", True),
        ("forgejo-token.codeberg.org", True),
        ("http-basic.gitlab.com", True),
        ("http-basic.git.example.org", False),  # Composer goes there by SSH too
        ("gitlab-token.gitlab.example.org:8443", False),  # SSH has another port
    ],
)
def test_a_url_of_ssh_becomes_https_where_composer_itself_would_go_there(name: str, is_turned: bool) -> None:
    host = name.split(".", 1)[1]
    text = lead(order(name)).files["broker/gitconfig"].decode()
    section = f'[url "https://{host}/"]\n\tinsteadOf = "git@{host}:"\n\tinsteadOf = "ssh://git@{host}/"\n'
    assert (section in text) is is_turned


def test_wget_keeps_what_the_person_told_it_and_goes_to_the_broker(tmp_path: Path) -> None:
    (tmp_path / ".wgetrc").write_text("tries = 2\nhttps_proxy = http://corp:3128")
    wgetrc = read_wgetrc({"HOME": str(tmp_path)})
    text = lead(order("bearer.a.org"), wgetrc=wgetrc).files["broker/wgetrc"].decode()
    lines = text.splitlines()
    assert lines[0] == "tries = 2"
    assert lines.index(f"https_proxy = {URL}") > lines.index("https_proxy = http://corp:3128")
    assert lines[-1] == f"ca_certificate = {BUNDLE}"


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("CURL_HOME", ".curlrc"),
        ("XDG_CONFIG_HOME", "curlrc"),
        ("XDG_CONFIG_HOME", ".curlrc"),
        ("HOME", ".curlrc"),
        ("HOME", ".config/curlrc"),
    ],
)
def test_curl_keeps_what_the_person_told_it_and_goes_to_the_broker(tmp_path: Path, variable: str, name: str) -> None:
    """What a curlrc says of proxies beats every variable, so its last lines are ours."""
    (tmp_path / ".config").mkdir()
    (tmp_path / name).write_text("retry = 2\nproxy = corp:3128")
    curlrc = read_curlrc({"HOME": "/nowhere", variable: str(tmp_path)})
    made = lead(order("bearer.a.org"), curlrc=curlrc)
    lines = made.files["broker/curl/.curlrc"].decode().splitlines()
    assert lines[0] == "retry = 2"
    assert lines.index(f'proxy = "{URL}"') > lines.index("proxy = corp:3128")
    assert made.variables["CURL_HOME"] == f"{PLACE}/broker/curl"
    assert "CURL_HOME" not in lead(order("bearer.a.org")).variables


def test_the_hosts_are_those_of_all_secrets() -> None:
    assert list_hosts(order("bearer.a.org", bound=("b.org", "c.org:1"))) == {"a.org", "b.org", "c.org:1"}
    assert list_hosts(Order()) == frozenset()


def test_what_leads_to_the_broker_does_not_show_its_password() -> None:
    assert "pass@" not in repr(lead(order("bearer.a.org")))


# --- domains ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("credentials", "config", "expected"),
    [
        ([("github-oauth", "github.com"), ("gitlab-token", "gitlab.com"), ("forgejo-token", "codeberg.org")], {}, {}),
        ([("http-basic", "a.org"), ("bearer", "a.org"), ("bitbucket-oauth", "bitbucket.org")], {}, {}),
        ([("github-oauth", "g.org")], {}, {"github-domains": ["github.com", "g.org"]}),
        ([("gitlab-oauth", "g.org")], {}, {"gitlab-domains": ["gitlab.com", "g.org"]}),
        (
            [("gitlab-oauth", "g.org"), ("gitlab-token", "h.org:8443")],
            {"gitlab-domains": ["own.org", "g.org"]},
            {"gitlab-domains": ["gitlab.com", "own.org", "g.org", "h.org:8443"]},
        ),
        ([("forgejo-token", "f.org")], {"forgejo-domains": "?"}, {"forgejo-domains": ["codeberg.org", "f.org"]}),
    ],
)
def test_a_credential_implies_that_its_host_is_a_forge(
    credentials: list[tuple[str, str]], config: dict[str, object], expected: dict[str, list[str]]
) -> None:
    """Without it, Composer takes the repository by plain git, and the lock has no archive."""
    assert imply_domains(credentials, config) == expected


# --- authorities ------------------------------------------------------------------------------------


def certificate(name: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime(2026, 1, 1)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "own.pem"
    path.write_bytes(certificate("own"))
    return path


def test_the_bundle_has_the_certificates_of_all_once_and_nothing_else(own: Path, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    other = tmp_path / "other.pem"
    other.write_bytes(b"words\r\n" + own.read_bytes().replace(b"\n", b"\r\n") + key + certificate("other"))
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    paths = [str(own), str(other), str(broken), str(tmp_path / "missing.pem")]
    bundle = render_bundle(paths, certificate("ours").decode())
    blocks = re.findall(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", bundle, re.DOTALL)
    names = [x509.load_pem_x509_certificate(block).subject.rfc4514_string() for block in blocks[-3:]]
    assert names == ["CN=own", "CN=other", "CN=ours"]
    assert b"".join(blocks) == bundle
    assert len(blocks) > 50 or not os.path.exists("/etc/ssl/certs/ca-certificates.crt")
    ssl.create_default_context(cadata=bundle.decode())  # OpenSSL takes it whole


@pytest.mark.parametrize(
    "where",
    """SSL_CERT_FILE COMPOSER_CAFILE CURL_CA_BUNDLE GIT_SSL_CAINFO NODE_EXTRA_CA_CERTS npm_config_cafile SSL_CERT_DIR
    GIT_SSL_CAPATH config.cafile config.capath git.http.sslcainfo git.http.https://a.org/.sslcainfo git.http.sslcapath
    php.PHPRC php.PHP_INI_SCAN_DIR .npmrc .wgetrc .curlrc""".split(),
)
def test_an_authority_is_found_wherever_the_person_names_it(where: str, own: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    environment, config, git = {"HOME": str(home)}, {}, []
    directory, _, name = where.rpartition(".")
    is_directory = where.lower().endswith(("path", "dir"))
    value = str(own.parent if is_directory else own)
    if where.startswith("config."):
        config[name] = value
    elif where.startswith("git."):
        git.append((where.removeprefix("git."), value))
    elif directory == "php":
        ini = home / ("php.ini" if name == "PHPRC" else "ca.ini")
        ini.write_text(f'; a comment\nopenssl.cafile="{own}" ; the rest\n')
        environment[name] = str(home)
    elif where == ".npmrc":
        (home / ".npmrc").write_text(f"registry=https://r.org/\ncafile = {own}\n")
    elif where == ".curlrc":
        (home / ".curlrc").write_text(f'--cacert "{own}"\n')
    elif where == ".wgetrc":
        (home / ".wgetrc").write_text(f"ca_certificate={own}\n")
    else:
        environment[where] = value
    assert str(own) in find_authorities(environment, config, git)


def test_a_file_of_two_names_is_found_once(own: Path, tmp_path: Path) -> None:
    """As in the directories of OpenSSL, where a link named after the subject leads to each file."""
    (tmp_path / "00000000.0").symlink_to(own)
    assert len(find_authorities({"SSL_CERT_DIR": str(tmp_path), "SSL_CERT_FILE": str(own), "HOME": "/"}, {}, [])) == 1


def test_a_file_that_is_not_there_is_not_found_nor_what_is_not_text() -> None:
    assert "/nowhere.pem" not in find_authorities({"SSL_CERT_FILE": "/nowhere.pem"}, {"cafile": 1, "capath": ["x"]}, [])


def test_a_name_below_the_home_is_found_there(tmp_path: Path) -> None:
    (tmp_path / "own.pem").write_bytes(b"")
    environment = {"HOME": str(tmp_path)}
    for value in ("~/own.pem", "$HOME/own.pem", "${HOME}/own.pem"):
        assert find_authorities(environment, {"cafile": value}, [])[0] == f"{tmp_path}/own.pem"


@pytest.mark.parametrize(
    ("name", "is_path"), [("GIT_SSL_CAINFO", True), ("SSL_CERT_FILE", True), ("PHP_INI_SCAN_DIR", False)]
)
def test_what_cannot_be_unset_gets_a_value_that_changes_nothing(name: str, is_path: bool) -> None:
    value = make_neutral(name)
    assert os.path.isfile(value) if is_path else value == ":/dev/null"


def test_most_variables_may_be_empty() -> None:
    assert {make_neutral(name) for name in ("https_proxy", "CURL_CA_BUNDLE", "WGETRC", "COMPOSER_CAFILE")} == {""}
