"""A store as a text file: it keeps the reading half of the contract, and notices whatever is done to it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from ic_secrets.errors import (
    NotReadableError,
    StoreError,
    StoreFormatError,
    StoreLockedError,
    StoreMissingError,
    StoreReadError,
    StoreTamperedError,
    StoreWriteError,
)
from ic_secrets.keys.sealing import MasterKey
from ic_secrets.model.secret import Owner, SecretType, SecretValue, Site
from ic_secrets.stores import sealed_file as sealed
from ic_secrets.stores.base import Place, Store, Write
from ic_secrets.stores.embedded import store as local
from ic_secrets.stores.registry import open_store
from ic_secrets.testing import ReadingContract
from ic_secrets.transfer.merge import read_secrets
from local_stores import (
    AGENCY,
    BUILD,
    CANARY,
    KEY,
    MY_SITE,
    OWNERS,
    dump,
    make_store,
    memory_directory,
    open_for_reading,
)

ID = "0123456789abcdef" * 2


def export(store: Store, generation: int = 7, key: MasterKey = KEY) -> bytes:
    """All that the store holds, as a file."""
    secret_set = read_secrets(store, list(store.owners()))
    return sealed.render(key, ID, generation, secret_set.sites, secret_set.holdings)


def open_bytes(data: bytes, *keys: MasterKey) -> sealed.SealedStore:
    return sealed.parse("all.sealed", data, lambda: keys or (KEY,))


@pytest.fixture(scope="module")
def data() -> bytes:
    """The file that a store with something of everything is exported to."""
    with memory_directory() as directory, open_for_reading(make_store(directory)) as store:
        return export(store)


class TestSealedStore(ReadingContract):
    """The contract on a file, to which each `reopen` exports what an embedded store holds."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        self.directory = tmp_path
        with memory_directory() as directory, local.create(str(directory / "store.db"), KEY) as store:
            yield store

    def reopen(self, store: Store) -> Store:
        path = self.directory / "all.sealed"
        path.write_bytes(export(store))
        return open_store(f"sealed:{path}", lambda: [KEY])


def test_it_says_what_the_exported_store_says(data: bytes) -> None:
    """Sites, ids, versions, times and expiry included; and it says its generation and its identity."""
    with memory_directory() as directory, open_for_reading(make_store(directory)) as store:
        again = open_bytes(export(store))
        assert dump(again) == dump(store)
        assert list(again.owners()) == list(store.owners())
    assert (again.generation, again.store_id, again.url) == (7, ID, "sealed:all.sealed")


def test_a_file_without_hosts_is_one_that_earlier_versions_read(tmp_path: Path) -> None:
    """Only with a bound secret it is of the format that they refuse; an unbound one has its old line back."""
    with local.open_store(make_store(tmp_path), [KEY]) as store:
        bound = export(store)
        before = store.read(MY_SITE).secrets[0].hosts
        for owner in (MY_SITE, AGENCY):
            store.bind(owner, "API_KEY", ())
        plain = export(store)
        for owner in (MY_SITE, AGENCY):
            store.bind(owner, "API_KEY", before)
        assert export(store) == bound
    assert (bound[:20], plain[:20]) == (b"ic-secrets-sealed-2 ", b"ic-secrets-sealed-1 ")
    assert {len(line.split()) for line in plain.splitlines() if line.startswith(b"secret")} == {12}


def test_whatever_would_change_it_is_refused(data: bytes) -> None:
    """With a hint to export again; reading goes on in what would be a transaction."""
    store = open_bytes(data)
    writes: list[Callable[[], object]] = [
        lambda: store.put(Place(MY_SITE, None, "API_KEY"), Write(SecretValue("v"))),
        lambda: store.bind(MY_SITE, "API_KEY", ()),
        lambda: store.delete(Place(MY_SITE, None, "API_KEY")),
        lambda: store.set_site(Site("new")),
        lambda: store.delete_site("my-site"),
    ]
    with store.transaction():
        for write in writes:
            with pytest.raises(StoreWriteError) as caught:
                write()
            assert "export it again" in caught.value.hint
        assert store.site("my-site") == Site("my-site", "agency", ("help",))


def test_no_value_is_in_the_open(data: bytes) -> None:
    """Names, types, scopes and times are; a value's length only roughly."""
    assert CANARY.encode() not in data
    assert b"secret my-site dev LICENSE_KEY " in data
    with memory_directory() as directory, local.create(str(directory / "s"), KEY) as store:
        for length in (0, 1, 31):
            store.put(
                Place(MY_SITE, None, f"K{length}"), Write(SecretValue("x" * length), type=SecretType.ENV, scopes=BUILD)
            )
        lines = [line for line in export(store).splitlines() if line.startswith(b"secret")]
    assert len({len(line.split()[-1]) for line in lines}) == 1
    assert len({line.split()[-1] for line in lines}) == 3


def test_a_store_that_gives_no_values_is_not_exported() -> None:
    with memory_directory() as directory, open_for_reading(make_store(directory)) as store:
        holdings = store.read(MY_SITE, values=False)
        with pytest.raises(NotReadableError):
            sealed.render(KEY, ID, 1, [store.site("my-site")], [holdings])


# --- diffs ----------------------------------------------------------------------------------------------


def test_one_changed_secret_changes_its_line_the_header_and_the_mac(tmp_path: Path) -> None:
    """And a new one is one line more: `git diff` shows what was done."""
    with local.open_store(make_store(tmp_path), [KEY]) as store:
        before = export(store, store.generation).splitlines()
        store.put(Place(AGENCY, None, "LICENSE_KEY"), Write(SecretValue("new")))
        after = export(store, store.generation).splitlines()
        assert len(before) == len(after)
        changed = [number for number, (one, two) in enumerate(zip(before, after, strict=True)) if one != two]
        (line,) = [number for number, one in enumerate(after) if one.startswith(b"secret org:agency * LICENSE_KEY ")]
        assert changed == [0, line, len(after) - 1]
        store.put(Place(MY_SITE, None, "ANOTHER"), Write(SecretValue("new"), type=SecretType.ENV, scopes=BUILD))
        third = export(store, store.generation).splitlines()
        assert len(set(third) - set(after)) == 3
        assert len(third) == len(after) + 1


def test_the_same_store_gives_the_same_file(tmp_path: Path) -> None:
    """To the byte; the same content of a later generation is told as such, other content or another key is not."""
    with local.open_store(make_store(tmp_path), [KEY]) as store:
        one, other = export(store, 1), export(store, 10)
        assert one == export(store, 1)
        assert one != other
        assert sealed.is_same_content(one, other)
        assert not sealed.is_same_content(one, export(store, 1, MasterKey.generate()))
        store.put(Place(MY_SITE, None, "API_KEY"), Write(SecretValue("new")))
        assert not sealed.is_same_content(one, export(store, 1))
        assert not sealed.is_same_content(b"", one)


# --- what is done to a file -----------------------------------------------------------------------------


def lines_of(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


def find(lines: list[bytes], start: bytes) -> int:
    (number,) = [number for number, line in enumerate(lines) if line.startswith(start)]
    return number


def edit(start: bytes, field: int, text: bytes) -> Callable[[list[bytes]], None]:
    """Give the line that begins so another field."""

    def change(lines: list[bytes]) -> None:
        number = find(lines, start)
        fields = lines[number].split(b" ")
        assert fields[field] != text
        lines[number] = b" ".join([*fields[:field], text, *fields[field + 1 :]])

    return change


def swap_seals(one: bytes, other: bytes) -> Callable[[list[bytes]], None]:
    def change(lines: list[bytes]) -> None:
        first, second = find(lines, one), find(lines, other)
        left, right = lines[first].rpartition(b" "), lines[second].rpartition(b" ")
        lines[first], lines[second] = left[0] + b" " + right[2], right[0] + b" " + left[2]

    return change


def move(start: bytes, number: int) -> Callable[[list[bytes]], None]:
    return lambda lines: lines.insert(number, lines.pop(find(lines, start)))


def double(start: bytes) -> Callable[[list[bytes]], None]:
    return lambda lines: lines.insert(find(lines, start), lines[find(lines, start)])


def drop(start: bytes) -> Callable[[list[bytes]], None]:
    return lambda lines: lines.__delitem__(find(lines, start))


DEV = b"secret my-site dev API_KEY "
BASE = b"secret my-site * API_KEY "
HOSTS = re.compile(rb" api\.example\.com\S+")
TAMPERED: dict[str, tuple[Callable[[list[bytes]], None], str]] = {
    "another name": (edit(BASE, 3, b"OTHER"), "my-site OTHER"),
    "another owner": (edit(BASE, 1, b"org:my-site"), "org:my-site API_KEY"),
    "another environment": (edit(DEV, 2, b"test"), "my-site.test API_KEY"),
    "another base": (edit(DEV, 4, b"0" * 16), "my-site.dev API_KEY"),
    "another type": (edit(BASE, 5, b"runtime"), "my-site API_KEY"),
    "more scopes": (edit(BASE, 6, b"ic,web"), "my-site API_KEY"),
    "another version": (edit(BASE, 7, b"9"), "my-site API_KEY"),
    "another time": (edit(BASE, 9, b"9"), "my-site API_KEY"),
    "no expiry": (edit(BASE, 10, b"-"), "my-site API_KEY"),
    "another host": (edit(BASE, 11, b"evil.example.net"), "my-site API_KEY"),
    "no hosts": (
        lambda lines: lines.__setitem__(find(lines, BASE), HOSTS.sub(b"", lines[find(lines, BASE)])),
        "API_KEY",
    ),
    "hosts of an override": (edit(DEV, 10, b"- evil.example.net"), "my-site.dev API_KEY"),
    "a seal that is no base64": (edit(BASE, 12, b"!\n"), "my-site API_KEY"),
    "swapped seals": (swap_seals(BASE, b"secret my-site * LICENSE_KEY "), "my-site API_KEY"),
    "another organization": (edit(b"site other-site ", 2, b"studio"), "the site other-site"),
    "a supporting one more": (edit(b"site my-site ", 3, b"help,evil"), "the site my-site"),
    "a line twice": (double(BASE), "my-site API_KEY is there twice"),
    "a site twice": (double(b"site empty "), "the site empty is there twice"),
    "a line removed": (drop(BASE), "removed"),
    "a site removed": (drop(b"site empty "), "removed"),
    "a line moved": (move(BASE, 5), "moved"),
    "a higher generation": (edit(b"ic-secrets-sealed-2 ", 3, b"8\n"), "first line"),
    "an older format": (lambda lines: lines.__setitem__(0, lines[0].replace(b"-2 ", b"-1 ")), "first line"),
    "a header with a word more": (edit(b"ic-secrets-sealed-2 ", 3, b"8 x\n"), "first line"),
    "another MAC": (edit(b"mac ", 1, b"0" * 64 + b"\n"), "first line"),
    "a line of another kind": (lambda lines: lines.insert(3, b"# a comment\n"), "the line 4"),
    "an empty line": (lambda lines: lines.insert(3, b"\n"), "the line 4"),
    "text that is no UTF-8": (lambda lines: lines.insert(3, b"\xff\n"), "the line 4"),
    "terminal commands": (edit(BASE, 3, b"\x1b[2J"), "'my-site \\x1b[2J'"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_was_changed_is_named(data: bytes, name: str) -> None:
    """The line's secret or site where one line is wrong, else that lines are missing or moved."""
    change, named = TAMPERED[name]
    lines = lines_of(data)
    change(lines)
    with pytest.raises(StoreTamperedError) as caught:
        open_bytes(b"".join(lines))
    assert named in str(caught.value)
    assert CANARY not in str(caught.value)


def test_an_older_line_put_back_is_noticed(tmp_path: Path) -> None:
    """Its own seal is right, but not the file's MAC."""
    with local.open_store(make_store(tmp_path), [KEY]) as store:
        old = lines_of(export(store))
        store.put(Place(MY_SITE, None, "API_KEY"), Write(SecretValue("new")))
        new = lines_of(export(store))
    new[find(new, BASE)] = old[find(old, BASE)]
    with pytest.raises(StoreTamperedError, match="put back"):
        open_bytes(b"".join(new))


MARKED = b"<<<<<<< HEAD\n"
NO_STORE: dict[str, tuple[Callable[[bytes], bytes], str, str]] = {
    "empty": (lambda data: b"", "not a sealed file", "export"),
    "something else": (lambda data: b"PK\x03\x04" + data, "not a sealed file", "export"),
    "a newer format": (lambda data: data.replace(b"sealed-2 ", b"sealed-3 ", 1), "the format 3", "upgrade"),
    "cut within a line": (lambda data: data[: len(data) // 2], "cut off", "export it again"),
    "cut behind a line": (lambda data: data[: data.rindex(b"mac ")], "cut off", "export it again"),
    "without its last newline": (lambda data: data[:-1], "cut off", "export it again"),
    "a conflict at the top": (lambda data: MARKED + data, "conflict markers in it (line 1)", "export it again"),
    "a conflict at the end": (lambda data: data + b">>>>>>> theirs\n", "conflict markers", "export it again"),
    "a conflict of CRLF": (
        lambda data: (MARKED + data).replace(b"\n", b"\r\n"),
        "conflict markers in it (line 1)",
        "export it again",
    ),
    "CRLF": (lambda data: data.replace(b"\n", b"\r\n"), "CRLF", ".gitattributes"),
    "CRLF in one line": (lambda data: data.replace(b"\nmac", b"\r\nmac"), "CRLF", ".gitattributes"),
}


@pytest.mark.parametrize("name", NO_STORE)
def test_a_file_that_is_no_such_store_is_told_from_a_tampered_one(data: bytes, name: str) -> None:
    """What an accident did to it, or git, is said with its remedy."""
    change, message, hint = NO_STORE[name]
    with pytest.raises(StoreFormatError) as caught:
        open_bytes(change(data))
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_another_key_is_told_with_both_ids(data: bytes) -> None:
    """And of several keys the right one is taken."""
    other = MasterKey.generate()
    with pytest.raises(StoreLockedError) as caught:
        open_bytes(data, other)
    assert KEY.id in str(caught.value)
    assert other.id in str(caught.value)
    assert open_bytes(data, other, KEY).generation == 7


def test_a_key_that_is_claimed_is_not_believed(data: bytes) -> None:
    """A file whose header names our key, but which was sealed with another."""
    with memory_directory() as directory, open_for_reading(make_store(directory)) as store:
        other = MasterKey.generate()
        with pytest.raises(StoreTamperedError):
            open_bytes(export(store, 7, other).replace(other.id.encode(), KEY.id.encode(), 1))


def test_a_file_that_is_not_there_or_no_file(tmp_path: Path) -> None:
    """Is a store missing; nothing is waited for, and no key asked for."""

    def no_key() -> list[MasterKey]:
        raise AssertionError("no key was needed")

    os.mkfifo(tmp_path / "pipe")
    for name in ("absent", "pipe", "."):
        with pytest.raises((StoreMissingError, StoreReadError)):
            open_store(f"sealed:{tmp_path / name}", no_key)


@pytest.mark.slow
def test_every_byte_counts(data: bytes, rounds: Callable[[int, int], int]) -> None:
    """A flipped bit anywhere is an error of the store, whatever it makes of the file."""
    for position in range(0, len(data), rounds(17, 1)):
        for bit in (1, 4, 32, 128):
            flipped = bytearray(data)
            flipped[position] ^= bit
            with pytest.raises(StoreError):
                open_bytes(bytes(flipped))


@given(st.data())
@settings(max_examples=200)
def test_any_damage_is_an_error(data: bytes, draw: st.DataObject) -> None:
    """Bytes replaced by others, anywhere, of any length: a StoreError, and never another one."""
    at = draw.draw(st.integers(0, len(data)))
    end = draw.draw(st.integers(at, min(at + 300, len(data))))
    text = draw.draw(st.binary(max_size=60) | st.sampled_from([b"\n", b" ", b"secret my-site * X\n", b"mac "]))
    changed = data[:at] + text + data[end:]
    if changed != data:
        with pytest.raises(StoreError):
            open_bytes(changed)


def test_only_the_lines_of_an_owner_are_opened(data: bytes) -> None:
    """An owner whose name begins another's gets none of its lines."""
    store = open_bytes(data)
    assert store.read(Owner("site", "my")).secrets == ()
    assert store.read(Owner("organization", "my-site")).secrets == ()
    assert all(store.read(owner).owner == owner for owner in OWNERS)
