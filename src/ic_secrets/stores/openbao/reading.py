"""What owners hold, read in as few waves of requests as the layout allows: lists, then what they name."""

from collections.abc import Sequence
from typing import NamedTuple

from ...model.resolve import Holdings
from ...model.secret import Override, Owner, Scope, Secret
from . import layout
from .transaction import Draft

# A path, and the environment whose override stands there, None for a base.
Place = tuple[str, str | None]


class Asked(NamedTuple):
    """Which values are opened, as in `Store.read`; with `is_narrow`, only what can hold one of them is asked for."""

    environment: str | None = None
    scope: Scope | None = None
    values: bool = True
    is_narrow: bool = False

    def is_opened(self, item: Secret | Override, where: str | None) -> bool:
        """Whether the value of what was read is wanted."""
        is_here = where is None or self.environment in (None, where)
        return self.values and is_here and (self.scope is None or self.scope in item.scopes)


def read_owners(draft: Draft, owners: Sequence[Owner], asked: Asked) -> tuple[Holdings, ...]:
    """What each owner holds. A value that the server does not give back is None, but for a build, which needs it."""
    found = list_paths(draft, owners, asked)
    nodes = iter(draft.get([path for each in found for path, _ in each], is_lenient=not asked.is_narrow))
    result = []
    for owner, places in zip(owners, found, strict=True):
        items = []
        for path, where in places:
            node = next(nodes)
            if node is not None:
                item = layout.make_entry(path, owner, where, node, opened=True)
                items.append(item if asked.is_opened(item, where) else item._replace(value=None))
        result.append(layout.gather(owner, items))
    return tuple(result)


def list_paths(draft: Draft, owners: Sequence[Owner], asked: Asked) -> list[list[Place]]:
    """Where the entries of each owner stand."""
    kinds = (layout.BUILD,) if asked.is_narrow and asked.scope is Scope.IC else layout.CLASSES
    every = [(owner, kind) for owner in owners for kind in kinds]
    folders: list[tuple[Owner, str, str | None]] = [(owner, kind, None) for owner, kind in every]
    if asked.is_narrow:
        folders += [(owner, kind, asked.environment) for owner, kind in every]
        listed = draft.list_folders([layout.folder(*each) for each in folders])
    else:
        tops = {layout.environments_folder(*each): each for each in every}
        listed = draft.list_folders([layout.folder(*each) for each in folders] + list(tops))
        folders += [(*each, name[:-1]) for top, each in tops.items() for name in listed[top] if name.endswith("/")]
        listed |= draft.list_folders([layout.folder(*each) for each in folders])
    found: dict[Owner, list[Place]] = {owner: [] for owner in owners}
    for owner, kind, where in folders:
        path = layout.folder(owner, kind, where)
        found[owner] += [(path + name, where) for name in listed[path] if not name.endswith("/")]
    return [found[owner] for owner in owners]


def find_places(draft: Draft, owner: Owner, name: str) -> list[Place]:
    """Where the owner could have an entry of that name."""
    tops = [layout.environments_folder(owner, kind) for kind in layout.CLASSES]
    listed = draft.list_folders(tops)
    environments = sorted({each[:-1] for top in tops for each in listed[top] if each.endswith("/")})
    return [(path, where) for where in (None, *environments) for path in layout.list_places(owner, where, name)]


def read_name(draft: Draft, owner: Owner, name: str) -> Holdings:
    """What the owner holds under that name."""
    places = find_places(draft, owner, name)
    nodes = draft.get([path for path, _ in places], is_lenient=True)
    items = []
    for (path, where), node in zip(places, nodes, strict=True):
        if node is not None:
            items.append(layout.make_entry(path, owner, where, node, opened=True))
    return layout.gather(owner, items)
