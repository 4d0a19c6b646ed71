"""Commands that read and write files in formats that people have."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from commandline import Cli
from ic_secrets.model.resolve import Holdings
from ic_secrets.model.secret import Owner, Scope, Secret, SecretType, SecretValue
from ic_secrets.transfer.formats import pantheon
from ic_secrets.transfer.merge import SecretSet

SITE = Owner.site("my-site")


AGENCY = Owner.organization("agency")


BUILD = frozenset({Scope.IC})


CANARY = "a-canary-of-a-format"


def entry(**fields: object) -> dict[str, object]:
    return {"Type": "env", "Value": None, "Scopes": ["ic"], "EnvValues": {}, "OrgValues": {}} | fields


def file(**secrets: object) -> str:
    return json.dumps({"SiteID": "x", "Secrets": secrets, "Count": len(secrets), "Version": "", "Scopes": ["ic"]})


def test_the_sdk_reads_what_is_exported(tmp_path: Path) -> None:
    """As Pantheon's PHP client does without a platform: Value, else the organization's default."""
    php = shutil.which("php")
    assert php
    own = Holdings(SITE, (make("OWN", "mine"), make("BOTH", "site's")), ())
    lent = Holdings(AGENCY, (make("BOTH", "theirs", AGENCY), make("LENT", 'ü "quoted"\n', AGENCY)), ())
    text, omissions = pantheon.write(SecretSet((), (own, lent)), SITE)
    assert omissions == ()
    (tmp_path / "secrets.json").write_text(text)
    code = """
        $all = json_decode(file_get_contents(getenv("CUSTOMER_SECRETS_FAKE_FILE")), true, 512, JSON_THROW_ON_ERROR);
        $told = [];
        foreach ($all["Secrets"] as $name => $one) $told[$name] = $one["Value"] ?: $one["OrgValues"]["default"];
        echo json_encode($told);
    """
    environment = {"CUSTOMER_SECRETS_FAKE_FILE": str(tmp_path / "secrets.json")}
    done = subprocess.run([php, "-r", code], env=environment, capture_output=True, check=True)
    assert json.loads(done.stdout) == {"OWN": "mine", "BOTH": "site's", "LENT": 'ü "quoted"\n'}


def make(name: str, text: str, owner: Owner = SITE) -> Secret:
    return Secret(f"{owner} {name}", owner, name, SecretType.RUNTIME, BUILD, SecretValue(text))


@pytest.mark.parametrize("name", ["secrets.json", "auth.json", "a.env", "a.yaml", "a.toml"])
def test_a_file_of_plain_values_is_private_and_asked_for(cli: Cli, work: Path, name: str) -> None:
    cli("init", check=0)
    cli("set", "my-site", "A", "--type", "env", "--scope", "ic", stdin=CANARY.encode(), check=0)
    cli("set", "my-site", "bearer.h.example", "--type", "composer", "--scope", "ic", stdin=CANARY.encode(), check=0)
    done = cli("export", "my-site", "-o", work / name)
    assert (done.returncode, b"--plaintext" in done.stderr, (work / name).exists()) == (2, True, False)
    cli("export", "my-site", "-o", work / name, "--plaintext", check=0)
    assert CANARY in (work / name).read_text()
    assert (work / name).stat().st_mode & 0o777 == 0o600
    cli("export", "my-site", "-o", work / name, "--plaintext", check=0)  # it is the same
    given = ("--type", "env", "--scope", "ic") if name in {"auth.json", "a.env"} else ()
    done = cli("import", "my-site", work / name, *given, "--json", check=0)
    assert json.loads(done.stdout)["counts"]["changed"] == 0


@pytest.mark.parametrize("form", ["pantheon", "auth", "env", "yaml", "toml"])
def test_a_file_of_somebody_is_never_replaced(cli: Cli, work: Path, form: str) -> None:
    cli("init", check=0)
    cli("set", "my-site", "A", "--type", "env", "--scope", "ic", stdin=CANARY.encode(), check=0)
    for text in ('{"name": "a/b"}', "FROM debian\n", "MINE=1\n", '{"http-basic": {}}', "a: b\n"):
        (work / "file").write_text(text)
        cli("export", "my-site", "--format", form, "--plaintext", "-o", work / "file", check=1)
        assert (work / "file").read_text() == text


def test_what_a_file_does_not_say_stays(cli: Cli, work: Path) -> None:
    """The date of a value that is the same, and values in places that are to be filled."""
    cli("init", check=0)
    words = ("--type", "env", "--scope", "ic", "--expires", "2999-12-31")
    cli("set", "my-site", "A", *words, stdin=CANARY.encode(), check=0)
    (work / "a.env").write_text(f"A={CANARY}\n")
    cli("import", "my-site", work / "a.env", "--type", "env", "--scope", "ic", check=0)
    cli("export", "my-site", "-o", work / "a.yaml", "--without-values", check=0)
    cli("import", "my-site", work / "a.yaml", check=0)
    assert b"2999-12-31" in cli("list", "my-site").stdout


def test_a_store_is_started_with_a_site_and_its_organization(cli: Cli, work: Path) -> None:
    (work / "secrets.json").write_text(file(A=entry(OrgValues={"default": "of the organization"})))
    cli("init", "my-site", "--org", "agency", "--from", work / "secrets.json", check=0)
    assert b"org:agency" in cli("list", "my-site").stdout


def test_an_import_that_is_refused_brings_nothing_and_no_store_is_begun_with_it(cli: Cli, work: Path) -> None:
    (work / "a.env").write_text("GOOD=value\nLD_PRELOAD=x\n")
    done = cli("init", "my-site", "--from", work / "a.env", "--type", "env", "--scope", "ic", check=1)
    assert b"reserved name" in done.stderr
    assert not any(path.name == "store.db" or path.name == "key" for path in work.parent.rglob("*"))
    cli("init", check=0)
    cli("import", "my-site", work / "a.env", "--type", "env", "--scope", "ic", check=1)
    assert b"GOOD" not in cli("list", "my-site").stdout
    (work / "a.env").write_text("GOOD=\n")
    cli("import", "my-site", work / "a.env", "--type", "env", "--scope", "ic", check=1)
    cli("import", "my-site", work / "a.env", "--type", "env", "--scope", "ic", "--allow-empty", check=0)


def test_open_places_are_asked_for_at_a_terminal_alone(cli: Cli, work: Path) -> None:
    cli("init", check=0)
    (work / "a.yaml").write_text("secrets: {A: {type: env, scopes: [ic]}}")
    done = cli("import", "my-site", work / "a.yaml", check=1)
    assert b"no value for my-site A" in done.stderr
    cli("set", "my-site", "A", "--type", "env", "--scope", "ic", stdin=CANARY.encode(), check=0)
    shown = cli("export", "my-site", "--format", "yaml", "--without-values", check=0).stdout
    assert CANARY.encode() not in shown


def test_a_format_is_added_in_one_place(cli: Cli, work: Path) -> None:
    """A made-up one, put into the registry: both directions, --help and the names of files know it."""
    program = (
        "from ic_secrets import cli\n"
        "from ic_secrets.model.secret import SecretType, parse_scopes\n"
        "from ic_secrets.transfer.formats.base import Builder, Format, list_own, reveal\n"
        "from ic_secrets.transfer.formats.registry import FORMATS\n"
        "def read(text, options):\n"
        "    builder = Builder(options)\n"
        "    for line in text.splitlines():\n"
        "        builder.add(options.owner, *line.split(':')[:1], SecretType.ENV, parse_scopes('ic'), line[2:])\n"
        "    return builder.finish()\n"
        "def write(secret_set, owner, *, values=True):\n"
        "    return ''.join(f'{s.name}:{reveal(s)}\\n' for s in list_own(secret_set, owner, [])), ()\n"
        "FORMATS['colons'] = Format('colons', read, write, ('.colons',))\n"
        "cli.start()\n"
    )

    def run(*words: str | Path) -> str:
        words = (sys.executable, "-c", program, *map(str, words))
        done = subprocess.run(words, env=cli.home, cwd=work, capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    cli("init", check=0)
    (work / "in.colons").write_text(f"A:{CANARY}\n")
    assert "1 site and 1 value made" in run("import", "my-site", "in.colons")
    run("export", "my-site", "-o", "out.colons", "--plaintext")
    assert (work / "out.colons").read_text() == f"A:{CANARY}\n"
    assert "colons" in run("import", "--help")
