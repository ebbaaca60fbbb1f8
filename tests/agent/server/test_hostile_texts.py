"""What others write, however long: it is shown in part, and costs as much as its length, no more.

A regular expression holds the interpreter, and with it every call, the probes and the keeper of the node. So
the time of each text is measured by the processor, at one length and at four times that: work that is linear
takes four times as long, what is quadratic sixteen times.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.agent.observe.lines import LOOKED_AT, LineWriter
from cni_floatip.agent.observe.logs import DedupLog, Log
from cni_floatip.agent.observe.redaction import redact
from cni_floatip.model.errors import LONGEST
from tests.agent.server.test_handler import Agent, Written
from tests.support.samples import sampled

UNITS = (
    *("a-", "-", "a", "a ", "a=", "a:", "A0a", "/+=", " ", "'", '"', "\\", "=:", ".", ","),
    *(
        "token",
        "token ",
        "token=",
        "token'",
        "a-token",
        "token  '",
        "secret_",
        "secret_access_",
        "aws-secret-",
    ),
    *(
        "aws_secret_access_key",
        "password: ",
        "authorization:'",
        "authorization=bearer ",
        "x-amz-",
        "x-amz-signature",
    ),
    *(
        "AKIA",
        "AKIAAAAAAAAAAAAA",
        "ASIA-",
        "eyJ",
        "eyJaaaaaaaa-",
        "eyJaaaaaaaa.",
        "eyJ-",
        "arn:aws",
        "arn:aws-",
        "arn:aws:",
    ),
    *("Encoded authorization failure message: ", "0123abcd-", "0123abcd-0123-0123-0123-"),
)
"""What each pattern is made of: its words, its characters, and what makes it begin and fail."""
SHORT, GROWTH = 4096, 4
NEARLY_NOTHING = 0.004
"""Seconds of the processor; below that a ratio says nothing."""


def seconds(work: Callable[[], object]) -> float:
    """Return the processor's time for ``work`` when least disturbed."""
    results = []
    for _ in range(3):
        began = time.process_time()
        work()
        results.append(time.process_time() - began)
    return min(results)


def is_linear(work: Callable[[str], object], unit: str) -> bool:
    """Whether ``work`` on four times as long a text takes about four times as long."""
    text = unit * (SHORT * GROWTH // len(unit))
    return seconds(lambda: work(text)) < 2 * GROWTH * max(NEARLY_NOTHING, seconds(lambda: work(text[:SHORT])))


@pytest.mark.one_in(4)
@pytest.mark.parametrize("unit", UNITS)
def test_credentials_are_looked_for_in_linear_time(unit: str) -> None:
    assert [end for end in ("", "'", "=") if not is_linear(lambda text: redact(text + end), unit)] == []  # noqa: B023


@pytest.mark.one_in(4)
@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("unit", UNITS)
def test_a_line_is_written_in_linear_time(unit: str, form: str) -> None:
    log = Log({}, LineWriter("info", form, Written()))
    assert is_linear(lambda text: DedupLog(log)(text, pod=text), unit)


def test_of_megabytes_only_the_beginning_is_looked_at() -> None:
    log, text = Log({}, LineWriter("info", "json", Written())), "a-token 'x' eyJaaaaaaaa-"
    kept, all_of_it = text * (LOOKED_AT // len(text)), text * 500_000
    assert seconds(lambda: log(all_of_it)) < 4 * max(NEARLY_NOTHING, seconds(lambda: log(kept)))


def test_no_half_of_a_credential_is_shown_where_a_text_is_cut() -> None:
    """So much is blotted out that what stands at the cut moves into what is shown."""
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    for before in range(60):
        written = Written()
        tokens = "token=" + "x" * (LOOKED_AT - before - 20) + " id "
        Log({}, LineWriter("info", "json", written))(tokens + secret + " and more")
        assert secret[:6] not in written.text


# -- every way in -------------------------------------------------------------------------------------------

ENV = {"CNI_NETNS": "/run/netns/x", "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p"}
FULL: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "name": "n",
    "type": "floatip",
    "routeTables": {"tags": {"floatip": "core"}},
    "destination": ["100.64.8.0/22"],
    "podRoutes": {"to": ["10.0.0.0/8", "::/0"], "gateway": ["10.10.1.1", "fe80::1"], "sourceRouting": 200},
    "onDelete": "keep",
    "watchAddresses": ["192.168.0.0/28"],
    "timeoutSeconds": 30,
    "runtimeConfig": {"ips": ["1.2.3.4"]},
    "cni.dev/x": 1,
    "cni.dev/valid-attachments": [{"containerID": "c", "ifname": "net1"}],
    "prevResult": {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "net1", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/x"}],
        "ips": [{"address": "192.168.0.2/32", "interface": 0, "gateway": "1.1.1.1"}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "1.1.1.1"}],
    },
}
VERBS = ("ADD", "DEL", "CHECK", "GC", "STATUS")
READ_BY_ALL = ("cniVersion", "name", "prevResult", "cni.dev/valid-attachments")
"""Keys that calls other than ADD and CHECK may read."""
ALPHABETS = ("eyJaaaaaaaa-", "1", "1.", "::", "token '")
VARIABLES = ("CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH", "CNI_ARGS")
LONG = 60_000


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    for step, item in document.items() if isinstance(document, dict) else enumerate(document):
        if isinstance(item, dict | list) and item:
            yield from places(item, (*path, step))
        else:
            yield (*path, step)


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    document = copy.deepcopy(FULL)
    at: Any = document
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return document


def forms(text: str) -> Iterator[Any]:
    """The ways in which a long text can stand somewhere."""
    yield from (text, [text], {text: 1}, [text[:100]] * 600)


def holds_a_long_piece(answer: str, text: str) -> bool:
    return text[:200] in answer or text[-200:] in answer


@pytest.fixture
def handler(tmp_path: Path) -> Agent:
    return Agent(tmp_path, metadata=lambda _: Nothing())


class Nothing:
    """Metadata that an ADD finds nothing in, so that it ends there."""

    def close(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        from cni_floatip.model.errors import TryAgain

        raise TryAgain("no metadata here")


def judged(agent: Agent, verb: str, document: Any, text: str, env: dict[str, str]) -> str:
    """Make one call; return what is wrong with its answer, or with what it cost."""
    stdin = json.dumps(document).encode()
    agent.said.text = ""
    began = time.process_time()
    code, answer, _ = agent.ask(verb, stdin, **env)
    took = time.process_time() - began
    output = answer.get("msg", "") + answer.get("details", "")
    wrong = []
    if code == 999:
        wrong.append(f"999: {output[:200]}")
    if holds_a_long_piece(output, text):
        wrong.append(f"{len(output)} characters: {output[:80]}")
    if len(output) > 2 * LONGEST + 100:
        wrong.append(f"an answer of {len(output)} characters")
    if took > 1.5:
        wrong.append(f"{took:.1f} s of the processor")
    return "; ".join(wrong)


@pytest.mark.parametrize(
    "unit",
    sampled("test_a_long_text_in_any_place_is_shown_in_part_and_costs_little", ["a-", *ALPHABETS], ["a-"]),
)
def test_a_long_text_in_any_place_is_shown_in_part_and_costs_little(handler: Agent, unit: str) -> None:
    text = unit * (LONG // len(unit))
    wrong: dict[object, str] = {}
    for verb in VERBS:
        for path in places(FULL):
            if verb not in ("ADD", "CHECK") and path[0] not in READ_BY_ALL:
                continue
            for number, form in enumerate(forms(text)):
                if why := judged(handler, verb, changed(path, form), text, ENV):
                    wrong[verb, path, number] = why
        for name in VARIABLES:
            for value in (text, f"K={text}", f"{text}=K"):
                if why := judged(handler, verb, FULL, text, ENV | {name: value}):
                    wrong[verb, name] = why
    assert not wrong


def test_thousands_of_mistakes_are_counted_and_not_listed(handler: Agent) -> None:
    for document, code in (
        (FULL | {"routeTables": {"ids": [f"rtb-{n}x" for n in range(900)]}}, 7),
        (FULL | {f"key{n}": 1 for n in range(4_000)}, 2),
        (FULL | {"podRoutes": {"to": [f"10.0.{n}.1/24" for n in range(900)]}}, 7),
    ):
        stdin = json.dumps(document).encode()
        took = seconds(lambda: handler.ask("ADD", stdin, **ENV))  # noqa: B023
        result, answer, _ = handler.ask("ADD", stdin, **ENV)
        assert (result, answer["msg"].count(" | "), answer["msg"][-8:]) == (code, 50, "and more")
        assert took < 1.5
