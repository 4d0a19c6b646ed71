"""What of a request's headers is sent on. Pure."""

import re
from collections.abc import Mapping

from .decisions import HeaderLines, Refusal
from .targets import Endpoint, RequestError, parse_host

# Those between the client and us alone (RFC 9110, 7.6.1); the framing of the body is made anew by whoever sends it.
_HOP = frozenset("connection keep-alive te trailer upgrade http2-settings proxy-connection".split())
# With these a server may be told another method or path than the ones that were judged.
_OVERRIDES = re.compile(
    r"x-(?:http-)?method(?:-override)?|x-http-path-override|x-(?:original|rewrite|forwarded|override)-.+|x-host"
    r"|forwarded|sudo"
)
_FRAMING = frozenset({"host", "content-length", "transfer-encoding"})
LOGINS = frozenset({"authorization", "private-token", "job-token"})
_CONDITIONS = frozenset({"if-modified-since", "if-none-match"})


def check_headers(endpoint: Endpoint, headers: HeaderLines) -> Refusal | None:
    """Return why a request with these headers is not one for the endpoint."""
    hosts = [value for name, value in headers if name == "host"]
    try:
        is_same = all(parse_host(host.strip(), endpoint.scheme) == endpoint for host in hosts)
    except RequestError as error:
        return Refusal(error.status, error.words, "text")
    if len(hosts) > 1 or not is_same:
        return Refusal(400, f"the Host of a request to {endpoint.key} is another one", "text")
    lengths = [value for name, value in headers if name in {"content-length", "transfer-encoding"}]
    if len(lengths) > 1:
        return Refusal(400, "the request says twice how long its body is", "text")
    return None


def clean_headers(endpoint: Endpoint, headers: HeaderLines, *, is_guarded: bool, is_lesson: bool) -> HeaderLines:
    """Return what of the headers goes on, with the endpoint as their Host.

    Where it `is_guarded`, that is without what could lead a server to another target. Where the answer `is_lesson`,
    it is asked for whole, and in an encoding that can be read.
    """
    named = {part.strip().lower() for name, value in headers if name == "connection" for part in value.split(",")}
    dropped = _HOP | (named - {"host", "content-length", "transfer-encoding", "authorization"})
    dropped |= _CONDITIONS if is_lesson else frozenset()
    kept = [("host", endpoint.key)]
    for name, value in headers:
        dashed = name.replace("_", "-")  # CGI and its like read both alike
        is_odd = dashed in dropped or (dashed != name and dashed in _FRAMING)
        if is_odd or name == "host" or dashed.startswith("proxy-") or (is_guarded and _OVERRIDES.fullmatch(dashed)):
            continue
        is_encoding = is_lesson and name == "accept-encoding"
        kept.append((name, ("gzip" if "gzip" in value else "identity") if is_encoding else value))
    return tuple(kept)


def ask_plainly(headers: HeaderLines) -> HeaderLines:
    """Return the headers of a request whose answer is looked into: it is asked for whole, and not packed."""
    dropped = {"accept-encoding", "range", "if-range"}
    kept = (each for each in headers if each[0].replace("_", "-") not in dropped)
    return (*kept, ("accept-encoding", "identity"))


def merge_headers(headers: HeaderLines, ours: Mapping[str, str]) -> HeaderLines:
    """Return the headers with ours in the place of those of the same names, and of any other login if ours is one."""
    names = {name.lower() for name in ours}
    names |= LOGINS if names & LOGINS else frozenset()
    kept = tuple((name, value) for name, value in headers if name not in names)
    return kept + tuple((name.lower(), value.encode().decode("latin-1")) for name, value in ours.items())


def set_length(headers: HeaderLines, length: int) -> HeaderLines:
    """Return the headers with that length of the body."""
    kept = tuple((name, value) for name, value in headers if name not in {"content-length", "transfer-encoding"})
    return (*kept, ("content-length", str(length)))
