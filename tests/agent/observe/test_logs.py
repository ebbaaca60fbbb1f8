"""The agent's log lines: one line each, whole whatever is in them, and never a credential."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.agent.observe.lines import LONGEST
from cni_floatip.agent.observe.logs import DedupLog, Log, configure, take_over
from cni_floatip.agent.observe.redaction import redact
from cni_floatip.agent.observe.standard_error import DescriptorStream

NOON = 1_700_000_000.25
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SESSION = "IQoJb3JpZ2luX2VjEJr//////////wEaCXVzLWVhc3QtMSJHMEUCIQ" * 8
JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJpc3MiOiJodHRwczovL29pZGMifQ.c2lnbmF0dXJl-_x"
KEY_ID = "ASIAIOSFODNN7EXAMPLE"


class Lines:
    """What was written, by line."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def documents(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.text.splitlines()]


def waiting(log: Log) -> Any:
    """Return what holds the lines that nobody has read yet."""
    return log._lines._stream


@pytest.fixture
def lines() -> Lines:
    return Lines()


def a_log(lines: Lines, level: str = "info", form: str = "json") -> Log:
    return configure(level, form, lines, now=lambda: NOON)


def test_a_json_line(lines: Lines) -> None:
    log = a_log(lines).bind(verb="ADD", container="c1", ifname="net1", network="red")
    log.bind(namespace="core", pod="upf-0", uid="")("added", seconds=0.12345, code=None, tables=3)
    assert lines.documents() == [
        {
            "time": "2023-11-14T22:13:20.250Z",
            "level": "info",
            "msg": "added",
            "verb": "ADD",
            "container": "c1",
            "ifname": "net1",
            "network": "red",
            "namespace": "core",
            "pod": "upf-0",
            "seconds": 0.123,
            "tables": 3,
        }
    ]
    assert list(lines.documents()[0])[:3] == ["time", "level", "msg"]


def test_a_text_line(lines: Lines) -> None:
    log = a_log(lines, form="text").bind(verb="DEL", pod="upf 0")
    log("kept for later", "warning", seconds=2.0, answer='say "x"')
    assert lines.text == (
        "2023-11-14T22:13:20.250Z warning kept for later"
        ' verb=DEL pod="upf 0" seconds=2.0 answer="say \\"x\\""\n'
    )


def test_a_sentence_is_enough_as_world_says_it(lines: Lines) -> None:
    log = a_log(lines)
    message = log  # Callable[[str], None]
    message("rtb-a is gone")
    assert lines.documents()[0]["msg"] == "rtb-a is gone"


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_lines_below_the_level_are_dropped(lines: Lines, level: str, heard: list[str]) -> None:
    log = a_log(lines, level)
    for item in ("debug", "info", "warning", "error"):
        log("x", item)
    assert [document["level"] for document in lines.documents()] == heard


def test_documents_of_others_are_for_debug_alone(lines: Lines) -> None:
    log = a_log(lines, "debug").bind(stdin='{"cniVersion": "1.1.0"}')
    log("called")
    log("called", "debug")
    assert ["stdin" in document for document in lines.documents()] == [False, True]


@pytest.mark.parametrize("form", ["json", "text"])
def test_one_line_whatever_is_in_it(lines: Lines, form: str) -> None:
    nasty = 'a\nb\r\n\x1b[31m\0\u2028\x85 "q" \\ \udcff é'
    log = a_log(lines, form=form).bind(pod=nasty)
    log(nasty, answer=nasty.encode(errors="surrogatepass"), much=float("nan"), more=float("inf"))
    assert lines.text.count("\n") == 1
    assert len(lines.text.splitlines()) == 1
    assert "\x1b" not in lines.text
    if form == "json":
        assert lines.documents()[0]["msg"] == nasty
        assert lines.documents()[0]["much"] == "nan"


def test_a_field_named_like_ours_does_not_replace_it(lines: Lines) -> None:
    a_log(lines).bind(msg="no", time="never", level="loud")("yes")
    document = lines.documents()[0]
    assert (document["msg"], document["level"]) == ("yes", "info")


def test_a_long_value_is_cut(lines: Lines) -> None:
    a_log(lines)("x" * 100_000, answer="y" * 100_000)
    assert len(lines.text) < 2 * LONGEST + 300
    assert str(lines.documents()[0]["msg"]).endswith("x... (100000 characters)")


# -- credentials --------------------------------------------------------------------------------------

EXCEPTIONS = [
    f"An error occurred (InvalidClientTokenId) for {KEY_ID}",
    f"Credentials({{'AccessKeyId': '{KEY_ID}', 'SecretAccessKey': '{SECRET}', 'Token': '{SESSION}'}})",
    f'{{"SecretAccessKey": "{SECRET}", "SessionToken": "{SESSION}"}}',
    f"aws_secret_access_key = {SECRET}\naws_session_token={SESSION}",
    f"GET https://sts.amazonaws.com/?WebIdentityToken={JWT}&Version=2011-06-15",
    f"cannot read token: {JWT}",
    f"X-Amz-Security-Token: {SESSION}",
    f"Authorization: AWS4-HMAC-SHA256 Credential={KEY_ID}/20260101/eu-west-1/ec2/aws4_request",
    f"b'{SECRET}'",
    repr({"headers": {"X-aws-ec2-metadata-token": SECRET, "Authorization": f"Bearer {JWT}"}}),
    json.dumps({"inner": json.dumps({"SecretAccessKey": SECRET})}),
]


@pytest.mark.parametrize("text", EXCEPTIONS)
@pytest.mark.parametrize("form", ["json", "text"])
def test_credentials_in_an_exception_stay_out(lines: Lines, text: str, form: str) -> None:
    log = a_log(lines, "debug", form).bind(container=text)
    try:
        raise RuntimeError(text)
    except RuntimeError as e:
        log.failure("mistake", e)
        log(str(e), "debug", stdin=text, answer=text.encode())
    for secret in (SECRET, SESSION, JWT, KEY_ID, SECRET[:20], SESSION[:20], JWT.split(".")[1]):
        assert secret not in lines.text
    assert "[redacted]" in lines.text


def test_a_credential_at_the_cut_stays_out(lines: Lines) -> None:
    for before in range(LONGEST - 60, LONGEST, 7):
        a_log(lines)("x " * (before // 2) + SECRET)
    assert SECRET[:8] not in lines.text


REASON = "".join(chr(ord("a") + n % 26) + chr(ord("A") + n % 23) + str(n % 10) for n in range(200))


@pytest.mark.parametrize(
    "text",
    [
        f"red/{'0123456789abcdef' * 4}/net1: rtb-0123456789abcdef0 192.168.0.2/32 -> eni-0123456789abcdef0",
        "/var/lib/cni/floatip/claims/" + "0a" * 20 + ".json: unreadable",
        "arn:aws:sts::123456789012:assumed-role/FloatipAgentRoleOfOurClusterNumber1/i-0123456789abcdef0",
        f"not authorized. Encoded authorization failure message: {REASON}",
        "pod core/upf-0 uid 6f1ed002-ab5b-11f0-8de9-0242ac120002",
        "/var/run/netns/cni-6f1ed002-ab5b-11f0-8de9-0242ac120002",
    ],
    ids=["ids", "claim file", "role", "why AWS refused", "uid", "netns"],
)
def test_what_an_operator_needs_stays(text: str) -> None:
    assert redact(text) == text


# -- streams ------------------------------------------------------------------------------------------


def test_nobody_reads_and_nothing_fails() -> None:
    reading, writing = os.pipe()
    log = configure("info", "json", DescriptorStream(writing))
    os.close(reading)
    log("into a broken pipe")
    os.close(writing)
    log("into a closed descriptor")


def test_a_closed_file_object_stops_nothing(tmp_path: Path) -> None:
    file = (tmp_path / "log").open("w")
    file.close()
    configure("info", "text", file)("x")


def test_lines_of_many_threads_stay_whole() -> None:
    reading, writing = os.pipe()
    stream = DescriptorStream(writing, room=160 * 8000)  # a slow reader loses none
    log = configure("info", "json", stream)
    result = bytearray()

    def read() -> None:
        while data := os.read(reading, 65536):
            result.extend(data)

    def many() -> None:
        for _ in range(20):
            log("x" * 7000)

    reader = threading.Thread(target=read)
    reader.start()
    threads = [threading.Thread(target=many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stream.flush(60)
    os.close(writing)
    reader.join()
    os.close(reading)
    assert [len(json.loads(line)["msg"]) for line in result.splitlines()] == [7000] * 160


def test_nobody_waits_for_a_reader_that_does_not_read() -> None:
    """A runtime that is down leaves the pipe open, and full: no call, probe or SIGTERM may wait for it."""
    reading, writing = os.pipe()
    log = configure("info", "json", DescriptorStream(writing, room=200_000))
    done = threading.Event()

    def many() -> None:
        for number in range(2000):
            log("x" * 900, number=number)
        done.set()

    threading.Thread(target=many, daemon=True).start()
    assert done.wait(30), "it waits for the reader"
    result, last = bytearray(), b""
    while b'"number": 5000' not in last:
        data = os.read(reading, 65536)
        result.extend(data)
        last = bytes(result[-70_000:])
        if b'"lost"' not in last:
            log("more", number=5000) if waiting(log).flush(0) else None
    documents = [json.loads(line) for line in result.splitlines()]
    lost = [document for document in documents if "lost" in document]
    assert len(lost) == 1
    assert lost[0]["level"] == "warning"
    numbers = [document["number"] for document in documents if document.get("number", 5000) < 5000]
    assert numbers == sorted(numbers), "in order"
    assert lost[0]["lost"] == 2000 - len(numbers)
    assert 200 < len(numbers) < 500, "what the pipe and the room hold"
    os.close(writing)
    os.close(reading)


def test_what_waits_is_written_before_the_end() -> None:
    reading, writing = os.pipe()
    log = configure("info", "json", DescriptorStream(writing))
    for _ in range(100):
        log("x" * 1000)
    assert not waiting(log).flush(0)
    result = bytearray()

    def read() -> None:
        while data := os.read(reading, 4096):
            result.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    log.flush(30)
    os.close(writing)
    reader.join()
    os.close(reading)
    assert len(result.splitlines()) == 100


# -- repetition ---------------------------------------------------------------------------------------


def test_a_repeated_sentence_is_said_once_and_counted(lines: Lines) -> None:
    now = [0.0]
    seldom = DedupLog(a_log(lines), 300, clock=lambda: now[0])
    for _ in range(10):
        seldom("rtb-a: DescribeRouteTables: refused", "warning", table="rtb-a")
        now[0] += 20
    seldom("rtb-b: other")
    assert [document["msg"] for document in lines.documents()] == [
        "rtb-a: DescribeRouteTables: refused",
        "rtb-b: other",
    ]
    now[0] += 300
    seldom("rtb-a: DescribeRouteTables: refused", "warning", table="rtb-a")
    last = lines.documents()[-1]
    assert (last["suppressed"], last["table"]) == (9, "rtb-a")


def test_what_is_repeated_no_more_is_told_when_something_else_is(lines: Lines) -> None:
    now = [0.0]
    seldom = DedupLog(a_log(lines), 300, clock=lambda: now[0], now=lambda: now[0])
    for seconds in (0, 10, 20):
        now[0] = seconds
        seldom("a", "warning")
    now[0] = 301
    seldom("b")
    times = "first at 1970-01-01T00:00:10.000Z, last at 1970-01-01T00:00:20.000Z"
    assert [(item["msg"], item.get("suppressed"), item.get("last")) for item in lines.documents()] == [
        ("a", None, None),
        (f"a (2 times meanwhile, {times})", 2, "1970-01-01T00:00:20.000Z"),
        ("b", None, None),
    ]


def test_what_happened_is_said_each_time_it_happens(lines: Lines) -> None:
    """An event is no condition: the same words a second later are another one."""
    seldom = DedupLog(a_log(lines), 300, clock=lambda: 0.0)
    for _ in range(3):
        seldom("rtb-a was absent: created", event="created", table="rtb-a")
        seldom("rtb-a cannot be seen")
    output = [(item["msg"], item.get("suppressed")) for item in lines.documents()]
    assert output.count(("rtb-a was absent: created", None)) == 3
    assert len(output) == 4


@pytest.mark.parametrize(("form", "shown"), [("json", ["a", "b"]), ("text", "addresses=a,b\n")])
def test_a_list_stays_a_list(lines: Lines, form: str, shown: list[str] | str) -> None:
    a_log(lines, form=form)("x", addresses=("a", "b"), tables=())
    if isinstance(shown, list):
        assert lines.documents()[0]["addresses"] == shown
        assert "tables" not in lines.documents()[0]
    else:
        assert lines.text.endswith(shown)


def test_request_ids_do_not_make_a_sentence_new(lines: Lines) -> None:
    seldom = DedupLog(a_log(lines), 300, clock=lambda: 0.0)
    for n in range(5):
        seldom(f"refused (RequestID: 6f1ed002-ab5b-11f0-8de9-0242ac12000{n})")
    assert len(lines.documents()) == 1


def test_the_same_words_about_another_table_are_new(lines: Lines) -> None:
    seldom = DedupLog(a_log(lines), 300, clock=lambda: 0.0)
    for n in range(5):
        seldom(f"rtb-0123456789abcdef{n}: absent")
    assert len(lines.documents()) == 5


def test_repetition_is_remembered_in_bounded_memory(lines: Lines) -> None:
    seldom = DedupLog(a_log(lines), 300, clock=lambda: 0.0, most=8)
    for n in range(1000):
        seldom(f"sentence {n}")
    assert len(seldom._folded) == 8
    seldom("sentence 999")
    assert len(lines.documents()) == 1000


# -- others who speak in this process -----------------------------------------------------------------


@pytest.fixture
def hooks() -> Iterator[None]:
    """Whatever ``take_over`` takes is given back."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level, threading.excepthook, sys.excepthook)
    yield
    logging.captureWarnings(False)
    root.handlers[:], level, threading.excepthook, sys.excepthook = before
    root.setLevel(level)


def test_libraries_and_dying_threads_speak_through_the_log(lines: Lines, hooks: None) -> None:
    take_over(a_log(lines, "debug"))
    logging.getLogger("botocore.auth").debug("signature %s", SECRET)
    logging.getLogger("urllib3").warning("Retrying %s", "x")
    logging.getLogger("urllib3").warning("broken %d", "x")
    warnings.warn("old", stacklevel=1)

    def die() -> None:
        raise ValueError(SECRET)

    thread = threading.Thread(target=die, name="keeper")
    thread.start()
    thread.join()
    documents = lines.documents()
    assert [(document["level"], document.get("logger")) for document in documents] == [
        ("warning", "urllib3"),
        ("warning", "py.warnings"),
        ("error", None),
    ]
    assert documents[-1]["msg"] == "thread keeper has died: ValueError: [redacted]"
    assert "in die" in str(documents[-1]["traceback"])
    assert SECRET not in lines.text
