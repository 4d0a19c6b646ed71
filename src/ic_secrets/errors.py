"""Every exception that a user can meet, with its exit status and its hint.

The command line turns them into `error: …` and `hint: …` in one place (`cli.main`). A message names
secrets, owners and files; it never holds a value or a part of one.
"""

from __future__ import annotations

# Exit statuses of `run`, beyond those of its child. Composer uses 1 and 2, hence the high numbers.
LEAK_FOUND = 120
SCRUB_INCOMPLETE = 121
NOT_STARTED = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127
SIGNAL_BASE = 128


class IcSecretsError(Exception):
    """The root of all errors that are reported to the user."""

    exit_status = 1
    hint = ""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        if hint:
            self.hint = hint


class UsageError(IcSecretsError):
    """The command line is wrong."""

    exit_status = 2


# --- names and values ---------------------------------------------------------------------------


class InvalidNameError(IcSecretsError):
    """A name of a secret, owner, environment or target does not follow its grammar."""


class InvalidValueError(IcSecretsError):
    """A value is empty, too long, not UTF-8, or not of the shape that its type needs."""


class InvalidHostError(IcSecretsError):
    """A host to bind a secret to is not spelled as Composer's keys are, or the secret cannot be bound."""


class ReservedNameError(InvalidNameError):
    """An `env` secret has the name of a variable that would change what runs."""

    hint = "choose another name, or allow it where you define the build: IC_SECRETS_ALLOW_ENV=NAME[,NAME]"


class ImmutableError(IcSecretsError):
    """`set` named a type or scopes that differ from the secret's."""

    hint = "type and scopes never change: delete the secret and set it again"


class BaseMissingError(IcSecretsError):
    """An environment override was set where there is no secret to override."""

    hint = "set the secret without an environment first, with its --type and --scope"


class UndefinedSecretError(IcSecretsError):
    """The first `set` of a secret did not name its type and scopes."""

    hint = "the first set must say both, since they never change: --type T --scope S[,S...]"


class NotReadableError(IcSecretsError):
    """The secret exists, but people may not read its value back."""

    hint = "only a secret with the scope `user` can be read back"


class UnknownSecretError(IcSecretsError):
    """The owner does not have a secret of that name."""

    hint = "`ic-secrets list OWNER` shows what it holds"


class UnknownSiteError(IcSecretsError):
    """The store does not know the site."""

    hint = "`ic-secrets site list` shows the known ones, `ic-secrets site set SITE` makes one"


# --- the store ----------------------------------------------------------------------------------


class StoreError(IcSecretsError):
    """The store cannot do what was asked."""


class StoreMissingError(StoreError):
    """There is no store at the configured place."""

    hint = "`ic-secrets init` makes one; IC_SECRETS_STORE names another"


class StoreExistsError(StoreError):
    """`init` found a store at the configured place."""

    hint = "it was left as it is; IC_SECRETS_STORE names another place"


class StoreLockedError(StoreError):
    """The store exists, but no configured key opens it."""

    hint = "point IC_SECRETS_KEY_FILE at its key"


class StoreFormatError(StoreError):
    """The file is not a store, or has a newer format than this version reads."""


class StoreOnNetworkError(StoreError):
    """The store lies on a network file system, where locks and acknowledged writes cannot be relied on."""

    hint = "keep it on a local disk of the machine that writes it, and copy it to the others"


class StoreTamperedError(StoreError):
    """A row was changed, moved, removed or added by something other than ic-secrets."""

    hint = "nothing was exposed; find out who wrote to it; `ic-secrets check-store` says what can still be read"


class StoreRolledBackError(StoreError):
    """The store is genuine, but older than one that was seen before: a copy of it was put back."""

    hint = "nothing was exposed; put the newest copy of the store back, and find out who replaced it"


class StateFileError(StoreError):
    """The file that remembers generations cannot be read or written, or holds something else."""


class StoreBusyError(StoreError):
    """Another process held the store's write lock for longer than we wait."""

    hint = "try again; another process is writing to the store"


class StoreReadError(StoreError):
    """The store is there, but cannot be read (permissions, a failing disk, a write that was cut off)."""


class StoreDeniedError(StoreReadError):
    """The server refuses the request, or no longer accepts the credentials."""

    hint = "`ic-secrets bao policy SITE` prints the policy that the token needs"


class StoreUnreachableError(StoreReadError):
    """The server did not answer in time, is sealed, or has no active node."""

    hint = "nothing was concluded from it: what could not be read does not count as absent"


class StoreUntrustedError(StoreReadError):
    """What answered cannot prove that it is the server, or stands between us and the server."""

    hint = "nothing was concluded from it: what could not be read does not count as absent"


class StoreWriteError(StoreError):
    """The store could not be written (disk full, read-only); it is as it was before."""


class NoPlaceError(StoreError):
    """The store cannot keep something that was to be written; it is as it was before."""


class ImportRefusedError(IcSecretsError):
    """The rules, or what the store holds already, forbid something that was to be imported."""

    hint = "--skip-refused brings in the rest"


class ImportFileError(IcSecretsError):
    """A file that was to be imported does not follow its format, or does not say enough."""


class StoreUnconfirmedError(StoreWriteError):
    """The store was written, and reads like that, but the disk did not confirm that it will stay."""

    hint = "look whether it is there, or write it again, when the disk is well"


class MasterKeyError(IcSecretsError):
    """A master key is missing, malformed, or readable by others."""


class AuditError(IcSecretsError):
    """The audit log cannot be written or trusted; what was to be logged was not done."""

    hint = "IC_SECRETS_AUDIT_FILE names another file, IC_SECRETS_AUDIT=off writes none"


class ConfigError(IcSecretsError):
    """A setting has an invalid value."""


# --- the build ----------------------------------------------------------------------------------


class BuildError(IcSecretsError):
    """The build could not be started; nothing was exposed."""

    exit_status = NOT_STARTED


class IsolationError(BuildError):
    """This machine offers no way to isolate the build, or what the build needs is not within its reach."""


class MalformedAuthError(BuildError):
    """An auth.json, composer.json or COMPOSER_AUTH is not what Composer expects.

    Composer prints the text around the fault, which can be a piece of a credential that no mask
    knows, so the build is not started.
    """

    hint = "mend the file; `php -r 'json_decode(...)'` or an editor shows where"


class EnvironmentTooBigError(BuildError):
    """The kernel would refuse the build's environment (execve, E2BIG)."""

    hint = "leave some env secrets out with --only or --except"


class ExposureError(BuildError):
    """The private directory could not be made or filled; what was made has been removed."""


class AlreadyExposedError(BuildError):
    """The checkout, or the shell, is in the middle of another build in two steps."""

    hint = "`ic-secrets post-build` ends it; otherwise its guard does when its time is up"


class NotEndedError(IcSecretsError):
    """A build in two steps is not over, but is another user's, or its private directory is not found."""

    exit_status = SCRUB_INCOMPLETE
    hint = "`ic-secrets post-build` as that user ends it; otherwise its guard does when its time is up"


class ScrubbedMeanwhileError(IcSecretsError):
    """The guard has just scrubbed what it kept."""


class ProgramNotFoundError(BuildError):
    """The build's command was not found."""

    exit_status = NOT_FOUND


class ProgramNotExecutableError(BuildError):
    """The build's command was found, but cannot be executed."""

    exit_status = NOT_EXECUTABLE


class VetoError(BuildError):
    """A plugin does not let the build start. Its message is shown, with the build's values masked."""

    hint = "the plugin's own documentation says what it asks for"


class LeakFoundError(IcSecretsError):
    """The build succeeded, but left a secret behind."""

    exit_status = LEAK_FOUND
    hint = "the receipt names every place; whoever can read those knows the secret"


class ScrubIncompleteError(IcSecretsError):
    """Something of the private directory could not be removed."""

    exit_status = SCRUB_INCOMPLETE
    hint = "remove the named path by hand, then run `ic-secrets scrub`"


# --- plugins ------------------------------------------------------------------------------------


class PluginError(IcSecretsError):
    """A named plugin was not found, cannot be loaded, or does what plugins may not do."""

    hint = "`ic-secrets plugins` says more; --no-plugins goes without"


class PluginInterruptedError(IcSecretsError):
    """A signal that was to end ic-secrets came while a plugin ran, and ended the plugin."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_status = SIGNAL_BASE + number


class EndedError(BaseException):
    """A signal was to end ic-secrets. Not an Exception, so that nothing on the way handles it as an error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
