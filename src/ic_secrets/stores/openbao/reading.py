"""Reading what owners hold, in as few waves of requests as the layout allows: lists, then what they name."""

from collections.abc import Sequence

from ...core.records import NamedTuple
from ...model.names import ENVIRONMENT
from ...model.resolve import Holdings
from ...model.secret import Override, Owner, Scope, Secret
from . import layout
from .layout import Node
from .transaction import Transaction

# A path, and the environment of the override there, None for a base.
Location = tuple[str, str | None]


class Selection(NamedTuple):
    """Which values are opened, as in `Store.read`; with `is_narrow`, only paths that can hold one are read."""

    environment: str | None = None
    scope: Scope | None = None
    values: bool = True
    is_narrow: bool = False

    def opens(self, item: Secret | Override, where: str | None) -> bool:
        """Return whether the value of that item is wanted."""
        is_here = where is None or self.environment in (None, where)
        return self.values and is_here and (self.scope is None or self.scope in item.scopes)


def read_owners(transaction: Transaction, owners: Sequence[Owner], selection: Selection) -> tuple[Holdings, ...]:
    """Return what each owner holds. A value that may not be read back is None, but for a build it is an error."""
    found = list_locations(transaction, owners, selection)
    nodes = iter(transaction.get([path for each in found for path, _ in each], is_lenient=not selection.is_narrow))
    result = []
    for owner, places in zip(owners, found, strict=True):
        items = _make_entries(transaction, owner, [(*place, next(nodes)) for place in places])
        opened = [item if selection.opens(item, where) else item._replace(value=None) for item, where in items]
        result.append(layout.gather(owner, opened))
    return tuple(result)


def list_locations(transaction: Transaction, owners: Sequence[Owner], selection: Selection) -> list[list[Location]]:
    """Return where the entries of each owner are."""
    kinds = (layout.BUILD,) if selection.is_narrow and selection.scope is Scope.IC else layout.CLASSES
    every = [(owner, kind) for owner in owners for kind in kinds]
    folders: list[tuple[Owner, str, str | None]] = [(owner, kind, None) for owner, kind in every]
    if selection.is_narrow:
        folders += [(owner, kind, selection.environment) for owner, kind in every]
        listed = transaction.list_folders([layout.get_folder(*each) for each in folders])
    else:
        tops = {layout.get_environments_folder(*each): each for each in every}
        listed = transaction.list_folders([layout.get_folder(*each) for each in folders] + list(tops))
        folders += [(*each, name) for top, each in tops.items() for name in transaction.list_named(top, ENVIRONMENT)]
        listed |= transaction.list_folders([layout.get_folder(*each) for each in folders])
    found: dict[Owner, list[Location]] = {owner: [] for owner in owners}
    for owner, kind, where in folders:
        path = layout.get_folder(owner, kind, where)
        found[owner] += [(path + name, where) for name in listed[path] if not name.endswith("/")]
    return [found[owner] for owner in owners]


def list_locations_of(transaction: Transaction, owner: Owner, name: str) -> list[Location]:
    """Return where the owner could have an entry of that name."""
    tops = [layout.get_environments_folder(owner, kind) for kind in layout.CLASSES]
    transaction.list_folders(tops)
    environments = sorted({name for top in tops for name in transaction.list_named(top, ENVIRONMENT)})
    # What the lists do not name is not asked for.
    folders = [(kind, where) for kind in layout.CLASSES for where in (None, *environments)]
    transaction.list_folders([layout.get_folder(owner, *folder) for folder in folders])
    return [(path, where) for where in (None, *environments) for path in layout.list_paths(owner, where, name)]


def read_name(transaction: Transaction, owner: Owner, name: str) -> Holdings:
    """Return what the owner holds under that name."""
    places = list_locations_of(transaction, owner, name)
    nodes = transaction.get([path for path, _ in places], is_lenient=True)
    found = [(*place, node) for place, node in zip(places, nodes, strict=True)]
    return layout.gather(owner, [item for item, _ in _make_entries(transaction, owner, found)])


def _make_entries(
    transaction: Transaction, owner: Owner, nodes: Sequence[tuple[str, str | None, Node | None]]
) -> list[tuple[Secret | Override, str | None]]:
    """Return what is at these paths, one for each place.

    Where a writer with other scopes was killed before they saw that they came second, what the first wrote counts.
    """
    found: dict[tuple[str, str | None], dict[str, Secret | Override]] = {}
    for path, where, node in nodes:
        if node is not None:
            item = layout.make_entry(path, owner, where, node, opened=True)
            found.setdefault((item.name, where), {})[path] = item
    return [
        (items[next(iter(items)) if len(items) == 1 else transaction.find_oldest(items)], where)
        for (_, where), items in found.items()
    ]
