"""`ic-secrets site set|list|show|delete`."""

from __future__ import annotations

import argparse

from ..assembly import Context
from ..core.console import print_table
from ..errors import InvalidNameError, StoreError, UnknownSiteError
from ..model import Owner, Site
from ..model.names import check_site_name
from ..stores.base import ReadOnlyStore, Store
from . import Call
from .call import choose_action, read_call
from .output import print_json, print_message
from .parser import Parser, add_json, add_store_options, add_yes
from .questions import confirm, is_at_terminal, list_some

ACTIONS = {
    "set": "make a site, or change its organizations",
    "list": "all sites",
    "show": "one site and its organizations",
    "delete": "delete a site with all its secrets",
}


def run_site(call: Call) -> int:
    """Run the action that the first word names."""
    chosen = choose_action(call, "site", ACTIONS, "ic-secrets site set my-site --org agency")
    if chosen is None:
        return 0
    action, call = chosen
    arguments, context = read_call(call, make_parser(action))
    with context.open_store(read_only=action in {"list", "show"}) as store:
        {"set": _set, "list": _list, "show": _show, "delete": _delete}[action](store, arguments, context)
    return 0


def make_parser(action: str) -> Parser:
    """Return the parser of an action."""
    example = "ic-secrets site list" if action == "list" else f"ic-secrets site {action} my-site"
    parser = Parser(f"site {action}", f"{ACTIONS[action].capitalize()}.", example)
    if action != "list":
        parser.add_argument("site", metavar="SITE", help="its name: a-z, 0-9 and hyphens")
    if action == "set":
        parser.add_argument("--org", metavar="ORG", help="the primary organization: its secrets reach the site")
        parser.add_argument("--no-org", action="store_true", help="no primary organization any more")
        parser.add_argument(
            "--supporting", metavar="ORG", action="append", help="a supporting organization: its secrets never do"
        )
        parser.add_argument("--no-supporting", action="store_true", help="no supporting organization any more")
    if action == "delete":
        add_yes(parser)
    add_store_options(parser)
    add_json(parser)
    return parser


def _set(store: Store, arguments: argparse.Namespace, context: Context) -> None:
    """Create or change the site; what is not named stays as it is."""
    check_site_name(arguments.site)
    with context.recorded(store, command="site set", owner=arguments.site):
        try:
            before = store.site(arguments.site)
        except UnknownSiteError:
            before = None
        after = _change(before or Site(arguments.site), arguments)
        store.set_site(after)
    is_new = after.organization not in {None, before and before.organization}
    is_empty = is_new and holds_nothing(store, Owner.organization(str(after.organization)))
    if arguments.json:
        print_json("site", {**_describe(after), "created": before is None})
    else:
        print_message("", f"{'made' if before is None else 'changed'} the site {after.name}")
        if is_empty:
            print_message("", f"its organization {after.organization} holds nothing yet")


def _change(site: Site, arguments: argparse.Namespace) -> Site:
    organization = None if arguments.no_org else arguments.org or site.organization
    supporting = () if arguments.no_supporting else tuple(dict.fromkeys(arguments.supporting or site.supporting))
    for name in (organization, *supporting):
        if name is not None:
            check_site_name(name, "organization")
    if organization in supporting:
        raise InvalidNameError(f"{organization} cannot be both the primary and a supporting organization")
    return Site(site.name, organization, supporting)


def _list(store: Store, arguments: argparse.Namespace, _context: Context) -> None:
    sites = list(store.sites())
    if arguments.json:
        print_json("site-list", {"sites": [_describe(site) for site in sites]})
    elif sites:
        print_table(["SITE", "ORGANIZATION", "SUPPORTING"], [_row(site) for site in sites])
    else:
        how = store.write_hint if isinstance(store, ReadOnlyStore) else "`ic-secrets site set SITE` makes one"
        print_message("", f"there are no sites yet: {how}")


def _show(store: Store, arguments: argparse.Namespace, _context: Context) -> None:
    site = store.site(check_site_name(arguments.site))
    if arguments.json:
        print_json("site", _describe(site))
    else:
        print_table(["SITE", "ORGANIZATION", "SUPPORTING"], [_row(site)])


def _delete(store: Store, arguments: argparse.Namespace, context: Context) -> None:
    check_site_name(arguments.site)
    if is_at_terminal() and not arguments.yes:
        store.site(arguments.site)
        names = _list_names(store, arguments.site)
        confirm(f"delete the site {arguments.site} with {list_some(names) or 'no secret'}?")
    with context.recorded(store, command="site delete", owner=arguments.site) as record:
        record.names = names = _list_names(store, arguments.site)
        count = store.delete_site(arguments.site)
    if arguments.json:
        print_json("site-delete", {"site": arguments.site, "deleted_values": count})
    else:
        what = f": {list_some(names)}" if names else ""
        print_message("", f"deleted the site {arguments.site} and {count} {'value' if count == 1 else 'values'}{what}")


def _list_names(store: Store, site: str) -> tuple[str, ...]:
    held = store.read(Owner.site(site), values=False)
    return tuple(sorted({s.name for s in held.secrets} | {o.name for o in held.overrides}))


def holds_nothing(store: Store, owner: Owner) -> bool:
    """Return whether the store is known to hold nothing of the owner: a name with a typing mistake, perhaps."""
    try:
        held = store.read(owner, values=False)
    except StoreError:  # whoever sets a site need not see its organization
        return False
    return not held.secrets and not held.overrides


def _describe(site: Site) -> dict[str, object]:
    return {"site": site.name, "organization": site.organization, "supporting": list(site.supporting)}


def _row(site: Site) -> list[str]:
    return [site.name, site.organization or "-", ", ".join(site.supporting) or "-"]
