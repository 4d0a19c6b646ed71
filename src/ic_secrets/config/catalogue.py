"""Every setting that a configuration file can hold: what it takes, and who may set it. The schemas come from here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..core.durations import PATTERN, is_duration
from ..core.records import NamedTuple
from ..errors import UsageError
from ..model.names import ENVIRONMENT, SITE

# Variables that are not settings, without IC_SECRETS_.
_VARIABLES = frozenset(
    "KEY PASSPHRASE PASSPHRASE_FILE CONFIG BAO_SECRET_ID BAO_WRAPPED_SECRET_ID BAO_JWT PANTHEON_TOKEN DEBUG".split()
)
# It joins the elements of a list in a variable, so no element can hold it.
SEPARATOR = ","
# Behind a path of `paths`: it may be written to.
WRITABLE = ":rw"


class Known(NamedTuple):
    """A setting. A checkout may set only what decides about its own build (`checkout`).

    `guards` are the values of one that protects, the strictest first, each with the effect of having no stricter one:
    in a pipeline a checkout may not choose a weaker one than it finds.
    One that `protects` may be turned on by anybody, and off by a person alone: these are the values that a checkout may
    choose, the strictest first, and the stricter of its own and the person's holds.
    A `path` is hidden from an isolated build unless it `is_shown`.

    The kinds: `text` (with a `pattern`, if any), `path`, `store` (a URL or a path), `choice`, `flag`, `mode` (a flag or
    a choice), `duration`, `number`, `names` (a list), `globs`, `paths`, `plugins` (lists too) and `preserve` (a flag or
    a list).
    """

    kind: str
    summary: str
    checkout: bool = False
    choices: tuple[str, ...] = ()
    pattern: str = ""
    guards: Mapping[str, str] = {}
    protects: tuple[str, ...] = ()
    is_shown: bool = False


SETTINGS = {
    "site": Known("text", "the site, for commands that name none", checkout=True, pattern=SITE),
    "env": Known("text", "its environment, or auto: that of the git branch (dev)", checkout=True, pattern=ENVIRONMENT),
    "store": Known("store", "the store: a path or a URL"),
    "key-file": Known("path", "the file that holds its key"),
    "key-command": Known("text", "a command that prints the key, run without a shell"),
    "key-keyring": Known("text", "SERVICE[/USER] of the key in the system's keyring"),
    "min-generation": Known("number", "refuse a copy of the store that is older than this generation"),
    "state-file": Known("path", "the file that remembers the store's newest generation"),
    "bao-token-file": Known("path", "the file in which an agent keeps a token of the OpenBao server"),
    "bao-role-id": Known("text", "the role id of an AppRole on that server"),
    "bao-secret-id-file": Known("path", "the file that holds its secret id"),
    "bao-wrapped-secret-id-file": Known("path", "the file that holds a wrapping token of its secret id"),
    "bao-jwt-file": Known("path", "the file that holds an identity token (JWT) to log in with"),
    "bao-role": Known("text", "the role that an identity token logs in as"),
    "bao-audience": Known("text", "the audience of the identity token of a job (ic-secrets)"),
    "bao-kubernetes-role": Known("text", "the role that the service account of a Kubernetes pod logs in as"),
    "bao-auth-mount": Known("text", "where that login method is mounted (approle, kubernetes, jwt)"),
    "bao-timeout": Known("duration", "how long a request to the server is retried (30s)"),
    "cache": Known("duration", "how long a server's secrets are kept, sealed, in case it cannot be reached (0)"),
    "pantheon-token-file": Known("path", "the file that holds a machine token of Pantheon"),
    "pantheon-url": Known("text", "where Pantheon's API is (https://api.pantheon.io)"),
    "pantheon-timeout": Known("duration", "how long a request to Pantheon is retried (30s)"),
    "audit": Known("choice", "what happens when the log cannot be written", choices=("required", "warn", "off")),
    "audit-file": Known("path", "the log of who did what"),
    "plugins": Known("plugins", "plugins: names of installed ones, or ./FILE.py"),
    "allow-env": Known("names", "reserved variables that env secrets may set all the same: HTTPS_PROXY"),
    "run-dir": Known("path", "where private directories are made", is_shown=True),
    "only": Known("names", "expose only these secrets", checkout=True),
    "except": Known("names", "expose all but these secrets", checkout=True),
    "preserve-env": Known("preserve", "variables that are already set win: all, or these", checkout=True),
    "pristine": Known(
        "flag",
        "pass on only PATH, HOME, TERM and the like",
        checkout=True,
        guards={"true": "", "false": "passes on the whole environment"},
    ),
    "no-mask": Known(
        "flag", "do not mask the output", checkout=True, guards={"false": "", "true": "turns masking off"}
    ),
    "grace": Known("duration", "the time between TERM and KILL", checkout=True),
    "allow-background": Known(
        "flag",
        "let processes of the build outlive it",
        checkout=True,
        guards={"false": "", "true": "lets processes of the build outlive it"},
    ),
    "leaks": Known(
        "choice",
        "what happens when a leak is found",
        checkout=True,
        choices=("fail", "warn", "off"),
        guards={"fail": "", "warn": "lets a build with leaks pass", "off": "turns the search for leaks off"},
    ),
    "leaks-allow": Known("globs", "known leaks: names of secrets, or paths", checkout=True),
    "broker": Known("flag", "keep credentials out of the build: a broker adds them", checkout=True, protects=("true",)),
    "allow-write": Known("names", "hosts at which the broker lets credentials be used for more than reading"),
    "isolate": Known(
        "mode",
        "keep the rest of the machine out of the build's reach; implies broker",
        checkout=True,
        choices=("best", "bubblewrap", "landlock"),
        protects=("bubblewrap", "best"),
    ),
    "allow-host": Known("names", "further hosts that an isolated build may reach: HOST[:PORT]", checkout=True),
    "allow-path": Known("paths", "further paths that an isolated build sees: PATH[:rw]", checkout=True),
    "receipt": Known("path", "where a receipt of each build is written", checkout=True, is_shown=True),
    "expiry-warning": Known("duration", "how long before a secret expires to warn", checkout=True),
}
_TAKES = {
    "text": "a string in quotes",
    "path": "a path in quotes",
    "store": "a path or a URL in quotes",
    "flag": "true or false",
    "duration": "seconds, or a string such as 30s, 10m, 1h, 7d",
    "number": "a whole number",
    "names": "a list of strings, which hold no comma",
    "globs": "a list of strings, which hold no comma",
    "paths": "a list of strings, which hold no comma",
    "plugins": "a list of strings, which hold no comma",
    "preserve": "true, false or a list of strings, which hold no comma",
}
_LISTS = frozenset({"names", "globs", "paths", "plugins", "preserve"})
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
# The largest integer of SQLite.
_LARGEST = 2**63 - 1


def find_unknown(variables: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each variable named like one of ours that is not one, and the nearest that is ("" where none is near)."""
    known = {f"IC_SECRETS_{name}" for name in (*(n.replace("-", "_").upper() for n in SETTINGS), *_VARIABLES)}
    for name in sorted(set(variables) - known):
        from difflib import get_close_matches

        yield name, next(iter(get_close_matches(name, sorted(known), n=1, cutoff=0.8)), "")


def split_names(text: str) -> frozenset[str]:
    """Return `A,B` as a set; UsageError for an empty list, which would otherwise mean all."""
    names = frozenset(word.strip() for word in text.split(",") if word.strip())
    if not names:
        raise UsageError("a list of names is empty", hint="leave the option out, or name one secret or more: A,B")
    return names


def is_weaker(name: str, value: str, before: str) -> bool:
    """Return whether the value protects less than the one before it, of a setting that protects."""
    order = SETTINGS[name].protects
    return before in order and order.index(value) > order.index(before)


def describe_values(known: Known) -> str:
    """Return what the setting takes, for a hint."""
    choices = ("true", "false", *known.choices) if known.kind == "mode" else known.choices
    return ", ".join(choices) if choices else _TAKES[known.kind]


def as_text(known: Known, value: object) -> str | None:
    """Return the value of a file as a variable would hold it, None where the setting does not take it.

    A flag is `true` or `false`, a mode that is `true` the best one, a list joined by commas, `preserve-env = true` `*`.
    """
    if isinstance(value, bool):
        if known.kind == "preserve":
            return "*" if value else ""
        if known.kind == "mode":
            return known.choices[0] if value else "false"
        return str(value).lower() if known.kind == "flag" else None
    if isinstance(value, list):
        texts = [one for one in value if isinstance(one, str) and one and not set(one) & {SEPARATOR, "\0"}]
        fits = known.kind in _LISTS and len(texts) == len(value) and (value or known.kind != "names")
        return SEPARATOR.join(texts) if fits else None
    if isinstance(value, (int, float)):
        if not 0 <= value <= _LARGEST or known.kind not in {"number", "duration"}:
            return None
        if isinstance(value, int):
            return str(value)
        return f"{value:f}" if known.kind == "duration" else None
    return value if isinstance(value, str) and _is_text(known, value) else None


def _is_text(known: Known, value: str) -> bool:
    if not value or "\0" in value:
        return False
    if known.kind in {"choice", "mode"}:
        return value in known.choices
    if known.kind == "duration":
        return is_duration(value)
    return known.kind in {"text", "path", "store"} and re.fullmatch(known.pattern or r"(?s:.*)", value) is not None


def read_variable(known: Known, value: str) -> str | None:
    """Return the variable of a flag, mode or choice as a file would hold it, None where it has no such value."""
    if known.kind != "choice" and value.lower() in _TRUE | _FALSE:
        return as_text(known, value.lower() in _TRUE)
    return value if value in known.choices else None


# --- schemas ------------------------------------------------------------------------------------------


def make_schema(*, checkout: bool) -> dict[str, Any]:
    """Return the JSON schema of the project's file, or of the person's own."""
    known = {name: one for name, one in SETTINGS.items() if one.checkout or not checkout}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ic-secrets.toml" if checkout else "config.toml",
        "description": "A project's settings for its own build." if checkout else "A person's settings for ic-secrets.",
        "type": "object",
        "properties": {name: {"description": one.summary, **_describe(one)} for name, one in known.items()},
        "additionalProperties": False,
    }


def _describe(known: Known) -> dict[str, Any]:
    text_list: dict[str, Any] = {"type": "array", "items": {"type": "string", "pattern": r"^[^,\u0000]+$"}}
    if known.kind == "choice":
        return {"enum": list(known.choices)}
    if known.kind == "flag":
        return {"type": "boolean"}
    if known.kind == "mode":
        return {"anyOf": [{"type": "boolean"}, {"enum": list(known.choices)}]}
    if known.kind == "number":
        return {"type": "integer", "minimum": 0, "maximum": _LARGEST}
    if known.kind == "duration":
        number = {"type": "number", "minimum": 0, "maximum": _LARGEST}
        return {"anyOf": [number, {"type": "string", "pattern": f"^{PATTERN}$".replace(r"\d", "[0-9]")}]}
    if known.kind == "preserve":
        return {"anyOf": [{"type": "boolean"}, text_list]}
    if known.kind in _LISTS:
        return {**text_list, "minItems": 1} if known.kind == "names" else text_list
    return {"type": "string", "pattern": f"^{known.pattern}$" if known.pattern else r"^[^\u0000]+$"}
