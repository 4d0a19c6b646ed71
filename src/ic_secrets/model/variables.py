"""The environment variables of a build: what it inherits, what is withheld, and what secrets add. Pure."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from ..core.records import NamedTuple
from ..errors import EnvironmentTooBigError, InvalidValueError, ReservedNameError
from .secret import SecretValue

# Variables that decide what runs, where code is loaded from, which servers are asked and which of them are trusted. A
# secret is data: one with such a name is a mistake, or an attack on the build's other credentials.
_RESERVED = frozenset(
    """
    PATH HOME SHELL IFS ENV BASH_ENV BASHOPTS SHELLOPTS PS4 PROMPT_COMMAND CDPATH GLOBIGNORE PWD OLDPWD
    TMPDIR TERM USER LOGNAME COMPOSER COMPOSER_HOME COMPOSER_CACHE_DIR COMPOSER_VENDOR_DIR COMPOSER_BIN_DIR
    COMPOSER_RUNTIME_ENV COMPOSER_ROOT_VERSION PHPRC PHP_INI_SCAN_DIR PHP_BINARY
    COMPOSER_CAFILE COMPOSER_DISABLE_NETWORK PHP_PEAR_SYSCONF_DIR
    NODE_OPTIONS NODE_PATH NODE_EXTRA_CA_CERTS NODE_TLS_REJECT_UNAUTHORIZED
    PERL5OPT PERL5LIB PERL5DB PERLLIB PERL5SHELL PERL_LWP_SSL_VERIFY_HOSTNAME PERL_LWP_SSL_CA_FILE
    RUBYOPT RUBYLIB RUBYSHELL GEM_HOME GEM_PATH BUNDLE_GEMFILE BUNDLE_PATH
    JAVA_TOOL_OPTIONS JDK_JAVA_OPTIONS _JAVA_OPTIONS JAVA_OPTS JAVA_HOME CLASSPATH MAVEN_OPTS GRADLE_OPTS ANT_OPTS
    MAKEFLAGS GNUMAKEFLAGS MAKEFILES MFLAGS GOPROXY GOSUMDB GOINSECURE GOFLAGS GOROOT CARGO_HOME RUSTC_WRAPPER
    PIP_CONFIG_FILE PIP_TRUSTED_HOST YARN_RC_FILENAME DOCKER_HOST DOCKER_CONFIG
    SSH_ASKPASS SSH_AUTH_SOCK EDITOR VISUAL PAGER LESSOPEN LESSCLOSE MANPAGER BROWSER
    ZDOTDIR FPATH INPUTRC TERMINFO TERMCAP FPATH HOSTALIASES LOCALDOMAIN RES_OPTIONS KRB5_CONFIG WGETRC NETRC
    GCONV_PATH GLIBC_TUNABLES LOCPATH NLSPATH SSL_CERT_FILE SSL_CERT_DIR SSLKEYLOGFILE REQUESTS_CA_BUNDLE AWS_CA_BUNDLE
    GITHUB_ENV GITHUB_PATH GITHUB_OUTPUT GITHUB_STATE GITHUB_STEP_SUMMARY
    CUSTOMER_SECRETS_FAKE_FILE XDG_CONFIG_HOME XDG_CACHE_HOME XDG_DATA_HOME XDG_RUNTIME_DIR XDG_CONFIG_DIRS
    """.split()
)
_RESERVED_PREFIXES = ("LD_", "DYLD_", "PYTHON", "BASH_FUNC_", "GIT_", "CURL_", "OPENSSL_", "GNUTLS_", "MALLOC_")
# Programs read these in capitals and in small letters.
_RESERVED_ANY_CASE = (
    r"(?i)(?:https?|ftp|rsync|socks5?|all|no|cgi_http|npm_config(?:_https?|_no)?)_proxy"
    r"|npm_config_(?:userconfig|globalconfig|registry|ca|cafile|strict_ssl|script_shell|shell|git|prefix|node_options)"
)
# No variable of git's ends like that, but those of people do: GIT_TOKEN.
_LIKE_A_CREDENTIAL = r"GIT_(?!CONFIG|TRACE)\w*(?:TOKEN|PASSWORD|PASS|SECRET|USER|USERNAME|PAT|KEY|AUTH)"

# Ours, and those of the stores: a build that may see a few secrets must not get what opens all of them.
_OWN_PREFIX = "IC_SECRETS_"
_OWN = frozenset(
    """
    BAO_TOKEN VAULT_TOKEN BAO_TOKEN_FILE VAULT_TOKEN_FILE BAO_ROLE_ID VAULT_ROLE_ID BAO_SECRET_ID VAULT_SECRET_ID
    BAO_WRAPPED_SECRET_ID VAULT_WRAPPED_SECRET_ID BAO_CLIENT_KEY VAULT_CLIENT_KEY BAO_AUTH_JWT VAULT_AUTH_JWT
    BAO_ID_TOKEN VAULT_ID_TOKEN
    ACTIONS_ID_TOKEN_REQUEST_TOKEN ACTIONS_ID_TOKEN_REQUEST_URL
    TERMINUS_TOKEN TERMINUS_MACHINE_TOKEN PANTHEON_MACHINE_TOKEN
    """.split()
)

# What `--pristine` passes on: enough for programs to find their files, the person and the terminal.
_PRISTINE = frozenset(
    """
    PATH HOME USER LOGNAME SHELL PWD TMPDIR TERM COLORTERM COLUMNS LINES NO_COLOR LANG LANGUAGE TZ CI
    XDG_CONFIG_HOME XDG_CACHE_HOME XDG_DATA_HOME XDG_RUNTIME_DIR
    COMPOSER_HOME COMPOSER_CACHE_DIR COMPOSER_ALLOW_SUPERUSER COMPOSER_NO_INTERACTION SSL_CERT_FILE SSL_CERT_DIR
    """.split()
)

# Linux: one string of the environment, `NAME=value` with its NUL (MAX_ARG_STRLEN, 32 pages of 4 KiB).
_MAX_STRING = 131_072
_POINTER = 8


class Preserve(NamedTuple):
    """Which variables that are already set win over a secret: all, or those in `names`."""

    everything: bool = False
    names: frozenset[str] = frozenset()

    def keeps(self, name: str) -> bool:
        """Return whether the variable wins."""
        return self.everything or name in self.names


def check_variable(name: str, text: str, allowed: Collection[str] = ()) -> None:
    """Raise ReservedNameError or InvalidValueError where an `env` secret with that value cannot become a variable.

    A person may have `allowed` some reserved names, but none of ours.
    """
    if name.startswith(_OWN_PREFIX) or (name not in allowed and _is_reserved(name)):
        raise ReservedNameError(f"{name} is a reserved name: it changes what programs do, so it cannot be a secret")
    if "\0" in text:
        raise InvalidValueError(f"the value of {name} contains a NUL, which an environment variable cannot hold")


def _is_reserved(name: str) -> bool:
    return (
        name in _RESERVED
        or (name.startswith(_RESERVED_PREFIXES) and not re.fullmatch(_LIKE_A_CREDENTIAL, name))
        or re.fullmatch(_RESERVED_ANY_CASE, name) is not None
    )


def inherit(environment: Mapping[str, str], *, pristine: bool = False) -> dict[str, str]:
    """Return what the build may inherit: all but what opens the store, or with `pristine` only the basics."""
    inherited = {
        name: value for name, value in environment.items() if name not in _OWN and not name.startswith(_OWN_PREFIX)
    }
    if pristine:
        inherited = {name: value for name, value in inherited.items() if name in _PRISTINE or name.startswith("LC_")}
    return inherited


def choose_variables(
    environment: Mapping[str, str], secrets: Iterable[tuple[str, SecretValue]], preserve: Preserve
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the variables that the secrets set in that environment, and the names that are preserved as they are."""
    values = dict(secrets)
    kept = find_preserved(environment, values, preserve)
    return {name: value.reveal() for name, value in values.items() if name not in kept}, kept


def find_preserved(environment: Mapping[str, str], names: Iterable[str], preserve: Preserve) -> tuple[str, ...]:
    """Return the names of secrets whose variables the environment has already, and keeps."""
    return tuple(name for name in names if name in environment and preserve.keeps(name))


def check_size(environment: Mapping[str, str], command: Sequence[str], limit: int) -> None:
    """Raise EnvironmentTooBigError if execve would refuse the environment and the command together.

    `limit` is the kernel's, in bytes, for all strings and their pointers (`sysconf(SC_ARG_MAX)`).
    """
    total = 0
    for name, value in environment.items():
        size = len(name.encode(errors="surrogateescape")) + len(value.encode(errors="surrogateescape")) + 2
        if size > _MAX_STRING:
            raise EnvironmentTooBigError(f"the variable {name} has {size:,} bytes; the kernel accepts {_MAX_STRING:,}")
        total += size + _POINTER
    total += sum(len(word.encode(errors="surrogateescape")) + 1 + _POINTER for word in command)
    # The kernel also puts the name of the program and its own vectors there.
    if total + 4096 > limit:
        raise EnvironmentTooBigError(f"the build's environment has {total:,} bytes; the kernel accepts {limit:,}")
