"""Wherever a build writes a value, it is found, or what was not searched is named."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

CANARY = "canary-Pl4c3s-of-a-build"


@pytest.fixture
def site(cli: Any, tmp_path: Path) -> Path:
    """A store with one licence key and one credential, and an empty project with a directory of its own around it."""
    cli("init", check=0)
    for name, kind in (("TOKEN", "env"), ("bearer.repo.example.org", "composer")):
        words = ("set", "my-site", name, "--type", kind, "--scope", "ic")
        cli(*words, stdin=f"{kind}-{CANARY}".encode(), check=0)
    project = tmp_path / "around" / "project"
    project.mkdir(parents=True)
    return project


def build(cli: Any, site: Path, script: str, *options: object, status: int = 120) -> str:
    done = cli("run", "my-site", *options, "--", "sh", "-c", script, cwd=site, check=status)
    text: str = done.stderr.decode()
    assert CANARY not in text
    return text


@pytest.mark.parametrize(
    ("mark", "variable"),
    [
        ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"),
        ("GITHUB_ACTIONS", "GITHUB_OUTPUT"),
        ("GITHUB_ACTIONS", "GITHUB_ENV"),
        ("GITHUB_ACTIONS", "GITHUB_PATH"),
        ("BUILDKITE", "BUILDKITE_ENV_FILE"),
        ("CIRCLECI", "BASH_ENV"),
        ("BITBUCKET_BUILD_NUMBER", "BITBUCKET_PIPELINES_VARIABLES_PATH"),
    ],
)
def test_a_value_in_a_file_of_the_ci_step_is_found(
    cli: Any, site: Path, home: dict[str, str], mark: str, variable: str
) -> None:
    file = site.parent / "step-file"
    file.write_text("")
    home |= {mark: "1", variable: str(file)}
    assert f"TOKEN was left behind in {file}:1" in build(cli, site, f'echo "key=$TOKEN" >> "${variable}"')


@pytest.mark.parametrize(
    ("mark", "variable"),
    [
        ("GITHUB_ACTIONS", "RUNNER_TEMP"),
        ("GITLAB_CI", "CI_PROJECT_DIR"),
        ("TF_BUILD", "BUILD_ARTIFACTSTAGINGDIRECTORY"),
        ("JENKINS_URL", "WORKSPACE_TMP"),
    ],
)
def test_a_value_in_a_directory_of_the_ci_job_is_found(
    cli: Any, site: Path, home: dict[str, str], mark: str, variable: str
) -> None:
    directory = site.parent / "job"
    directory.mkdir()
    home |= {mark: "1", variable: str(directory)}
    assert "TOKEN was left behind" in build(cli, site, f'echo "$TOKEN" > "${variable}/report"')


@pytest.mark.parametrize(
    ("manifest", "place"),
    [
        ({"config": {"vendor-dir": "../lib/vendor"}}, "../lib/vendor"),
        ({"config": {"bin-dir": "../bin"}}, "../bin"),
        ({"config": {"vendor-dir": "$HOME/lib"}}, "$HOME/lib"),
        ({"repositories": [{"type": "path", "url": "../packages/*"}]}, "../packages/one/src"),
        ({"repositories": {"own": {"type": "path", "url": "../packages/{one,two}"}}}, "../packages/one"),
        ({"extra": {"installer-paths": {"../web/modules/{$name}": ["type:module"]}}}, "../web/modules/one"),
    ],
)
def test_a_value_in_a_directory_outside_that_composer_json_names_is_found(
    cli: Any, site: Path, manifest: dict[str, object], place: str
) -> None:
    (site / "composer.json").write_text(json.dumps(manifest))
    text = build(cli, site, f'mkdir -p "{place}"; echo "$TOKEN" > "{place}/left"')
    assert "TOKEN was left behind in" in text


def test_a_value_in_the_vendor_directory_of_the_environment_is_found(
    cli: Any, site: Path, home: dict[str, str]
) -> None:
    home["COMPOSER_VENDOR_DIR"] = str(site.parent / "vendor")
    build(cli, site, 'mkdir "$COMPOSER_VENDOR_DIR"; echo "$TOKEN" > "$COMPOSER_VENDOR_DIR/left"')


def test_a_value_in_the_directory_of_git_above_the_project_is_found(cli: Any, site: Path) -> None:
    (site.parent / ".git").mkdir()
    build(cli, site, 'echo "$TOKEN" > ../.git/COMMIT_EDITMSG')


def test_a_value_behind_a_link_out_of_the_project_is_found(cli: Any, site: Path) -> None:
    """The links of a deployment were there before the build, which writes through them."""
    shared = site.parent / "shared"
    (shared / "log").mkdir(parents=True)
    (shared / "deeper").mkdir()
    (shared / ".env").write_text("A=1\n")
    (shared / "log" / "further").symlink_to(shared / "deeper")
    (site / ".env").symlink_to("../shared/.env")
    (site / "log").symlink_to(shared / "log")
    (site / "round").symlink_to(".")
    (site / "gone").symlink_to("../nowhere")
    (site / "null").symlink_to(os.devnull)
    text = build(cli, site, 'echo "T=$TOKEN" >> .env; echo "$TOKEN" > log/a; echo "$TOKEN" > log/further/b')
    found = sorted(line.split(" in ")[1].split(":")[0] for line in text.splitlines() if "left behind" in line)
    assert found == [f"{shared}/.env", f"{shared}/deeper/b", f"{shared}/log/a"]


def test_what_is_behind_a_link_but_too_large_is_named(cli: Any, site: Path, tmp_path: Path) -> None:
    large = site.parent / "large"
    large.mkdir()
    for number in range(20_001):
        (large / str(number)).touch()
    (site / "files").symlink_to(large)
    receipt = tmp_path / "receipt.json"
    text = build(cli, site, "true", "--receipt", receipt, status=0)
    assert f"{large} was not searched for leaks: more than 20,000 entries" in text
    unsearched = json.loads(receipt.read_text())["leaks"]["unsearched"]
    assert {"path": str(large), "reason": "more than 20,000 entries"} in unsearched
    assert "not searched" not in build(cli, site, "true", "--leaks-allow", "../large", status=0)


@pytest.mark.parametrize("command", ["cp", "ln"])
def test_a_copy_or_a_link_of_auth_json_beside_the_private_directory_is_found(
    cli: Any, site: Path, private: Path, command: str
) -> None:
    text = build(cli, site, f'{command} "$COMPOSER_HOME/auth.json" "{private}/kept"')
    assert f"bearer.repo.example.org was left behind in {private}/kept" in text


def test_the_private_directory_of_a_neighbour_is_not_searched(cli: Any, site: Path, private: Path) -> None:
    neighbour = private / f"ic-secrets-{os.geteuid()}-0123456789abcdef"
    build(cli, site, f'mkdir "{neighbour}"; echo "$TOKEN" > "{neighbour}/auth.json"', status=0)


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ('tar -czf dist.tar.gz -C "$COMPOSER_HOME" auth.json', "dist.tar.gz!auth.json:"),
        ('zip -qj dist.zip "$COMPOSER_HOME/auth.json"', "dist.zip!auth.json:"),
        ('zip -qj inner.zip "$COMPOSER_HOME/auth.json"; zip -q out.zip inner.zip; rm inner.zip', "out.zip!inner.zip!"),
        ('gzip -c "$COMPOSER_HOME/auth.json" > auth.gz', "auth.gz!auth:"),
        ('git init -q; cp "$COMPOSER_HOME/auth.json" .; git add -A; rm auth.json', "!objects@"),
        (
            'git init -q; cp "$COMPOSER_HOME/auth.json" .; git add -A; git -c user.name=a -c user.email=a@a.org commit '
            "-qm a; rm auth.json; git gc -q",
            ".pack!objects",
        ),
    ],
)
def test_a_value_in_an_archive_that_the_build_made_is_found(cli: Any, site: Path, command: str, found: str) -> None:
    text = build(cli, site, command)
    assert "bearer.repo.example.org was left behind" in text
    assert found in text


def test_an_archive_that_cannot_be_searched_is_named(cli: Any, site: Path, home: dict[str, str]) -> None:
    script = "printf '7z\\274\\257\\047\\034' > dist.7z; mkdir -p \"$XDG_CACHE_HOME/composer/files\"; "
    script += 'cp dist.7z "$XDG_CACHE_HOME/composer/files/a.7z"'
    text = build(cli, site, script, status=0)
    assert f"{site}/dist.7z was not searched for leaks: an archive of an unknown kind" in text
    assert "a.7z" not in text  # what Composer downloads is the server's own


def test_an_archive_with_auth_json_does_not_go_into_the_composer_home(
    cli: Any, site: Path, home: dict[str, str]
) -> None:
    script = (
        'cd "$COMPOSER_HOME"; mkdir kept other; tar -czf kept/a.tgz auth.json; echo 7z > other/b.7z; echo > other/c'
    )
    text = build(cli, site, script, status=0)
    assert "kept, which the build made in the Composer home, was not carried back" in text
    assert "other/b.7z, which the build made in the Composer home, was not carried back" in text
    real = Path(home["XDG_CONFIG_HOME"]) / "composer"
    assert sorted(str(path.relative_to(real)) for path in real.rglob("*")) == ["other", "other/c"]


def test_a_project_that_the_build_renamed_is_searched_under_its_new_name(cli: Any, site: Path) -> None:
    text = build(cli, site, 'echo "$TOKEN" > left; cd ..; mv project old; mkdir project; echo "$TOKEN" > project/new')
    found = sorted(line.split(" in ")[1].split(":")[0] for line in text.splitlines() if "left behind" in line)
    assert found == [f"{site.parent}/old/left", f"{site}/new"]


def test_a_project_that_the_build_moved_away_is_named(cli: Any, site: Path, tmp_path: Path) -> None:
    text = build(
        cli, site, f'echo "$TOKEN" > left; mkdir "{tmp_path}/other"; mv ../project "{tmp_path}/other"', status=0
    )
    assert f"{site} was not searched for leaks: it was moved or removed while the build ran" in text


def test_a_clock_that_runs_ahead_hides_nothing(cli: Any, site: Path, home: dict[str, str], tmp_path: Path) -> None:
    """As where the project is on a server, whose clock is an hour behind ours."""
    (tmp_path / "ahead").mkdir()
    (tmp_path / "ahead" / "sitecustomize.py").write_text(
        "import time\n\nreal = time.time_ns\ntime.time_ns = lambda: real() + 3_600_000_000_000\n"
    )
    home["PYTHONPATH"] = str(tmp_path / "ahead")
    assert f"{site}/left" in build(cli, site, 'echo "$TOKEN" > left')
