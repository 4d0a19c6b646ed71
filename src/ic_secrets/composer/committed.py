"""Credentials that stand in composer.json or composer.lock themselves, for everybody who has the project to see. Pure.

What they are is never kept; only of which kind, a key of `KINDS`. A checkout can make a URL of any length, so no
pattern here takes more than one pass over it.
"""

import re
from collections.abc import Iterator
from typing import Any

from ..masking.parts import SecretParts, is_common, list_leaves, make_parts, split_value, to_bytes

# What of a credential the file has, and whether it is a secret by itself.
KINDS = {
    "login": ("a login in the URL of", True),
    "token": ("what seems to be a token in the URL of", True),
    "headers": ("a credential in the HTTP headers for", True),
    "passphrase": ("the passphrase of a client certificate for", True),
    "certificate": ("the path of a client certificate for", False),
}
# What the name of a parameter or of a header says of its value.
_NAMES = r"(?i)auth|token|key|secret|cookie|passw|licen[cs]e|signature|credential|^(?:k|sig|pass|pwd)$"
# What begins like this is a token wherever it stands.
_PREFIX = r"(?:gh[oprsu]_|github_pat_|glpat-|gldt-|glcbt-|ATATT|ATCTT|npm_|xox[bp]-)[\w-]{10,}"
_SEGMENT = r"[A-Za-z0-9_-]{20,}"
# Names of files and directories change between letters and digits less often than what is random.
_CHANGES = r"(?<=[A-Za-z])(?=[0-9])|(?<=[0-9])(?=[A-Za-z])"
_FEWEST_CHANGES = 4
# A shorter password, which nobody has declared a secret, may be any word of the output.
_SHORTEST_PASSWORD = 8
_URL_WITH_LOGIN = r"[A-Za-z][A-Za-z0-9+.-]{0,20}://[^/?#\s]{0,2000}@"


def hide_tokens(path: str, is_archive: bool) -> str:
    """Return the path of a URL with `***` for what seems to be a token; that of an archive may hold a checksum."""
    if not re.search(r"[\w-]{14}", path):  # the usual case, at little cost
        return path
    return "/".join("***" if _is_token(part, is_archive) else part for part in path.split("/"))


def has_token(query: str) -> bool:
    """Return whether the query of a URL seems to hold a credential, and not the placeholder of one."""
    return bool(query) and any(_is_secret(*part.partition("=")[::2]) for part in query.split("&"))


def find_logins(document: Any) -> Iterator[SecretParts]:
    """Yield what is secret in each URL of the document that has a login: the password, and the pair."""
    for _, url in list_leaves(document):
        if re.match(_URL_WITH_LOGIN, url):
            parts = split_value(url)
            texts = (text for text in parts.texts if text != url and len(to_bytes(text)) >= _SHORTEST_PASSWORD)
            yield make_parts((text for text in texts if not is_common(text)), pairs=parts.pairs)


def find_option(options: Any) -> str:
    """Return of which kind the credential is that the `options` of a repository, or of a locked package, hold."""
    sections = options if isinstance(options, dict) else {}
    http, ssl = (section if isinstance(section := sections.get(name), dict) else {} for name in ("http", "ssl"))
    header = http.get("header")
    headers = re.split(r"[\r\n]+", header) if isinstance(header, str) else header if isinstance(header, list) else []
    if any(isinstance(line, str) and _is_secret(*line.partition(":")[::2]) for line in headers):
        return "headers"
    if ssl.get("passphrase"):
        return "passphrase"
    return "certificate" if ssl.get("local_cert") else ""


def list_connection_options(options: Any) -> tuple[str, ...]:
    """Return the names of the `options` that say how its server is reached and trusted: `ssl.cafile`, `http.proxy`."""
    sections = options if isinstance(options, dict) else {}
    http, ssl = (section if isinstance(section := sections.get(name), dict) else {} for name in ("http", "ssl"))
    return (*(("http.proxy",) if http.get("proxy") else ()), *(f"ssl.{name}" for name in sorted(map(str, ssl))))


def _is_secret(name: str, value: str) -> bool:
    """Return whether a parameter or header of that name seems to hold a credential, and not the placeholder of one."""
    value = value.strip()
    is_named = len(value) > 5 and bool(re.search(_NAMES, name.strip()))
    return "{%" not in value and (is_named or bool(re.match(_PREFIX, value)))


def _is_token(part: str, is_archive: bool) -> bool:
    if len(part) < 14:
        return False
    if re.match(_PREFIX, part):
        return True
    if not re.fullmatch(_SEGMENT, part) or (is_archive and re.fullmatch(r"(?i)v?[0-9a-f]{20,}", part)):
        return False
    return len(re.findall(_CHANGES, part.replace("-", "").replace("_", ""))) >= _FEWEST_CHANGES
