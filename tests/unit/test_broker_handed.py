"""What a server hands out in an answer: found in redirects and in answers of Git LFS, and passed on once."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from typing import Any

import pytest

from ic_secrets.broker.handed import HANDED_OUT, Announcer, HandedOut, find_handed_out

BATCH = {
    "objects": [
        {
            "oid": "1",
            "actions": {
                "download": {
                    "href": "https://s3.example.org/1?X-Amz-Algorithm=AWS4&X-Amz-Signature=abcdef0123456789",
                    "header": {"Authorization": "RemoteAuth lfs-canary-token", "Accept": 7},
                }
            },
        },
        {"oid": "2", "actions": None},
    ]
}
CASES: dict[str, tuple[dict[str, str], bytes, tuple[str, ...]]] = {
    "a signed URL": (
        {"location": "https://codeload.example.org/o/r?token=AN7CANARY00&ref=main#x"},
        b"",
        ("AN7CANARY00",),
    ),
    "as it is written and as it is meant": (
        {"location": "/x?sig=a%2Bcanary%3D"},
        b"",
        ("a%2Bcanary%3D", "a+canary="),
    ),
    "a place without a signature": ({"location": "https://www.example.org/renamed?page=100000000"}, b"", ()),
    "something short": ({"location": "/x?token=1"}, b"", ()),
    "another header": ({"link": "</x?token=AN7CANARY00>"}, b"", ()),
    "a batch of Git LFS": (
        {},
        json.dumps(BATCH).encode(),
        ("abcdef0123456789", "RemoteAuth lfs-canary-token", "lfs-canary-token"),
    ),
    "a packed one": (
        {"content-encoding": "gzip"},
        gzip.compress(json.dumps({"objects": [BATCH["objects"][0]]}).encode()),
        ("abcdef0123456789", "RemoteAuth lfs-canary-token", "lfs-canary-token"),
    ),
    "no JSON": ({}, b"<html>", ()),
    "odd JSON": ({}, b'{"objects": [1, {"actions": {"download": {"href": 1, "header": []}}}]}', ()),
}


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_it_is_found(case: tuple[dict[str, str], bytes, tuple[str, ...]]) -> None:
    headers, body, expected = case
    assert find_handed_out(tuple(headers.items()), body) == expected


def test_each_text_is_passed_on_once_however_much_there_is() -> None:
    """More than the socket takes at once waits for whoever reads, and the broker does not."""
    ours, theirs = socket.socketpair()
    texts = [f"a-canary-{number:06}-{'x' * 200}" for number in range(3000)]
    handed = HandedOut(ours)

    async def pass_on() -> None:
        announcer = Announcer(theirs)
        announcer.announce(texts)
        announcer.announce(texts[:10])
        while len(find_texts(handed)) < len(texts):
            handed.refresh()
            await asyncio.sleep(0)

    with ours, theirs:
        handed.refresh()
        assert handed.needles == []
        asyncio.run(asyncio.wait_for(pass_on(), 30))
    assert find_texts(handed) == texts
    assert {needle.name for needle in handed.needles} == {HANDED_OUT}


def test_nobody_who_reads_is_no_error() -> None:
    ours, theirs = socket.socketpair()
    ours.close()

    async def pass_on() -> None:
        Announcer(theirs).announce(["a-canary-of-a-text"])

    with theirs:
        asyncio.run(pass_on())


def find_texts(handed: HandedOut) -> list[Any]:
    return [needle.data.decode() for needle in handed.needles if needle.encoding == "raw"]
