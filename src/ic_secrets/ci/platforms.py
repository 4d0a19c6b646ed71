"""One record for each CI platform: how it is recognized, and what its jobs find in their environment.

To add a platform, add its record to PLATFORMS. What is taken from the environment is taken only in the shape that it
must have, so that no value can pass for it.
"""

import re
from collections.abc import Mapping

from ..core.records import NamedTuple

_NAME = re.compile(r"\{([A-Z0-9_]+)\}")
_URL = r"(https?://)(?:[^/?#@\s]*@)?((?:[A-Za-z0-9.-]+|\[[0-9a-f:]+\])(?::\d+)?(?:/[A-Za-z0-9._~%:/+-]*)?)(?:[?#].*)?"
_LONGEST_URL = 500
_BRANCH_REF = "refs/heads/"


class Branch(NamedTuple):
    """A variable with the name of a branch, or its reference.

    `unless` is a variable that is set, or `NAME=VALUE`, where the first one names a tag.
    """

    variable: str
    unless: str = ""


class IdentityRequest(NamedTuple):
    """How a job asks for an identity token: a GET of the URL in one variable with the bearer token in another.

    The audience is the query parameter `audience`; the reply is a JSON object with the token in `field`.
    """

    url: str
    bearer: str
    field: str
    hint: str


class Platform(NamedTuple):
    """A CI platform. Whatever it does not have is empty or None.

    `mark` is the variable that each of its jobs has. `job_url` is made of variables in braces; a login or query in them
    is cut off. `branches` are in the order of their precedence: of a pull request first, then of a push. `mask` is the
    line on stdout that makes it hide a value: {} is the value, with `escapes` applied; `error` is one that it shows as
    an error of the job. `environment_file` is the
    variable with the path of the file that sets variables of later steps, `own_variables` (in upper case; a prefix ends
    with `*`) are those that cannot be set there, `output_files` those with the paths of a step's other files,
    `steering_files` those of both that decide what later steps run, `directories` those with the paths of what a job
    has to itself: its checkout, its temporary files, its artifacts.
    """

    name: str
    documentation: str
    mark: str
    job_url: str = ""
    branches: tuple[Branch, ...] = ()
    mask: str = ""
    escapes: tuple[tuple[str, str], ...] = ()
    error: str = ""
    identity: IdentityRequest | None = None
    environment_file: str = ""
    own_variables: tuple[str, ...] = ()
    output_files: tuple[str, ...] = ()
    steering_files: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()

    def find_job_url(self, environment: Mapping[str, str]) -> str | None:
        """Return the URL of the job that runs, without a login; None where the environment does not have it."""
        if not all(environment.get(name) for name in _NAME.findall(self.job_url)):
            return None
        return _clean_url(_NAME.sub(lambda found: environment[found[1]], self.job_url))

    def find_branch(self, environment: Mapping[str, str]) -> str | None:
        """Return the name of the branch that the job builds; None for a tag, and where the environment has none."""
        for variable, unless in self.branches:
            name, _, value = unless.partition("=")
            found = environment.get(name)
            branch = environment.get(variable, "").removeprefix(_BRANCH_REF)
            if branch and not branch.startswith("refs/") and not (found == value if value else found):
                return branch
        return None

    def render_mask(self, value: str) -> str:
        """Return the line that makes the platform hide the value."""
        return self.mask.format(self._escape(value)) + "\n"

    def render_error(self, text: str) -> str:
        """Return the line that the platform shows as an error."""
        return self.error.format(self._escape(text)) + "\n"

    def _escape(self, text: str) -> str:
        for character, escape in self.escapes:
            text = text.replace(character, escape)
        return text

    def is_own_variable(self, name: str) -> bool:
        """Return whether the platform keeps that variable to itself."""
        upper = name.upper()
        return any(upper.startswith(own[:-1]) if own.endswith("*") else upper == own for own in self.own_variables)


GITHUB = Platform(
    name="GitHub Actions",
    documentation="https://docs.github.com/actions/reference/workflows-and-actions/variables",
    mark="GITHUB_ACTIONS",
    job_url="{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}",
    branches=(Branch("GITHUB_HEAD_REF"), Branch("GITHUB_REF_NAME", "GITHUB_REF_TYPE=tag")),
    # https://docs.github.com/actions/reference/workflow-commands-for-github-actions
    mask="::add-mask::{}",
    error="::error::{}",
    escapes=(("%", "%25"), ("\r", "%0D"), ("\n", "%0A")),
    # https://docs.github.com/actions/security-for-github-actions/security-hardening-your-deployments
    identity=IdentityRequest(
        "ACTIONS_ID_TOKEN_REQUEST_URL",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
        "value",
        "the job needs `permissions: id-token: write`",
    ),
    environment_file="GITHUB_ENV",
    own_variables=("NODE_OPTIONS", "CI", "GITHUB_*", "RUNNER_*", "ACTIONS_*", "INPUT_*"),
    output_files=("GITHUB_OUTPUT", "GITHUB_STATE", "GITHUB_STEP_SUMMARY", "GITHUB_PATH"),
    steering_files=("GITHUB_ENV", "GITHUB_PATH"),
    directories=("GITHUB_WORKSPACE", "RUNNER_TEMP"),
)

PLATFORMS: tuple[Platform, ...] = (
    GITHUB,
    # A job's identity tokens are variables that its `id_tokens` names: https://docs.gitlab.com/ci/yaml/#id_tokens.
    Platform(
        name="GitLab CI/CD",
        documentation="https://docs.gitlab.com/ci/variables/predefined_variables/",
        mark="GITLAB_CI",
        job_url="{CI_JOB_URL}",
        branches=(Branch("CI_MERGE_REQUEST_SOURCE_BRANCH_NAME"), Branch("CI_COMMIT_BRANCH")),
        directories=("CI_PROJECT_DIR",),
    ),
    # Masks by `buildkite-agent redactor add`, identity tokens by `buildkite-agent oidc request-token`.
    Platform(
        name="Buildkite",
        documentation="https://buildkite.com/docs/pipelines/configure/environment-variables",
        mark="BUILDKITE",
        job_url="{BUILDKITE_BUILD_URL}",
        branches=(Branch("BUILDKITE_BRANCH", "BUILDKITE_TAG"),),
        output_files=("BUILDKITE_ENV_FILE",),
        steering_files=("BUILDKITE_ENV_FILE",),
        directories=("BUILDKITE_BUILD_CHECKOUT_PATH",),
    ),
    # Identity tokens are in CIRCLE_OIDC_TOKEN_V2, and by `circleci run oidc get` for another audience.
    Platform(
        name="CircleCI",
        documentation="https://circleci.com/docs/reference/variables/",
        mark="CIRCLECI",
        job_url="{CIRCLE_BUILD_URL}",
        branches=(Branch("CIRCLE_BRANCH", "CIRCLE_TAG"),),
        output_files=("BASH_ENV",),
        steering_files=("BASH_ENV",),
        directories=("CIRCLE_WORKING_DIRECTORY",),
    ),
    Platform(
        name="Bitbucket Pipelines",
        documentation="https://support.atlassian.com/bitbucket-cloud/docs/variables-and-secrets/",
        mark="BITBUCKET_BUILD_NUMBER",
        job_url="https://bitbucket.org/{BITBUCKET_REPO_FULL_NAME}/pipelines/results/{BITBUCKET_BUILD_NUMBER}",
        branches=(Branch("BITBUCKET_BRANCH", "BITBUCKET_TAG"),),
        output_files=("BITBUCKET_PIPELINES_VARIABLES_PATH",),
        directories=("BITBUCKET_CLONE_DIR", "BITBUCKET_PIPE_STORAGE_DIR", "BITBUCKET_PIPE_SHARED_STORAGE_DIR"),
    ),
    Platform(
        name="Azure Pipelines",
        documentation="https://learn.microsoft.com/azure/devops/pipelines/build/variables",
        mark="TF_BUILD",
        branches=(Branch("SYSTEM_PULLREQUEST_SOURCEBRANCH"), Branch("BUILD_SOURCEBRANCH")),
        # https://learn.microsoft.com/azure/devops/pipelines/scripts/logging-commands
        mask="##vso[task.setsecret]{}",
        escapes=(("%", "%AZP25"), ("\r", "%0D"), ("\n", "%0A")),
        directories=(
            "BUILD_SOURCESDIRECTORY",
            "BUILD_ARTIFACTSTAGINGDIRECTORY",
            "BUILD_BINARIESDIRECTORY",
            "COMMON_TESTRESULTSDIRECTORY",
            "AGENT_TEMPDIRECTORY",
        ),
    ),
    # The last, since its variables have names that others could have, too.
    Platform(
        name="Jenkins",
        documentation="https://www.jenkins.io/doc/book/pipeline/jenkinsfile/#using-environment-variables",
        mark="JENKINS_URL",
        job_url="{BUILD_URL}",
        branches=(Branch("CHANGE_BRANCH"), Branch("BRANCH_NAME", "TAG_NAME")),
        directories=("WORKSPACE", "WORKSPACE_TMP"),
    ),
)


def find_platform(environment: Mapping[str, str]) -> Platform | None:
    """Return the platform whose job we are; None outside of those that are known."""
    return next((platform for platform in PLATFORMS if environment.get(platform.mark)), None)


def find_written(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the job that runs whose paths its steps write to: files, and directories of the job."""
    platform = find_platform(environment)
    if platform is None:
        return {}
    names = (platform.environment_file, *platform.output_files, *platform.directories)
    return {name: environment[name] for name in names if environment.get(name)}


def list_step_files(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the paths of the files for a step's results, without those that decide what later steps run."""
    platform = find_platform(environment)
    if platform is None:
        return ()
    names = (name for name in platform.output_files if name not in platform.steering_files)
    return tuple(environment[name] for name in names if environment.get(name))


def list_steering_files(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the paths of the files that decide what later steps run."""
    platform = find_platform(environment)
    names = platform.steering_files if platform else ()
    return tuple(environment[name] for name in names if environment.get(name))


def find_job_url(environment: Mapping[str, str]) -> str | None:
    """Return the URL of the CI job, without a login or a query; None outside of those that are known."""
    return next((url for platform in PLATFORMS if (url := platform.find_job_url(environment))), None)


def find_branch(environment: Mapping[str, str]) -> str | None:
    """Return the branch that the CI job builds; None for a tag, and outside of the platforms that are known."""
    return next((branch for platform in PLATFORMS if (branch := platform.find_branch(environment))), None)


def is_pipeline(environment: Mapping[str, str]) -> bool:
    """Return whether we run in a CI job: what `CI` says, else whether the platform is known."""
    said = environment.get("CI", "").lower()
    return said not in {"0", "false"} if said else find_platform(environment) is not None


def _clean_url(text: str) -> str | None:
    found = re.fullmatch(_URL, text)
    return found[1] + found[2] if found and len(text) <= _LONGEST_URL else None
