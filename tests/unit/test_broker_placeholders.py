"""Placeholders of secrets bound to hosts: stable, made of nothing secret, and filled as their place needs it."""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import parse_qsl, quote, unquote

import pytest
from hypothesis import given, strategies as st

from ic_secrets.broker.placeholders import (
    PATTERN,
    Hider,
    UnfitValueError,
    can_fill,
    fill_body,
    fill_header,
    fill_target,
    find_placeholders,
    make_placeholder,
)

ONE = make_placeholder("store", "site:a", "ACF_KEY")
TWO = make_placeholder("store", "site:a", "GF_KEY")
ODD = 'a b/c?d=e&f"\\ü+%'


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


def test_a_placeholder_is_the_same_in_every_build_and_another_for_every_secret() -> None:
    made = {make_placeholder(*parts) for parts in [("s", "a", "K"), ("s", "a", "L"), ("s", "b", "K"), ("t", "a", "K")]}
    assert len(made) == 4
    assert make_placeholder("s", "a", "K") in made
    assert make_placeholder("s", "ab", "c") != make_placeholder("s", "a", "bc")
    assert all(re.fullmatch(PATTERN, each) for each in made)


def test_a_query_gets_the_value_percent_encoded() -> None:
    filled = fill_target(f"/x/{ONE}/y?k={ONE}&n=1", {ONE: ODD})
    path, _, query = filled.partition("?")
    assert unquote(path) == f"/x/{ODD}/y"
    assert dict(parse_qsl(query)) == {"k": ODD, "n": "1"}


def test_a_pair_of_basic_authentication_is_put_together_again() -> None:
    assert fill_header(basic(f"{ONE}:https://site.example"), {ONE: ODD}) == basic(f"{ODD}:https://site.example")
    assert fill_header(basic(f"me:{ONE}"), {ONE: "v"}) == basic("me:v")


def test_a_pair_without_a_placeholder_stays_byte_for_byte() -> None:
    for header in ("basic  bWU6cA", "Basic bWU6cA==", "Basic %%%", "Basic !"):
        assert fill_header(header, {ONE: "v"}) == header


def test_another_header_gets_the_value_as_it_is() -> None:
    assert fill_header(f"Bearer {ONE}", {ONE: "välue"}).encode("latin-1") == "Bearer välue".encode()


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\0b"])
def test_a_value_that_would_end_a_header_is_refused(value: str) -> None:
    with pytest.raises(UnfitValueError):
        fill_header(f"Bearer {ONE}", {ONE: value})


def test_a_form_and_json_get_the_value_escaped() -> None:
    form = fill_body("application/x-www-form-urlencoded; charset=utf-8", f"k={ONE}&n=1".encode(), {ONE: ODD})
    assert dict(parse_qsl(form.decode())) == {"k": ODD, "n": "1"}
    body = fill_body("application/vnd.api+json", json.dumps({"k": f"x{ONE}"}).encode(), {ONE: ODD})
    assert json.loads(body) == {"k": f"x{ODD}"}
    parts = fill_body("multipart/form-data; boundary=b", f'--b\r\n\r\n{ONE}\r\n--b--"'.encode(), {ONE: ODD})
    assert ODD.encode() in parts
    assert fill_body("text/xml", f"<a>{ONE}</a>".encode(), {ONE: "<&>"}) == b"<a>&lt;&amp;&gt;</a>"


def test_a_value_that_would_end_a_part_is_refused() -> None:
    with pytest.raises(UnfitValueError):
        fill_body("multipart/form-data; boundary=b", ONE.encode(), {ONE: "x\r\n--b--"})


def test_a_body_of_another_type_stays() -> None:
    assert not can_fill("application/octet-stream")
    assert fill_body("application/octet-stream", ONE.encode(), {ONE: "v"}) == ONE.encode()


def test_placeholders_are_found_wherever_they_stand() -> None:
    assert find_placeholders(f"/x?k={ONE}", basic(f"me:{TWO}")) == {ONE, TWO}
    assert not find_placeholders("Basic bWU6cA==", "ics_short")


def test_only_what_has_a_value_is_filled() -> None:
    assert fill_target(f"/{ONE}/{TWO}", {ONE: "v"}) == f"/v/{TWO}"


def test_an_answers_header_gets_the_placeholder_back_in_any_spelling() -> None:
    value = "a long/value+x"
    target = fill_target(f"/x?k={ONE}", {ONE: value})
    assert Hider({ONE: value}).hide(f"https://www.a.org{target}") == f"https://www.a.org/x?k={ONE}"
    assert Hider({ONE: value}).hide("x=a+long%2Fvalue%2Bx") == f"x={ONE}"


def test_a_value_that_is_hardly_a_secret_is_not_looked_for_in_answers() -> None:
    assert Hider({ONE: "1"}).hide("content-length: 12") == "content-length: 12"


@given(st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=40))
def test_any_value_comes_back_from_a_query_a_form_and_json(value: str) -> None:
    assert dict(parse_qsl(fill_target(f"k={ONE}", {ONE: value}), keep_blank_values=True)) == {"k": value}
    form = fill_body("application/x-www-form-urlencoded", f"k={ONE}".encode(), {ONE: value})
    assert dict(parse_qsl(form.decode(), keep_blank_values=True)) == {"k": value}
    assert json.loads(fill_body("application/json", json.dumps([ONE]).encode(), {ONE: value})) == [value]


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=10, max_size=30), st.data())
def test_an_answer_shows_no_value_wherever_it_is_cut(value: str, data: st.DataObject) -> None:
    pair = base64.b64encode(f"user:{value}".encode())
    whole = b"<p>" + value.encode() + b"</p> " + pair + b" " + quote(value, safe="").encode() + b"<br>"
    first, second = sorted(data.draw(st.integers(0, len(whole))) for _ in range(2))
    hider = Hider({ONE: value})
    shown = b"".join(map(hider.feed, (whole[:first], whole[first:second], whole[second:]))) + hider.close()
    assert shown == Hider({ONE: value}).hide(whole.decode()).encode()
    assert shown.startswith(b"<p>" + ONE.encode() + b"</p>")
    assert shown.endswith(b" " + ONE.encode() + b"<br>")
    assert pair[8:-4] not in shown
