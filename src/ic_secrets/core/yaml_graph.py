"""Read untrusted YAML as a graph of nodes: no object is made of it, and the limit of its depth is ours.

A tag runs nothing and an alias copies nothing; the caller decides what the nodes mean.
"""

from __future__ import annotations

from typing import Any

import yaml

# libyaml is much faster, but not always installed.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_OPENING, _CLOSING = "[{", "]}"


class YamlGraphError(Exception):
    """The text is not valid YAML, is nested too deeply, or has an alias or a tag where none is allowed.

    `problem` is in words, without content; `line` and `column` count from 1, or are None where the parser has none.
    """

    def __init__(self, problem: str, mark: Any) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = mark.line + 1 if mark else None
        self.column = mark.column + 1 if mark else None


NOT_VALID = "not valid YAML"
TOO_DEEP = "nested too deeply"
HAS_ALIAS = "an alias"
HAS_TAG = "a tag"


def compose(text: str, *, deepest: int, aliases: bool = True, tags: bool = True) -> yaml.Node | None:
    """Return the root node of the text, None where it is empty; YamlGraphError.

    Collections may be nested `deepest` levels; more could exhaust the stack.
    """
    _check_events(text, deepest, aliases=aliases, tags=tags)
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise YamlGraphError(NOT_VALID, getattr(error, "problem_mark", None)) from None
    return node


def _check_events(text: str, deepest: int, *, aliases: bool, tags: bool) -> None:
    depth = read = 0
    try:
        for event in yaml.parse(text, Loader=_Loader):
            read = event.end_mark.index if event.end_mark else read
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > deepest:
                raise YamlGraphError(TOO_DEEP, event.start_mark)
            if not aliases and isinstance(event, yaml.AliasEvent):
                raise YamlGraphError(HAS_ALIAS, event.start_mark)
            if not tags and getattr(event, "tag", None) is not None:
                raise YamlGraphError(HAS_TAG, event.start_mark)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        # A parser reads ahead of the events that it reports, and may have a limit there: what it read counts as well.
        ahead = text[read : mark.index] if mark else ""
        depth += sum(map(ahead.count, _OPENING)) - sum(map(ahead.count, _CLOSING))
        raise YamlGraphError(TOO_DEEP if depth > deepest else NOT_VALID, mark) from None
