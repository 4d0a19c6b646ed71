"""`ic-secrets set`, `get` and `delete`: one secret at a time."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ..assembly import Context
from ..composer.methods import check_name, drop_default_port
from ..core.moments import format_time, parse_expiry
from ..errors import (
    IcSecretsError,
    InvalidNameError,
    InvalidValueError,
    NotReadableError,
    StoreError,
    UndefinedSecretError,
    UnknownSecretError,
    UnknownSiteError,
    UsageError,
)
from ..model.names import is_possible_name
from ..model.resolve import Definition, Holdings, check_base, find_base, resolve, trace
from ..model.secret import (
    MAX_VALUE_BYTES,
    Owner,
    Scope,
    Scopes,
    SecretType,
    SecretValue,
    format_scopes,
    parse_owner,
    parse_scopes,
    parse_type,
)
from ..stores import Place, Store, Write
from ..transfer import check_value
from . import Call
from .binding import Binding, add_host_options, plan_binding, read_hosts
from .call import read_call
from .output import print_json, print_message
from .parser import Parser, add_json, add_store_options, add_yes
from .questions import ask_for_definition, confirm, is_at_terminal, list_some

if TYPE_CHECKING:
    from ..audit import Record


def run_set(call: Call) -> int:
    """Set a base or an override from a prompt, stdin, a file or a variable, never from an argument."""
    arguments, context = read_call(call, make_set_parser())
    owner, environment = parse_owner(arguments.owner)
    kind = parse_type(arguments.type) if arguments.type else None
    scopes = parse_scopes(",".join(arguments.scope)) if arguments.scope else None
    _check_name(arguments.name, kind)
    expires = parse_expiry(arguments.expires, time.time()) if arguments.expires else None
    hosts = read_hosts(arguments)
    place = Place(owner, environment, arguments.name)
    with context.open_store() as store, _observed(store, arguments, context, "set") as record:
        chain, site_made = _read_chain_to_set(store, owner, environment)
        try:
            kind, scopes = _find_definition(chain, environment, arguments.name, kind, scopes)
        except UndefinedSecretError as error:
            kind, scopes = ask_for_definition(error, arguments.name, kind, scopes)
            kind, scopes = _find_definition(chain, environment, arguments.name, kind, scopes)
        binding = plan_binding(store, chain, place, kind, hosts)
        before = _find_expiry(chain[0], environment, arguments.name)
        value = _read_value(arguments, call.environment, may_stay=binding.needs_no_value and expires is None)
        record.details = binding.describe(value_changed=value is not None)
        if value is None:
            with record.transaction():
                binding.write(store)
            _report_binding(arguments, kind, scopes, binding, before)
            return 0
        check_value(kind, arguments.name, value, context.settings.find_names("allow-env") or ())
        with record.transaction():
            created = store.put(place, Write(value, type=kind, scopes=scopes, expires=expires, hosts=hosts))
    dates = before, expires
    is_known = not site_made and (owner.is_site or bool(chain[0].secrets or chain[0].overrides))
    _report_set(arguments, kind, scopes, created, None if is_known else owner, dates, binding)
    if kind is SecretType.COMPOSER:
        _warn_of_port(arguments.name)
    if kind is SecretType.ENV and arguments.from_file is not None and value.reveal().endswith("\n"):
        hint = f"`ic-secrets set {arguments.owner} {arguments.name} < FILE` drops it"
        print_message("warning", "the value ends with the newline that the file ends with", hint)
    return 0


def _warn_of_port(name: str) -> None:
    """Say where Composer sends the credential of a host with the default port."""
    method, _, host = name.partition(".")
    bare = drop_default_port(host)
    if bare:
        text = f"Composer sends {name} only where the URL itself says {host}"
        print_message("warning", text, f"for https://{bare}/ the name is {method}.{bare}")


def run_get(call: Call) -> int:
    """Print the value of the owner, or the target, under the name, if people may read it."""
    arguments, context = read_call(call, make_get_parser())
    owner, environment = parse_owner(arguments.owner)
    _check_name(arguments.name, None)
    with context.open_store(read_only=True) as store, _observed(store, arguments, context, "get"):
        chain = store.read_chain(owner, environment=environment, scope=Scope.USER, values=True)
        found, value = _find_readable(chain, environment, arguments)
    if arguments.json:
        print_json("get", {"name": found.name, "source": found.source, "value": value.reveal()})
        return 0
    sys.stdout.flush()
    text = value.reveal() + ("" if arguments.no_newline else "\n")
    sys.stdout.buffer.write(text.encode())
    return 0


def make_get_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser(
        "get",
        "Print the value of a secret with the scope `user`. For a site, that of its organization where it has none.",
        "ic-secrets get my-site.dev LICENSE_KEY",
    )
    _add_owner_and_name(parser)
    parser.add_argument("-n", "--no-newline", action="store_true", help="print no newline after the value")
    add_store_options(parser)
    add_json(parser)
    return parser


def run_delete(call: Call) -> int:
    """Delete everything that the owner holds under the name, or one override."""
    arguments, context = read_call(call, make_delete_parser())
    owner, environment = parse_owner(arguments.owner)
    _check_name(arguments.name, None)
    names = [arguments.name]
    with context.open_store() as store:
        going, staying = ([], []) if environment else _find_overrides(store, owner, arguments.name)
        what = f"{arguments.owner} {arguments.name}" + (f" and its overrides for {list_some(going)}" if going else "")
        if going and is_at_terminal() and not arguments.yes:
            confirm(f"delete {what}?")
        with context.recorded(store, command="delete", owner=arguments.owner, names=names):
            if owner.is_site:
                store.site(owner.name)
            count = store.delete(Place(owner, environment, arguments.name))
    if arguments.json:
        print_json("delete", {"owner": arguments.owner, "name": arguments.name, "deleted_values": count})
        return 0
    print_message("", f"deleted {what} ({count} {'value' if count == 1 else 'values'})")
    if staying:
        text = f"its overrides for {list_some(staying)} stay: they belong to the organization's {arguments.name}"
        print_message("", text)
    return 0


def _find_overrides(store: Store, owner: Owner, name: str) -> tuple[list[str], list[str]]:
    """Return the environments whose overrides go with the owner's base of that name, and those whose stay.

    Both are empty for what cannot be read: it can be deleted all the same.
    """
    try:
        held = store.read(owner, values=False)
    except StoreError:
        return [], []
    bases = {secret.id for secret in held.secrets if secret.name == name}
    overrides = [override for override in held.overrides if override.name == name]
    going = [override.environment for override in overrides if not bases or override.base in bases]
    return going, sorted({override.environment for override in overrides} - {*going})


def make_delete_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser(
        "delete",
        "Delete a secret with all its overrides, or, with an environment, one override.",
        "ic-secrets delete my-site.dev LICENSE_KEY",
    )
    _add_owner_and_name(parser)
    add_yes(parser)
    add_store_options(parser)
    add_json(parser)
    return parser


def _find_readable(
    chain: tuple[Holdings, ...], environment: str | None, arguments: argparse.Namespace
) -> tuple[Definition, SecretValue]:
    """Return the definition that wins, and its value; NotReadableError, UnknownSecretError."""
    found = next((d for d in resolve(environment, Scope.USER, chain) if d.name == arguments.name), None)
    if found is None:
        if arguments.name in trace(environment, Scope.USER, chain):
            raise NotReadableError(f"{arguments.owner} {arguments.name} cannot be read back")
        raise UnknownSecretError(f"{arguments.owner} has no secret {arguments.name}")
    if found.value is None:
        raise NotReadableError(f"the store does not give the value of {arguments.owner} {arguments.name}")
    return found, found.value


def _observed(
    store: Store, arguments: argparse.Namespace, context: Context, command: str
) -> AbstractContextManager[Record]:
    return context.observed(store, command=command, owner=arguments.owner, names=[arguments.name])


def make_set_parser() -> Parser:
    """Return the parser of its arguments."""
    parser = Parser(
        "set",
        "Set a secret, or with an environment its override. The value comes from a prompt, or from stdin when it is\n"
        "not a terminal; one trailing newline is dropped. The first set must name type and scopes: they never change.\n"
        "A person at a terminal is asked for them. Hosts can change: --hosts or --no-hosts on a secret that exists\n"
        "leaves its value as it is where none is given, be it at a terminal or with nothing on stdin.",
        "ic-secrets set my-site LICENSE_KEY --type env --scope ic,user --from-file key.txt\n"
        "  ic-secrets set my-site LICENSE_KEY --hosts connect.example.com",
    )
    _add_owner_and_name(parser)
    parser.add_argument("--type", metavar="T", help="runtime, env or composer")
    parser.add_argument("--scope", metavar="S[,S...]", action="append", help="ic, web, user; one or more")
    add_host_options(parser)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--from-file", metavar="F", help="take the whole file as the value")
    source.add_argument("--from-env", metavar="VAR", help="take the value of an environment variable")
    parser.add_argument(
        "--expires", metavar="DATE", help="warn from two weeks before: YYYY-MM-DD, an ISO time, or from now: 90d"
    )
    parser.add_argument("--keep-newline", action="store_true", help="keep a trailing newline of stdin")
    parser.add_argument("--allow-empty", action="store_true", help="accept an empty value")
    add_store_options(parser)
    add_json(parser)
    return parser


def _add_owner_and_name(parser: Parser) -> None:
    parser.add_argument("owner", metavar="OWNER[.ENV]", help="SITE, org:ORG, or one of their environments")
    parser.add_argument("name", metavar="NAME", help="the name of the secret")


def _check_name(name: str, kind: SecretType | None) -> None:
    if "=" in name:  # what is behind it may be a value, and is not shown
        raise InvalidNameError(
            f"{name.partition('=')[0]!r} is followed by `=`, which is not allowed in a name",
            hint="values are not arguments: use the prompt, stdin, --from-file or --from-env",
        )
    if kind is not None:
        check_name(kind, name)
    elif not is_possible_name(name):
        raise InvalidNameError(f"{name!r} is not a valid secret name of any type")


def _read_chain_to_set(store: Store, owner: Owner, environment: str | None) -> tuple[tuple[Holdings, ...], bool]:
    """Return the chain, and whether its site still has to be made (only a base makes one)."""
    try:
        return store.read_chain(owner), False
    except UnknownSiteError:
        if environment is not None:
            raise
        return (Holdings(owner),), True


def _find_definition(
    chain: tuple[Holdings, ...], environment: str | None, name: str, kind: SecretType | None, scopes: Scopes | None
) -> tuple[SecretType, Scopes]:
    if environment is None:
        return check_base(name, chain, kind, scopes)
    base = find_base(environment, name, chain, kind, scopes)
    return base.type, base.scopes


def _find_expiry(holdings: Holdings, environment: str | None, name: str) -> int | None:
    """Return when the previous value expires, None if it does not."""
    if environment is None:
        return next((secret.expires for secret in holdings.secrets if secret.name == name), None)
    found = [
        override for override in holdings.overrides if (override.name, override.environment) == (name, environment)
    ]
    return found[0].expires if found else None


def _read_value(arguments: argparse.Namespace, environment: Mapping[str, str], *, may_stay: bool) -> SecretValue | None:
    """Return the new value; None for the old one, which `may_stay` where nothing is given."""
    data = _read_bytes(arguments, environment, may_stay=may_stay and not arguments.allow_empty)
    if data is None:
        return None
    try:
        value = SecretValue.from_bytes(data)
    except InvalidValueError as error:
        raise InvalidValueError(f"{arguments.name}: {error}", hint=error.hint) from None
    if not value.reveal() and not arguments.allow_empty:
        raise InvalidValueError(f"{arguments.name}: the value is empty", hint="--allow-empty accepts that")
    return value


def _read_bytes(arguments: argparse.Namespace, environment: Mapping[str, str], *, may_stay: bool) -> bytes | None:
    """Return the value's bytes, at most a little more than the limit; None where it `may_stay` and none is given."""
    if arguments.from_env is not None:
        value = environment.get(arguments.from_env)
        if value is None:
            raise UsageError("the variable that --from-env names is not set", hint="it takes a variable's name")
        return os.fsencode(value)
    if arguments.from_file is not None:
        try:
            with open(arguments.from_file, "rb") as file:
                return file.read(MAX_VALUE_BYTES + 1)
        except OSError as error:
            raise IcSecretsError(f"{arguments.from_file} cannot be read: {error.strerror}") from None
    if sys.stdin.isatty():
        if may_stay:
            return None
        from getpass import getpass

        return getpass(f"value of {arguments.name}: ").encode(errors="surrogateescape")
    data = sys.stdin.buffer.read(MAX_VALUE_BYTES + 3)
    if may_stay and not data:
        return None
    if not arguments.keep_newline:
        data = data.removesuffix(b"\n").removesuffix(b"\r") if data.endswith(b"\r\n") else data.removesuffix(b"\n")
    return data


def _report_set(
    arguments: argparse.Namespace,
    kind: SecretType,
    scopes: Scopes,
    created: bool,
    made: Owner | None,
    dates: tuple[int | None, int | None],
    binding: Binding,
) -> None:
    """Report what was set; `made` is an owner that was not known before, `dates` are the old and new expiry."""
    before, expires = dates
    if arguments.json:
        content = _describe_set(arguments, kind, scopes, binding)
        content |= {
            "created": created,
            "site_created": made is not None and made.is_site,
            "organization_created": made is not None and not made.is_site,
            "expires": None if expires is None else format_time(expires),
            "expires_before": None if before is None else format_time(before),
        }
        print_json("set", content)
        return
    if made:
        what = "site" if made.is_site else "organization"
        print_message("", f"made the {what} {made.name}, which was not known before")
    until = "" if expires is None else f", which expires at {format_time(expires)}"
    print_message("", f"{'set' if created else 'changed'} {arguments.owner} {arguments.name}{binding.phrase}{until}")
    if before is not None and expires is None:
        print_message(
            "warning",
            f"the previous value was to expire at {format_time(before)}; this one never expires",
            f"if it does, `ic-secrets set {arguments.owner} {arguments.name} --expires DATE` takes it once more",
        )


def _report_binding(
    arguments: argparse.Namespace, kind: SecretType, scopes: Scopes, binding: Binding, expires: int | None
) -> None:
    """Report that the hosts alone were set."""
    if not arguments.json:
        binding.report()
        return
    date = None if expires is None else format_time(expires)
    content = {"created": False, "site_created": False, "organization_created": False}
    dates = {"expires": date, "expires_before": date}
    print_json("set", _describe_set(arguments, kind, scopes, binding) | content | dates)


def _describe_set(
    arguments: argparse.Namespace, kind: SecretType, scopes: Scopes, binding: Binding
) -> dict[str, object]:
    return {
        "owner": arguments.owner,
        "name": arguments.name,
        "type": kind.value,
        "scopes": format_scopes(scopes).split(","),
        "hosts": list(binding.after),
    }
