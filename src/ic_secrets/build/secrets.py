"""The secrets of one build: each is a record made once, and every check is a question to the list of them."""

import functools
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from ..composer.auth_json import Document
from ..composer.credential import AUTH_VARIABLE, AuthVariable, Credential, parse_credential, parse_variable
from ..composer.methods import METHODS
from ..composer.precedence import find_collisions, find_rivals
from ..composer.project import Project
from ..composer.version import InstalledComposer
from ..core.collector import RAISED, Errors
from ..core.durations import format_duration
from ..core.notices import Notice
from ..core.records import NamedTuple
from ..errors import BuildError
from ..git.helper import Login, find_logins, find_minting_hosts
from ..masking.needles import Needle, derive_all
from ..masking.parts import SHORTEST, SecretParts, split_value
from ..model.resolve import Definition
from ..model.secret import Hosts, Scopes, SecretType, SecretValue
from ..model.variables import check_variable

if TYPE_CHECKING:  # what masks is loaded while the build runs, not before
    from ..masking.matcher import Matcher


class BuildSecret(NamedTuple):
    """A secret on its way to a build. `source` is where it is defined: `org:agency`, `my-site.dev`.

    `credential` is what a `composer` secret is to Composer; `variable` is what a COMPOSER_AUTH holds. `parts` are what
    of the value must not be seen. `hosts` are those that an `env` secret is bound to; a COMPOSER_AUTH names its own.
    """

    name: str
    type: SecretType
    scopes: Scopes
    source: str
    version: int
    expires: int | None
    value: SecretValue
    credential: Credential | None
    parts: SecretParts
    variable: AuthVariable | None = None
    hosts: Hosts = ()

    @classmethod
    def parse(cls, definition: Definition, allowed: Collection[str] = ()) -> "BuildSecret":
        """Make the record of a definition that has won. This is the one place where a value is parsed.

        `allowed` are reserved names that a person allows.

        BuildError where the store does not give the value; InvalidValueError and ReservedNameError where the secret
        cannot become a credential or a variable.
        """
        name, kind = definition.name, definition.type
        if definition.value is None:
            raise BuildError(f"the store does not give the value of {name} ({definition.source})")
        return cls.make(
            name,
            kind,
            definition.value,
            scopes=definition.scopes,
            source=definition.source,
            version=definition.version,
            expires=definition.expires,
            allowed=allowed,
            hosts=definition.hosts,
        )

    @classmethod
    def make(
        cls,
        name: str,
        kind: SecretType,
        value: SecretValue,
        *,
        source: str,
        version: int = 1,
        scopes: Scopes = frozenset(),
        expires: int | None = None,
        allowed: Collection[str] | None = None,
        hosts: Hosts = (),
    ) -> "BuildSecret":
        """Parse the value; InvalidValueError, ReservedNameError, MalformedAuthError.

        `allowed` are reserved names that a person allows; None where the name of a variable has been checked already.
        """
        text = value.reveal()
        if kind is SecretType.ENV and allowed is not None:
            check_variable(name, text, allowed)
        credential = parse_credential(name, text) if kind is SecretType.COMPOSER else None
        variable = parse_variable(text) if kind is SecretType.ENV and name == AUTH_VARIABLE else None
        known = credential or variable
        parts = known.parts if known else split_value(text)
        return cls(
            name, kind, scopes, source, version, expires, value, credential, parts, variable, () if variable else hosts
        )

    def __repr__(self) -> str:
        return f"BuildSecret({self.name})"


class BuildSecrets(tuple[BuildSecret, ...]):
    """The secrets of one build, in the order of their names."""

    _matcher: "Matcher | None" = None
    _lock = threading.Lock()

    @classmethod
    def parse(
        cls, definitions: Iterable[Definition], errors: Errors = RAISED, allowed: Collection[str] = ()
    ) -> "BuildSecrets":
        """Parse each definition; one that cannot be parsed is left out where its error is only collected."""
        secrets = []
        for definition in definitions:
            with errors:
                secrets.append(BuildSecret.parse(definition, allowed))
        return cls(secrets)

    @property
    def variables(self) -> list[tuple[str, SecretValue]]:
        """The `env` secrets: the variables and their values, but for COMPOSER_AUTH, which is credentials."""
        return [(s.name, s.value) for s in self if s.type is SecretType.ENV and not s.variable]

    @property
    def credentials(self) -> list[Credential]:
        """The `composer` secrets as Composer takes them, and those in COMPOSER_AUTH for further hosts."""
        named = [secret.credential for secret in self if secret.credential]
        hosts = {credential.host for credential in named}
        listed = [each for secret in self if secret.variable for each in secret.variable.credentials]
        return [*named, *(each for each in listed if each.host not in hosts)]

    @property
    def settings(self) -> Document:
        """What a COMPOSER_AUTH sets beside credentials."""
        return next((secret.variable.others for secret in self if secret.variable), {})

    @property
    def hosts(self) -> set[str]:
        """The hosts that have a credential."""
        return {credential.host for credential in self.credentials}

    @property
    def logins(self) -> tuple[Login, ...]:
        """The logins that git can use, one for each host."""
        return find_logins(self.credentials)

    @property
    def minting_hosts(self) -> tuple[str, ...]:
        """The hosts for which Composer mints a token that git needs."""
        return find_minting_hosts(self.credentials)

    # --- what a person should know ---

    def warn_of_expiry(self, ahead: float, now: float) -> Iterator[Notice]:
        """Name what has expired at the time `now`, or will within the next `ahead` seconds."""
        for secret in self:
            if secret.expires is None or secret.expires - now > ahead:
                continue
            left = secret.expires - now
            moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(secret.expires))
            when = f"expired {format_duration(-left)} ago" if left < 0 else f"expires in {format_duration(left)}"
            yield Notice(
                f"{secret.name} of {secret.source} {when}, at {moment}",
                f"`ic-secrets set {secret.source} {secret.name} --expires DATE` sets a new value",
            )

    def warn_of_values(self) -> Iterator[Notice]:
        """Name the values that cannot be masked, or cannot be searched for."""
        for secret in self:
            if secret.parts.are_short:
                text = f"{secret.name} has a value, or a part, of less than {SHORTEST} bytes, which is not masked"
                yield Notice(text)
        for secret in self:
            if secret.parts.are_common:
                text = f"{secret.name} is a common word: it is masked wherever it occurs, and not searched for"
                yield Notice(text)

    def warn_of_rivals(self, composer: InstalledComposer, *, is_brokered: bool = False) -> Iterator[Notice]:
        """Name the credentials of one host of which Composer, or the broker for it, uses another."""
        who = "the broker" if is_brokered else "Composer"
        known = [credential for credential in self.credentials if is_brokered or composer.knows(credential.method)]
        for host, used, unused in find_rivals(known):
            yield Notice(f"{used} and {unused} are for the same host, {host}: {who} uses only {used}")

    def warn_of_repeats(self) -> Iterator[Notice]:
        """Name the hosts for which COMPOSER_AUTH has a credential beside a secret of their own."""
        names = {secret.credential.host: secret.name for secret in self if secret.credential}
        for secret in self:
            hosts = dict.fromkeys(each.host for each in secret.variable.credentials) if secret.variable else ()
            for host in hosts:
                if host in names:
                    yield Notice(f"{secret.name} also has a credential for {host}; {names[host]} is used instead")

    def without_variable(self) -> "BuildSecrets":
        """Return them with a COMPOSER_AUTH that is known, and masked, but not used."""
        return BuildSecrets(
            each._replace(variable=each.variable._replace(credentials=(), others={})) if each.variable else each
            for each in self
        )

    def hold_back(self, placeholders: Mapping[str, str]) -> "BuildSecrets":
        """Return what a build with a broker holds of them: no credential, and some placeholders instead of values."""
        kept = (each for each in self if not (each.credential or each.variable))
        return BuildSecrets(
            each._replace(value=SecretValue(holder), parts=split_value(holder))
            if (holder := placeholders.get(each.name))
            else each
            for each in kept
        )

    def warn_of_methods(self, composer: InstalledComposer) -> Iterator[Notice]:
        """Name the credentials that the installed Composer ignores."""
        for credential in self.credentials:
            if not composer.knows(credential.method):
                method, since = credential.method, ".".join(map(str, METHODS[credential.method].since))
                text = f"{credential.name}: Composer {composer.version} ignores {method}, which needs {since} or newer"
                yield Notice(text)

    def warn_of_collisions(self, project: Project, auth: Document, composer: InstalledComposer) -> Iterator[Notice]:
        """Name the project's own credentials that Composer prefers to ours; `auth` is its auth.json."""
        credentials = self.credentials
        replaced = [each.method for each in credentials if not composer.merges(each.method)]
        for sections, file in ((auth, project.auth_file), (project.config, project.manifest_file)):
            for collision in find_collisions(sections, file, credentials, replaced):
                if composer.knows(collision.method):
                    yield Notice(
                        f"{collision.file} has its own {collision.method} for {collision.host}, which Composer prefers "
                        "to the secret",
                        "remove it there if the secret is to be used",
                    )

    # --- masking ---

    @functools.cached_property
    def needles(self) -> tuple[Needle, ...]:
        """Every form in which a value may appear."""
        return derive_all(self)

    def get_matcher(self) -> "Matcher":
        """Return the matcher of every value, which is made once; both streams of a build may ask at the same time."""
        from ..masking.matcher import Matcher

        with self._lock:
            if self._matcher is None:
                self._matcher = Matcher(self.needles)
            return self._matcher

    def hide_values(self, text: str) -> str:
        """Mask the values in a text that comes from elsewhere: a name that the build chose, a plugin's words."""
        from ..masking.masker import mask_text

        return mask_text(text, self.get_matcher())
