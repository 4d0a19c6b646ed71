"""Masking a stream: whatever the chunks, the output is that of the whole, and no needle is in it.

`reference` says what that is: a plain and slow reading of the whole text, one needle and one offset at
a time, that shares no code with the masker.
"""

from __future__ import annotations

import base64
import itertools
import random
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator, Sequence

import pytest
from hypothesis import example, given, strategies as st

from ic_secrets.masking.masker import Masker, mask_bytes, mask_text
from ic_secrets.masking.matcher import Matcher
from ic_secrets.masking.needles import Needle
from ic_secrets.model.secret import SecretType, SecretValue
from needles import derive

TOKEN = b"tk-EXAMPLE-0123456789-abcdefghijklmnop"


def needles_of(*values: bytes) -> list[Needle]:
    return [Needle(f"S{number}", "raw", value) for number, value in enumerate(values)]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def mask_chunks(chunks: Sequence[bytes], needles: Matcher | Iterable[Needle]) -> bytes:
    masker = Masker(needles)
    return b"".join(masker.feed(chunk) for chunk in chunks) + masker.close()


# --- the reference --------------------------------------------------------------------------------


def reference(text: bytes, values: Sequence[bytes], mark: bytes = b"***") -> bytes:
    """The text masked."""
    return render(text, find_hidden(text, values), mark)


def find_hidden(text: bytes, values: Sequence[bytes]) -> list[bool]:
    """Which bytes belong to a value."""
    hidden = [False] * len(text)
    for view in (list(range(len(text))), visible_offsets(text)):
        data = bytes(text[offset] for offset in view)
        for value in (value.strip(b" \t\r\n") for value in values):
            for start in range(len(data)) if len(value) >= 4 else ():
                for position in itertools.chain.from_iterable(occurrence(data, start, value)):
                    hidden[view[position]] = True
    return hidden


def render(text: bytes, hidden: Sequence[bool], mark: bytes = b"***") -> bytes:
    """The text with each run of hidden bytes as one mark."""
    shown = b""
    for offset, byte in enumerate(text):
        if not hidden[offset]:
            shown += bytes([byte])
        elif offset == 0 or not hidden[offset - 1]:
            shown += mark
    return shown


def visible_offsets(text: bytes) -> list[int]:
    """The offsets of what a terminal would show, roughly: all but the escape sequences."""
    offsets = []
    position = 0
    while position < len(text):
        if text[position] != 0x1B:
            offsets.append(position)
            position += 1
        else:
            position += 1 + escape_length(text[position + 1 :])
    return offsets


def escape_length(rest: bytes) -> int:
    """How many bytes after an ESC belong to its sequence."""
    if rest[:1] == b"[":
        parameters = run_length(rest[1:], range(0x30, 0x40), 128)
        between = run_length(rest[1 + parameters :], range(0x20, 0x30), 4)
        last = rest[1 + parameters + between :][:1]
        if last and 0x40 <= last[0] <= 0x7E:
            return 1 + parameters + between + 1
    if rest[:1] in {b"]", b"P", b"X", b"^", b"_"}:
        length = run_length(rest[1:], set(range(256)) - {7, 0x1B, 0x0D, 0x0A}, 2048)
        for end in (b"\x07", b"\x1b\\"):
            if rest[1 + length :].startswith(end):
                return 1 + length + len(end)
    between = run_length(rest, range(0x20, 0x30), 4)
    last = rest[between : between + 1]
    return between + 1 if last and 0x30 <= last[0] <= 0x7E else 0


def run_length(data: bytes, allowed: Iterable[int], most: int) -> int:
    allowed = set(allowed)
    return len(list(itertools.takewhile(allowed.__contains__, data[:most])))


def occurrence(data: bytes, start: int, value: bytes) -> Iterator[list[int]]:
    """The positions of the value's pieces, when it begins at `start`, broken over lines or not."""
    if data[start : start + len(value)] == value:
        yield list(range(start, start + len(value)))
        return
    half = min(len(value) // 2, 16)
    first, second = value[:half].rstrip(), value[half : 2 * half].strip()
    if len(value) < 8 or min(len(first), len(second)) < 4 or b"\n" in value or b"\r" in value:
        return
    pieces, breaks = [[]], []
    position, index = start, 0
    while index < len(value):
        blanks = data[position : position + len(data[position:]) - len(data[position:].lstrip(b" \t\r\n"))]
        own = value[index : index + len(value[index:]) - len(value[index:].lstrip(b" \t"))]
        if index and blanks.count(b"\n") == 1 and len(blanks) <= 512 and b"\r" not in blanks.partition(b"\n")[2]:
            position += len(blanks)
            index += len(own)
            breaks.append(index)
            pieces.append([])
        elif blanks != own:
            return
        for _ in range(len(own) if blanks == own else 0):
            pieces[-1].append(position)
            position, index = position + 1, index + 1
        if data[position : position + 1] != value[index : index + 1]:
            return
        pieces[-1].append(position)
        position, index = position + 1, index + 1
    at = half + value[half : 2 * half].index(second)
    is_first_whole = not any(0 < place < len(first) for place in breaks)
    is_second_whole = not any(at < place < at + len(second) for place in breaks)
    if is_first_whole or (is_second_whole and sum(place <= at for place in breaks) <= 1):
        yield from (
            piece for piece in pieces if piece is not pieces[0] or sum(data[at] not in b" \t" for at in piece) >= 4
        )


# --- the law: every split, and the reference ------------------------------------------------------

# Few letters, so that needles overlap, border on themselves, and begin everywhere.
letters = st.sampled_from([b"a", b"b", b"ab", b"c"])
short_values = st.lists(letters, min_size=4, max_size=12).map(b"".join)
long_values = st.lists(st.sampled_from([b"a", b"b", b"c", b"d ", b"e"]), min_size=8, max_size=50).map(b"".join)
values = st.lists(short_values | long_values, min_size=1, max_size=4)
breaks = st.sampled_from(
    [
        b"\n ! ",
        b" |\n| ",
        b"\\\n",
        b"=\n",
        b"\n[12:30] build: ",
        b"\n",
        b"\r\n",
        b"  \n  ",
        b" \r\n\t",
        b"\r\r\n",
        b"\n\n",
        b" ",
        b"\n" + b" " * 40,
    ]
)
escapes = st.sampled_from(
    [b"\x1b[31m", b"\x1b[0m", b"\x1b[", b"\x1b", b"\x1b]8;;", b"\x1b\\", b"\x07", b"\x1b]0;ab\x07", b"\x1b(B", b"\x1bM"]
)
noise = st.binary(max_size=4).map(lambda data: data.replace(b"\x08", b"")) | letters


@st.composite
def texts_with(draw: st.DrawFn, hidden: Sequence[bytes]) -> bytes:
    """Text with the values in it, whole, cut short, and with breaks and escape sequences inside."""
    pieces = []
    for _ in range(draw(st.integers(0, 5))):
        value = draw(st.sampled_from(hidden))
        places = draw(st.lists(st.integers(0, len(value)), max_size=4))
        for part in cut(value, places):
            pieces += [part, draw(st.just(b"") | breaks | escapes)]
        pieces.append(draw(noise | breaks | escapes))
        if draw(st.booleans()):
            pieces.append(value[: draw(st.integers(0, len(value)))])
    return b"".join(pieces)


cases = values.flatmap(lambda hidden: st.tuples(st.just(hidden), texts_with(hidden)))
places = st.lists(st.integers(0, 10_000), max_size=12)


@given(cases, places)
@example(([b"abcXYZ-secret-a"], b"abcXYZ-secret-abcXYZ-secret-a"), [16])
@example(([b"abab"], b"abababab"), [1, 2, 3, 4, 5, 6, 7])
@example(([b"abcdefgh", b"efghijkl"], b"abcdefghijkl"), [8])
@example(([b"abcd", b"efgh"], b"abcdefgh"), [4])
@example(([b"abcdefgh"], b"abcd" + b" " * 255 + b"\n" + b" " * 256 + b"efgh"), [4, 100, 300, 600])
@example(([b"abcdefgh"], b"abcd" + b" " * 256 + b"\n" + b" " * 256 + b"efgh"), [4, 100, 300, 600])
@example(([b"abcd-efgh"], b"abc \r\n  d-\x1b]0;" + b"a" * 2049 + b"\x07efgh"), [7, 2000])
def test_any_split_gives_what_the_reference_gives(case: tuple[list[bytes], bytes], at: list[int]) -> None:
    """The unsplit text masked plainly and slowly is what comes out of any chunks."""
    check_case(*case, cut(case[1], at))


def check_case(hidden: list[bytes], text: bytes, chunks: Sequence[bytes]) -> None:
    """What is found has all that the reference finds, and nothing but pieces of values; and that is what is masked."""
    matcher = Matcher(needles_of(*hidden))
    is_hidden = [False] * len(text)
    for match in matcher.find(text):
        found = b"".join(text[start:end] for start, end in match.spans).translate(None, b" \t\r\n")
        assert found in match.needle.data.translate(None, b" \t\r\n")
        for start, end in match.spans:
            is_hidden[start:end] = [True] * (end - start)
    assert not [at for at, is_value in enumerate(find_hidden(text, hidden)) if is_value and not is_hidden[at]]
    assert mask_chunks(chunks, matcher) == render(text, is_hidden)


@given(cases)
def test_single_bytes_give_what_the_reference_gives(case: tuple[list[bytes], bytes]) -> None:
    """The finest split of all."""
    check_case(*case, [case[1][at : at + 1] for at in range(len(case[1]))])


@given(cases, places)
def test_no_output_holds_a_needle(case: tuple[list[bytes], bytes], at: list[int]) -> None:
    """Neither what was there nor what a mask and its neighbours make."""
    hidden, text = case
    shown = mask_chunks(cut(text, at), needles_of(*hidden))
    assert not [value for value in hidden if value.strip() in shown]


star_values = st.lists(st.sampled_from([b"*", b"**", b"a", b"#"]), min_size=4, max_size=8).map(b"".join)


@given(st.lists(star_values, min_size=1, max_size=3), st.data())
@example([b"a***a", b"bbbb"], None)
def test_values_with_stars_are_not_made_by_masks(hidden: list[bytes], data: st.DataObject | None) -> None:
    """`a***a` is a value like any other: a mask beside an `a` must not print it."""
    pieces = st.sampled_from([*hidden, b"*", b"a", b"#", b"**a"])
    text = b"".join(data.draw(st.lists(pieces, max_size=8))) if data else b"abbbba and *bbbb*"
    matcher = Matcher(needles_of(*hidden))
    shown = mask_bytes(text, matcher)
    assert shown == reference(text, hidden, matcher.mark)
    assert not [value for value in hidden if value in shown]


@given(st.binary(max_size=300), places)
def test_output_without_needles_passes_untouched(data: bytes, at: list[int]) -> None:
    """Any bytes: invalid UTF-8, NUL, escape sequences, no final newline."""
    assert mask_chunks(cut(data, at), needles_of(TOKEN)) == data


@pytest.mark.slow
@given(cases, places)
def test_any_split_with_another_needle_joining_equals_the_rest_masked(
    case: tuple[list[bytes], bytes], at: list[int]
) -> None:
    """A needle that joins is masked in all that was not yet shown."""
    hidden, text = case
    masker = Masker(needles_of(*hidden))
    chunks = cut(text, at)
    shown = b"".join(masker.feed(chunk) for chunk in chunks[:-1])
    masker.add(needles_of(*hidden, TOKEN))
    shown += masker.feed(chunks[-1] + b" " + TOKEN) + masker.close()
    assert shown == mask_bytes(text + b" " + TOKEN, needles_of(*hidden, TOKEN))


# --- overlaps, borders, ends ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hidden", "text", "shown"),
    [
        ([b"abcdef", b"defghi"], b"xabcdefghix", b"x***x"),
        ([b"secret", b"secret-longer"], b"secret-longer secret", b"*** ***"),
        ([b"abcXYZ-secret-a"], b"abcXYZ-secret-a", b"***"),
        ([b"abcXYZ-secret-a"], b"abcXYZ-secret-abcXYZ-secret-a.", b"***."),
        ([b"aaaa"], b"baaaaaaab", b"b***b"),
        ([b"abcd", b"efgh"], b"abcdefgh", b"***"),
        ([TOKEN], b"\xff\xfe" + TOKEN + b"\xc3", b"\xff\xfe***\xc3"),
        ([TOKEN], b"50%\r" + b"\x08" * 9 + TOKEN + b"\r", b"50%\r" + b"\x08" * 9 + b"***\r"),
        ([TOKEN], TOKEN, b"***"),
        ([TOKEN], TOKEN + b"\n", b"***\n"),
        ([b"nul\0inside"], b"[nul\0inside] nul inside", b"[***] nul inside"),
        ([b"abc"], b"abc", b"abc"),
        ([b"  padded  \n"], b"[  padded  \n]", b"[  ***  \n]"),
        ([b""], b"text", b"text"),
        ([], b"text", b"text"),
        ([TOKEN], b"", b""),
    ],
)
def test_examples(hidden: list[bytes], text: bytes, shown: bytes) -> None:
    """One line each; every split in two gives the same."""
    needles = Matcher(needles_of(*hidden))
    assert mask_bytes(text, needles) == shown
    for at in range(len(text) + 1):
        assert mask_chunks([text[:at], text[at:]], needles) == shown


# --- broken by colours and line ends --------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"\x1b[31m" + TOKEN[:9] + b"\x1b[0m" + TOKEN[9:], b"\x1b[31m***\x1b[0m***"),
        (TOKEN[:9] + b"\x1b[1;32m\x1b[K" + TOKEN[9:] + b"\x1b[m", b"***\x1b[1;32m\x1b[K***\x1b[m"),
        (
            b"\x1b]8;;https://u:" + TOKEN + b"@h/\x1b\\link\x1b]8;;\x07",
            b"\x1b]8;;https://u:***@h/\x1b\\link\x1b]8;;\x07",
        ),
        (b"\x1b]0;never ended\n" + TOKEN, b"\x1b]0;never ended\n***"),
        (TOKEN[:20] + b"\x1b]0;title\x07" + TOKEN[20:], b"***\x1b]0;title\x07***"),
        (b"".join(b"\x1b[3%dm%c" % (at % 8, byte) for at, byte in enumerate(TOKEN)), None),
    ],
)
def test_escape_sequences_inside_a_value_hide_nothing(text: bytes, shown: bytes | None) -> None:
    """The value is masked, the sequences stay, so that colours end where they did; for every split in two."""
    needles = Matcher(needles_of(TOKEN))
    expected = reference(text, [TOKEN]) if shown is None else shown
    for at in range(len(text) + 1):
        assert mask_chunks([text[:at], text[at:]], needles) == expected


STRIKES = {
    "bold": lambda c: c + b"\b" + c,
    "three times": lambda c: c + b"\b" + c + b"\b" + c,
    "underlined": lambda c: b"_\b" + c,
    "underlined afterwards": lambda c: c + b"\b_",
    "bold and underlined": lambda c: b"_\b" + c + b"\b" + c,
    "underlined and bold": lambda c: c + b"\b_\b" + c,
    "some of it": lambda c: c + b"\b" + c if c < b"k" else c,
}


@pytest.mark.parametrize("strike", STRIKES.values(), ids=STRIKES.keys())
@pytest.mark.parametrize("value", [TOKEN, b"a_b__c-\xc3\xa9\xe2\x82\xac_0123456789_"])
def test_a_value_in_bold_or_underlined_as_nroff_prints_it_is_masked(
    value: bytes, strike: Callable[[bytes], bytes]
) -> None:
    """Nothing of it is left but underscores; for every split in two, by the byte, and with a colour inside."""
    struck = b"".join(strike(character.encode()) for character in value.decode())
    needles = Matcher(needles_of(value))
    for text in (b"NAME is " + struck + b".\n", struck, struck[:30] + b"\x1b[1m" + struck[30:] + b"\n"):
        shown = mask_bytes(text, needles)
        assert b"***" in shown
        left = shown.replace(b"NAME is ", b"").replace(b"\x1b[1m", b"")
        assert set(left) <= set(b"*_\b.\n"), shown
        for at in range(len(text) + 1):
            assert mask_chunks([text[:at], text[at:]], needles) == shown
        assert mask_chunks([text[at : at + 1] for at in range(len(text))], needles) == shown


@given(values.flatmap(lambda hidden: st.tuples(st.just(hidden), st.data())), places)
def test_any_split_of_overstrike_gives_the_same(case: tuple[list[bytes], st.DataObject], at: list[int]) -> None:
    """Words in bold, underlined, and plain, side by side."""
    hidden, data = case
    strikes = st.sampled_from([*STRIKES.values(), bytes])
    words = st.sampled_from([*hidden, b"ab", b"_", b" c_", b"\n"])
    text = b"".join(
        b"".join(strike(word[n : n + 1]) if word[n] > 32 else word[n : n + 1] for n in range(len(word)))
        for word, strike in data.draw(st.lists(st.tuples(words, strikes), max_size=6))
    )
    matcher = Matcher(needles_of(*hidden))
    assert mask_chunks(cut(text, at), matcher) == mask_bytes(text, matcher)
    assert mask_chunks([text[n : n + 1] for n in range(len(text))], matcher) == mask_bytes(text, matcher)


def test_a_progress_bar_that_goes_back_is_shown_as_it_is() -> None:
    """Composer goes back by runs of backspaces."""
    text = b"".join(b"%3d%%" % n + b"\b" * 4 for n in range(101)) + b"100%\n"
    assert mask_chunks([text[at : at + 7] for at in range(0, len(text), 7)], needles_of(TOKEN)) == text


@pytest.mark.parametrize("piece", [b"a\b", b"\b", b"_\b", b"\b_", b"a\ba", b"a\b_\b", b"\xc3\b", b"\b\b_"])
def test_overstrike_without_end_is_masked_in_linear_time(piece: bytes) -> None:
    """Four times as much takes at most about four times as long."""
    matcher = Matcher(needles_of(TOKEN, b"a" * 40))

    def measure(size: int) -> float:
        start = time.process_time()
        masker = Masker(matcher)
        text = piece * (size // len(piece))
        for at in range(0, len(text), 65_536):
            masker.feed(text[at : at + 65_536])
        masker.close()
        return time.process_time() - start

    measure(10_000)
    assert measure(1 << 20) < 8 * max(measure(1 << 18), 0.05)


def error_box(message: bytes, width: int, *, colour: bool = False) -> bytes:
    """What Symfony's Console makes of an exception's message."""
    lines = [message[start : start + width - 5] for start in range(0, len(message), width - 5)]
    longest = max(map(len, lines))
    start, end = (b"\x1b[37;41m", b"\x1b[39;49m") if colour else (b"", b"")
    rows = [b"", *lines, b""]
    return b"".join(start + b"  " + row.ljust(longest) + b"  " + end + b"\n" for row in rows)


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_error_box_hides_no_token_wherever_it_wraps(width: int, colour: bool) -> None:
    """At every column, every piece of more than three characters is masked, and the box keeps its lines."""
    matcher = Matcher(needles_of(TOKEN))
    for column in range(width):
        box = error_box(
            b"x" * column + b" https://user:" + TOKEN + b"@repo.example.org/p.json refused", width, colour=colour
        )
        shown = mask_bytes(box, matcher)
        visible = bytes(shown[offset] for offset in visible_offsets(shown))
        assert shown.count(b"\n") == box.count(b"\n")
        assert b"***" in visible
        assert not [at for at in range(len(TOKEN) - 3) if TOKEN[at : at + 4] in visible]


def test_a_wrap_in_a_space_of_the_value_hides_nothing() -> None:
    """The padding around the break may have eaten the blank of a pass phrase."""
    shown = mask_bytes(b"(correct horse \n   battery staple)", needles_of(b"correct horse battery staple"))
    assert shown == b"(*** \n   ***)"


def test_base64_in_lines_is_masked() -> None:
    """MIME's 76 columns, and what the command line's base64 writes."""
    value = bytes(range(33, 127)) * 3
    matcher = Matcher(derive("KEY", SecretType.ENV, SecretValue(value.decode())))
    for lead in range(3):
        shown = mask_bytes(base64.encodebytes(b"x" * lead + value), matcher)
        assert set(shown.split(b"\n")[1:-2]) == {b"***"}


def test_short_values_are_not_pieced_together() -> None:
    """Below eight bytes, two ends of lines are two ends of lines; and one break is one, not a blank line."""
    assert mask_bytes(b"abcd\nefg", needles_of(b"abcdefg")) == b"abcd\nefg"
    assert mask_bytes(b"abcd\n\nefgh", needles_of(b"abcdefgh")) == b"abcd\n\nefgh"
    assert mask_bytes(b"abcd efgh", needles_of(b"abcdefgh")) == b"abcd efgh"


def test_a_value_of_several_lines_is_one_mask_and_each_line_another() -> None:
    """As it was, with a terminal's line ends, and line by line; its border lines stay."""
    value = "-----BEGIN EXAMPLE-----\nQUJDREVGR0hJSktM\nTU5P\n-----END EXAMPLE-----\n"
    matcher = Matcher(derive("PEM", SecretType.ENV, SecretValue(value)))
    assert mask_bytes(b"[" + value.encode() + b"]", matcher) == b"[***\n]"
    assert mask_bytes(b"[" + value.replace("\n", "\r\n").encode() + b"]", matcher) == b"[***\r\n]"
    assert mask_bytes(b"  QUJDREVGR0hJSktM\n-----BEGIN EXAMPLE-----", matcher) == b"  ***\n-----BEGIN EXAMPLE-----"


# --- what is held back, and for how long ----------------------------------------------------------

plain = st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=40).map(b"".join)


@given(st.lists(plain.filter(lambda value: len(value) >= 4), min_size=1, max_size=4), plain)
def test_only_what_may_begin_a_needle_is_held_back(hidden: list[bytes], text: bytes) -> None:
    """The longest end of the text that is a proper beginning of a needle, less what is masked already."""
    beginnings = {value[:size] for value in hidden for size in range(1, len(value))}
    held = next((size for size in range(len(text), 0, -1) if text[-size:] in beginnings), 0)
    is_hidden = find_hidden(text, hidden)
    end = next((at for at in range(len(text) - held, len(text)) if not is_hidden[at]), len(text))
    assert Masker(needles_of(*hidden)).feed(text) == render(text[:end], is_hidden)


@pytest.mark.parametrize(
    ("line", "seen"),
    [(b"line t\n", 1), (b"line tk\n", 2), (b"line tk-\r\n", 3), (b"tk-  \n    ", 3), (b"\x1b[32mt\x1b[0m\n", 1)],
)
def test_the_end_of_a_line_is_not_held_back(line: bytes, seen: int) -> None:
    """Up to three characters of a needle before a line break: the line is shown at once, and a wrap is found still."""
    masker = Masker(needles_of(TOKEN))
    assert masker.feed(line) == line
    assert masker.feed(TOKEN[seen:] + b"\n") == b"***\n"


def test_half_a_sequence_is_held_back_until_it_is_whole() -> None:
    """And no longer than sequences are."""
    masker = Masker(needles_of(TOKEN))
    assert masker.feed(b"info\x1b[3") == b"info"
    assert masker.feed(b"1mred") == b"\x1b[31mred"
    assert masker.feed(b"\x1b]0;" + b"x" * 2000) == b""
    assert masker.feed(b"x" * 100) == b"\x1b]0;" + b"x" * 2100


def test_a_prompt_is_flushed_when_nothing_more_comes() -> None:
    """Its end may look like a needle's beginning."""
    masker = Masker(needles_of(TOKEN))
    assert masker.feed(b"Password for t") == b"Password for "
    assert masker.flush_idle() == b"t"
    assert masker.flush_idle() == b""
    assert masker.feed(b"he host: ") == b"he host: "
    assert masker.close() == b""


@pytest.mark.parametrize("size", range(1, len(TOKEN)))
def test_four_bytes_of_a_needle_are_never_flushed(size: int) -> None:
    """Up to three are shown, and the match goes on; of more nothing is, whatever a block buffer does."""
    masker = Masker(needles_of(TOKEN))
    shown = [masker.feed(b"> " + TOKEN[:size]), masker.flush_idle(), masker.feed(TOKEN[size:] + b"!"), masker.close()]
    plain = TOKEN[:size] if size < 4 else b""
    assert shown == [b"> ", plain, b"***!", b""]


@given(cases, places)
def test_flushing_shows_no_needle(case: tuple[list[bytes], bytes], at: list[int]) -> None:
    """However often it is flushed, no needle is ever whole."""
    hidden, text = case
    masker = Masker(needles_of(*hidden))
    shown = b"".join(masker.feed(chunk) + masker.flush_idle() for chunk in cut(text, at)) + masker.close()
    assert not [value for value in hidden if value.strip() in shown]


@pytest.mark.parametrize("line", [TOKEN[:20] + b"\n", TOKEN[:5] + b" \n", TOKEN[:20] + b" |\n"])
def test_a_prompt_below_a_piece_of_a_value_is_flushed(line: bytes) -> None:
    """It may be the prefix of a line in which the value goes on: so the piece is masked, and the prompt is seen."""
    masker = Masker(needles_of(TOKEN))
    assert masker.feed(b"with " + line + b"Password: ") == b"with "
    assert masker.flush_idle() == b"with ".removeprefix(b"with ") + b"***" + line.lstrip(TOKEN) + b"Password: "
    assert masker.feed(b"\nok\n") + masker.close() == b"\nok\n"


# --- wrapped by printers ------------------------------------------------------------------------------

WRAPS = [
    (b"", b"\n ! "),
    (b"", b"\n // "),
    (b"", b"\n   "),
    (b"\\", b"\n"),
    (b"=", b"\n"),
    (b"   |", b"\n| "),
    (b" \xe2\x94\x82", b"\n \xe2\x94\x82 "),
    (b"", b"\r\n[2026-01-02T03:04:05+00:00] build.INFO: "),
    (b"", b"\n#12 3.456 "),
    (b"", b"\nremote: "),
]


@pytest.mark.parametrize(("tail", "prefix"), WRAPS)
def test_a_value_that_a_printer_wraps_is_masked_wherever_it_does(tail: bytes, prefix: bytes) -> None:
    """Notes of SymfonyStyle, continued lines, quoted-printable, tables, logs: no piece of more than three is left."""
    matcher = Matcher(needles_of(TOKEN))
    for first in range(len(TOKEN)):
        for second in (len(TOKEN), min(first + 34, len(TOKEN))):
            text = tail.join(filter(None, [TOKEN[:first], prefix + TOKEN[first:second], prefix + TOKEN[second:]]))
            text = b"before " + text + b" after\n"
            shown = mask_bytes(text, matcher)
            assert not [at for at in range(len(TOKEN) - 3) if TOKEN[at : at + 4] in shown], (first, second, shown)
            for at in range(0, len(text), 3):
                assert mask_chunks([text[:at], text[at:]], matcher) == shown


@pytest.mark.parametrize("prefix", [b"", b"    ", b" ! ", b"[build] ", b"| "])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b" |\n"])
def test_a_value_of_several_lines_is_masked_with_any_prefix_and_line_end(prefix: bytes, ending: bytes) -> None:
    """Also a line that is too short to be one by itself, as its neighbours are there."""
    lines = [b"first line-example", b"ab", b"", b"c", b"last one-example", b"xyz"]
    matcher = Matcher(derive("N", SecretType.ENV, SecretValue(b"\n".join(lines).decode())))
    for some in (lines, lines[:4], lines[4:]):
        shown = mask_bytes(ending.join(prefix + line for line in some) + ending, matcher)
        pieces = ending.join(prefix + (b"***" if line else b"") for line in some) + ending
        assert shown in {pieces, b"***" + ending}


@pytest.mark.parametrize("prefix", [b"", b"  ", b"    ", b"\t", b"> ", b" ! ", b"# "])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize("first", [b"a", b"ab", b"a=1", b"\xc3\xa9"])
def test_the_first_short_line_of_an_indented_value_is_masked(prefix: bytes, ending: bytes, first: bytes) -> None:
    """Of a block scalar in YAML, a quoted reply, a note: for every split in two."""
    lines = [first, b"second line-example", b"c", b"d", b"third line-example"]
    matcher = Matcher(derive("N", SecretType.ENV, SecretValue(b"\n".join(lines).decode())))
    for some in (lines, lines[:2], lines[2:], lines[3:]):
        text = b"key: |" + ending + b"".join(prefix + line + ending for line in some)
        shown = mask_bytes(text, matcher)
        rows = {row.removeprefix(prefix) for row in shown.splitlines()}
        assert rows == {b"key: |", b"***"}, shown
        for at in range(len(text) + 1):
            assert mask_chunks([text[:at], text[at:]], matcher) == shown


def test_a_needle_joins_in_mid_stream() -> None:
    """What is held back may complete it."""
    masker = Masker(needles_of(b"abcdefgh"))
    assert masker.feed(b"minted abcd") == b"minted "
    masker.add(needles_of(b"abcd-minted"))
    assert masker.feed(b"-minted, again abcd-minted\n") == b"***, again ***\n"
    assert masker.masked == {"S0": 2}


def test_what_was_masked_is_counted_by_name() -> None:
    """Overlapping forms of one secret are one; what is found again at a chunk's edge is not counted again."""
    masker = Masker([*derive("http-basic.h.org", SecretType.COMPOSER, SecretValue("git s3cret-example"))])
    assert masker.masked == {}
    for _ in range(3):
        masker.feed(b"https://git:s3cret-example@h.org s3cret-")
        masker.feed(b"example")
    masker.close()
    assert masker.masked == {"http-basic.h.org": 6}


# --- large and many -------------------------------------------------------------------------------


def test_memory_stays_flat() -> None:
    """Sixteen megabytes in one chunk or many: what is kept at the end is not more than a beginning of a needle."""
    masker = Masker(needles_of(TOKEN, TOKEN * 20))
    block = (b"a line of a build, and a little more of it, tk\n" * 1400)[:65_536]
    masker.feed(block)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(256):
        masker.feed(block)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 4096
    assert peak - before < 4 * len(block)


@pytest.mark.parametrize(("value", "unit"), [(b"-" * 40, b"-"), (b"ab" * 9, b"ab"), (b"-" * 20 + b"key", b"-")])
def test_a_megabyte_of_one_pattern_takes_no_longer_than_it_must(value: bytes, unit: bytes) -> None:
    """A value that repeats itself is looked at once for a run of it: 40 dashes in many dashes took eleven seconds."""
    run = unit * ((1 << 20) // len(unit))
    matcher = Matcher(needles_of(value))
    start = time.process_time()
    shown = mask_chunks(cut(b"x" + run + b" " + run[:5000] + value + b".", [3000, 900_000]), matcher)
    assert time.process_time() - start < 5
    expected = b"x*** ***." if value in run else b"x" + run + b" " + run[:5000] + b"***."
    assert shown == expected


def test_a_huge_chunk_equals_its_pieces() -> None:
    """A chunk is cut inside, too: needles across those cuts are found."""
    edge = 1 << 20
    text = bytearray(b"." * (3 * edge))
    for at in (edge - 7, 2 * edge - len(TOKEN), 2 * edge + 100, 3 * edge - len(TOKEN)):
        text[at : at + len(TOKEN)] = TOKEN
    assert mask_bytes(bytes(text), needles_of(TOKEN)) == bytes(text).replace(TOKEN, b"***")


def test_streams_share_a_matcher_across_threads() -> None:
    """Two streams stay two, and are masked at the same time."""
    matcher = Matcher(needles_of(TOKEN))
    lines = [b"%d " % number + TOKEN + b"\n" for number in range(2000)]
    results: dict[int, bytes] = {}

    def work(which: int) -> None:
        results[which] = mask_chunks(cut(b"".join(lines), range(0, 90_000, 997 + which)), matcher)

    threads = [threading.Thread(target=work, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(results.values()) == {b"".join(b"%d ***\n" % number for number in range(2000))}


def test_find_names_places_and_needles() -> None:
    """For the search of files: every occurrence, broken ones with a span for each piece."""
    matcher = Matcher(derive("TOKEN", SecretType.ENV, SecretValue(TOKEN.decode())))
    data = b"one " + TOKEN + b"\n" + base64.b64encode(TOKEN) + b"\n" + TOKEN[:20] + b"\n" + TOKEN[20:]
    found = matcher.find(data)
    assert [(match.needle.encoding, len(match.spans)) for match in found if match.needle.encoding == "raw"] == [
        ("raw", 1),
        ("raw", 2),
    ]
    assert any(match.needle.encoding == "base64" for match in found)
    assert b"".join(data[start:end] for start, end in found[-1].spans) == TOKEN


def test_text_that_we_quote_is_masked_too() -> None:
    """And half characters, which file names can hold, survive."""
    assert mask_text(f"cannot open /tmp/{TOKEN.decode()}/\udcff", needles_of(TOKEN)) == "cannot open /tmp/***/\udcff"


def test_no_needle_shows_itself() -> None:
    """Neither a needle nor a match prints its data."""
    matcher = Matcher(needles_of(TOKEN))
    assert TOKEN.decode() not in repr(matcher.needles) + repr(matcher.find(TOKEN)) + repr(matcher)


# --- a long build, at random ----------------------------------------------------------------------


@pytest.mark.slow
def test_a_long_log_cut_at_random_is_what_the_whole_is(rounds: Callable[[int, int], int]) -> None:
    """Many secrets in all encodings, whole and wrapped, in colour and not, in chunks of any size."""
    chance = random.Random(7)
    secrets = [f"value-{number}-{chance.randrange(10**20)}" for number in range(40)]
    needles = [
        one for number, value in enumerate(secrets) for one in derive(f"S{number}", SecretType.ENV, SecretValue(value))
    ]
    matcher = Matcher(needles)
    for _ in range(rounds(10, 300)):
        lines = []
        for _ in range(400):
            needle = chance.choice(needles).data
            at = chance.randrange(len(needle))
            infix = chance.choice([b"", b"", b"  \n  ", b"\x1b[33m", b"\r\n"])
            lines.append(
                b"word " * chance.randrange(12) + needle[:at] + infix + needle[at:] + b" more" * chance.randrange(3)
            )
        log = b"\n".join(lines)
        chunks = cut(log, [chance.randrange(len(log)) for _ in range(chance.randrange(1, 400))])
        shown = mask_chunks(chunks, matcher)
        assert shown == mask_bytes(log, matcher)
        assert not [needle for needle in needles if needle.data in shown]


def test_the_beginning_of_a_needle_of_several_lines_is_held_back() -> None:
    """Such a needle is only found unbroken, so its line break is not a break in it."""
    masker = Masker([Needle("N", "raw", b"first\nsecond line of the value")])
    assert masker.feed(b"<first\nsec") == b"<"
    assert masker.feed(b"ond line of the value>") + masker.close() == b"***>"


def test_a_long_value_that_began_lines_ago_is_held_back_behind_a_colour() -> None:
    """Where it began is farther back than what the end of the data usually needs."""
    value = "".join(f"{number:04x}" for number in range(1000))
    lines = "\n".join(value[start : start + 100] for start in range(0, len(value), 100))
    output = f"\x1b[31mred\x1b[0m\n<{lines}>\n".encode()
    needles = [Needle("LONG", "raw", value.encode())]
    assert mask_chunks([output[:3000], output[3000:]], needles) == mask_bytes(output, needles)
    assert value[:100].encode() not in mask_chunks([output[:3000], output[3000:]], needles)


def test_blanks_that_no_line_break_ends_in_time_end_a_value() -> None:
    output = TOKEN[:20] + b" " * 2000 + TOKEN[20:]
    assert mask_bytes(output, needles_of(TOKEN)) == output


def test_a_value_with_a_bare_carriage_return_is_masked_whole_or_not_at_all() -> None:
    """Its beginning alone says nothing, since no printer breaks such a value over lines."""
    value = b"0123456789abcdef\rand the rest"
    assert mask_bytes(b"<%b>" % value, needles_of(value)) == b"<***>"
    for text in (b"<0123456789abcdef>", b"<0123456789abcdef\r\nand the rest>"):
        assert mask_bytes(text, needles_of(value)) == text


def test_an_empty_line_inside_a_value_may_have_a_prefix_and_no_text() -> None:
    value = b"first line-example\n\nlast one-example"
    for at in range(60):
        output = b"first line-example\n[build] \n[build] last one-example\n"
        assert mask_chunks([output[:at], output[at:]], needles_of(value)) == b"***\n[build] \n[build] ***\n"
    for between in (b"x" * 65 + b"\n", b"x" * 600):
        output = b"first line-example\n" + between + b"last one-example\n"
        assert mask_chunks([output], needles_of(value)) == output
