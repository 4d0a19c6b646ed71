"""CI platforms: a record is all that a platform needs, and every command asks the records."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ic_secrets.audit.origin import describe_origin
from ic_secrets.build.secrets import BuildSecret, BuildSecrets
from ic_secrets.ci import platforms
from ic_secrets.ci.identity import request_token
from ic_secrets.ci.platforms import PLATFORMS, Branch, IdentityRequest, Platform, find_platform, is_pipeline
from ic_secrets.config.branches import find_environment
from ic_secrets.config.settings import Settings
from ic_secrets.errors import ConfigError, ReservedNameError
from ic_secrets.model.secret import SecretType, SecretValue
from ic_secrets.two_steps import github

MADE_UP = Platform(
    name="Made-up CI",
    documentation="https://ci.example.org/docs",
    mark="MADE_UP",
    job_url="{MADE_UP_SERVER}/jobs/{MADE_UP_JOB}",
    branches=(Branch("MADE_UP_REF", "MADE_UP_KIND=tag"),),
    mask="@@hide {}",
    escapes=(("@", "%40"),),
    identity=IdentityRequest("MADE_UP_IDENTITY_URL", "MADE_UP_IDENTITY_TOKEN", "jwt", "ask your administrator"),
    own_variables=("MADE_UP_*",),
)
JOB = {"MADE_UP": "1", "MADE_UP_SERVER": "https://bot:pw@ci.example.org", "MADE_UP_JOB": "7", "MADE_UP_REF": "pr-9"}


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> Platform:
    """One more record in the one place where they are."""
    monkeypatch.setattr(platforms, "PLATFORMS", (*PLATFORMS, MADE_UP))
    return MADE_UP


@pytest.fixture
def identity_url() -> Iterator[str]:
    """A service that gives a token for an audience to the bearer `of-the-job`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_ours = self.headers.get("Authorization") == "Bearer of-the-job"
            content = json.dumps({"jwt": f"for {self.path}"} if is_ours else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as service:
        thread = threading.Thread(target=service.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{service.server_address[1]}"
        service.shutdown()
        thread.join()


@pytest.mark.usefixtures("made_up")
def test_one_more_record_is_all_that_a_platform_needs(work: Path) -> None:
    """Its job is in the audit log, its branch is an environment, and its values are hidden by its command."""
    assert find_platform(JOB) is MADE_UP
    assert describe_origin(JOB, str(work))["job"] == "https://ci.example.org/jobs/7"
    assert find_environment(str(work), JOB, is_ci=is_pipeline(JOB)) == "pr-9"
    with pytest.raises(ConfigError):
        find_environment(str(work), {**JOB, "MADE_UP_KIND": "tag"}, is_ci=True)
    secret = BuildSecret.make("A", SecretType.ENV, SecretValue("a-canary@b"), source="my-site")
    masks = github.render_masks(BuildSecrets([secret]), MADE_UP)
    assert "@@hide a-canary%40b\n" in masks
    with pytest.raises(ReservedNameError, match="Made-up CI"):
        github.check_names(["MADE_UP_JOB"], MADE_UP)


@pytest.mark.usefixtures("made_up")
def test_the_identity_token_of_one_more_platform_is_asked_for(identity_url: str) -> None:
    job = {**JOB, "MADE_UP_IDENTITY_URL": f"{identity_url}/id?v=1", "MADE_UP_IDENTITY_TOKEN": "of-the-job"}
    assert request_token(job, "a b") == "for /id?v=1&audience=a%20b"
    assert request_token(JOB, "a") is None
    with pytest.raises(ConfigError, match="Made-up CI does not give") as error:
        request_token({**job, "MADE_UP_IDENTITY_TOKEN": "of-another"}, "a")
    assert error.value.hint == "ask your administrator"


@pytest.mark.parametrize("proxy", ["http", "all"])
def test_an_identity_token_goes_through_the_proxy_of_the_environment(
    identity_url: str, monkeypatch: pytest.MonkeyPatch, made_up: Platform, proxy: str
) -> None:
    """But for hosts that no_proxy names. The service plays the proxy, and shows what it was asked."""
    monkeypatch.setenv(f"{proxy}_proxy", identity_url)
    job = {"MADE_UP_IDENTITY_URL": "http://localhost:9/id", "MADE_UP_IDENTITY_TOKEN": "of-the-job"}
    assert request_token(job, "a") == "for http://localhost:9/id?audience=a"
    monkeypatch.setenv("no_proxy", "localhost")
    monkeypatch.setattr("ic_secrets.ci.identity._BUDGET", 0.2)
    with pytest.raises(ConfigError):
        request_token(job, "a")


@pytest.mark.parametrize("platform", PLATFORMS, ids=lambda platform: platform.name)
def test_a_record_is_whole(platform: Platform) -> None:
    assert find_platform({platform.mark: "1"}) is platform
    assert platform.documentation.startswith("https://")
    assert platform.find_job_url({}) is None
    assert platform.find_branch({}) is None


def test_a_branch_may_be_a_reference() -> None:
    """On Azure Pipelines, whose reference of a tag or a pull request is not a branch."""
    azure = find_platform({"TF_BUILD": "True"})
    assert azure
    assert azure.find_branch({"BUILD_SOURCEBRANCH": "refs/heads/feature/a"}) == "feature/a"
    assert azure.find_branch({"BUILD_SOURCEBRANCH": "refs/tags/v1"}) is None
    pull = {"BUILD_SOURCEBRANCH": "refs/pull/1/merge", "SYSTEM_PULLREQUEST_SOURCEBRANCH": "refs/heads/b"}
    assert azure.find_branch(pull) == "b"
    assert azure.render_mask("100%\n") == "##vso[task.setsecret]100%AZP25%0A\n"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"CI": "true"}, True),
        ({"CI": "0"}, False),
        ({"CI": "False"}, False),
        ({"JENKINS_URL": "https://ci.example.org/"}, True),
        ({"TF_BUILD": "True"}, True),
        ({"TF_BUILD": "True", "CI": "false"}, False),
    ],
)
def test_a_pipeline_is_recognized_with_and_without_the_variable_ci(
    work: Path, environment: dict[str, str], expected: bool
) -> None:
    """There a checkout does not choose its site."""
    assert is_pipeline(environment) == expected
    (work / "ic-secrets.toml").write_text('site = "my-site"\n')
    settings = Settings({**environment, "IC_SECRETS_CONFIG": "/dev/null"}, directory=str(work))
    if expected:
        with pytest.raises(ConfigError, match="site"):
            settings.target(None)
    else:
        assert str(settings.target(None)) == "my-site.dev"


def test_the_results_of_a_step_are_apart_from_what_decides_what_later_steps_run() -> None:
    names = ("GITHUB_ENV", "GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_STATE", "GITHUB_WORKSPACE")
    environment = {"GITHUB_ACTIONS": "true", **{name: f"/run/{name}" for name in names}}
    assert platforms.list_step_files(environment) == ("/run/GITHUB_OUTPUT", "/run/GITHUB_STATE")
    assert platforms.list_steering_files(environment) == ("/run/GITHUB_ENV", "/run/GITHUB_PATH")
    assert platforms.list_step_files({}) == platforms.list_steering_files({}) == ()
