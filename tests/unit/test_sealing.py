"""Keys never show themselves, and a sealed value opens in its own place alone."""

from __future__ import annotations

import copy
import os
import pickle
import re
import traceback
from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from ic_secrets.errors import MasterKeyError
from ic_secrets.keys.sealing import DataKey, MasterKey, SealError, encode, hkdf, new_data_key, unwrap_data_key
from ic_secrets.stores.embedded.database import FORMAT
from ic_secrets.stores.embedded.manifest import _bucket_mac, _owner_mac, _root_mac
from ic_secrets.stores.embedded.rows import Row, digest_rows

# 32 bytes that need every care of the text form: they hold `-` and `_` in base64url.
FIXED = MasterKey(bytes([0xFB, 0xEF, 0xBE, 0xFF, *range(28)]))
FIXED_TEXT = "ic-secrets-key-1:----_wABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhs"

# RFC 5869, appendix A: the three cases with SHA-256.
RFC_5869 = [
    (
        "0b" * 22,
        "000102030405060708090a0b0c",
        "f0f1f2f3f4f5f6f7f8f9",
        42,
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        "".join(f"{n:02x}" for n in range(0x00, 0x50)),
        "".join(f"{n:02x}" for n in range(0x60, 0xB0)),
        "".join(f"{n:02x}" for n in range(0xB0, 0x100)),
        82,
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    (
        "0b" * 22,
        "",
        "",
        42,
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]


@pytest.mark.parametrize(("secret", "salt", "info", "length", "expected"), RFC_5869)
def test_hkdf_is_that_of_rfc_5869(secret: str, salt: str, info: str, length: int, expected: str) -> None:
    """To the byte, with and without salt and info, beyond one block."""
    assert hkdf(bytes.fromhex(secret), bytes.fromhex(salt), bytes.fromhex(info), length).hex() == expected


@pytest.mark.parametrize("length", [0, -1, 255 * 32 + 1])
def test_hkdf_gives_no_other_length(length: int) -> None:
    """RFC 5869, 2.3: at most 255 blocks."""
    with pytest.raises(ValueError, match="HKDF"):
        hkdf(b"secret", b"", b"", length)
    assert len(hkdf(b"secret", b"", b"", 255 * 32)) == 255 * 32


# --- the master key ---------------------------------------------------------------------------------


def test_a_master_key_survives_its_text_form() -> None:
    """One line of ASCII with the prefix; white space around it is no part of it."""
    for key in (FIXED, *(MasterKey.generate() for _ in range(50))):
        text = key.format()
        assert text.isascii()
        assert text.startswith("ic-secrets-key-1:")
        assert len(text.split()) == 1
        for around in (text, text + "\n", f"  {text}\r\n"):
            assert MasterKey.parse(around) == key
            assert MasterKey.parse(around).format() == text


def test_the_text_form_never_changes() -> None:
    """Keys are kept for years: the text, the id and what is derived are fixed for good."""
    assert FIXED.format() == FIXED_TEXT
    assert FIXED.id == "926f4a43b450fd6c"
    assert FIXED.derive(b"salt", b"info").hex() == "a55156939ca50da878b4dd718169baf4f079d4d8d56d9576bfae42b38298f65c"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "ic-secrets-key-1:",
        FIXED_TEXT[:-1],
        FIXED_TEXT + "A",
        FIXED_TEXT + "=",
        FIXED_TEXT[:-1] + "t",  # the same 32 bytes, but for two bits beyond them
        FIXED_TEXT.replace("--", "++"),
        FIXED_TEXT.replace("ic-secrets-key-1:", ""),
        FIXED_TEXT.upper(),
        FIXED_TEXT.replace("AgMEB", "AgM EB"),
        FIXED_TEXT + "\n" + FIXED_TEXT,
        FIXED_TEXT.replace("key-1", "key-2"),
        FIXED_TEXT[:30] + "é" + FIXED_TEXT[31:],
        "\udcff" * 60,
    ],
)
def test_what_is_no_master_key_is_refused(text: str) -> None:
    """And the message has nothing of the text in it, which may be a key with a slip."""
    with pytest.raises(MasterKeyError) as caught:
        MasterKey.parse(text)
    said = f"{caught.value} {caught.value.hint} {caught.value.__cause__}"
    body = re.sub("ic-secrets-key-.:", "", text)
    pieces = {body[at : at + 6] for at in range(len(body) - 6)}
    assert not [piece for piece in pieces if piece in said]


def test_a_newer_kind_of_key_is_named_as_such() -> None:
    """So that an upgrade is thought of before the key is thrown away."""
    with pytest.raises(MasterKeyError, match="does not know") as caught:
        MasterKey.parse(FIXED_TEXT.replace("key-1", "key-2"))
    assert "upgrade" in caught.value.hint


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_master_key_has_32_bytes(size: int) -> None:
    """Shorter is weak, longer is a mistake."""
    with pytest.raises(MasterKeyError):
        MasterKey(bytes(size))


@pytest.mark.parametrize("show", [repr, str, "{}".format, lambda key: f"{key!r:>40}", lambda key: f"{[key]}"])
def test_a_master_key_shows_its_id_alone(show: Callable[[object], str]) -> None:
    """Whatever prints it: no byte of the key, as text, hexadecimal or Python."""
    shown = show(FIXED)
    assert FIXED.id in shown
    for form in (FIXED_TEXT[17:27], "fbefbeff", "\\xfb\\xef", "0001020304"):
        assert form not in shown


def test_keys_leave_their_process_by_no_accident() -> None:
    """Neither pickle nor copy takes them, and a traceback shows no bytes."""
    data_key, _ = new_data_key(FIXED, "store", 1)
    for key in (FIXED, data_key):
        for take in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="pickled or copied"):
                take(key)
        assert "fbef" not in repr(key)
    try:
        raise RuntimeError(FIXED, data_key)
    except RuntimeError:
        assert "\\xfb" not in traceback.format_exc()
    with pytest.raises(AttributeError):
        FIXED._secret = bytes(32)  # type: ignore[misc]


def test_keys_are_equal_by_their_bytes() -> None:
    """Equal keys hash alike, others are others, and nothing else is a key."""
    assert MasterKey.parse(FIXED_TEXT) == FIXED
    assert hash(MasterKey.parse(FIXED_TEXT)) == hash(FIXED)
    assert MasterKey.generate() != MasterKey.generate()
    assert FIXED != FIXED_TEXT
    assert FIXED.id != MasterKey(bytes(32)).id


def test_derived_keys_are_independent() -> None:
    """Another purpose, another salt, another length: another key, and none is the id."""
    derived = {FIXED.derive(salt, info) for salt in (b"", b"a", b"b") for info in (b"", b"a", b"b")}
    assert len(derived) == 9
    assert all(FIXED.id not in key.hex() for key in derived)


# --- seals ------------------------------------------------------------------------------------------


@given(st.binary(max_size=300), st.binary(max_size=100))
def test_a_sealed_value_comes_back(plain: bytes, associated: bytes) -> None:
    """And its seal is neither the value nor ever the same twice."""
    key = DataKey(1, bytes(32))
    sealed = key.seal(plain, associated)
    assert key.open(sealed, associated) == plain
    assert len(sealed) == 12 + len(plain) + 16
    assert key.seal(plain, associated) != sealed
    assert len(plain) < 4 or plain not in sealed


def test_every_byte_of_a_seal_counts() -> None:
    """Flipped, cut or lengthened, it does not open, and the message has no byte of it."""
    key = DataKey(1, os.urandom(32))
    sealed = key.seal(b"hunter2", b"here")
    broken = [
        sealed[:at] + bytes([sealed[at] ^ bit]) + sealed[at + 1 :] for at in range(len(sealed)) for bit in (1, 128)
    ]
    broken += [sealed[:size] for size in range(len(sealed))] + [sealed + b"\0", b"\0" + sealed]
    for each in broken:
        with pytest.raises(SealError) as caught:
            key.open(each, b"here")
        assert "hunter2" not in str(caught.value)
    for associated in (b"", b"her", b"here\0", b"there"):
        with pytest.raises(SealError):
            key.open(sealed, associated)
    with pytest.raises(SealError):
        DataKey(1, os.urandom(32)).open(sealed, b"here")


def test_a_data_key_is_wrapped_for_one_master_key_store_and_number() -> None:
    """In any other place its wrapping does not open; two data keys are never the same."""
    key, wrapped = new_data_key(FIXED, "store", 1)
    sealed = key.seal(b"hunter2", b"here")
    assert unwrap_data_key(FIXED, "store", 1, wrapped).open(sealed, b"here") == b"hunter2"
    for master, store_id, number, bytes_ in (
        (MasterKey.generate(), "store", 1, wrapped),
        (FIXED, "other", 1, wrapped),
        (FIXED, "store", 2, wrapped),
        (FIXED, "store", 1, wrapped[:-1]),
        (FIXED, "store", 1, wrapped[:20] + bytes([wrapped[20] ^ 1]) + wrapped[21:]),
    ):
        with pytest.raises(SealError):
            unwrap_data_key(master, store_id, number, bytes_)
    _, again = new_data_key(FIXED, "store", 1)
    with pytest.raises(SealError):
        unwrap_data_key(FIXED, "store", 1, again).open(sealed, b"here")


def test_wrappings_and_seals_never_change_their_form() -> None:
    """A data key wrapped, and a value sealed, by the first version that could."""
    wrapped = bytes.fromhex(
        "87a5e211bad2f77cd9ddbc5ee0575fb2ea2e95f7e8a593a0f2487fd54ddc"
        "7fb138c21ff4e4399d1e52edfdadeef0d3bbc30fe217e6403601f2a63405"
    )
    sealed = bytes.fromhex("d0317c9389c2c5c0b50d552544f4aca47bbe48519883c2fcab5deb8c2c369d056cd085")
    assert unwrap_data_key(FIXED, "store", 1, wrapped).open(sealed, b"here") == b"hunter2"


@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_no_two_lists_of_fields_are_encoded_alike(one: list[str], other: list[str]) -> None:
    """What is bound to the bytes is bound to each field and its place."""
    assert (encode(*one) == encode(*other)) == (one == other)


def test_fields_do_not_run_into_each_other() -> None:
    """`ab` `c` is not `a` `bc`, and nothing is not the empty field."""
    fields = [("ab", "c"), ("a1:b",), ("a", "b"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc"), ("3:abc",), ()]
    assert len({encode(*each) for each in fields}) == len(fields)


ROW = Row("site", "my-site", "KEY", "dev", "base", "env", "ic,user", 3, 100, 200, None, 1, b"")
OTHER_FIELDS = {
    "kind": "organization",
    "owner": "my-site-2",
    "name": "KEY_2",
    "environment": "",
    "base": "other",
    "type": "runtime",
    "scopes": "ic",
    "version": 2,
    "created": 101,
    "changed": 201,
    "expires": 0,
    "data_key": 2,
    "hosts": "a.example.org",
}


def test_a_seal_is_bound_to_every_field_of_its_row() -> None:
    """A value opens under no other owner, environment, name, type, scopes, version, base, time, data key or hosts."""
    assert set(OTHER_FIELDS) == set(Row._fields) - {"sealed"}
    key = DataKey(1, os.urandom(32))
    sealed = key.seal(b"hunter2", ROW.associated("store"))
    assert key.open(sealed, ROW._replace(sealed=sealed).associated("store")) == b"hunter2"
    for field, value in OTHER_FIELDS.items():
        with pytest.raises(SealError):
            key.open(sealed, ROW._replace(**{field: value}).associated("store"))
    with pytest.raises(SealError):
        key.open(sealed, ROW.associated("store-2"))


def test_a_rows_digest_is_of_all_of_it() -> None:
    """Every field, the sealed value and the store."""
    rows = [ROW, ROW._replace(sealed=b"\0"), *(ROW._replace(**{field: value}) for field, value in OTHER_FIELDS.items())]
    digests = {row.digest(store_id) for row in rows for store_id in ("store", "store-2")}
    assert len(digests) == 2 * len(rows)
    assert ROW.digest("store") == ROW._replace().digest("store")


def test_the_format_never_changes() -> None:
    """What a store in the field holds is fixed by these bytes; another encoding needs another format number."""
    row = ROW._replace(sealed=b"sealed", expires=1_900_000_000)
    assert row.associated("store") == (
        b"18:ic-secrets/1 value5:store4:site7:my-site3:KEY3:dev4:base3:env7:ic,user1:33:1003:20010:19000000001:1"
    )
    record = ("site", "my-site", "agency", "help,studio", row.digest("store"))
    lonely = ("site", "lonely", None, "", digest_rows(()))
    owners = [(*each, _owner_mac(bytes(32), *each)) for each in (record, lonely)]
    bucket = _bucket_mac(bytes(32), 7, owners)
    root = _root_mac(FIXED, "store", 42, {1: b"one", 2: b"two"}, [bucket] * 256)
    found = [row.digest("store"), *(owner[-1] for owner in owners), bucket, root]
    assert [each.hex()[:32] for each in found] == [
        "6bb03e5675f327578b32e21a2771d01f",
        "f2bccb06b35cfd6395cda1c6d2ee4df6",
        "bdd2ec9952b8e983af1da0eaaf766c26",
        "5f0b3138a9f73aa24d3f292d714dc6a6",
        "7fd4b46743496ae15387993f251d6bb8",
    ]
    assert _bucket_mac(bytes(32), 7, owners[::-1]) == bucket
    # A row that is bound to hosts is of the second format, and all others are as they were.
    bound = row._replace(hosts="a.org,b.org").associated("store")
    assert bound == b"24:ic-secrets/1 bound value" + row.associated("store")[21:] + b"11:a.org,b.org"
    assert FORMAT == 2
