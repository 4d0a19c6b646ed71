"""What a build inherits, and what secrets may add to it."""

from __future__ import annotations

import pytest

from ic_secrets.errors import EnvironmentTooBigError, InvalidValueError, ReservedNameError
from ic_secrets.model.secret import SecretValue
from ic_secrets.model.variables import Preserve, check_size, check_variable, choose_variables, inherit

VALUE = SecretValue("canary-5f1c")

RESERVED = """
    PATH HOME LD_PRELOAD LD_LIBRARY_PATH LD_ANYTHING DYLD_INSERT_LIBRARIES BASH_ENV ENV IFS PYTHONPATH PYTHONSTARTUP
    NODE_OPTIONS PHPRC PHP_INI_SCAN_DIR GIT_SSH_COMMAND GIT_SSH GIT_CONFIG_COUNT GIT_CONFIG_KEY_0 GIT_EXEC_PATH
    http_proxy HTTPS_PROXY https_proxy ALL_PROXY no_proxy SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE CURL_HOME GIT_DIR
    GIT_SSL_CAINFO GIT_TERMINAL_PROMPT GIT_CONFIG_PARAMETERS MAKEFLAGS ZDOTDIR JAVA_TOOL_OPTIONS NODE_EXTRA_CA_CERTS
    npm_config_registry NPM_CONFIG_USERCONFIG SSLKEYLOGFILE GITHUB_ENV GIT_CONFIG_KEY
    COMPOSER_HOME IC_SECRETS_KEY IC_SECRETS_ANYTHING BASH_FUNC_x PERL5OPT RUBYOPT SHELLOPTS PS4 PROMPT_COMMAND
""".split()


@pytest.mark.parametrize("name", RESERVED)
def test_a_name_that_changes_what_runs_is_refused(name: str) -> None:
    with pytest.raises(ReservedNameError, match=name):
        check_variable(name, "x")


@pytest.mark.parametrize(
    "name", ["ACF_PRO_KEY", "path", "MY_PATH", "COMPOSER_AUTH", "GIT_TOKEN", "LDAP_PASSWORD", "GITHUB_TOKEN"]
)
def test_any_other_name_is_taken(name: str) -> None:
    check_variable(name, "x")


def test_a_person_may_allow_a_reserved_name_but_none_of_ours() -> None:
    check_variable("HTTPS_PROXY", "x", {"HTTPS_PROXY"})
    with pytest.raises(ReservedNameError):
        check_variable("IC_SECRETS_KEY", "x", {"IC_SECRETS_KEY"})


def test_a_nul_is_refused_and_not_shown() -> None:
    with pytest.raises(InvalidValueError, match="TOKEN") as caught:
        check_variable("TOKEN", "canary\0more")
    assert "canary" not in str(caught.value)


def test_what_opens_the_store_is_not_inherited() -> None:
    inherited = inherit(
        {
            "IC_SECRETS_KEY": "k",
            "IC_SECRETS_STORE": "s",
            "BAO_TOKEN": "t",
            "VAULT_TOKEN": "t",
            "VAULT_SECRET_ID": "t",
            "VAULT_ADDR": "kept",
            "PATH": "/bin",
            "CI": "true",
        }
    )
    assert inherited == {"VAULT_ADDR": "kept", "PATH": "/bin", "CI": "true"}


def test_pristine_passes_on_the_basics_alone() -> None:
    inherited = inherit({"PATH": "/bin", "LC_ALL": "C", "AWS_SECRET": "x", "COMPOSER_AUTH": "{}"}, pristine=True)
    assert inherited == {"PATH": "/bin", "LC_ALL": "C"}


@pytest.mark.parametrize(
    ("preserve", "expected", "kept"),
    [
        (Preserve(), {"A": "canary-5f1c", "B": "canary-5f1c"}, ()),
        (Preserve(everything=True), {"B": "canary-5f1c"}, ("A",)),
        (Preserve(names=frozenset({"A"})), {"B": "canary-5f1c"}, ("A",)),
        (Preserve(names=frozenset({"B"})), {"A": "canary-5f1c", "B": "canary-5f1c"}, ()),
    ],
)
def test_a_secret_wins_unless_what_is_set_is_preserved(
    preserve: Preserve, expected: dict[str, str], kept: tuple[str, ...]
) -> None:
    assert choose_variables({"A": "set"}, [("A", VALUE), ("B", VALUE)], preserve) == (expected, kept)


def test_one_string_that_the_kernel_refuses_is_named() -> None:
    check_size({"A": "x" * 131_069}, ["true"], 10_000_000)
    with pytest.raises(EnvironmentTooBigError, match="variable A "):
        check_size({"A": "x" * 131_070}, ["true"], 10_000_000)


def test_too_much_in_all_is_refused() -> None:
    environment = {f"V{n}": "x" * 16_384 for n in range(150)}
    with pytest.raises(EnvironmentTooBigError, match="kernel accepts"):
        check_size(environment, ["true"], 2_097_152)
