"""What the broker did, in counts and names: never a value, a path or a header. Pure."""

import json
from typing import Any

from ..core.records import NamedTuple

# A build may ask any number of hosts; those beyond so many are counted as one.
_MOST = 2000
# Names that lead nowhere cost a build nothing: they leave room for the others.
_MOST_DENIED = 500
OTHERS = "other hosts"


class Traffic(NamedTuple):
    """What went to one host (`host` or `host:port`), and the names of the secrets that went along.

    `joined` are connections that the broker did not look into; `refused` requests were not sent. `bytes_in` came from
    the host. So often was it `denied` since it is not within the reach of the build.
    """

    host: str
    secrets: tuple[str, ...] = ()
    requests: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    refused: int = 0
    joined: int = 0
    denied: int = 0


class Attempt(NamedTuple):
    """How often the placeholder of a secret came to a host that the secret is not for."""

    name: str
    host: str
    times: int


class Report(NamedTuple):
    """All of it, hosts in the order of their names. `notices` are lines for whoever runs the build, with their hints.

    It `is_lost` where the broker did not live to report: then nothing is known.
    """

    hosts: tuple[Traffic, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    notices: tuple[tuple[str, str], ...] = ()
    is_lost: bool = False

    def to_json(self) -> str:
        """Return the report as one line of ASCII."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str) -> "Report":
        """Return the report that `to_json` wrote; ValueError, TypeError, KeyError for what it did not."""
        fields: dict[str, Any] = json.loads(text)
        report = cls(
            tuple(Traffic(host, tuple(secrets), *counts) for host, secrets, *counts in fields["hosts"]),
            tuple(Attempt(*each) for each in fields["attempts"]),
            tuple((words, hint) for words, hint in fields["notices"]),
            fields["is_lost"],
        )
        texts = [text for notice in report.notices for text in notice]
        texts += [text for each in report.hosts for text in (each.host, *each.secrets)]
        texts += [text for each in report.attempts for text in each[:2]]
        numbers = [number for each in (*report.hosts, *report.attempts) for number in each[2:]]
        kinds = ({*map(type, texts)} - {str}, {*map(type, numbers)} - {int}, {type(report.is_lost)} - {bool})
        if any(kinds):
            raise TypeError("a field of another type")
        return report


class Tally:
    """The counts while the broker runs. Another thread may ask for the report."""

    def __init__(self) -> None:
        self._hosts: dict[str, Traffic] = {}
        self._attempts: dict[tuple[str, str], int] = {}
        self._notices: dict[tuple[str, str], None] = {}

    def add(self, host: str, *secrets: str, **counts: int) -> None:
        """Add to the counts of the host, by the names of `Traffic`."""
        most = _MOST_DENIED if "denied" in counts else _MOST
        if host not in self._hosts and len(self._hosts) >= most:
            host = OTHERS
        found = self._hosts.get(host) or Traffic(host)
        if new := [name for name in dict.fromkeys(secrets) if name and name not in found.secrets]:
            found = found._replace(secrets=(*found.secrets, *new))
        self._hosts[host] = found._replace(**{name: getattr(found, name) + more for name, more in counts.items()})

    def note_attempt(self, name: str, host: str) -> None:
        """Count that a placeholder came to a host that is not its own."""
        if (name, host) not in self._attempts and len(self._attempts) >= _MOST:
            host = OTHERS
        self._attempts[name, host] = self._attempts.get((name, host), 0) + 1

    def note(self, words: str, hint: str = "") -> None:
        """Add a notice, once."""
        if len(self._notices) < _MOST:
            self._notices[words, hint] = None

    def make_report(self) -> Report:
        """Return what was counted so far."""
        return Report(
            tuple(each for _, each in sorted(self._hosts.copy().items())),
            tuple(Attempt(*key, times) for key, times in sorted(self._attempts.copy().items())),
            tuple(self._notices.copy()),
        )
