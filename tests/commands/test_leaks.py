"""The search of files: where a value is found, once, and never shown."""

from __future__ import annotations

import base64
import gzip
import json
import os
import random
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ic_secrets.core.clocks import Since
from ic_secrets.leaks.findings import Finding, SearchResult
from ic_secrets.leaks.reader import Inside
from ic_secrets.leaks.search import search
from ic_secrets.leaks.walk import Place
from ic_secrets.masking.matcher import Matcher
from ic_secrets.masking.needles import derive_needles, for_search
from ic_secrets.masking.parts import split_value

VALUE = "canary/first-of-two+values"
OTHER = "another#canary#value"
BLOCK = "first line of a block\nsecond line of a block\nthird line of a block"


def make_matcher(**values: str) -> Matcher:
    """What is searched for: the values by their names, TOKEN where none is given."""
    secrets = values or {"TOKEN": VALUE}
    return Matcher(
        needle for name, value in secrets.items() for needle in for_search(derive_needles(name, split_value(value)))
    )


def look(path: Path, matcher: Matcher | None = None, **options: Inside) -> SearchResult:
    return search([Place(str(path))], matcher or make_matcher(), **options)


def tell(result: SearchResult, root: Path) -> list[str]:
    return [f"{one.place} {one.name} {one.encoding}".removeprefix(f"{root}/") for one in result.findings]


def test_a_finding_names_file_and_line_and_secret_and_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.php").write_text(f"<?php\n\n$token = '{VALUE}';\n")
    (tmp_path / "b.lock").write_text("{\n" + base64.b64encode(VALUE.encode()).decode() + "\n}")
    (tmp_path / "honest.txt").write_text("nothing here\n")
    result = look(tmp_path)
    assert tell(result, tmp_path) == ["a.php:3 TOKEN raw", "b.lock:2 TOKEN base64"]
    assert (result.files, result.unsearched, result.failures) == (3, [], 0)
    assert result.size == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_a_binary_file_has_offsets(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\0\x1b[31m\n\n\xff" + b"x" * 100 + VALUE.encode() + b"\x1b\0")
    (found,) = look(tmp_path).findings
    assert (found.line, found.offset, found.place) == (None, 109, f"{tmp_path}/a.bin@109")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (json.dumps({"key": BLOCK}), ["f:1 BLOCK line"]),
        (BLOCK, ["f:1 BLOCK raw"]),
        (f"a: |\n  {BLOCK}\n".replace("\n", "\n  "), ["f:2 BLOCK raw"]),
        ("# " + BLOCK.replace("\n", "\n# "), ["f:1 BLOCK raw"]),
        (f"{BLOCK}\n\n{BLOCK}", ["f:1 BLOCK raw", "f:5 BLOCK raw"]),
        ("second line of a block; second line of a block", ["f:1 BLOCK line"]),
        ("third line of a block\n\nthird line of a block", ["f:1 BLOCK line", "f:3 BLOCK line"]),
    ],
)
def test_one_place_is_one_finding_with_the_plainest_encoding(tmp_path: Path, text: str, expected: list[str]) -> None:
    (tmp_path / "f").write_text(text)
    assert tell(look(tmp_path, make_matcher(BLOCK=BLOCK)), tmp_path) == expected


def test_two_secrets_in_one_place_are_both_named(tmp_path: Path) -> None:
    (tmp_path / "f").write_text(f"{VALUE} {OTHER}")
    matcher = make_matcher(ONE=VALUE, SAME=VALUE, OTHER=OTHER)
    assert tell(look(tmp_path, matcher), tmp_path) == ["f:1 ONE raw", "f:1 SAME raw", "f:1 OTHER raw"]


def test_a_value_broken_over_lines_or_by_colour_is_found(tmp_path: Path) -> None:
    encoded = base64.b64encode(VALUE.encode()).decode()
    (tmp_path / "mail").write_text(f"\n{encoded[:20]}\n{encoded[20:]}\n")
    (tmp_path / "log").write_text(f"\n\n{VALUE[:12]}\x1b[0m{VALUE[12:]}")
    assert tell(look(tmp_path), tmp_path) == ["log:3 TOKEN raw", "mail:2 TOKEN base64"]


def test_neighbouring_files_are_not_read_as_one(tmp_path: Path) -> None:
    for cut in range(1, len(VALUE)):
        for end in ("", "\n", "\x1b[", "\x1b]0;"):
            folder = tmp_path / f"{cut}{len(end)}"
            folder.mkdir()
            (folder / "a").write_text(VALUE[:cut] + end)
            (folder / "b").write_text(VALUE[cut:])
    assert look(tmp_path).findings == []


def test_values_at_the_borders_of_windows_are_found_once_with_their_lines(tmp_path: Path) -> None:
    """A file of 9 MB with a value every few thousand bytes, so that some lie across every border of what is read."""
    chance = random.Random(9)
    lines, expected = [], []
    for number in range(1, 3001):
        lines.append("x" * chance.randint(2500, 3500))
        lines.append(f"key: {VALUE if number % 2 else OTHER}")
        expected.append((2 * number, "TOKEN" if number % 2 else "OTHER"))
    (tmp_path / "long").write_text("\n".join(lines))
    result = look(tmp_path, make_matcher(TOKEN=VALUE, OTHER=OTHER))
    assert [(one.line, one.name) for one in result.findings] == expected
    assert result.size == (tmp_path / "long").stat().st_size


@pytest.mark.parametrize("shift", range(-30, 31, 5))
def test_a_value_across_any_border_is_found(tmp_path: Path, shift: int) -> None:
    for border in (1 << 20, 2 << 20, (4 << 20) - (64 << 10), 4 << 20):
        data = b"y" * (border + shift) + VALUE.encode() + b"y" * (3 << 20)
        (tmp_path / f"{border}").write_bytes(data)
        (tmp_path / f"{border}.bin").write_bytes(b"\0" + data)
    offsets = [one.offset for one in look(tmp_path).findings]
    assert sorted(offsets) == sorted(
        border + shift + zero for border in (1 << 20, 2 << 20, (4 << 20) - (64 << 10), 4 << 20) for zero in (0, 1)
    )


def test_names_and_links_are_searched_and_not_shown(tmp_path: Path) -> None:
    """A path that holds a value ends at its directory, whoever names it: a finding, a link, or what went unsearched."""
    plain = "plain-canary-value"
    matcher = make_matcher(TOKEN=plain)
    (tmp_path / plain).mkdir()
    (tmp_path / plain / f"x{plain}y.txt").write_text("nothing")
    (tmp_path / plain / "inner.txt").write_text(plain)
    (tmp_path / plain / "inner.zip").write_bytes(b"PK\x03\x04 damaged")
    (tmp_path / "link").symlink_to(f"/nowhere/{plain}")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / f"{plain[:9]}\n{plain[9:]}").write_text("a name that a line break cuts")
    result = look(tmp_path, matcher)
    assert tell(result, tmp_path) == [
        "*** (name) TOKEN raw",
        "***/*** (name) TOKEN raw",
        "***/inner.txt:1 TOKEN raw",
        "broken/*** (name) TOKEN raw",
        "link (link) TOKEN raw",
    ]
    assert result.unsearched == [(f"{tmp_path}/***/inner.zip", "an archive, not searched inside")]
    inside = search([Place(str(tmp_path / plain))], matcher)
    assert plain not in repr(inside.findings) + repr(inside.unsearched)


def test_a_path_hides_values_too_short_to_be_searched_for(tmp_path: Path) -> None:
    (tmp_path / "kurz!").mkdir()
    (tmp_path / "kurz!" / "f").write_text(VALUE)
    hidden = derive_needles("SHORT", split_value("kurz!"))
    (found,) = search([Place(str(tmp_path))], make_matcher(), hidden=hidden).findings
    assert found.path == f"{tmp_path}/***/f"


def test_a_value_with_a_slash_in_a_path_is_hidden(tmp_path: Path) -> None:
    (tmp_path / "canary").mkdir()
    (tmp_path / VALUE).write_text(VALUE)
    (found,) = look(tmp_path).findings
    assert found.path == f"{tmp_path}/***/***"


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        (tmp_path / "device").symlink_to("/dev/zero")
        (tmp_path / "loop").symlink_to("loop")
        (tmp_path / "up").symlink_to("..")
        (tmp_path / "hidden").mkdir()
        (tmp_path / "hidden/.file").write_text(VALUE)
        result = look(tmp_path)
    assert tell(result, tmp_path) == ["hidden/.file:1 TOKEN raw"]
    assert (result.files, result.failures, result.unsearched) == (1, 0, [])
    assert look(tmp_path / "pipe").unsearched == [(f"{tmp_path}/pipe", "neither a file nor a directory")]


def test_odd_names_are_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "new\nline").write_text(VALUE)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/no\xffutf8")).write_text(VALUE)
    assert [os.fsencode(os.path.basename(one.path)) for one in look(tmp_path).findings] == [b"new\nline", b"no\xffutf8"]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    """As a user who may not: root reads everything."""
    (tmp_path / "closed").write_text(VALUE)
    (tmp_path / "shut").mkdir()
    (tmp_path / "open").write_text(VALUE)
    for name in ("closed", "shut"):
        (tmp_path / name).chmod(0)
    code = (
        "import os, sys\n"
        "from test_leaks import *\n"
        "if os.geteuid() == 0: os.setresuid(65534, 65534, 65534)\n"
        "result = look(Path(sys.argv[1]))\n"
        "print(len(result.findings), result.failures, *sorted(result.unsearched))\n"
    )
    # /proc/self/fd leads there even where a directory above is closed to that user.
    os.chmod(tmp_path, 0o755)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    place = f"/proc/self/fd/{descriptor}"
    done = subprocess.run(
        [sys.executable, "-c", code, f"{place}/."],
        cwd=Path(__file__).parent,
        pass_fds=[descriptor],
        capture_output=True,
        text=True,
    )
    os.close(descriptor)
    assert done.stdout.startswith("1 2 "), done.stderr
    assert f"('{place}/closed', 'Permission denied')" in done.stdout
    assert f"('{place}/shut', 'Permission denied')" in done.stdout


def test_each_directory_is_walked_once(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "f").write_text(VALUE)
    (tmp_path / "alias").symlink_to("a")
    roots = [
        inner / "f",
        tmp_path,
        tmp_path / "a" / ".." / "a",
        inner,
        inner / "f",
        tmp_path / "alias",
        tmp_path / "no",
    ]
    result = search([Place(str(root)) for root in roots], make_matcher())
    assert (len(result.findings), result.files) == (1, 1)


def test_a_file_or_a_link_to_one_can_be_the_place(tmp_path: Path) -> None:
    (tmp_path / "f").write_text(f"\n{VALUE}")
    (tmp_path / "link").symlink_to("f")
    assert look(tmp_path / "f").findings == look(tmp_path / "link").findings
    assert look(tmp_path / "link").findings == [Finding(f"{tmp_path}/f", 2, 1, "TOKEN", "raw")]


def test_hard_links_are_each_named(tmp_path: Path) -> None:
    (tmp_path / "one").write_text(VALUE)
    os.link(tmp_path / "one", tmp_path / "two")
    assert tell(look(tmp_path), tmp_path) == ["one:1 TOKEN raw", "two:1 TOKEN raw"]


def test_a_mount_that_loops_is_walked_once(tmp_path: Path) -> None:
    (tmp_path / "a" / "loop").mkdir(parents=True)
    (tmp_path / "a" / "f").write_text(VALUE)
    mount = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    code = "import sys; from test_leaks import *; r = look(Path(sys.argv[1])); print(r.files, len(r.findings))"
    script = f'mount --bind {tmp_path} {tmp_path}/a/loop && exec {sys.executable} -c "{code}" {tmp_path}'
    done = subprocess.run([*mount, script], cwd=Path(__file__).parent, capture_output=True, text=True)
    if "Operation not permitted" in done.stderr or "denied" in done.stderr:
        pytest.skip("no mounts for this user")
    assert done.stdout == "1 1\n", done.stderr


def test_file_systems_of_the_kernel_are_left_out() -> None:
    result = look(Path("/proc"))
    assert (result.files, result.failures) == (0, 0)
    assert result.unsearched == [("/proc", "a kernel file system (proc)")]


def test_a_phar_is_known_by_what_stands_far_behind_its_first_line(tmp_path: Path) -> None:
    program = b"#!/usr/bin/env php\n" + b"// a comment\n" * 500 + b"<?php Phar::mapPhar(); __HALT_COMPILER(); ?>\n"
    (tmp_path / "tool").write_bytes(program)
    assert look(tmp_path).unsearched == [(f"{tmp_path}/tool", "an archive, not searched inside")]


def test_a_file_that_only_the_kernel_knows_the_size_of_is_read(tmp_path: Path) -> None:
    """A file of size 0 with content: it is read to its end."""
    result = search([Place("/proc/self/status")], make_matcher(NAME="VmPeak:\t voluntary_ctxt"))
    assert (result.files, result.failures) == (1, 0)
    assert result.size > 500


def test_a_file_that_grows_ends(tmp_path: Path) -> None:
    """A build that goes on writing does not keep the search from its end, nor does its file shrinking."""
    (tmp_path / "log").write_text(VALUE + "\n")
    writer = subprocess.Popen(["sh", "-c", f"while :; do cat /bin/* >> {tmp_path}/log; : > {tmp_path}/gone; done"])
    try:
        start = time.monotonic()
        for _ in range(3):
            assert look(tmp_path).findings
        assert time.monotonic() - start < 30
    finally:
        writer.kill()
        writer.wait()


def test_only_what_changed_is_searched(tmp_path: Path) -> None:
    (tmp_path / "before").write_text(VALUE)
    time.sleep(0.02)
    since = time.time_ns()
    time.sleep(0.02)
    (tmp_path / "after").write_text(VALUE)
    result = search([Place(str(tmp_path))], make_matcher(), since=Since(since))
    assert tell(result, tmp_path) == ["after:1 TOKEN raw"]
    assert result.files == 1
    old = search([Place(str(tmp_path / "before"))], make_matcher(), since=Since(since))
    assert old.findings == []


def test_limits_of_a_place(tmp_path: Path) -> None:
    for number in range(30):
        folder = tmp_path / f"d{number}"
        folder.mkdir()
        (folder / "f").write_text(VALUE)
    result = search([Place(str(tmp_path), most=10)], make_matcher())
    assert result.unsearched == [(str(tmp_path), "more than 10 entries")]
    assert result.failures == 0
    skipped = search([Place(str(tmp_path))], make_matcher(), skip=[str(tmp_path / "d1"), str(tmp_path / "none")])
    assert len(skipped.findings) == 29


def test_known_leaks_are_left_out_by_name_or_path(tmp_path: Path) -> None:
    (tmp_path / "vendor").mkdir()
    (tmp_path / "vendor" / "known.php").write_text(f"{VALUE} {OTHER}")
    (tmp_path / "other.php").write_text(VALUE)
    result = look(tmp_path, make_matcher(TOKEN=VALUE, OTHER=OTHER))
    for allowed, left in (
        (["TOKEN"], ["vendor/known.php:1 OTHER raw"]),
        (["vendor/*"], ["other.php:1 TOKEN raw"]),
        ([f"{tmp_path}/vendor/*.php", "oth*"], []),
        (["TOK", "known.php"], tell(result, tmp_path)),
    ):
        assert tell(result.without(allowed, str(tmp_path)), tmp_path) == left


def test_archives_are_named_or_with_deep_searched(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("src/a.php", f"<?php\n{VALUE}\n" + "x" * 1000)
        archive.writestr("b/canary#name#of/other", "nothing")
        archive.writestr("damaged.tar.gz", b"\x1f\x8b\x08")
        archive.writestr("nested.gz", gzip.compress(OTHER.encode()))
    matcher = make_matcher(TOKEN=VALUE, NAME="canary#name#of", OTHER=OTHER)
    shallow = look(tmp_path, matcher)
    assert [one.name for one in shallow.findings] == ["NAME", "NAME"]  # in front of the member, and in the directory
    assert shallow.unsearched == [(f"{tmp_path}/a.zip", "an archive, not searched inside")]
    deep = look(tmp_path, matcher, inside=Inside())
    assert tell(deep, tmp_path) == [
        "a.zip!b/***/other (name) NAME raw",
        "a.zip!nested.gz!nested:1 OTHER raw",
        "a.zip!src/a.php:2 TOKEN raw",
    ]
    assert deep.unsearched == [(f"{tmp_path}/a.zip!damaged.tar.gz", "a damaged archive (EOFError)")]


def test_archives_in_archives_are_searched_within_a_bound(tmp_path: Path) -> None:
    data, path = VALUE.encode(), tmp_path / "a.gz"
    for depth in range(1, 6):
        data = gzip.compress(data)
        path.write_bytes(data)
        result = look(tmp_path, inside=Inside())
        assert (len(result.findings), len(result.unsearched)) == ((1, 0) if depth < 5 else (0, 1))
    path.write_bytes(gzip.compress(bytes(3 << 20)))
    within = look(tmp_path, inside=Inside(limit=4 << 20))
    assert (within.unsearched, within.missed) == ([], [])
    beyond = look(tmp_path, inside=Inside(limit=2 << 20))
    assert beyond.missed == beyond.unsearched == [(str(path), "more than 2 MiB inside")]
    assert look(tmp_path, inside=Inside(limit=2 << 20, but=(f"{tmp_path}/",))).missed == []


def test_a_finding_shows_no_value(tmp_path: Path) -> None:
    (tmp_path / "f").write_text(f"{VALUE} {json.dumps(OTHER)}")
    result = look(tmp_path, make_matcher(TOKEN=VALUE, OTHER=OTHER))
    shown = repr(result.findings) + "".join(one.place for one in result.findings)
    assert VALUE not in shown
    assert OTHER not in shown


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("value", [VALUE, "pässwört-cänäry-välue"])
def test_a_value_in_a_file_of_windows_is_found(tmp_path: Path, coding: str, value: str) -> None:
    (tmp_path / "report.txt").write_bytes(f"key\r\nTOKEN={value}\r\n".encode(coding))
    (found,) = look(tmp_path, make_matcher(TOKEN=value)).findings
    assert (found.name, found.encoding) == ("TOKEN", "utf-16")


DATABASE_FORMS = {
    "as it is": str,
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 of a JSON document": lambda value: base64.b64encode(json.dumps({"k": value}).encode()).decode(),
    "hex": lambda value: value.encode().hex(),
    "json": json.dumps,
    "utf-16": lambda value: value.encode("utf-16-le"),
}


@pytest.mark.parametrize("form", DATABASE_FORMS.values(), ids=DATABASE_FORMS.keys())
@pytest.mark.parametrize("page", [512, 4096, 16384])
@pytest.mark.parametrize("size", [1100, 5000, 16384])
def test_a_large_value_in_a_database_is_found_once(tmp_path: Path, page: int, size: int, form: Any) -> None:
    import sqlite3

    chance = random.Random(size)
    value = "".join(chance.choices('abcdefghijklmnopqrstuvwxyz0123456789/"', k=size))
    with sqlite3.connect(tmp_path / "cache.db") as database:
        database.execute(f"PRAGMA page_size = {page}")
        database.execute("CREATE TABLE cache (key TEXT, value)")
        database.execute("INSERT INTO cache VALUES (?, ?)", ("key", form(value)))
    database.close()
    (found,) = look(tmp_path, make_matcher(BLOB=value)).findings
    assert (found.name, found.line) == ("BLOB", None)


def test_a_value_in_bold_in_a_manual_page_is_found(tmp_path: Path) -> None:
    """Overstrike, as nroff writes it to a file; in a long file, too."""
    bold = "".join(f"{character}\b{character}" for character in VALUE)
    (tmp_path / "a.1").write_text(f"NAME\n  {bold}\n")
    (tmp_path / "long.1").write_text("a line of a long page\n" * 20_000 + f"  {bold}\n")
    assert tell(look(tmp_path), tmp_path) == ["a.1:2 TOKEN raw", "long.1:20001 TOKEN raw"]
