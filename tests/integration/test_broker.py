"""Builds with a broker: real Composer and git install from every kind of host, and hold no credential."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import pytest

from broker_sites import BrokerSite, add_github_package, installed, write_collector, write_project
from searching import search_tree
from servers.network import CERTIFIED, Network


def test_a_build_installs_by_every_method_and_finds_no_value_anywhere(
    site: BrokerSite, network: Network, tmp_path: Path, private: Path
) -> None:
    """A script of the build copies all that it can read; the same project without a broker shows every value."""
    site.store()
    project = network.write_project(tmp_path / "project")
    collected = tmp_path / "collected"
    collected.mkdir()
    home = site.cli.home["HOME"]
    places = (home, str(private), ".")
    write_collector(project, collected / "all", *places)
    site.run("composer", "install", "--no-interaction", cwd=project, options=("--broker", "--leaks", "off"))
    assert installed(project) == sorted(network.packages)
    assert (collected / "all").stat().st_size > 100_000
    assert b"COMPOSER_CAFILE=" in (collected / "all").read_bytes()
    assert search_tree([collected], network.needles) == []
    assert search_tree([Path(home), project], network.needles) == []
    assert set(site.traffic) >= {"basic.example.org", CERTIFIED, "api.github.com", "gitlab.com", "codeberg.org"}
    assert site.traffic["api.github.com"]["secrets"] == ["github-oauth.github.com"]
    assert site.traffic["codeload.github.com"]["secrets"] == []
    assert all(each["requests"] > 0 and each["bytes_in"] > 0 for each in site.traffic.values())
    for secret in site.receipt["secrets"]:
        assert secret["destination"]["broker"] is True

    known = [name for name in network.packages if name not in {"headers", "mtls", "forgejo"}]  # to Composer 2.5.5
    other = network.write_project(tmp_path / "other", known)
    write_collector(other, collected / "all", *places)
    site.run("composer", "install", "--no-interaction", cwd=other, options=("--leaks", "off"))
    assert installed(other) == sorted(known)
    for name, value in network.values.items():
        assert search_tree([collected], [value.encode()]), name


def test_a_push_is_refused_in_words_that_git_prints(site: BrokerSite, network: Network, tmp_path: Path) -> None:
    site.store(["github-oauth.github.com"])
    project = network.write_project(tmp_path / "project", ["github"])
    url = "https://github.com/acme/github.git"
    site.run("git", "clone", "--quiet", url, "clone", cwd=project)
    push = ("git", "-C", "clone", "push", "--quiet", "origin", "HEAD:refs/heads/mine")
    done = site.run(*push, cwd=project, check=128)
    assert b"403" in done.stderr
    assert b"ic-secrets: " in done.stderr
    assert not [each for each in network.requests if "receive-pack" in each.path]
    assert site.traffic["github.com"]["refused"] > 0
    site.run(*push, cwd=project, options=("--broker", "--allow-write", "github.com"))
    assert network.find("github.com", "/acme/github.git/git-receive-pack")[-1].status == 200
    network.github.repositories["acme/github"].run("update-ref", "-d", "refs/heads/mine")


@pytest.mark.parametrize("user", ["ics:wrong@", ""])
def test_whoever_does_not_know_the_password_of_the_broker_gets_407(site: BrokerSite, tmp_path: Path, user: str) -> None:
    site.store(["bearer.bearer.example.org"])
    ask = f'curl -sS -x "http://{user}${{https_proxy##*@}}" https://bearer.example.org/packages.json'
    done = site.run("sh", "-c", ask, cwd=tmp_path, check=None)
    assert done.returncode != 0
    assert b"407" in done.stderr
    assert site.network.find("bearer.example.org") == []


def test_the_password_of_the_broker_is_masked(site: BrokerSite, tmp_path: Path) -> None:
    site.store(["bearer.bearer.example.org"])
    done = site.run("sh", "-c", 'echo "$https_proxy"', cwd=tmp_path)
    assert b"http://ics:***@127.0.0.1:" in done.stdout


@pytest.mark.parametrize(
    "url",
    [
        "https://gitlab.com/api/v4/projects/acme%2Fgitlab/variables",
        "https://api.github.com/repos/acme/github/hooks",
        "https://api.github.com/repos/acme/hidden",
    ],
)
def test_what_no_build_needs_is_asked_without_the_credential(
    site: BrokerSite, network: Network, tmp_path: Path, url: str
) -> None:
    site.store()
    project = network.write_project(tmp_path / "project", ["github", "gitlab"])
    done = site.run("curl", "-sS", "-w", "%{http_code}", url, cwd=project)
    assert done.stdout.endswith((b"404", b"403"))
    assert network.gitlab.variable.encode() not in done.stdout
    assert network.github.hook.encode() not in done.stdout


def test_a_post_is_refused_and_counted_unless_it_is_announced(
    site: BrokerSite, network: Network, tmp_path: Path
) -> None:
    site.store(["bearer.bearer.example.org"])
    url = "https://bearer.example.org/account"
    done = site.run("curl", "-sS", "-w", "%{http_code}", "-X", "DELETE", url, cwd=tmp_path)
    assert done.stdout.endswith(b"403")
    assert b"ic-secrets: " in done.stdout
    assert network.find("bearer.example.org") == []
    assert site.traffic["bearer.example.org"]["refused"] == 1
    options = ("--broker", "--allow-write", "bearer.example.org")
    done = site.run("curl", "-sS", "-w", "%{http_code}", "-X", "DELETE", url, cwd=tmp_path, options=options)
    assert done.stdout.endswith(b"200")


# --- what Composer does -----------------------------------------------------------------------------


def test_an_update_finds_a_private_package_that_nobody_named(
    site: BrokerSite, network: Network, tmp_path: Path
) -> None:
    site.store()
    add_github_package(network.bearer.added, network, "hidden")
    required = {"acme/bearer": "*", "acme/hidden": "*"}
    project = network.write_project(tmp_path / "project", ["bearer"], require=required)
    site.run("composer", "update", "--no-interaction", cwd=project)
    assert installed(project) == ["bearer", "hidden"]


def test_the_second_page_of_tags_is_read(site: BrokerSite, network: Network, tmp_path: Path) -> None:
    site.store(["github-oauth.github.com"])
    last = network.github.repositories["acme/many"].list_refs("tags")[-1][0]
    repository = {"type": "vcs", "url": "https://github.com/acme/many"}
    project = write_project(tmp_path / "project", repository, "acme/many", last)
    site.run("composer", "update", "--no-interaction", cwd=project)
    assert installed(project) == ["many"]
    assert {each.status for each in network.find("api.github.com", "/repositories/")} == {200}


def test_a_renamed_repository_is_found(site: BrokerSite, network: Network, tmp_path: Path) -> None:
    site.store(["github-oauth.github.com"])
    repository = {"type": "vcs", "url": "https://github.com/acme/old"}
    project = write_project(tmp_path / "project", repository, "acme/renamed", "^1.0")
    site.run("composer", "update", "--no-interaction", cwd=project)
    assert installed(project) == ["renamed"]


def test_a_public_package_is_installed_though_bare_requests_are_used_up(
    site: BrokerSite, network: Network, tmp_path: Path
) -> None:
    """The repository that names it is only joined, so nobody told the broker of the package."""
    site.store(["github-oauth.github.com"])
    add_github_package(network.public.added, network, "open")
    repository = {"type": "composer", "url": "https://public.example.org"}
    project = write_project(tmp_path / "project", repository, "acme/open", "*")
    site.run("composer", "update", "--no-interaction", cwd=project)
    assert installed(project) == ["open"]
    assert site.traffic["public.example.org"]["joined"] > 0
    assert [each.status for each in network.find("api.github.com", "/repos/acme/open/zipball")] == [403, 302]


def test_sources_at_ssh_urls_are_fetched_by_https(site: BrokerSite, network: Network, tmp_path: Path) -> None:
    site.store()
    names = ["github", "gitlab", "selfhosted", "bitbucket"]
    project = network.write_project(tmp_path / "project", names)
    site.run("composer", "update", "--no-interaction", "--prefer-source", cwd=project, env={"GIT_SSH_COMMAND": "false"})
    assert installed(project) == sorted(names)
    assert all((project / "vendor" / "acme" / name / ".git").is_dir() for name in names)


def test_composer_audit_asks_for_advisories(site: BrokerSite, network: Network, tmp_path: Path) -> None:
    site.store(["http-basic.basic.example.org"])
    project = network.write_project(tmp_path / "project", ["basic"], require={"acme/basic": "1.0.0"})
    site.run("composer", "update", "--no-interaction", cwd=project)
    assert "downloads" in network.basic.told
    done = site.run("composer", "audit", "--no-interaction", cwd=project, check=None)
    assert done.returncode == 1
    assert b"A hole" in done.stdout + done.stderr
    assert network.find("basic.example.org", "/advisories")[-1].sender == "basic"


def test_a_refused_credential_is_named_by_composer(site: BrokerSite, network: Network, tmp_path: Path) -> None:
    site.cli("init", check=0)
    site.set("bearer.bearer.example.org", "expired", "--type", "composer")
    project = network.write_project(tmp_path / "project", ["bearer"])
    done = site.run("composer", "update", "--no-interaction", cwd=project, check=None)
    assert done.returncode not in {0, 125}
    assert b"bearer.bearer.example.org" in done.stderr
    assert b"interactive console" not in done.stderr


# --- values that are bound to hosts -----------------------------------------------------------------


def test_a_licence_key_is_put_in_on_the_way_to_its_host_alone(
    site: BrokerSite, network: Network, tmp_path: Path
) -> None:
    """The ways of ACF PRO (query, Basic pair), Gravity Forms, WPML (signed archives), and a shop (form, JSON)."""
    licences = network.licences
    site.cli("init", check=0)
    names = dict(zip(("ACF_KEY", "GF_KEY", "WPML_KEY", "EDD_KEY"), licences.names, strict=False))
    for name, host in names.items():
        site.set(name, licences.keys[host], "--type", "env", "--hosts", host)
    script = tmp_path / "licences.sh"
    script.write_text(f"""set -eu
get() {{ curl -sS --fail-with-body "$@"; }}
test "${{ACF_KEY#ics_}}" != "$ACF_KEY"
get "https://connect.advancedcustomfields.com/v2/plugins/download?p=pro&k=$ACF_KEY&t=6.3" -o acf-query.zip
get -u "$ACF_KEY:{licences.site}" https://connect.advancedcustomfields.com/packages/plugin.zip -o acf-pair.zip
url=$(get "https://gravityapi.com/wp-content/plugins/gravitymanager/api.php?op=get_plugin&key=$GF_KEY" |
  sed 's/.*"\\(https[^"]*\\)".*/\\1/')
get "$url" -o gravity.zip
get -L "https://wpml.org/?download=1&user_id=2&subscription_key=$WPML_KEY" -o wpml.zip
get --data-urlencode "license=$EDD_KEY" -d edd_action=get_version https://shop.example.org/edd >form
get -H 'Content-Type: application/json' -d "{{\\"license\\": \\"$EDD_KEY\\"}}" https://shop.example.org/edd >json
curl -sS "https://public.example.org/?k=$EDD_KEY" -o stranger
curl -sS "https://wpml.org/?download=1&subscription_key=$GF_KEY" -o other
""")
    site.run("sh", str(script), cwd=tmp_path)
    for name in ("acf-query", "acf-pair", "gravity", "wpml"):
        assert (tmp_path / f"{name}.zip").read_bytes().startswith(b"PK"), name
    for name in ("form", "json"):
        assert "package" in json.loads((tmp_path / name).read_text())
    attempts = {(each["name"], each["host"]) for each in site.receipt["broker"]["attempts"]}
    assert ("GF_KEY", "wpml.org") in attempts
    assert site.traffic["gravityapi.com"]["secrets"] == ["GF_KEY"]


def test_a_plugin_that_fills_in_a_licence_key_downloads_its_package(
    site: BrokerSite, network: Network, tmp_path: Path
) -> None:
    """As ffraenz/private-composer-installer does: the lock keeps the name of the variable."""
    host = "connect.advancedcustomfields.com"
    site.cli("init", check=0)
    site.set("ACF_KEY", network.licences.keys[host], "--type", "env", "--hosts", host)
    project = write_plugin_project(
        tmp_path / "project", f"https://{host}/v2/plugins/download?p=pro&k={{%ACF_KEY}}&t=6.3"
    )
    site.run("composer", "update", "--no-interaction", cwd=project)
    assert (project / "vendor" / "acme" / "acf" / "plugin.php").is_file()
    assert "{%ACF_KEY}" in (project / "composer.lock").read_text()
    lock = (project / "composer.lock").read_bytes()
    site.run("composer", "install", "--no-interaction", cwd=project)
    assert (project / "composer.lock").read_bytes() == lock


_PLUGIN = r"""<?php
namespace Acme;
use Composer\Composer;
use Composer\IO\IOInterface;
class Installer implements \Composer\Plugin\PluginInterface, \Composer\EventDispatcher\EventSubscriberInterface
{
    public function activate(Composer $composer, IOInterface $io) {}
    public function deactivate(Composer $composer, IOInterface $io) {}
    public function uninstall(Composer $composer, IOInterface $io) {}
    public static function getSubscribedEvents() { return ['pre-file-download' => 'fill']; }
    public function fill($event) {
        $url = $event->getProcessedUrl();
        $event->setProcessedUrl(preg_replace_callback('/\{%(\w+)\}/', fn ($found) => getenv($found[1]), $url));
    }
}
"""


def write_plugin_project(directory: Path, url: str) -> Path:
    plugin = directory / "plugin"
    plugin.mkdir(parents=True)
    (plugin / "Installer.php").write_text(_PLUGIN)
    about = {
        "name": "acme/installer",
        "type": "composer-plugin",
        "version": "1.0.0",
        "require": {"composer-plugin-api": "^2.0"},
        "autoload": {"classmap": ["Installer.php"]},
        "extra": {"class": "Acme\\Installer", "plugin-modifies-downloads": True},
    }
    (plugin / "composer.json").write_text(json.dumps(about))
    package = {
        "name": "acme/acf",
        "version": "6.3.0",
        "dist": {"type": "zip", "url": url},
        "require": {"acme/installer": "*"},
    }
    manifest = {
        "repositories": [
            {"type": "path", "url": "plugin"},
            {"type": "package", "package": package},
            {"packagist.org": False},
        ],
        "require": {"acme/acf": "*"},
        "config": {"allow-plugins": {"acme/installer": True}},
    }
    (directory / "composer.json").write_text(json.dumps(manifest))
    return directory


# --- what would lead past it ------------------------------------------------------------------------


def test_a_project_with_authorities_of_its_own_is_refused_before_anything_is_asked(
    site: BrokerSite, network: Network, tmp_path: Path
) -> None:
    site.store(["bearer.bearer.example.org"])
    project = network.write_project(tmp_path / "project", ["bearer"], config={"cafile": "ca.pem"})
    done = site.run("composer", "update", "--no-interaction", cwd=project, check=125)
    assert b"cafile" in done.stderr
    assert network.requests == []


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["[http]", "proxy = http://127.0.0.1:1", "sslVerify = true"], 0),
        (['[http "https://github.com/"]', "proxy = http://127.0.0.1:1", "sslCAInfo = /etc/hostname"], 0),
        (['[url "https://github.com/"]', "insteadOf = gh:"], 0),
        (['[http "https://github.com/acme"]', "proxy = http://127.0.0.1:1"], 125),
        (['[url "git@github.com:"]', "insteadOf = https://github.com/"], 125),
    ],
    ids=["a proxy", "a proxy and an authority for the host", "another prefix", "a longer proxy", "ssh"],
)
def test_gits_own_configuration_does_not_lead_past_the_broker(
    site: BrokerSite, network: Network, tmp_path: Path, lines: list[str], status: int
) -> None:
    site.store(["github-oauth.github.com"])
    Path(site.cli.home["HOME"], ".gitconfig").write_text("\n".join(lines) + "\n")
    project = network.write_project(tmp_path / "project", ["github"])
    site.run("git", "ls-remote", "https://github.com/acme/github.git", cwd=project, check=status)
    assert bool(network.find("github.com")) is (status == 0)


# --- the other forms of credentials, and of programs ------------------------------------------------


@pytest.mark.parametrize("form", ["job", "deploy"])
def test_the_tokens_of_a_ci_job_and_of_a_deployment_work_at_gitlab(
    site: BrokerSite, network: Network, tmp_path: Path, form: str
) -> None:
    """For the registry of packages, which Composer asks as any repository, and for git."""
    pair = {"job": ("gitlab-ci-token", network.selfhosted.job), "deploy": network.selfhosted.deploy}[form]
    site.cli("init", check=0)
    content = {"username": pair[0], "token": pair[1]}
    site.set("gitlab-token.gitlab.example.org", content, "--type", "composer")
    url = "https://gitlab.example.org/api/v4/group/7/-/packages/composer/packages.json"
    project = write_project(tmp_path / "project", {"type": "composer", "url": url}, "acme/registry", "*")
    site.run("composer", "update", "--no-interaction", cwd=project)
    assert installed(project) == ["registry"]
    sender = {"job": "job-token", "deploy": "deploy"}[form]
    assert {each.sender for each in network.find("gitlab.example.org")} == {sender}
    repository = {"type": "git", "url": "https://gitlab.example.org/acme/selfhosted.git"}
    other = write_project(tmp_path / "other", repository, "acme/selfhosted", "*")
    site.run("composer", "update", "--no-interaction", cwd=other)
    assert installed(other) == ["selfhosted"]


def test_an_api_token_of_bitbucket_gets_the_user_name_that_git_needs(
    site: BrokerSite, network: Network, tmp_path: Path
) -> None:
    site.cli("init", check=0)
    user, token = network.bitbucket.api
    site.set("http-basic.bitbucket.org", {"username": user, "password": token}, "--type", "composer")
    project = network.write_project(tmp_path / "project", ["bitbucket"])
    environment = {"GIT_SSH_COMMAND": "false"}
    site.run("composer", "update", "--no-interaction", "--prefer-source", cwd=project, env=environment)
    assert installed(project) == ["bitbucket"]
    assert {each.sender for each in network.find("api.bitbucket.org")} == {"api"}
    assert "api-git" in {each.sender for each in network.find("bitbucket.org")}


def test_a_composer_auth_that_is_stored_as_a_variable_is_taken_apart(
    site: BrokerSite, network: Network, tmp_path: Path
) -> None:
    site.cli("init", check=0)
    auth = {
        "bearer": {"bearer.example.org": network.token},
        "http-basic": {"basic.example.org": {"username": network.user, "password": network.password}},
    }
    site.set("COMPOSER_AUTH", auth, "--type", "env")
    project = network.write_project(tmp_path / "project", ["basic", "bearer"])
    (tmp_path / "collected").mkdir()
    write_collector(project, tmp_path / "collected" / "all", site.cli.home["HOME"], ".")
    site.run("composer", "update", "--no-interaction", cwd=project, options=("--broker", "--leaks", "off"))
    assert installed(project) == ["basic", "bearer"]
    assert search_tree([tmp_path / "collected"], network.needles) == []


@pytest.mark.parametrize(
    "program",
    [
        "curl -sS -o answer https://bearer.example.org/packages.json",
        'python3 -c \'import urllib.request as r; open("answer", "wb").write(r.urlopen("{url}").read())\'',
        'php -r \'$c = curl_init("{url}"); curl_setopt($c, CURLOPT_RETURNTRANSFER, 1); '
        'file_put_contents("answer", curl_exec($c));\'',
        "composer config -g repositories.x composer {url}; composer show -a acme/bearer --no-interaction >answer",
    ],
    ids=["curl", "python", "php", "composer"],
)
def test_programs_of_a_build_come_to_the_broker_and_trust_it(
    site: BrokerSite, network: Network, tmp_path: Path, program: str
) -> None:
    site.store(["bearer.bearer.example.org"])
    url = "https://bearer.example.org/packages.json"
    project = network.write_project(tmp_path / "project", ["bearer"])
    site.run("sh", "-ec", program.replace("{url}", url), cwd=project)
    assert "acme/bearer" in (project / "answer").read_text()
    assert {each.sender for each in network.find("bearer.example.org")} == {"bearer"}


def test_a_host_without_a_secret_shows_its_own_certificate(site: BrokerSite, network: Network, tmp_path: Path) -> None:
    site.store(["bearer.bearer.example.org"])
    words = (
        "curl",
        "-sS",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code} %{certs}",
        "https://public.example.org/packages.json",
    )
    done = site.run(*words, cwd=tmp_path)
    assert done.stdout.startswith(b"200 ")
    assert b"Authority of a test" in done.stdout
    assert site.traffic["public.example.org"]["joined"] == 1


# --- the person's own proxy and authorities ---------------------------------------------------------


def test_a_server_whose_certificate_is_not_trusted_is_not_asked(
    site: BrokerSite, network: Network, tmp_path: Path
) -> None:
    """The reason is what Composer prints."""
    site.store(["bearer.bearer.example.org"])
    project = network.write_project(tmp_path / "project", ["bearer"])
    environment = {"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt", "GIT_SSL_CAINFO": ""}
    done = site.run("composer", "update", "--no-interaction", cwd=project, env=environment, check=None)
    assert done.returncode not in {0, 125}
    assert b"certificate is not trusted" in done.stderr
    assert network.find("bearer.example.org") == []


@pytest.mark.parametrize("where", ["config.json", "git", "php.ini"])
def test_an_authority_is_trusted_wherever_the_person_names_it(
    site: BrokerSite, network: Network, tmp_path: Path, where: str
) -> None:
    site.store(["bearer.bearer.example.org"])
    authority = str(network.directory / "authority.pem")
    home = Path(site.cli.home["HOME"])
    environment = {"SSL_CERT_FILE": "", "GIT_SSL_CAINFO": ""}
    if where == "config.json":
        (home / ".config" / "composer").mkdir(parents=True)
        (home / ".config" / "composer" / "config.json").write_text(json.dumps({"config": {"cafile": authority}}))
    elif where == "git":
        (home / ".gitconfig").write_text(f'[http "https://bearer.example.org"]\n\tsslCAInfo = {authority}\n')
    else:
        (home / "ini").mkdir()
        (home / "ini" / "ca.ini").write_text(f"curl.cainfo = {authority}\n")
        environment["PHP_INI_SCAN_DIR"] = f":{home}/ini"
    project = network.write_project(tmp_path / "project", ["bearer"])
    site.run("composer", "update", "--no-interaction", cwd=project, env=environment)
    assert installed(project) == ["bearer"]


def test_no_proxy_is_applied_by_the_broker_and_not_by_the_build(
    site: BrokerSite, network: Network, tmp_path: Path
) -> None:
    """The build comes to the broker, which then does not go by the person's proxy: there is no such host without."""
    site.store(["bearer.bearer.example.org"])
    project = network.write_project(tmp_path / "project", ["bearer"])
    before = len(network.gateway.tunnels)
    words = ("sh", "-c", 'echo "no_proxy=$no_proxy$NO_PROXY"; curl -sS https://bearer.example.org/packages.json')
    done = site.run(*words, cwd=project, env={"no_proxy": "bearer.example.org", "NO_PROXY": "*"}, check=None)
    assert b"no_proxy=\n" in done.stdout
    assert b"ic-secrets: " in done.stdout
    assert len(network.gateway.tunnels) == before


def test_the_persons_proxy_and_its_password_are_used_but_not_shown_to_the_build(
    site: BrokerSite, network: Network, tmp_path: Path
) -> None:
    site.store(["bearer.bearer.example.org"])
    project = network.write_project(tmp_path / "project", ["bearer"])
    (tmp_path / "collected").mkdir()
    done = site.run("sh", "-c", "env | base64 -w0; curl -sS https://bearer.example.org/packages.json", cwd=project)
    (tmp_path / "collected" / "output").write_bytes(done.stdout)
    assert b"acme/bearer" in done.stdout
    assert network.gateway.tunnels[-1] == "bearer.example.org:443"
    assert search_tree([tmp_path / "collected"], [network.proxy_password.encode()]) == []


# --- two steps, and what the person's own Composer knows --------------------------------------------


def test_later_steps_at_github_have_the_broker_and_afterwards_programs_as_before(
    site: BrokerSite, network: Network, tmp_path: Path
) -> None:
    """A variable cannot be unset there, and for some programs an empty one is worse than any."""
    site.store(["github-oauth.github.com", "bearer.bearer.example.org"])
    project = network.write_project(tmp_path / "project", ["github", "bearer"])
    file = tmp_path / "github_env"
    file.touch()
    step = {
        "https_proxy": network.environment["https_proxy"],
        "CURL_CA_BUNDLE": network.environment["SSL_CERT_FILE"],
        "GITHUB_ACTIONS": "true",
        "GITHUB_ENV": str(file),
    }
    site.cli("pre-build", "--broker", "--format", "github", "my-site", cwd=project, env=step, check=0)
    exported = read_exported(file)
    assert exported["https_proxy"].startswith("http://ics:")
    environment = site.cli.home | step | exported
    words = ("composer", "update", "--no-interaction")
    done = subprocess.run(words, cwd=project, env=environment, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert installed(project) == ["bearer", "github"]
    file.write_text("")
    site.cli("post-build", "--format", "github", cwd=project, env=step | exported, check=0)
    environment |= read_exported(file)
    assert environment["https_proxy"] == step["https_proxy"]
    assert environment["CURL_CA_BUNDLE"] == step["CURL_CA_BUNDLE"]
    modules = subprocess.run(("php", "-m"), env=environment, capture_output=True, check=True).stdout
    assert modules == subprocess.run(("php", "-m"), env=site.cli.home, capture_output=True, check=True).stdout
    url = f"https://127.0.0.1:{network.port}/"
    asked = subprocess.run(("git", "ls-remote", url), env=environment | {"https_proxy": ""}, capture_output=True)
    assert b"certificate" in asked.stderr
    assert b"SSL CA cert" not in asked.stderr  # as it says without any authority


def read_exported(file: Path) -> dict[str, str]:
    """The variables that the runner reads from GITHUB_ENV."""
    lines = iter(file.read_text().splitlines())
    exported = {}
    for line in lines:
        name, _, delimiter = line.partition("<<")
        values = []
        while (text := next(lines)) != delimiter:
            values.append(text)
        exported[name] = "\n".join(values)
    return exported


def test_a_repository_of_the_persons_own_composer_is_named_too(
    site: BrokerSite, network: Network, tmp_path: Path
) -> None:
    site.store(["github-oauth.github.com"])
    home = Path(site.cli.home["HOME"], ".config", "composer")
    home.mkdir(parents=True)
    (home / "config.json").write_text(json.dumps({"repositories": {"x": network.packages["github"]}}))
    project = tmp_path / "project"
    project.mkdir()
    manifest = {"repositories": [{"packagist.org": False}], "require": {"acme/github": "*"}}
    (project / "composer.json").write_text(json.dumps(manifest))
    site.run("composer", "update", "--no-interaction", cwd=project)
    assert installed(project) == ["github"]


def test_a_renamed_repository_is_cloned(site: BrokerSite, network: Network, tmp_path: Path) -> None:
    """GitHub leads git to the new name."""
    site.store(["github-oauth.github.com"])
    repository = {"type": "git", "url": "https://github.com/acme/old.git"}
    project = write_project(tmp_path / "project", repository, "acme/renamed", "^1.0")
    site.run("composer", "update", "--no-interaction", "--prefer-source", cwd=project)
    assert installed(project) == ["renamed"]


def test_a_script_reaches_its_own_server_on_this_machine(site: BrokerSite, network: Network, tmp_path: Path) -> None:
    site.store(["bearer.bearer.example.org"])
    (tmp_path / "page").write_text("hello")
    url = f"http://127.0.0.1:{find_free_port()}"
    start = f"php -S {url.removeprefix('http://')} >server.log 2>&1 & server=$!"
    ask = f"for each in 1 2 3 4 5 6 7 8 9; do curl -sS --fail {url}/page && break; sleep 0.2; done; kill $server"
    done = site.run("sh", "-c", f"{start}; {ask}", cwd=tmp_path, env={"http_proxy": "", "https_proxy": ""})
    assert done.stdout == b"hello"


def find_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
