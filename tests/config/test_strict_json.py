"""JSON read strictly: what is not one document for every reader is refused, with its place."""

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_floatip.config.strict_json import DEEPEST, load_json, load_object, path_text
from cni_floatip.model.errors import DecodeFailure

REFUSED = [
    pytest.param(b"", "conf: line 1 column 1: not JSON: Expecting value", id="C01-empty"),
    pytest.param(b"hello", "conf: line 1 column 1: not JSON: Expecting value", id="C01-text"),
    pytest.param(
        b'{"a": 1,\n "b": }', "conf: line 2 column 7: not JSON: Expecting value", id="C01-second-line"
    ),
    pytest.param(b'{"a": 1} x', "conf: line 1 column 10: not JSON: Extra data", id="C01-more-after-it"),
    pytest.param(b'{"a":\n"\xff"}', "conf: line 2 column 2: not UTF-8", id="C14-latin-1"),
    pytest.param('{"a": 1}'.encode("utf-16"), "conf: line 1 column 1: not UTF-8", id="C14-utf-16"),
    pytest.param(b'{"a": 1, "a": 1}', "conf: $.a: the key is there more than once", id="C15-same-value"),
    pytest.param(
        b'{"plugins": [{}, {"to": {"x": 1, "y": 2, "x": 3}}]}',
        "conf: $.plugins[1].to.x: the key is there more than once",
        id="C15-nested",
    ),
    pytest.param(
        b'{"a": {"b": 1, "b": 2}, "a": {"c": NaN}}',
        "conf: $.a.b: the key is there more than once | $.a: the key is there more than once | "
        "$.a.c: NaN is not a JSON number",
        id="C15-all-of-them",
    ),
    pytest.param(b'{"a": [0, NaN]}', "conf: $.a[1]: NaN is not a JSON number", id="nan"),
    pytest.param(b'{"a": -Infinity}', "conf: $.a: -Infinity is not a JSON number", id="infinity"),
    pytest.param(b'{"a": 1e999}', "conf: $.a: 1e999 is not a JSON number", id="beyond-every-range"),
    pytest.param(b"[" * 100_000, "conf: nested too deeply", id="deep"),
    pytest.param(b"1" * 5000, "conf: a number is too long", id="long-number"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_is_not_json_is_refused_with_its_place(text: bytes, message: str) -> None:
    with pytest.raises(DecodeFailure) as refused:
        load_json(text, "conf")
    assert refused.value.msg == message
    assert refused.value.code == 6


@pytest.mark.parametrize("text", [b"[]", b"null", b'"x"', b"1"])
def test_c02_json_that_is_no_object_is_refused(text: bytes) -> None:
    with pytest.raises(DecodeFailure, match="conf: expected a JSON object, found ") as refused:
        load_object(text, "conf")
    assert refused.value.code == 6


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(b'\xef\xbb\xbf{"a": "\xc3\xbc"}', {"a": "ü"}, id="C14-byte-order-mark"),
        pytest.param(b' \n{"a": 1.5, "b": 10}\n', {"a": 1.5, "b": 10}, id="white-space"),
        pytest.param(
            b'{"a": {"x": 1}, "b": {"x": 2}}', {"a": {"x": 1}, "b": {"x": 2}}, id="same-key-elsewhere"
        ),
    ],
)
def test_valid_json_is_accepted(text: bytes, found: Any) -> None:
    assert load_object(text) == found


def test_c13_a_megabyte_is_read() -> None:
    document = {"prevResult": {"ips": ["x" * 100] * 10_000}}
    assert load_object(json.dumps(document).encode()) == document


def test_a_path_quotes_what_is_not_a_word() -> None:
    assert path_text(("podRoutes", "to", 0)) == "$.podRoutes.to[0]"
    assert path_text(("cni.dev/x", "1a", "")) == '$["cni.dev/x"]["1a"][""]'
    assert path_text(()) == "$"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_what_json_writes_is_read_back(document: Any) -> None:
    assert load_json(json.dumps(document).encode()) == document


@given(st.binary(max_size=60))
def test_any_bytes_are_a_document_or_a_decode_failure(text: bytes) -> None:
    with suppress(DecodeFailure):
        load_json(text)


def deep(levels: int, inmost: str = "1") -> str:
    return "[" * levels + inmost + "]" * levels


@pytest.mark.parametrize("levels", [DEEPEST - 1, DEEPEST, DEEPEST + 1, 900, 100_000])
def test_what_is_nested_too_deeply_can_be_cut_out(levels: int) -> None:
    text = '{"]]": "\\"[[{", "a": {"b": ' + deep(levels) + ', "c": [2]}, "\\\\": {}}'
    result = load_json(text.encode(), "conf", cut=True)
    assert result | {"a": 0} == {"]]": '"[[{', "a": 0, "\\": {}}
    assert result["a"]["c"] == [2]
    assert list(result["a"]) == ["b", "c"]


NO_JSON = {
    "an end too few": deep(2000)[:-1],
    "an end too many": deep(2000) + "]",
    "quotes": deep(2000, '"' * 1_000_001),
    "a string without an end": deep(2000, '"' + '\\"' * 500_000),
}


@pytest.mark.parametrize("text", NO_JSON.values(), ids=NO_JSON)
def test_what_is_no_json_is_refused_at_any_depth(text: str) -> None:
    began = time.process_time()
    with pytest.raises(DecodeFailure, match="not JSON"):
        load_json(text.encode(), "conf", cut=True)
    assert time.process_time() - began < 20
