"""A build from the platform's own file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from commandline import Cli

PLATFORM_ID = "9cf2c790-c7b8-4f2f-a6f1-27385b8f958e"


CANARY = "hunter2-canary"


def document(secrets: dict[str, Any], site_id: str = PLATFORM_ID, **more: object) -> dict[str, Any]:
    return {"SiteID": site_id, "Secrets": secrets, "Count": len(secrets), "Version": "", "Scopes": ["ic"], **more}


def entry(value: str | None, kind: str = "env", scopes: str = "ic", **more: object) -> dict[str, Any]:
    return {"Type": kind, "Value": value, "Scopes": scopes.split(","), "EnvValues": {}, "OrgValues": {}, **more}


def write(path: Path, content: dict[str, Any]) -> str:
    path.write_text(json.dumps(content))
    return f"pantheon-file:{path}"


def test_a_build_runs_from_the_file(cli: Cli, tmp_path: Path) -> None:
    """Its values come and are masked; what is passed over is named once, before the build."""
    secrets = {
        "TOKEN": entry(CANARY),
        "CERT": entry("v", "file"),
        "LENT": entry(None, OrgValues={"default": "lent-value"}),
    }
    cli.home["IC_SECRETS_STORE"] = write(tmp_path / "secrets.json", document(secrets))
    done = cli("run", "my-site.dev", "--", "sh", "-c", 'echo "[$TOKEN|$LENT|$(printf %s "$TOKEN" | wc -c)]"', check=0)
    assert done.stdout == b"[***|***|14]\n"
    assert done.stderr.decode().count("CERT is left out: its type is 'file'") == 1


def test_a_build_without_a_value_is_not_started(cli: Cli, tmp_path: Path) -> None:
    """What is missing is named, and nothing is exposed."""
    url = write(tmp_path / "secrets.json", document({"TOKEN": entry(None), "OTHER": entry(CANARY)}))
    cli.home["IC_SECRETS_STORE"] = url
    done = cli("run", "my-site.dev", "--", "touch", tmp_path / "started", check=125)
    assert b"TOKEN" in done.stderr
    assert not (tmp_path / "started").exists()
    assert b"TOKEN" in cli("plan", "my-site.dev", check=1).stdout
