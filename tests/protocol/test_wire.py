"""The agent's half of the protocol: bytes in any pieces to one call, and nothing that is not one."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_floatip.protocol import wire

ENV = {"CNI_COMMAND": "ADD", "CNI_ARGS": "A=b=c;é", "CNI_NETNS": "", "FIP_ERRNO": "2", "FIP_CLIENT": "1.2.3"}
REQUEST = wire.request_bytes(ENV, b"{}")


def told(*pieces: bytes) -> wire.Incoming:
    incoming = wire.Incoming()
    for piece in pieces:
        incoming.feed(piece)
    return incoming


def test_a_request_is_the_bytes_that_the_protocol_names() -> None:
    assert wire.request_bytes({"CNI_COMMAND": "GC"}, b"{}") == (
        b"FIP\x01\x01\0\0\0" + b"\0\0\0\x14" + b"\0\0\0\x0eCNI_COMMAND=GC" + b"{}"
    )


def test_answers_are_the_bytes_that_the_protocol_names() -> None:
    assert wire.greeting() == b"FIP\x01\x01\0\0\0"
    assert wire.deadline_frame(6) == b"D\0\0\0\x056.000"
    assert wire.reply_frame(1, b"{}") == b"R\0\0\0\x03\x01{}"
    assert wire.refusal("no") == b"E\0\0\0\x02no"


def test_a_call_is_parsed() -> None:
    call = told(REQUEST).call
    assert call == wire.Call(ENV, b"{}", 1)
    assert (call.command, call.netns_errno, call.client) == ("ADD", 2, "1.2.3")
    assert wire.read_body(REQUEST[12:]) == call


@pytest.mark.parametrize("said", ["", "x", "-1", "²", "1" * 9])
def test_an_errno_that_is_none(said: str) -> None:
    assert wire.Call({"FIP_ERRNO": said}, b"").netns_errno == 0


def test_the_status_of_the_agent_is_a_command() -> None:
    assert wire.Call({"FIP_COMMAND": "status"}, b"").command == "status"


@given(st.lists(st.integers(0, len(REQUEST))))
def test_in_any_pieces(cuts: Any) -> None:
    edges = sorted({0, *cuts, len(REQUEST)})
    pieces = [REQUEST[a:b] for a, b in pairwise(edges)]
    for number in range(len(pieces)):
        assert told(*pieces[:number]).call is None
    assert told(*pieces).call == wire.Call(ENV, b"{}", 1)


@given(st.binary())
def test_whatever_comes_is_a_call_or_malformed(data: Any) -> None:
    for start in (b"", REQUEST[:8], REQUEST[:12]):
        with suppress(wire.Malformed):
            told(start, data)


@given(
    st.dictionaries(st.from_regex(r"\ACNI_[A-Z]+\Z"), st.binary().filter(lambda v: 0 not in v)), st.binary()
)
def test_there_and_back(env: Any, stdin: Any) -> None:
    output = {name: value.decode(errors="surrogateescape") for name, value in env.items()}
    call = told(wire.request_bytes(output, stdin)).call
    assert call
    assert (call.env, call.stdin) == (output, stdin)


@pytest.mark.parametrize("data", [b"G", b"GET / HTTP/1.1", b"FIX", b"\0" * 8])
def test_not_this_protocol_is_known_with_the_first_bytes(data: bytes) -> None:
    with pytest.raises(wire.Malformed, match="not a floatip client"):
        told(data)


def test_a_length_beyond_all_bounds_is_refused_before_the_bytes_come() -> None:
    told(wire.greeting() + (4 << 20).to_bytes(4, "big"))
    with pytest.raises(wire.Malformed, match="4194305 bytes"):
        told(wire.greeting() + ((4 << 20) + 1).to_bytes(4, "big"))


@pytest.mark.parametrize("body", [b"", b"\0\0\0", b"\0\0\0\x05CNI"])
def test_an_environment_that_is_cut_short(body: bytes) -> None:
    with pytest.raises(wire.Malformed, match="cut short"):
        told(wire.greeting() + len(body).to_bytes(4, "big") + body)


def test_what_is_not_ours_in_the_environment_is_passed_over() -> None:
    block = b"HOME=/root\0CNI_X\0CNI_Y=1\0\0FIP_NEW=2"
    assert wire.read_body(len(block).to_bytes(4, "big") + block).env == {"CNI_Y": "1", "FIP_NEW": "2"}


def test_what_comes_after_the_request_is_dropped() -> None:
    incoming = told(REQUEST + b"more")
    incoming.feed(b"x" * 9999)
    assert incoming.call
    assert incoming.call.stdin == b"{}"


@pytest.mark.parametrize(
    ("version", "oldest", "understood"),
    [(1, 1, True), (2, 1, True), (9, 1, True), (2, 2, False), (0, 0, False)],
)
def test_versions_of_the_protocol(version: int, oldest: int, understood: bool) -> None:
    request = wire.hello(version, oldest) + REQUEST[8:]
    if understood:
        call = told(request).call
        assert call
        assert call.version == version
    else:
        with pytest.raises(wire.Incompatible, match=f"protocol {version} .* protocol 1 "):
            told(request)


# -- answers ------------------------------------------------------------------------------------------------


def answered(data: bytes) -> wire.Answers:
    answers = wire.Answers()
    for byte in data:
        answers.feed(bytes((byte,)))
    return answers


def test_answers_in_pieces() -> None:
    output = wire.greeting() + wire.deadline_frame(90) + b"Z\0\0\0\x02hi" + wire.reply_frame(1, b"{}")
    answers = answered(output)
    assert (answers.deadline, answers.status, answers.stdout, answers.refused) == (90, 1, b"{}", "")


def test_a_refusal_is_parsed() -> None:
    answers = answered(wire.greeting() + wire.refusal("too old"))
    assert (answers.status, answers.refused) == (None, "too old")


@pytest.mark.parametrize("data", [b"HTTP", wire.greeting() + b"D\0\0\0\x01x", wire.greeting() + b"R\0\0\0\0"])
def test_answers_that_are_none(data: Any) -> None:
    with pytest.raises(wire.Malformed):
        answered(data)


def test_an_answer_beyond_all_bounds() -> None:
    with pytest.raises(wire.Malformed):
        answered(wire.greeting() + b"R\xff\0\0\0")


def test_an_agent_of_another_age() -> None:
    with pytest.raises(wire.Incompatible, match=r"the agent speaks protocol 3 .*this client protocol 1"):
        answered(wire.hello(3, 2))
