"""The application's secrets.json: what the PHP SDK finds in it, what it never holds, and what a receipt says of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from commandline import Cli
from ic_secrets.build.render import (
    SECRETS_FILE,
    SECRETS_VARIABLE,
    RenderContext,
    Rendered,
    render_application,
    render_others,
)
from ic_secrets.build.secrets import BuildSecret, BuildSecrets
from ic_secrets.errors import BuildError
from ic_secrets.model.secret import Scope, SecretType, SecretValue, Target, parse_scopes
from searching import Found

SCHEMA = Path(__file__).parent.parent.parent / "docs" / "receipt.schema.json"
VALUE = 'a-canary "quoted" of\nthe wéb \\'
# As the SDK's local client does: the file that the variable names; Value, else the organization's default.
READ_AS_THE_SDK = """
$document = json_decode(file_get_contents(getenv('CUSTOMER_SECRETS_FAKE_FILE')), true, 512, JSON_THROW_ON_ERROR);
$secret = $document['Secrets'][$argv[1]] ?? null;
echo $secret === null ? 'NULL' : bin2hex($secret['Value'] ?: $secret['OrgValues']['default']);
"""


def secrets(*values: tuple[str, str]) -> BuildSecrets:
    scopes = parse_scopes("web,user")
    return BuildSecrets(
        BuildSecret.make(name, SecretType.RUNTIME, SecretValue(value), source="my-site", scopes=scopes)
        for name, value in values
    )


def render(*values: tuple[str, str], site: str = "my-site") -> Rendered:
    return render_application(secrets(*values), Target(site, "dev"), Scope.WEB)


def test_the_file_has_the_fields_of_pantheons() -> None:
    rendered = render(("KEY", VALUE))
    assert rendered.paths == {SECRETS_VARIABLE: SECRETS_FILE}
    document = json.loads(rendered.files[SECRETS_FILE])
    assert list(document) == ["SiteID", "Secrets", "Count", "Version", "Scopes"]
    assert document["Secrets"] == {
        "KEY": {"Type": "runtime", "Value": VALUE, "Scopes": ["web", "user"], "EnvValues": {}, "OrgValues": {}}
    }
    assert document["Count"] == 1


def test_a_site_always_has_the_same_id_and_another_site_another() -> None:
    ids = [json.loads(render(site=site).files[SECRETS_FILE])["SiteID"] for site in ("a", "a", "b")]
    assert ids[0] == ids[1] != ids[2]
    assert uuid.UUID(ids[0]).version == 5


@pytest.mark.parametrize(
    "rendered",
    [
        Rendered({SECRETS_FILE: b""}),
        Rendered(variables={SECRETS_VARIABLE: "x"}),
        Rendered({"a/x": b""}, {}, {SECRETS_VARIABLE: "a/x"}),
    ],
    ids=["file", "variable", "path"],
)
def test_no_plugin_takes_the_applications_file_or_variable(rendered: Rendered) -> None:
    context = RenderContext(Target("my-site", "dev"), "/project", secrets(), {}, Scope.WEB)
    with pytest.raises(BuildError, match="the plugin may not"):
        render_others(context, render(), [("the plugin", lambda _: rendered)])


@pytest.fixture
def site(cli: Cli, private: Path) -> Cli:
    """A store whose site has a secret of every type, all with the scope `web`."""
    cli("init", check=0)
    cli("site", "set", "my-site", "--org", "agency", check=0)
    for owner, name, kind, value in (
        ("org:agency", "SHARED", "runtime", "a-canary-of-agency"),
        ("org:agency", "KEY", "runtime", "a-canary-nobody-gets"),
        ("my-site", "KEY", "runtime", VALUE),
        ("my-site", "TOKEN", "env", "a-canary-of-env"),
        ("my-site", "bearer.repo.example.org", "composer", "a-canary-of-composer"),
    ):
        cli("set", owner, name, "--type", kind, "--scope", "ic,web", "--keep-newline", stdin=value.encode(), check=0)
    cli("set", "my-site.pr-1", "SHARED", stdin=b"a-canary-of-pr-1", check=0)
    return cli


@pytest.mark.skipif(not shutil.which("php"), reason="needs PHP")
@pytest.mark.parametrize(
    ("target", "name", "expected"),
    [
        ("my-site", "KEY", VALUE),
        ("my-site", "SHARED", "a-canary-of-agency"),
        ("my-site.pr-1", "SHARED", "a-canary-of-pr-1"),
        ("my-site", "TOKEN", None),
        ("my-site", "bearer.repo.example.org", None),
    ],
    ids=["site", "organization", "override", "env", "composer"],
)
def test_php_reads_what_the_target_resolves_to(
    site: Cli, work: Path, target: str, name: str, expected: str | None
) -> None:
    words = ("run", "--scope", "web", "--no-mask", target, "--", "php", "-r", READ_AS_THE_SDK, name)
    shown = site(*words, cwd=work, check=0).stdout.decode()
    assert shown == ("NULL" if expected is None else expected.encode().hex())


def test_a_receipt_names_the_file_and_the_search_covers_the_values(site: Cli, work: Path) -> None:
    words = ("run", "--scope", "web", "--receipt", "receipt.json", "my-site", "--")
    done = site(*words, "sh", "-c", 'cat "$CUSTOMER_SECRETS_FAKE_FILE"; echo a-canary-of-agency > left', cwd=work)
    assert done.returncode == 120
    assert b"canary" not in done.stdout + done.stderr
    receipt = json.loads((work / "receipt.json").read_text())
    jsonschema.validate(receipt, json.loads(SCHEMA.read_text()))
    assert receipt["scope"] == "web"
    assert [(secret["name"], secret["type"], secret["destination"]) for secret in receipt["secrets"]] == [
        (name, "runtime", {"file": SECRETS_FILE, "named_by": SECRETS_VARIABLE}) for name in ("KEY", "SHARED")
    ]
    assert set(receipt["masked"]) == {"KEY", "SHARED"}
    assert [finding["secret"] for finding in receipt["leaks"]["findings"]] == ["SHARED"]
    assert receipt["scrub"]["complete"]
    assert any(path["path"].endswith(SECRETS_FILE) for path in receipt["scrub"]["paths"])


def test_the_users_composer_goes_on_as_it_is(site: Cli, work: Path) -> None:
    """Neither a Composer home nor a fault of the project's auth.json is an application's business."""
    (work / "auth.json").write_text("{")
    (work / "composer.json").write_text("{}")
    script = 'echo "$COMPOSER_AUTH" "${COMPOSER_HOME-none}" "${IC_SECRETS_KEY_FILE-none}"'
    environment = {"COMPOSER_AUTH": '{"bearer":{}}'}
    done = site("run", "--scope", "web", "my-site", "--", "sh", "-c", script, cwd=work, env=environment, check=0)
    assert done.stdout.decode() == '{"bearer":{}} none none\n'


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["TERM", "KILL"])
def test_nothing_is_left_whatever_ends_the_application(
    site: Cli, work: Path, private: Path, tmp_path: Path, search_tree: Callable[..., list[Found]], number: int
) -> None:
    script = "echo ready; exec sleep 300"
    with site.start("run", "--scope", "web", "my-site", "--", "sh", "-c", script, cwd=work) as running:
        assert running.stdout
        assert running.stdout.readline() == b"ready\n"
        assert [path.name for path in private.glob("*/application/*")] == ["secrets.json"]
        os.kill(running.pid, number)
        assert running.wait(30) == (-9 if number == signal.SIGKILL else 128 + number)
        running.stdout.read()  # until the application has ended too, which holds the pipe
    until = time.monotonic() + 20
    while any(private.iterdir()):  # of one that was killed, the watchdog removes what is left
        assert time.monotonic() < until
    needles = [b"a-canary-of-agency", b"the w\xc3\xa9b"]
    assert search_tree([tmp_path, private], needles) == []
