"""What people really install: each product is known, with the command to type, and no more is said than is true."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ic_secrets.composer.precedence import Source, Winner
from ic_secrets.composer.project import read_project
from ic_secrets.model.secret import Target
from ic_secrets.plan.checks import find_problems
from ic_secrets.plan.facts import Access, Facts, find_access, read_settings
from ic_secrets.plan.problem import Problem
from ic_secrets.plan.variables import find_variables

HOME = "/home/me/.config/composer/config.json"


class Seen(NamedTuple):
    """What a plan would say."""

    accesses: tuple[Access, ...]
    problems: tuple[Problem, ...]

    @property
    def statuses(self) -> dict[str, str]:
        """The status of each host that is not Packagist."""
        accesses = (access for access in self.accesses if access.repository.host != "repo.packagist.org")
        return {access.repository.host: access.status for access in accesses}

    @property
    def said(self) -> list[tuple[str, str]]:
        """The level and text of each problem."""
        return [(problem.level, problem.text) for problem in self.problems]


def look(
    directory: Path,
    manifest: dict[str, Any],
    lock: dict[str, Any] | None = None,
    *,
    secrets: tuple[str, ...] = (),
    variables: tuple[str, ...] = (),
    config: dict[str, Any] | None = None,
) -> Seen:
    """Plan a build of that project; `secrets` are names of credentials, `config` is that of the user's config.json."""
    directory.mkdir(exist_ok=True)
    (directory / "composer.json").write_text(json.dumps(manifest))
    if lock is not None:
        (directory / "composer.lock").write_text(json.dumps(lock))
    project = read_project(("composer", "install"), str(directory), {})
    sources = (Source(HOME, config or {}), Source(project.manifest_file, project.config))
    winners = {name.partition(".")[2]: Winner(name.partition(".")[2], name.partition(".")[0], name) for name in secrets}
    facts = Facts(
        Target.parse("my-site.dev"),
        project,
        used={*secrets, *variables},
        winners=winners,
        variables=find_variables(project, variables, sources),
        settings=read_settings(sources),
    )
    facts = facts._replace(accesses=tuple(find_access(each, facts) for each in project.sources.list_all()))
    return Seen(facts.accesses, find_problems(facts))


def of(*urls: str, kind: str = "composer", **more: Any) -> dict[str, Any]:
    """A composer.json with those repositories."""
    return {"repositories": [{"type": kind, "url": url} for url in urls], **more}


def package(name: str, url: str, *requires: str) -> dict[str, Any]:
    """A repository of one package that composer.json describes itself."""
    dist = {"type": "zip", "url": url}
    return {"type": "package", "package": {"name": name, "dist": dist, "require": dict.fromkeys(requires, "*")}}


# --- hosts --------------------------------------------------------------------------------------------

HOSTS = {
    "ACF PRO": ("https://connect.advancedcustomfields.com", "http-basic", "LICENCE-KEY https://SITE"),
    "Gravity Forms": ("https://composer.gravity.io", "http-basic", "LICENCE-KEY https://SITE"),
    "Yoast": ("https://my.yoast.com/packages/", "http-basic", "token TOKEN"),
    "Delicious Brains": ("https://composer.deliciousbrains.com", "http-basic", "USERNAME PASSWORD"),
    "WooCommerce by SatisPress": ("https://plugins.example.org/satispress/", "http-basic", "API-KEY satispress"),
    "Nova": ("https://nova.laravel.com", "http-basic", "EMAIL LICENCE-KEY"),
    "Spark": ("https://spark.laravel.com", "http-basic", "EMAIL API-TOKEN"),
    "Flux": ("https://composer.fluxui.dev", "http-basic", "EMAIL LICENCE-KEY"),
    "Filament": ("https://packages.filamentphp.com/composer", "http-basic", "EMAIL LICENCE-KEY"),
    "a plugin for Filament": ("https://filament-hexa.composer.sh", "http-basic", "EMAIL LICENCE-KEY"),
    "Magento": ("https://repo.magento.com/", "http-basic", "PUBLIC-KEY PRIVATE-KEY"),
    "Shopware": ("https://packages.shopware.com", "bearer", "TOKEN"),
    "Private Packagist": ("https://repo.packagist.com/acme/", "http-basic", "token TOKEN"),
    "a vendor's Private Packagist": ("https://hyva-themes.repo.packagist.com/x/", "http-basic", "token TOKEN"),
    "Repman": ("https://acme.repo.repman.io", "http-basic", "token TOKEN"),
}


@pytest.mark.parametrize("product", HOSTS)
def test_my_paid_product_is_an_error_with_what_to_type_until_it_has_its_credential(
    product: str, tmp_path: Path
) -> None:
    url, method, value = HOSTS[product]
    host = url.split("/")[2]
    (found,) = look(tmp_path, of(url)).problems
    assert found.level == "error"
    assert found.remedy.startswith(f"`ic-secrets set my-site {method}.{host} --type composer --scope ic`")
    assert f"`{value}`" in found.remedy
    assert look(tmp_path, of(url), secrets=(f"{method}.{host}",)).said == []


def test_satis_of_my_own_is_told_with_the_command(tmp_path: Path) -> None:
    """Whether it is private nobody can know."""
    (found,) = look(tmp_path, of("https://satis.example.org")).problems
    assert found.level == "warning"
    assert "http-basic.satis.example.org" in found.remedy


@pytest.mark.parametrize(
    "url",
    [
        "https://repo.wp-packages.org",
        "https://wpackagist.org",
        "https://pivvenit.github.io/acf-composer-bridge/composer/v3/",
        "https://packages.drupal.org/8",
        "https://packagist.oroinc.com",
        "https://mirrors.aliyun.com/composer/",
        "https://asset-packagist.org",
    ],
)
def test_a_public_repository_is_no_noise(url: str, tmp_path: Path) -> None:
    seen = look(tmp_path, of(url))
    assert (seen.said, set(seen.statuses.values())) == ([], {"public"})


@pytest.mark.parametrize(
    "url",
    [
        "https://registry.npmjs.org/slick-carousel/-/slick-carousel-1.8.1.tgz",
        "https://storage.googleapis.com/acme-public/library.zip",
        "https://acme.s3.eu-central-1.amazonaws.com/library.zip",
        "https://raw.githubusercontent.com/acme/x/main/x.zip",
        "https://downloads.wordpress.org/plugin/akismet.zip",
    ],
)
def test_an_archive_on_a_public_host_is_no_noise(url: str, tmp_path: Path) -> None:
    assert look(tmp_path, {"repositories": [package("acme/x", url)], "require": {"acme/x": "*"}}).said == []


def test_an_archive_on_any_other_host_is_a_note_and_no_warning(tmp_path: Path) -> None:
    seen = look(tmp_path, {"repositories": [package("acme/x", "https://dl.example.org/x.zip")]})
    assert [level for level, _ in seen.said] == ["note"]


# --- forges by SSH ------------------------------------------------------------------------------------

FORGES = {
    "GitHub": ("git@github.com:acme/theme.git", "vcs", "github-oauth.github.com"),
    "GitHub by git": ("git@github.com:acme/theme.git", "git", "github-oauth.github.com"),
    "GitLab": ("git@gitlab.com:acme/group/theme.git", "vcs", "gitlab-token.gitlab.com"),
    "Bitbucket": ("git@bitbucket.org:acme/theme.git", "vcs", "bitbucket-oauth.bitbucket.org"),
    # Its credential makes Composer take it for a GitLab.
    "a GitLab of our own": ("git@git.example.org:acme/theme.git", "vcs", "gitlab-token.git.example.org"),
}


@pytest.mark.parametrize("forge", FORGES)
def test_my_ssh_url_of_a_forge_is_asked_with_my_token(forge: str, tmp_path: Path) -> None:
    url, kind, secret = FORGES[forge]
    seen = look(tmp_path, of(url, kind=kind), secrets=(secret,))
    assert (seen.accesses[0].status, seen.accesses[0].by, seen.said) == ("covered", secret, [])
    assert seen.accesses[0].repository.web_url == "https://" + url.removeprefix("git@").replace(":", "/", 1)


def test_an_ssh_url_of_a_forge_without_a_token_is_a_note(tmp_path: Path) -> None:
    (found,) = look(tmp_path, of("git@github.com:acme/theme.git", kind="vcs")).problems
    assert (found.level, "SSH key" in found.text) == ("note", True)
    assert "github-oauth.github.com" in found.remedy


@pytest.mark.parametrize("url", ["git@git.example.org:acme/x.git", "ssh://git@github.com/acme/x.git"])
def test_an_ssh_url_that_nothing_turns_into_https_is_still_a_warning(url: str, tmp_path: Path) -> None:
    (found,) = look(tmp_path, of(url, kind="vcs"), secrets=("http-basic.git.example.org",)).problems[:1]
    assert (found.level, "uses SSH" in found.text) == ("warning", True)


# --- installers ---------------------------------------------------------------------------------------

ACF = "advanced-custom-fields/advanced-custom-fields-pro"
ACF_URL = "https://connect.advancedcustomfields.com/index.php?a=download&p=pro&k={%PLUGIN_ACF_KEY}&t={%version}"
INLINE = {"repositories": [package(ACF, ACF_URL, "ffraenz/private-composer-installer")], "require": {ACF: "*"}}


def test_my_inline_acf_with_its_key_in_a_variable_is_covered(tmp_path: Path) -> None:
    """`{%version}`, in whichever case, is the package's own."""
    (error,) = look(tmp_path, INLINE).problems
    assert (error.level, error.text) == ("error", f"{ACF} needs the variable PLUGIN_ACF_KEY")
    assert error.remedy == "`ic-secrets set my-site PLUGIN_ACF_KEY --type env --scope ic`"
    seen = look(tmp_path, INLINE, variables=("PLUGIN_ACF_KEY",))
    assert (seen.accesses[0].status, seen.accesses[0].by, seen.said) == ("covered", "PLUGIN_ACF_KEY", [])


DOTENV: dict[str, tuple[str, dict[str, str]]] = {
    "beside composer.json": (".env", {}),
    "in a parent directory": ("../.env", {}),
    "two directories up": ("../../.env", {}),
    "dotenv-path": ("../config/.env", {"dotenv-path": "../config"}),
    "dotenv-name": (".env.build", {"dotenv-name": ".env.build"}),
    "both": ("config/keys", {"dotenv-path": "config", "dotenv-name": "keys"}),
}


@pytest.mark.parametrize("place", DOTENV)
def test_my_key_in_a_dotenv_file_is_found_where_the_installer_finds_it(place: str, tmp_path: Path) -> None:
    path, options = DOTENV[place]
    project = tmp_path / "sites" / "shop"
    project.mkdir(parents=True)
    manifest = {**INLINE, "extra": {"private-composer-installer": options}}
    assert [level for level, _ in look(project, manifest).said] == ["error"]
    (project / path).parent.mkdir(exist_ok=True)
    (project / path).write_text("export PLUGIN_ACF_KEY = 'x'\n")
    seen = look(project, manifest)
    assert (seen.accesses[0].status, seen.said) == ("own", [])


def test_a_dotenv_file_that_the_installer_does_not_read_is_none(tmp_path: Path) -> None:
    project = tmp_path / "shop"
    (tmp_path / ".env").write_text("PLUGIN_ACF_KEY=x\nACF_PRO_KEY=x\n")
    options = {"private-composer-installer": {"dotenv-name": "keys"}}
    assert [level for level, _ in look(project, {**INLINE, "extra": options}).said] == ["error"]
    # This one reads the file beside composer.json alone.
    assert [level for level, _ in look(project, {"require": {"pivvenit/acf-pro-installer": "*"}}).said] == ["error"]


LOCKED_ACF = {
    "packages": [
        {"name": ACF, "dist": {"type": "zip", "url": "https://connect.advancedcustomfields.com/v2/plugins/download"}},
        {"name": "pivvenit/acf-pro-installer", "notification-url": "https://packagist.org/downloads/"},
    ]
}


def test_my_locked_acf_of_the_installer_is_covered_by_its_key(tmp_path: Path) -> None:
    bridge = of("https://pivvenit.github.io/acf-composer-bridge/composer/v3/", require={ACF: "*"})
    assert {level for level, _ in look(tmp_path, bridge, LOCKED_ACF).said} == {"error"}
    assert look(tmp_path, bridge, LOCKED_ACF, variables=("ACF_PRO_KEY",)).said == []
    seen = look(tmp_path, bridge, LOCKED_ACF, config={"acf-pro-key": "x"})
    assert (seen.accesses[-1].status, seen.accesses[-1].by, seen.said) == ("own", HOME, [])


JUNAIDBHURA: dict[str, tuple[str, ...]] = {
    "advanced-custom-fields-pro": ("ACF_PRO_KEY",),
    "acf-extended-pro": ("ACFE_PRO_KEY", "ACFE_PRO_URL"),
    "gravityforms": ("GRAVITY_FORMS_KEY",),
    "gravityformspolls": ("GRAVITY_FORMS_KEY",),
    "ninja-forms-save-progress": ("NINJA_FORMS_KEY", "NINJA_FORMS_URL"),
    "polylang-pro": ("POLYLANG_PRO_KEY", "POLYLANG_PRO_URL"),
    "publishpress-authors-pro": ("PUBLISHPRESS_PRO_KEY", "PUBLISHPRESS_PRO_URL"),
    "wp-all-import-pro": ("WP_ALL_IMPORT_PRO_KEY", "WP_ALL_IMPORT_PRO_URL"),
    "wpai-acf-add-on": ("WP_ALL_IMPORT_PRO_URL",),
    "wp-all-export-pro": ("WP_ALL_EXPORT_PRO_KEY", "WP_ALL_EXPORT_PRO_URL"),
    "wpae-user-add-on-pro": ("WP_ALL_EXPORT_PRO_URL",),
    "wpml-string-translation": ("WPML_USER_ID", "WPML_KEY"),
}


@pytest.mark.parametrize("name", JUNAIDBHURA)
def test_my_pro_plugin_is_told_which_variables_it_needs(name: str, tmp_path: Path) -> None:
    """The site's URL is a warning, since some vendors do without."""
    name, needed = f"junaidbhura/{name}", JUNAIDBHURA[name]
    url = "https://www.vendor.example.org/"
    manifest = {"repositories": [package(name, url, "junaidbhura/composer-wp-pro-plugins")], "require": {name: "*"}}
    problems = look(tmp_path, manifest).problems
    assert sorted(problem.remedy.split()[3] for problem in problems) == sorted(needed)
    assert {problem.level for problem in problems if "_KEY" in problem.remedy} <= {"error"}
    assert {problem.level for problem in problems if "_URL" in problem.remedy} <= {"warning"}
    seen = look(tmp_path, manifest, variables=needed)
    assert (seen.statuses, seen.said) == ({"www.vendor.example.org": "covered"}, [])


def test_a_key_of_one_add_on_does_as_well_as_that_of_the_membership(tmp_path: Path) -> None:
    variables = ("NINJA_FORMS_SAVE_PROGRESS_KEY", "NINJA_FORMS_SAVE_PROGRESS_URL")
    manifest = {"require": {"junaidbhura/ninja-forms-save-progress": "*"}}
    assert look(tmp_path, manifest, variables=variables).said == []
    assert look(tmp_path, manifest).said[0][1].endswith("NINJA_FORMS_KEY or NINJA_FORMS_SAVE_PROGRESS_KEY")


# --- what a project takes from elsewhere ----------------------------------------------------------------

PATCHES: dict[str, Any] = {
    "by description": {"patches": {"drupal/core": {"fix it": "https://patches.example.org/1.patch"}}},
    "as a list": {"patches": {"drupal/core": [{"description": "x", "url": "https://patches.example.org/1.patch"}]}},
    "in a file": {"patches-file": "all.json"},
    "in a file of version 2": {"composer-patches": {"patches-file": "all.json"}},
}


@pytest.mark.parametrize("place", PATCHES)
def test_my_patches_are_covered_by_the_credential_of_their_host(place: str, tmp_path: Path) -> None:
    patches = {"patches": {"acme/x": {"1": "https://patches.example.org/1.patch", "2": "patches/local.patch"}}}
    (tmp_path / "all.json").write_text(json.dumps(patches))
    manifest = {"extra": PATCHES[place]}
    assert [level for level, _ in look(tmp_path, manifest).said] == ["note"]
    seen = look(tmp_path, manifest, {"packages": []}, secrets=("http-basic.patches.example.org",))
    assert (seen.statuses, seen.said) == ({"patches.example.org": "covered"}, [])


def test_a_public_patch_is_no_noise(tmp_path: Path) -> None:
    urls = {"a": "https://www.drupal.org/files/issues/1.patch", "b": "https://git.drupalcode.org/project/x/1.diff"}
    assert look(tmp_path, {"extra": {"patches": {"drupal/core": urls}}}).said == []


def test_what_my_composer_json_merges_counts(tmp_path: Path) -> None:
    """Included files are found by patterns, and include more; what merges itself has an end."""
    manifest = {"extra": {"merge-plugin": {"include": ["modules/*/composer.json"]}}}
    (tmp_path / "modules" / "a").mkdir(parents=True)
    included = of("https://nova.laravel.com") | {"extra": {"merge-plugin": {"require": "more.json"}}}
    (tmp_path / "modules" / "a" / "composer.json").write_text(json.dumps(included))
    more = {"require": {"junaidbhura/gravityforms": "*"}, "extra": {"merge-plugin": {"include": "more.json"}}}
    (tmp_path / "more.json").write_text(json.dumps(more))
    seen = look(tmp_path, manifest)
    assert seen.statuses == {"nova.laravel.com": "missing"}
    assert [text.split()[-1] for _, text in seen.said] == ["credential", "GRAVITY_FORMS_KEY"]


def test_what_my_path_repositories_require_is_needed(tmp_path: Path) -> None:
    project = tmp_path / "shop"
    manifest = of("../packages/*", kind="path", require={"acme/theme": "*"})
    for name, requires in (
        ("theme", "acme/forms"),
        ("forms", "junaidbhura/gravityforms"),
        ("other", "junaidbhura/wpml-x"),
    ):
        (tmp_path / "packages" / name).mkdir(parents=True)
        text = json.dumps({"name": f"acme/{name}", "require": {requires: "*"}})
        (tmp_path / "packages" / name / "composer.json").write_text(text)
    assert [text.split()[-1] for _, text in look(project, manifest).said] == ["GRAVITY_FORMS_KEY"]


@pytest.mark.parametrize("url", ["../gone", "packages/@acme/gone"])
def test_a_path_repository_that_is_not_there_is_an_error(url: str, tmp_path: Path) -> None:
    (found,) = look(tmp_path, of(url, kind="path")).problems
    assert (found.level, found.text) == ("error", f"the path repository {url} does not exist")
    (tmp_path / "shop" / url).mkdir(parents=True)
    assert look(tmp_path / "shop", of(url, kind="path")).said == []
    assert look(tmp_path, of("../gone/*", kind="path")).said == []


MIRROR = {"type": "composer", "url": "https://mirror.example.org/packagist"}
MIRRORS: dict[str, tuple[Any, Any]] = {
    "packagist.org: false in a list": ([MIRROR, {"packagist.org": False}], {}),
    "packagist.org: false in a map": ({"mirror": MIRROR, "packagist.org": False}, {}),
    "in its place": ({"packagist.org": MIRROR}, {}),
    "in its place, by its old name": ({"packagist": MIRROR}, {}),
    "a name in a list": ([{"name": "packagist.org", **MIRROR}], {}),
    "in my own config.json": ([], {"packagist": MIRROR}),
}


@pytest.mark.parametrize("place", MIRRORS)
def test_a_mirror_takes_the_place_of_packagist(place: str, tmp_path: Path) -> None:
    ours, theirs = MIRRORS[place]
    (tmp_path / "composer.json").write_text(json.dumps({"repositories": ours}))
    sources = read_project(("composer", "install"), str(tmp_path), {}).sources
    sources = sources.add_repositories({"repositories": theirs})
    assert [each.host for each in sources.list_all()] == ["mirror.example.org"]


def test_a_mirror_of_packages_in_my_lock_is_asked_and_its_credential_is_needed(tmp_path: Path) -> None:
    mirrors = [{"url": "https://repo.packagist.com/acme/dists/%package%/%version%.zip", "preferred": True}]
    dist = {"type": "zip", "url": "https://api.github.com/repos/a/b/zipball/1", "mirrors": mirrors}
    package = {"name": "a/b", "dist": dist, "notification-url": "https://packagist.org/downloads/"}
    (tmp_path / "composer.json").write_text("{}")
    (tmp_path / "composer.lock").write_text(json.dumps({"packages": [package]}))
    assert "repo.packagist.com" in read_project(("composer", "install"), str(tmp_path), {}).sources.hosts


HOSTILE: dict[str, dict[str, Any]] = {
    "a device": {"merge-plugin": {"include": ["/dev/zero", "/dev/stdin", "fifo"]}},
    "the whole disk": {"merge-plugin": {"include": ["/*/*/*/*/*/*/*/x.json"] * 1000}},
    "many names": {"merge-plugin": {"include": ["composer.json"] * 100_000}},
    "a device of patches": {"patches-file": "/dev/zero"},
    "deep patches": {"patches": json.loads("[" * 900 + "]" * 900)},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_a_checkout_includes_cannot_hang_a_plan(case: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    start = time.process_time()
    look(tmp_path, {"extra": HOSTILE[case]})
    assert time.process_time() - start < 2


# --- without TLS --------------------------------------------------------------------------------------

PLAIN = "http://repo.example.org"
BASIC = ("http-basic.repo.example.org",)


def test_my_credential_over_plain_http_is_a_warning(tmp_path: Path) -> None:
    manifest = of(PLAIN, config={"secure-http": False})
    assert look(tmp_path, manifest, secrets=BASIC).said == [("warning", f"{PLAIN} gets its credential in the clear")]
    assert "clear" not in repr(look(tmp_path, manifest).said), "it would get none"
    loopback = of("http://127.0.0.1:8080", config={"secure-http": False})
    assert look(tmp_path, loopback, secrets=("http-basic.127.0.0.1:8080",)).said == []


def test_disable_tls_with_a_credential_is_a_warning(tmp_path: Path) -> None:
    manifest = of(PLAIN, config={"disable-tls": True})
    (found,) = look(tmp_path, manifest, secrets=BASIC).problems
    assert (found.level, found.text.startswith("disable-tls is on")) == ("warning", True)
    assert look(tmp_path, of("https://wpackagist.org", config={"disable-tls": True})).said == []


def test_plain_http_that_composer_refuses_is_an_error(tmp_path: Path) -> None:
    """Unless the user's own settings allow it."""
    assert look(tmp_path, of(PLAIN), secrets=BASIC).said == [
        ("error", f"Composer refuses {PLAIN}, which is without TLS")
    ]
    (found,) = look(tmp_path, of(PLAIN), secrets=BASIC, config={"secure-http": False}).problems
    assert found.level == "warning"


# --- credentials in composer.json and the lock ---------------------------------------------------------

CANARY = "canaryA1b2C3d4E5f6G7"
OWN: dict[str, tuple[dict[str, Any], str]] = {
    "a login in the URL": ({"url": f"https://me:{CANARY}@repo.example.org"}, "a login in the URL of"),
    "a header": (
        {"url": "https://repo.example.org", "options": {"http": {"header": [f"Authorization: Bearer {CANARY}"]}}},
        "a credential in the HTTP headers for",
    ),
    "headers in one text": (
        {"url": "https://repo.example.org", "options": {"http": {"header": f"X-A: b\r\nAPI-TOKEN: {CANARY}"}}},
        "a credential in the HTTP headers for",
    ),
    "a passphrase": (
        {"url": "https://repo.example.org", "options": {"ssl": {"local_cert": "/c.pem", "passphrase": CANARY}}},
        "the passphrase of a client certificate for",
    ),
    "a token in the query": ({"url": f"https://repo.example.org/?token={CANARY}"}, "a token in the URL of"),
    "a token in the path": ({"url": f"https://repo.example.org/{CANARY}/composer/"}, "a token in the URL of"),
    "a token of GitLab": ({"url": "https://repo.example.org/glpat-canarycanary-x"}, "a token in the URL of"),
}


@pytest.mark.parametrize("case", OWN)
def test_a_credential_that_i_committed_counts_and_is_warned_of(case: str, tmp_path: Path) -> None:
    entry, words = OWN[case]
    seen = look(tmp_path, {"repositories": [{"type": "composer", **entry}]})
    (found,) = seen.problems
    assert (seen.statuses, found.level) == ({"repo.example.org": "own"}, "warning")
    assert found.text.startswith("composer.json has ")
    assert f"{words} repo.example.org" in found.text
    assert "canary" not in repr(seen).lower()


def test_a_certificate_by_its_path_counts_and_is_no_committed_secret(tmp_path: Path) -> None:
    entry = {"type": "composer", "url": "https://repo.example.org", "options": {"ssl": {"local_cert": "/c.pem"}}}
    seen = look(tmp_path, {"repositories": [entry]})
    assert (seen.statuses, seen.said) == ({"repo.example.org": "own"}, [])


LOCKED: dict[str, dict[str, Any]] = {
    "login": {"dist": {"url": f"https://me:{CANARY}@dl.example.org/x.zip"}},
    "query": {"dist": {"url": f"https://dl.example.org/x.zip?licence_key={CANARY}"}},
    "header": {
        "dist": {"url": "https://dl.example.org/x.zip"},
        "transport-options": {"http": {"header": [f"PRIVATE-TOKEN: {CANARY}"]}},
    },
    "source": {
        "dist": {"url": "https://dl.example.org/x.zip"},
        "source": {"type": "git", "url": f"https://me:{CANARY}@dl.example.org/x.git"},
    },
}


@pytest.mark.parametrize("case", LOCKED)
def test_a_credential_in_my_lock_is_warned_of(case: str, tmp_path: Path) -> None:
    packages = [{"name": "acme/x", **LOCKED[case]}, {"name": "acme/y", **LOCKED[case]}]
    seen = look(tmp_path, {"repositories": []}, {"packages": packages})
    assert [text.startswith("composer.lock has ") for level, text in seen.said if level == "warning"] == [True]
    assert "canary" not in repr(seen).lower()


def test_a_credential_in_the_config_of_composer_json_is_warned_of(tmp_path: Path) -> None:
    config = {"http-basic": {"repo.example.org": {"username": "me", "password": CANARY}}, "acf-pro-key": CANARY}
    seen = look(tmp_path, {"config": config, "require": {"pivvenit/acf-pro-installer": "*"}})
    assert seen.said == [
        ("warning", "composer.json has http-basic for repo.example.org in its config"),
        ("warning", "composer.json has acf-pro-key in its config"),
    ]


NO_TOKENS = [
    "https://dl.example.org/google-analytics-for-wordpress-7-10-0-release/x.zip",
    "https://dl.example.org/archive/0123456789abcdef0123456789abcdef01234567",
    "https://dl.example.org/x.zip?version=1.2.3-beta&sha=0123456789abcdef",
    "https://dl.example.org/x.zip?key={%PLUGIN_KEY}",
]


@pytest.mark.parametrize("url", NO_TOKENS)
def test_a_name_a_checksum_or_a_placeholder_is_no_token(url: str, tmp_path: Path) -> None:
    lock = {"packages": [{"name": "acme/x", "dist": {"url": url}}]}
    assert not [text for _, text in look(tmp_path, {}, lock).said if "token" in text]


def test_a_url_of_a_megabyte_takes_no_time(tmp_path: Path) -> None:
    for long in ("token" * 200_000, "a1" * 500_000, "{%A" * 300_000):
        for url in (f"https://a.org/{long}", f"https://a.org/?{long}", f"https://a.org/?{long}={long}"):
            entry = {"type": "composer", "url": url, "options": {"http": {"header": [long]}}}
            start = time.process_time()
            look(tmp_path, {"repositories": [entry]})
            assert time.process_time() - start < 1
