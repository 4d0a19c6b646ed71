"""A checkout whose files were made to hang us, to fill the memory, or to use us: refused or passed over, in time."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from commandline import PROGRAM, Cli
from ic_secrets.composer.credential import parse_credential
from ic_secrets.config.catalogue import SETTINGS
from ic_secrets.core.console import printable
from ic_secrets.errors import InvalidNameError, InvalidValueError
from ic_secrets.model.names import check_secret_name
from ic_secrets.model.secret import SecretType

MIB = 1 << 20
# What a command may take: seconds of processor more than in an empty project, and bytes of address space.
SECONDS = 1
# What ends it if it hangs; no command takes so long in an empty project.
MOST_SECONDS = 10
MEMORY = 1200 * MIB
HEADER = "[http]\n\textraheader = "


def link_to_zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def write(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


def fill(start: str, part: str, size: int, end: str = "") -> Callable[[Path], object]:
    return write(start + part * (size // len(part)) + end)


PLACES = (
    "composer.json",
    "composer.lock",
    "auth.json",
    "ic-secrets.toml",
    ".lando.yml",
    ".ddev/config.yaml",
    ".env",
    ".git",
    ".git/HEAD",
    ".git/packed-refs",
    "vendor/composer/installed.json",
    "vendor/acme/package/.git/config",
)


def require_one_another(path: Path) -> None:
    """Make path packages in a row, each of which requires the next, and five hundred others."""
    for number in range(200):
        package = path / str(number)
        package.mkdir(parents=True)
        required = {f"a/{number + 1}": "1"} | {f"b/{number}-{n}": "1" for n in range(500)}
        (package / "composer.json").write_text(json.dumps({"name": f"a/{number}", "require": required}))
    entries = [{"type": "path", "url": f"packages/{number}"} for number in range(200)]
    (path.parent / "composer.json").write_text(json.dumps({"require": {"a/0": "1"}, "repositories": entries}))


FILES: dict[str, tuple[str, Callable[[Path], object]]] = {
    **{f"{place} is a pipe": (place, os.mkfifo) for place in PLACES},
    **{f"{place} is /dev/zero": (place, link_to_zero) for place in PLACES},
    "megabytes of lists": ("composer.lock", fill('{"packages":[', "[],", 7 * MIB, "[]]}")),
    "megabytes of names": (
        "composer.lock",
        lambda path: path.write_text(json.dumps({"packages": [{"require": {f"a/{n}": "1" for n in range(99_000)}}]})),
    ),
    "repositories without end": (
        "composer.json",
        lambda path: path.write_text(
            json.dumps({"repositories": [{"url": f"https://h{n}.example.org/"} for n in range(9_990)]})
        ),
    ),
    "a login for every package": (
        "composer.lock",
        lambda path: path.write_text(
            json.dumps({"packages": [{"dist": {"url": f"https://u{n}:password-{n}@a.b/"}} for n in range(33_000)]})
        ),
    ),
    "packages that require one another": ("packages", lambda path: require_one_another(path)),
    "a token for every host": (
        "auth.json",
        lambda path: path.write_text(json.dumps({"github-oauth": {f"h{n}.a": f"token-of-{n}" for n in range(19_990)}})),
    ),
    "credentials without end": (
        "auth.json",
        lambda path: path.write_text(
            json.dumps({"github-oauth": {f"h{n}.a": f"token-of-{n}" for n in range(200_000)}})
        ),
    ),
    "a gigabyte of nothing": ("composer.lock", lambda path: os.truncate(make(path), 1 << 30)),
    "a host for every package": (
        "composer.lock",
        lambda path: path.write_text(
            json.dumps({"packages": [{"dist": {"url": f"https://h{n}.example.org/"}} for n in range(60_000)]})
        ),
    ),
    "a URL of megabytes": ("composer.json", write(json.dumps({"repositories": [{"url": "https://" + ":1@" * MIB}]}))),
    "tokentoken": ("vendor/acme/package/.git/config", fill(HEADER, "token", MIB - 100)),
    "authorization-authorization": ("vendor/acme/package/.git/config", fill(HEADER, "authorization-", MIB - 100, ":")),
    "a section for every header": (
        "vendor/acme/package/.git/config",
        fill(f'[http "https://{"a" * (MIB // 2)}"]\n', "extraheader=token:\n", MIB // 2 - 100),
    ),
    "packages without end": (
        "vendor/composer/installed.json",
        lambda path: path.write_text(json.dumps({"packages": [{"install-path": f"../{n}"} for n in range(33_000)]})),
    ),
    "vendor is everything": ("composer.json", write('{"config": {"vendor-dir": "/"}}')),
    "a deep key": ("ic-secrets.toml", fill("", "a.", 60_000, "b = 1\n")),
    "a deep table": ("ic-secrets.toml", fill(f"[{'a.' * 39}a]\n", "b=1\n", 60_000)),
    "deep keys inside": ("ic-secrets.toml", fill("a = {", f"b{'.b' * 199}=1,", 60_000, "c=1}")),
    "a line of blanks": ("ic-secrets.toml", fill('site = "my-site"\n', " ", 60_000, "\n")),
    "lines like keys": ("ic-secrets.toml", fill('leaks-allow = ["""\n', "grace\n", 60_000, '"""]\ngrace = 1\n')),
    "quotes": ("ic-secrets.toml", fill('a = "', '\\"', 60_000)),
    "empty lines": (".env", fill("", "\n", MIB)),
    "deep YAML": (".lando.yml", fill("", "[", 60_000)),
    "YAML without end": (".lando.yml", fill("", "? a\n", 60_000)),
}


def make(path: Path) -> Path:
    path.touch()
    return path


def limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def call(cli: Cli, words: list[str], project: Path) -> tuple[float, subprocess.CompletedProcess[bytes]]:
    """Return the seconds of processor that the command took in the project, and what came of it."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [str(PROGRAM), *words], cwd=project, env=cli.home, preexec_fn=limit, capture_output=True, timeout=60
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done


@pytest.fixture
def site(cli: Cli) -> Cli:
    cli("init", check=0)
    cli("set", "my-site", "LICENSE", "--type", "env", "--scope", "ic", stdin=b"a-canary-of-license", check=0)
    return cli


@pytest.mark.parametrize("what", FILES)
def test_no_file_of_a_checkout_hangs_us_or_fills_the_memory(site: Cli, tmp_path: Path, what: str) -> None:
    place, lay = FILES[what]
    project = tmp_path / "project"
    path = project / place
    path.parent.mkdir(parents=True)
    lay(path)
    target = [] if place.startswith((".lando", ".ddev")) else ["my-site"]
    for words in (["plan", *target], ["run", *target, "--", "true"], ["scrub"]):
        took, done = call(site, words, project)
        assert done.returncode in {0, 1, 2, 125}, (words, done.returncode, done.stderr)
        assert b"unexpected" not in done.stderr
        assert len(done.stderr) < 200_000  # a warning for each repository, as far as they are looked into
        if took > SECONDS:  # start-up included, which takes longer on a busy machine
            empty = tmp_path / "empty"
            empty.mkdir(exist_ok=True)
            least = min(call(site, words, empty)[0] for _ in range(2))
            took = min(took, *(call(site, words, project)[0] for _ in range(2)))
            assert took < least + SECONDS, words


# --- what is ended --------------------------------------------------------------------------------------


@pytest.fixture
def searching(site: Cli, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A project whose search for leaks takes long, with the secrets of a pre-build, and their private directory."""
    project = tmp_path / "project"
    project.mkdir()
    said = json.loads(site("pre-build", "my-site", "--format", "json", cwd=project, check=0).stdout)
    os.truncate(make(project / "large"), 6 << 30)
    private = Path(said["set"]["COMPOSER_HOME"]).parent
    yield project, private
    shutil.rmtree(private, ignore_errors=True)


def end_while_searching(cli: Cli, project: Path, private: Path, number: int) -> tuple[int, bytes]:
    """Call post-build and send it the signal when the secrets are gone."""
    with cli.start("post-build", cwd=project) as process:
        while private.exists():
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(0.2)
        process.send_signal(number)
        started = time.monotonic()
        _, told = process.communicate(timeout=30)
        assert time.monotonic() - started < 10
        return process.returncode, told


def test_a_post_build_that_was_killed_is_not_nothing_to_end_the_next_time(
    site: Cli, searching: tuple[Path, Path]
) -> None:
    status, _ = end_while_searching(site, *searching, signal.SIGKILL)
    assert status == -signal.SIGKILL
    done = site("post-build", cwd=searching[0], check=121)
    assert b"no leak was searched for" in done.stderr
    done = site("post-build", cwd=searching[0], check=0)
    assert b"nothing to end" in done.stderr


def test_term_ends_a_search_that_takes_long_and_says_that_it_is_not_done(
    site: Cli, searching: tuple[Path, Path]
) -> None:
    status, told = end_while_searching(site, *searching, signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert b"a signal ended the search for leaks" in told


# --- what it may choose ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "variable"),
    [
        ("no-mask = true", {"IC_SECRETS_NO_MASK": "true"}),
        ('leaks = "off"', {"IC_SECRETS_LEAKS": "off"}),
        ('leaks = "warn"', {"IC_SECRETS_LEAKS": "warn"}),
        ("allow-background = true", {"IC_SECRETS_ALLOW_BACKGROUND": "true"}),
        ('leaks-allow = ["*"]', {"IC_SECRETS_LEAKS_ALLOW": "*"}),
        ('leaks-allow = ["vendor/a", "[a-z]*/*"]', {"IC_SECRETS_LEAKS_ALLOW": "*"}),
        ('leaks-allow = ["/*"]', {"IC_SECRETS_LEAKS_ALLOW": "*"}),
        ('leaks-allow = ["./*"]', {"IC_SECRETS_LEAKS_ALLOW": "*"}),
        ('leaks-allow = ["vendor/../*"]', {"IC_SECRETS_LEAKS_ALLOW": "*"}),
        ('env = "live"', {"IC_SECRETS_ENV": "live"}),
        ('env = "test"', {"IC_SECRETS_ENV": "test"}),
    ],
)
def test_a_pull_request_turns_no_protection_off_in_a_pipeline(
    site: Cli, tmp_path: Path, setting: str, variable: dict[str, str]
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "ic-secrets.toml").write_text(f"{setting}\n")
    pipeline = {"CI": "true", "IC_SECRETS_SITE": "my-site"}
    for words in (["run", "--", "true"], ["pre-build"], ["plan"]):
        done = site(*words, cwd=project, env=pipeline)
        assert done.returncode != 0
        assert b"ic-secrets.toml:1 " in done.stderr
        assert b"in a pipeline (CI is set) a checkout may not" in done.stderr
    site("run", "--", "true", cwd=project, env=pipeline | variable, check=0)
    site("run", "--", "true", cwd=project, env={"IC_SECRETS_SITE": "my-site"}, check=0)
    own = tmp_path / "own.toml"
    own.write_text(f"{setting}\n")
    own.chmod(0o600)
    site("run", "--", "true", cwd=project, env=pipeline | {"IC_SECRETS_CONFIG": str(own)}, check=0)


def test_a_pull_request_may_be_stricter_than_a_person_and_not_less(site: Cli, tmp_path: Path) -> None:
    """What a person's own file says is the measure: `warn` there allows `warn`, and not `off`."""
    project, own = tmp_path / "project", tmp_path / "own.toml"
    project.mkdir()
    pipeline = {"CI": "true", "IC_SECRETS_SITE": "my-site", "IC_SECRETS_CONFIG": str(own)}
    for person, checkout, is_allowed in (
        ('leaks = "warn"', 'leaks = "warn"', True),
        ('leaks = "off"', 'leaks = "warn"', True),
        ('leaks = "warn"', 'leaks = "off"', False),
        ("pristine = true", "pristine = false", False),
        ("", "pristine = false", True),
        ("pristine = true", "", True),
        ("no-mask = true", "no-mask = false", True),
    ):
        own.write_text(f"{person}\n")
        own.chmod(0o600)
        (project / "ic-secrets.toml").write_text(f"{checkout}\n")
        done = site("run", "--", "true", cwd=project, env=pipeline)
        assert done.returncode == (0 if is_allowed else 125), (person, checkout, done.stderr)
    (project / "ic-secrets.toml").write_text("pristine = false\n")
    own.write_text("pristine = true\n")
    site("run", "--", "true", cwd=project, env=pipeline | {"IC_SECRETS_PRISTINE": "false"}, check=0)


def test_a_pull_request_names_places_of_known_leaks_and_no_secret(site: Cli, tmp_path: Path) -> None:
    """In a pipeline the name of a secret in its file is that of a file: the secret may not leak everywhere."""
    project = tmp_path / "project"
    project.mkdir()
    pipeline = {"CI": "true", "IC_SECRETS_SITE": "my-site"}
    name = json.loads(site("list", "my-site", "--json", check=0).stdout)["secrets"][0]["name"]
    (project / "ic-secrets.toml").write_text(f'leaks-allow = ["web/*/known.php", "{name}"]\n')
    (project / "web" / "a").mkdir(parents=True)
    leaking = 'printf %s "${!1}" > "$2"'
    for place, status in (("web/a/known.php", 0), (name, 0), ("other", 120)):
        done = site("run", "--", "bash", "-c", leaking, "_", name, place, cwd=project, env=pipeline)
        assert done.returncode == status, (place, done.stderr)
        (project / place).unlink()
    (project / "ic-secrets.toml").write_text(f'leaks-allow = ["{name}"]\n')
    site(
        "run", "--", "bash", "-c", leaking, "_", name, "other", cwd=project, env={"IC_SECRETS_SITE": "my-site"}, check=0
    )


def test_each_setting_of_a_checkout_is_decided_in_the_documentation() -> None:
    """Whether it could weaken a pipeline, and why not: in one table, which says it of every setting."""
    page = (Path(__file__).parents[2] / "docs/reference/settings.md").read_text()
    decided = set(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE))
    assert decided == {name for name, known in SETTINGS.items() if known.checkout}


def test_a_secret_that_would_turn_the_build_against_its_credentials_needs_a_persons_word(
    site: Cli, tmp_path: Path
) -> None:
    words = ("set", "my-site", "https_proxy", "--type", "env", "--scope", "ic")
    value = b"http://127.0.0.1:9"
    done = site(*words, stdin=value, check=1)
    assert b"https_proxy is a reserved name" in done.stderr
    assert b"IC_SECRETS_ALLOW_ENV" in done.stderr
    allowed = {"IC_SECRETS_ALLOW_ENV": "https_proxy"}
    site(*words, stdin=value, env=allowed, check=0)
    site("run", "my-site", "--", "true", check=125)
    print_it = ("--no-mask", "--", "printenv", "https_proxy")
    assert site("run", "my-site", *print_it, env=allowed, check=0).stdout.strip() == value
    project = tmp_path / "project"
    project.mkdir()
    (project / "ic-secrets.toml").write_text('allow-env = ["https_proxy"]\n')
    assert b"a checkout may not set allow-env" in site("run", "my-site", "--", "true", cwd=project, check=125).stderr


# --- what is printed ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "::set-output name=a::b",
        "  ::add-path::/tmp",
        "\u2003::error::",
        "a\n::error::b",
        "see ##vso[task.setvariable variable=a]b",
        "##[add-matcher]x",
        "###[group]x",
        "##teamcity[message text='a']",
        "\x1b]0;title\x07",
        "\x9b31m",
        "\u202egpj.exe",
    ],
)
def test_what_a_checkout_names_is_neither_a_workflow_command_nor_a_terminal_sequence(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert not shown.lstrip().startswith("::")
    assert "##" not in shown
    assert shown != text


def test_what_a_checkout_names_is_shown_as_it_is_where_it_does_no_harm() -> None:
    for text in ("App\\Command::run", "a ::b", "# a comment", "## a [title]", "naïve.php", "C# [1]"):
        assert printable(text) == text


def test_json_for_a_pipeline_holds_no_workflow_command(site: Cli, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    url = "https://repo.example.org/##vso[task.setvariable variable=PATH]/tmp"
    (project / "composer.json").write_text(json.dumps({"repositories": [{"type": "composer", "url": url}]}))
    done = site("plan", "my-site", "--json", "--", "composer", "install", cwd=project)
    assert b"##vso" not in done.stdout + done.stderr
    json.loads(done.stdout)


def test_a_command_in_a_hint_can_be_pasted_whatever_the_checkout_says(site: Cli, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    url = "https://repo.example.org;touch${IFS}pasted;/"
    (project / "composer.json").write_text(json.dumps({"repositories": [{"type": "composer", "url": url}]}))
    done = site("plan", "my-site", "--", "composer", "install", cwd=project)
    hints = [line for line in (done.stdout + done.stderr).decode().splitlines() if "`ic-secrets set" in line]
    assert hints
    for hint in hints:
        words = shlex.split(hint.partition("`")[2].rpartition("`")[0])
        assert words[3] == "http-basic.repo.example.org;touch${ifs}pasted;"


# --- names and paths ------------------------------------------------------------------------------------


def test_a_tilde_in_a_variable_or_an_option_is_the_home(cli: Cli, tmp_path: Path) -> None:
    project, home = tmp_path / "project", Path(cli.home["HOME"])
    project.mkdir()
    variables = {"IC_SECRETS_STORE": "sqlite:~/a.db", "IC_SECRETS_KEY_FILE": "~/a.key"}
    cli("init", cwd=project, env=variables, check=0)
    cli("init", "--store=~/b.db", "--key-file=~/b.key", cwd=project, check=0)
    assert {"a.db", "a.key", "b.db", "b.key"} <= {path.name for path in home.iterdir()}
    assert not any(project.iterdir())


@pytest.mark.parametrize("port", ["0", "00", "080", "65536", "99999"])
def test_a_port_that_no_server_has_is_refused(port: str) -> None:
    with pytest.raises(InvalidNameError):
        check_secret_name(SecretType.COMPOSER, f"http-basic.repo.example.org:{port}")


def test_a_port_that_a_server_can_have_is_taken() -> None:
    for port in ("1", "80", "443", "8443", "65535"):
        check_secret_name(SecretType.COMPOSER, f"http-basic.repo.example.org:{port}")


def test_a_runtime_secret_is_not_named_like_a_directory() -> None:
    for name in (".", ".."):
        with pytest.raises(InvalidNameError):
            check_secret_name(SecretType.RUNTIME, name)
    for name in ("...", ".env", "a.."):
        check_secret_name(SecretType.RUNTIME, name)


@pytest.mark.parametrize("header", ["Host: a.org", "host: a", "Transfer-Encoding: chunked", "Content-Length: 0"])
def test_custom_headers_cannot_say_where_a_request_goes(header: str) -> None:
    with pytest.raises(InvalidValueError):
        parse_credential("custom-headers.repo.example.org", json.dumps([header]))


def test_a_tag_in_yaml_is_refused(site: Cli, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    for value in ("!!binary aGVsbG8=", "!!python/object/apply:os.system [id]", "!x y", "! y"):
        path.write_text(f"secrets:\n  A:\n    type: env\n    scopes: [ic]\n    value: {value}\n")
        done = site("import", "my-site", path, check=1)
        assert b"line 5: a tag, which no definition needs" in done.stderr


def test_a_mistyped_variable_is_named_with_the_nearest_one(site: Cli) -> None:
    done = site("site", "list", env={"IC_SECRETS_LEAKES": "off", "IC_SECRETS_LEAKS": "warn"}, check=0)
    assert done.stderr.splitlines() == [
        b"warning: IC_SECRETS_LEAKES is not a variable of ic-secrets",
        b"hint: did you mean IC_SECRETS_LEAKS?",
    ]
