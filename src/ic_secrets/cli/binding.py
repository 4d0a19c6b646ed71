"""The hosts that `ic-secrets set` binds a secret to: with a new value, or alone."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..core.records import NamedTuple
from ..errors import InvalidHostError, UsageError
from ..model.hosts import check_hosts, parse_hosts
from ..model.resolve import Holdings, find_base
from ..model.secret import Hosts, SecretType
from ..stores import Place, Store
from .output import print_message

if TYPE_CHECKING:
    from .parser import Parser

# It names the hosts of its credentials itself.
_AUTH_VARIABLE = "COMPOSER_AUTH"


class Binding(NamedTuple):
    """What becomes of the hosts of the secret at `place`: `wanted` is None where nobody named any.

    `before` are those that its base has; `is_new` says that it has no base yet.
    """

    place: Place
    wanted: Hosts | None
    before: Hosts
    is_new: bool

    @property
    def after(self) -> Hosts:
        """The hosts that it will be bound to."""
        return self.before if self.wanted is None else self.wanted

    @property
    def needs_no_value(self) -> bool:
        """Whether hosts were named for a secret that exists, so that its value may stay as it is."""
        return self.wanted is not None and not self.is_new and self.place.environment is None

    def describe(self, *, value_changed: bool) -> dict[str, Any]:
        """Return what changes, for the audit log; nothing where no hosts were named."""
        if self.wanted is None:
            return {}
        return {"hosts": list(self.after), "hosts_before": list(self.before), "value_changed": value_changed}

    def write(self, store: Store) -> None:
        """Change the hosts alone, if they change."""
        if self.after != self.before:
            store.bind(self.place.owner, self.place.name, self.after)

    def report(self) -> None:
        """Report what became of a secret whose value stays."""
        hosts = ", ".join(self.after)
        if self.after == self.before:
            print_message("", f"{self.place} is bound to {hosts or 'no hosts'} already")
        elif hosts:
            print_message("", f"bound {self.place} to {hosts}; its value stays as it is")
        else:
            print_message("", f"{self.place} is no longer bound to hosts; its value stays as it is")

    @property
    def phrase(self) -> str:
        """What to say of a secret that got a value."""
        if self.after:
            return f", bound to {', '.join(self.after)}"
        return ", no longer bound to hosts" if self.before else ""


def add_host_options(parser: Parser) -> None:
    """Add the options that name hosts."""
    hosts = parser.add_mutually_exclusive_group()
    hosts.add_argument(
        "--hosts", metavar="H[,H...]", action="append", help="bind an env secret to these hosts: HOST or HOST:PORT"
    )
    hosts.add_argument("--no-hosts", action="store_true", help="bind it to no host any more")


def read_hosts(arguments: argparse.Namespace) -> Hosts | None:
    """Return the hosts that the options name; None where they name none. UsageError, InvalidHostError."""
    if arguments.no_hosts:
        return ()
    texts: Sequence[str] | None = arguments.hosts
    if texts is None:
        return None
    if not any(text.strip() for text in texts):  # more likely an unset variable than a wish
        raise UsageError("--hosts names no host", hint="--no-hosts unbinds a secret")
    return parse_hosts(",".join(texts))


def plan_binding(
    store: Store, chain: Sequence[Holdings], place: Place, kind: SecretType, wanted: Hosts | None
) -> Binding:
    """Return what becomes of the hosts of a secret of that type; InvalidHostError, ImmutableError, NoPlaceError."""
    if wanted:
        check_hosts(kind, wanted)
        if place.name == _AUTH_VARIABLE:
            raise InvalidHostError(f"{_AUTH_VARIABLE} cannot be bound: it names the hosts of its credentials itself")
        if not store.has_hosts:
            store.refuse_hosts(place)
    if place.environment is not None:
        find_base(place.environment, place.name, tuple(chain), None, None, wanted)
        return Binding(place, wanted, (), is_new=False)
    old = next((secret for secret in chain[0].secrets if secret.name == place.name), None)
    return Binding(place, wanted, old.hosts if old else (), is_new=old is None)
