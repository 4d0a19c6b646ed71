"""A store as a text file, one line a secret, safe to commit: written whole, by an export, and only read.

    ic-secrets-sealed-1 STORE-ID KEY-ID GENERATION
    site NAME ORGANIZATION SUPPORTING SEAL
    secret OWNER ENVIRONMENT NAME BASE-ID TYPE SCOPES VERSION CREATED CHANGED EXPIRES [HOSTS] SEAL
    mac MAC

Sites come first, then what each owner holds, in the order of `Store.owners`, name and environment. `-` is
nothing, `*` the base value, a list has commas, a time is in Unix seconds. HOSTS are there where a base is
bound to them, and then the file begins with `ic-secrets-sealed-2`, which versions that know of no hosts
refuse. A SEAL is base64 of AES-256-SIV (RFC 5297) over the padded value, bound to the store id and all fields
of its line: it is deterministic, so that an unchanged secret keeps its line. The MAC (HMAC-SHA256) is over
all that stands before it; where it is right, the file is what an export wrote, and one owner's lines are
found without reading the others'.
"""

from __future__ import annotations

import binascii
import hmac
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..core.files import read_regular, read_start
from ..errors import (
    InvalidNameError,
    NotReadableError,
    StoreError,
    StoreFormatError,
    StoreLockedError,
    StoreMissingError,
    StoreReadError,
    StoreTamperedError,
    UnknownSiteError,
)
from ..keys.sealing import MasterKey, SealError, encode
from ..model.names import check_environment
from ..model.resolve import Holdings
from ..model.secret import (
    MAX_TIME,
    Override,
    Owner,
    Scope,
    Secret,
    SecretValue,
    Site,
    format_scopes,
)
from .base import Identity, ReadOnlyStore
from .embedded.rows import Row
from .registry import StoreRequest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

# A million secrets take a quarter of this.
_LARGEST = 1 << 30
# Values are padded to a multiple of so many bytes, so that a seal shows their length only roughly.
_BLOCK = 32
_HEADER = re.compile(rb"ic-secrets-sealed-[12] ([0-9a-f]{32}) ([0-9a-f]{16}) (0|[1-9][0-9]{0,17})\n")
_FAMILY = re.compile(rb"ic-secrets-sealed-([0-9]+) ")
_TRAILER = re.compile(rb"(?<=\n)mac ([0-9a-f]{64})\n\Z")
_TRAILER_LENGTH = len("mac \n") + 64
_CONFLICT = re.compile(rb"^(?:<{7}|\|{7}|={7}|>{7})(?: |\r?$)", re.MULTILINE)
_FIELD = re.compile(r"[!-~]+")
_LENGTHS = {"site": (5,), "secret": (12, 13)}
_AGAIN = "export it again: `ic-secrets export OWNER --format sealed -o FILE`"


class Sealer:
    """Seals and opens the lines of the files with one store id, and their MACs."""

    def __init__(self, key: MasterKey, store_id: str) -> None:
        self._store_id = store_id
        self._secret = key.derive(store_id.encode(), b"ic-secrets/1 sealed lines", 64)
        self._mac_key = key.derive(store_id.encode(), b"ic-secrets/1 sealed file")
        self._cipher: AESSIV | None = None

    def line(self, fields: Sequence[str], plain: bytes) -> str:
        """Return the fields, then the seal of the plain bytes; StoreFormatError for what no field can hold."""
        for field in fields:
            if not _FIELD.fullmatch(field):
                raise StoreFormatError(f"{ascii(field)[:400]} cannot be written to a sealed file")
        padded = plain + b"\x80" + bytes(-(len(plain) + 1) % _BLOCK)
        sealed = self._siv().encrypt(padded, [self._associated(fields)])
        return " ".join([*fields, binascii.b2a_base64(sealed, newline=False).decode()])

    def open(self, line: Sequence[str]) -> bytes:
        """Return the plain bytes that `line` sealed; SealError when they or one of the fields are others."""
        from cryptography.exceptions import InvalidTag

        try:
            padded = self._siv().decrypt(binascii.a2b_base64(line[-1]), [self._associated(line[:-1])])
        except (InvalidTag, ValueError):
            raise SealError("the seal does not match") from None
        return padded.rstrip(b"\0")[:-1]

    def mac(self, data: bytes) -> bytes:
        """Return the MAC of all that stands before it in a file, as the file writes it."""
        return hmac.digest(self._mac_key, data, "sha256").hex().encode()

    def _associated(self, fields: Sequence[str]) -> bytes:
        return encode("ic-secrets/1 sealed line", self._store_id, *fields)

    def _siv(self) -> AESSIV:
        if self._cipher is None:
            from cryptography.hazmat.primitives.ciphers.aead import AESSIV

            self._cipher = AESSIV(self._secret)
        return self._cipher


def render(
    key: MasterKey, store_id: str, generation: int, sites: Iterable[Site], holdings: Iterable[Holdings]
) -> bytes:
    """Return the file that holds these sites and holdings, which have their values; the same for the same arguments.

    `store_id` has 32 hexadecimal digits. NotReadableError where a value is missing.
    """
    sealer = Sealer(key, store_id)
    number = 1
    lines = []
    for site in sorted(sites, key=lambda site: site.name):
        fields = ("site", site.name, site.organization or "-", ",".join(site.supporting) or "-")
        lines.append(sealer.line(fields, b""))
    for held in sorted(holdings, key=lambda held: (not held.owner.is_site, held.owner.name)):
        items: list[Secret | Override] = sorted((*held.secrets, *held.overrides), key=_place)
        for item in items:
            lines.append(sealer.line(*_describe(held.owner, item)))
            if isinstance(item, Secret) and item.hosts:
                number = 2
    header = f"ic-secrets-sealed-{number} {store_id} {key.id} {generation}"
    data = "".join(f"{line}\n" for line in (header, *lines)).encode()
    return data + b"mac " + sealer.mac(data) + b"\n"


def is_same_content(one: bytes, other: bytes) -> bool:
    """Return whether two files differ in nothing but their generations (and so their MACs)."""
    first, second = _HEADER.match(one), _HEADER.match(other)
    if not first or not second or first.group(1, 2) != second.group(1, 2):
        return False
    return one[first.end() : -_TRAILER_LENGTH] == other[second.end() : -_TRAILER_LENGTH]


def open_store(path: str, load_keys: Callable[[], Sequence[MasterKey]]) -> SealedStore:
    """Open the store that the file is, with that one of the keys that is its own.

    StoreMissingError; StoreReadError; StoreFormatError for what is not such a file, or is no longer whole;
    StoreLockedError when none of the keys is its own; StoreTamperedError, which names a line where it can.
    """
    return parse(path, _read(path, read_regular, _LARGEST), load_keys)


def open_request(request: StoreRequest) -> SealedStore:
    """Open the file that the URL names; the errors of `open_store`."""
    return open_store(request.path, request.load_keys)


def read_key_id(path: str) -> str:
    """Return the id of the key that the file names; it is not verified, since no key is needed. A StoreError."""
    data = _read(path, read_start, 1000)
    header = _HEADER.match(data)
    if not header:
        raise _explain_form(path, data)
    return header[2].decode()


def _read(path: str, read: Callable[[str, int], bytes | None], limit: int) -> bytes:
    try:
        data = read(path, limit)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StoreReadError(f"{path} cannot be read: {reason}") from None
    if data is None:
        hint = "`ic-secrets export OWNER --format sealed -o FILE` makes one"
        raise StoreMissingError(f"there is no sealed file {path}", hint=hint)
    return data


def parse(path: str, data: bytes, load_keys: Callable[[], Sequence[MasterKey]]) -> SealedStore:
    """Open a store as `open_store` does, from a file's bytes; errors name the `path`."""
    header = _HEADER.match(data)
    if not header:
        raise _explain_form(path, data)
    store_id, key_id = header[1].decode(), header[2].decode()
    keys = load_keys()
    key = next((key for key in keys if key.id == key_id), None)
    if key is None:
        ours = ", ".join(key.id for key in keys) or "none"
        raise StoreLockedError(f"{path} is sealed with the key {key_id}; configured: {ours}")
    sealer = Sealer(key, store_id)
    trailer = _TRAILER.search(data, max(0, len(data) - _TRAILER_LENGTH - 1))
    if not trailer or not hmac.compare_digest(sealer.mac(data[: trailer.start()]), trailer[1]):
        raise _explain_damage(path, data, sealer, whole=trailer is not None)
    return SealedStore(path, data, sealer, store_id, int(header[3]))


class SealedStore(ReadOnlyStore):
    """A sealed file, opened and verified. It was read whole when it was opened, and is not held."""

    has_hosts = True

    write_hint = f"write to the store that it came from, and {_AGAIN}"

    def __init__(self, path: str, data: bytes, sealer: Sealer, store_id: str, generation: int) -> None:
        """`open_store` is the way here: the MAC of `data` has been checked."""
        self.url = f"sealed:{path}"
        self.store_id = store_id
        self.generation = generation
        self._data = data
        self._sealer = sealer
        self._last = 0

    def site(self, name: str) -> Site:
        for line in self._lines(f"site {name} "):
            return self._parse_site(line)
        hint = f"`ic-secrets site list` shows those that it has; for another, {self.write_hint}"
        raise UnknownSiteError(f"{self.url} has no site {name}", hint=hint)

    def sites(self) -> Iterator[Site]:
        return map(self._parse_site, self._lines("site "))

    def owners(self) -> Iterator[Owner]:
        names = dict.fromkeys(line[1].removeprefix("org:") for line in self._lines("secret org:"))
        yield from (Owner("site", site.name) for site in self.sites())
        yield from (Owner("organization", name) for name in names)

    def read(
        self, owner: Owner, *, environment: str | None = None, scope: Scope | None = None, values: bool = True
    ) -> Holdings:
        secrets = []
        overrides = []
        for line in self._lines(f"secret {owner} "):
            row = self._parse_row(owner, line)
            wanted = values and (not row.environment or environment in (None, row.environment))
            wanted = wanted and (scope is None or scope.value in row.scopes.split(","))
            value = SecretValue.from_bytes(self._sealer.open(line)) if wanted else None
            if row.environment:
                overrides.append(row.override(owner, value))
            else:
                secrets.append(row.secret(owner, value))
        return Holdings(owner, tuple(secrets), tuple(overrides))

    def identify(self) -> Identity:
        return Identity(self.store_id, self.generation)

    def _lines(self, start: str) -> Iterator[list[str]]:
        """Return the lines that begin so, which stand together, in their fields."""
        begin = start.encode()
        if begin.count(b" ") == 2:
            # One owner's: they come in order, so who reads one after the other need not search from the start.
            at = self._data.find(b"\n" + begin, self._last) + 1 or self._data.find(b"\n" + begin) + 1
            self._last = at - 1 if at else self._last
        else:
            at = self._data.find(b"\n" + begin) + 1
        while at and self._data.startswith(begin, at):
            end = self._data.index(b"\n", at)
            yield self._data[at:end].decode().split(" ")
            at = end + 1

    def _parse_site(self, line: Sequence[str]) -> Site:
        try:
            return _to_site(line)
        except ValueError:
            raise StoreFormatError(f"{self.url}: {_name_line(line)} has fields that no export writes") from None

    def _parse_row(self, owner: Owner, line: Sequence[str]) -> Row:
        try:
            row = _to_row(owner, line)
            if row.environment:
                check_environment(row.environment)
            if not (0 <= row.created < MAX_TIME and 0 <= row.changed < MAX_TIME and 0 <= (row.expires or 0) < MAX_TIME):
                raise ValueError
        except (ValueError, InvalidNameError):
            raise StoreFormatError(f"{self.url}: {_name_line(line)} has fields that no export writes") from None
        return row


def _place(item: Secret | Override) -> tuple[str, str]:
    return item.name, item.environment if isinstance(item, Override) else ""


def _describe(owner: Owner, item: Secret | Override) -> tuple[tuple[str, ...], bytes]:
    """Return the fields of a secret's line and the bytes that are sealed in it."""
    environment, base = (item.environment, item.base) if isinstance(item, Override) else ("*", item.id)
    if item.value is None:
        raise NotReadableError(
            f"the store does not give the value of {owner} {item.name}", hint="it cannot be exported"
        )
    fields = (
        *("secret", str(owner), environment, item.name, base, item.type.value, format_scopes(item.scopes)),
        *(str(item.version), str(item.created), str(item.changed), "-" if item.expires is None else str(item.expires)),
        *((",".join(item.hosts),) if isinstance(item, Secret) and item.hosts else ()),
    )
    return fields, item.value.reveal().encode()


def _to_site(line: Sequence[str]) -> Site:
    _, name, organization, supporting, _ = line
    return Site(name, None if organization == "-" else organization, () if supporting == "-" else _split(supporting))


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _to_row(owner: Owner, line: Sequence[str]) -> Row:
    _, _, environment, name, base, kind, scopes, version, created, changed, expires, *hosts, _ = line
    if len(hosts) > (environment == "*"):
        raise ValueError
    return Row(
        kind=owner.kind,
        owner=owner.name,
        name=name,
        environment="" if environment == "*" else environment,
        base=base,
        type=kind,
        scopes=scopes,
        version=int(version),
        created=int(created),
        changed=int(changed),
        expires=None if expires == "-" else int(expires),
        data_key=0,
        sealed=b"",
        hosts=hosts[0] if hosts else "",
    )


# --- what is wrong with a file ------------------------------------------------------------------------


def _explain_form(path: str, data: bytes) -> StoreError:
    """Return the error for a file whose first line is not a header of this version."""
    git = _explain_git(path, data)
    family = _FAMILY.match(data)
    if git:
        return git
    if family and family[1] not in {b"1", b"2"}:
        return StoreFormatError(
            f"{path} has the format {family[1].decode()[:20]}, which this version does not know",
            hint="a newer ic-secrets wrote it: upgrade",
        )
    if family:
        return StoreTamperedError(f"{path}: its first line was changed by something other than ic-secrets")
    return StoreFormatError(f"{path} is not a sealed file", hint="`ic-secrets export OWNER --format sealed` writes one")


def _explain_damage(path: str, data: bytes, sealer: Sealer, *, whole: bool) -> StoreError:
    """Return the error for a file with a header of this version, whose MAC is missing or wrong."""
    git = _explain_git(path, data)
    if git:
        return git
    seen: set[tuple[str, ...]] = set()
    lines = data.split(b"\n")[1:-2] if whole else data.split(b"\n")[1:-1]
    for number, line in enumerate(lines, start=2):
        fields = line.decode(errors="backslashreplace").split(" ")
        if len(fields) not in _LENGTHS.get(fields[0], ()):
            return StoreTamperedError(f"{path}: the line {number} was changed by something other than ic-secrets")
        what = _name_line(fields)
        place = tuple(fields[: 2 if fields[0] == "site" else 4])
        if place in seen:
            return StoreTamperedError(f"{path}: {what} is there twice (line {number})")
        seen.add(place)
        try:
            sealer.open(fields)
        except SealError:
            return StoreTamperedError(f"{path}: {what} (line {number}) was changed by something other than ic-secrets")
    if not whole:
        return StoreFormatError(f"{path} does not end with its MAC: it was cut off", hint=_AGAIN)
    return StoreTamperedError(
        f"{path}: its first line, or a line that was removed, added, moved or put back, was not written by ic-secrets"
    )


def _explain_git(path: str, data: bytes) -> StoreError | None:
    """Return the error for what git does to text files, if it was done to this one."""
    conflict = _CONFLICT.search(data)
    if conflict:
        line = data.count(b"\n", 0, conflict.start()) + 1
        return StoreFormatError(
            f"{path} has git's conflict markers in it (line {line})", hint=f"take one side, or {_AGAIN}"
        )
    if b"\r\n" in data:
        return StoreFormatError(
            f"{path} has CRLF line ends, which git or an editor put in",
            hint="a line `*.sealed -text` in .gitattributes keeps git from it; then check the file out again",
        )
    return None


def _name_line(fields: Sequence[str]) -> str:
    """Return what the line is about, safe to print even if an enemy wrote it."""
    if fields[0] == "site":
        text = f"the site {fields[1]}"
    else:
        text = f"{fields[1]}{'' if fields[2] == '*' else '.' + fields[2]} {fields[3]}"
    return (text if text.isprintable() else ascii(text))[:400]
