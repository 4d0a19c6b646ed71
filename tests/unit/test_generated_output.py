"""Generated output: values of every kind, encoded, wrapped and cut at random, against a slow and obvious oracle."""

from __future__ import annotations

import base64
import json
import random
import re
import urllib.parse
from collections.abc import Callable

import pytest

from ic_secrets.masking.masker import Masker
from ic_secrets.masking.matcher import Matcher
from ic_secrets.model.secret import SecretType, SecretValue
from needles import derive

VALUES = [
    "tk-EXAMPLE-0123456789-abcdefghijklmnop",
    "p@ss/w\"rd's-$x`+<b>~!,;%-and-more-of-it",
    "Ünïcode-välue-0123456789",
    "mysql://app:s3cret-of-app@db.example.org/app",
    "short-k3y",
]
ENCODERS: list[Callable[[bytes], bytes]] = [
    lambda data: data,
    lambda data: base64.b64encode(data).rstrip(b"="),
    lambda data: data.hex().encode(),
    lambda data: urllib.parse.quote(data, safe="").encode(),
    lambda data: json.dumps(data.decode()).encode()[1:-1],
    lambda data: json.dumps(json.dumps(data.decode())[1:-1]).encode()[1:-1],
    lambda data: urllib.parse.quote(urllib.parse.quote(data, safe="")).encode(),
]
WRAPS = [b"\n", b"\r\n", b"\n ! ", b"   |\n| ", b"\\\n", b"=\n", b"\n[build] ", b"\n    "]
CHARACTER = rb"[\xc0-\xff][\x80-\xbf]+|[!-\x7f]"
# As printers of bold and underlined text write a character, and what a terminal shows of that.
STRIKES: list[Callable[[bytes], bytes]] = [
    lambda data: data,
    lambda data: data,
    lambda data: data,
    lambda data: re.sub(CHARACTER, rb"\g<0>\b\g<0>", data),
    lambda data: re.sub(CHARACTER, rb"_\b\g<0>", data),
]


@pytest.mark.slow
def test_nothing_of_a_value_is_left_whatever_its_clothes(rounds: Callable[[int, int], int]) -> None:
    """No six bytes of the encoded value that stand together in the output, for any wrap and any chunks."""
    chance = random.Random(15)
    matchers = [Matcher(derive("N", SecretType.ENV, SecretValue(value))) for value in VALUES]
    for _ in range(rounds(3000, 1_000_000)):
        which = chance.randrange(len(VALUES))
        form = chance.choice(ENCODERS)(VALUES[which].encode())
        wrap = chance.choice(WRAPS)
        width = chance.choice([1000, 40, 60])
        first = chance.randrange(1, width)
        pieces = [form[:first], *(form[at : at + width] for at in range(first, len(form), width))]
        text = b"a line " + wrap.join(map(chance.choice(STRIKES), pieces)) + chance.choice([b"", b"\n", b" and more\n"])
        masker, shown, at = Masker(matchers[which]), b"", 0
        while at < len(text):
            size = chance.choice([1, 5, 20, 1000])
            shown += masker.feed(text[at : at + size])
            at += size
        shown += masker.close()
        shown = re.sub(rb"(?:%b)\x08" % CHARACTER, b"", shown)
        left = [form[at : at + 6] for at in range(len(form) - 5) if form[at : at + 6] in shown]
        assert not left, (VALUES[which], text, shown)
