"""Cuts route sets out of DescribeRouteTables' answer before botocore parses it, and reads them when asked.

A table may hold a thousand routes, and a caller asks for one or two of them. Nearly all that a read costs is
botocore's dictionary of each route. So ``cut`` takes the content of each ``<routeSet>`` out of the document
and leaves a mark in its place; botocore parses the rest: tables, tags, associations, errors, paging.
``RouteSet`` finds its destinations by one regular expression, and parses an item when it is asked for.

botocore parses whole: an answer with an error status; one with a comment, CDATA or a processing instruction;
one whose tags do not pair; a set with an entity; ``<routeSet/>`` and every other spelling of the tag.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any
from xml.etree import ElementTree as ET

from ...model.errors import Ec2Error, Ec2Fault
from ...model.values import Network, RouteTarget
from .answers import network_of, target_of

EVENT = "before-parse.ec2.DescribeRouteTables"
"""botocore emits it with the answer's body. Without it every answer is parsed whole."""
CUT = "RouteSets"
"""The key that ``cut`` adds to botocore's parsed answer: the ``RouteSet`` of each mark."""

SEARCHES = 4
"""How many destinations a set searches its text for; an index costs as much as six searches."""

_OPEN, _CLOSE = b"<routeSet>", b"</routeSet>"
_DESTINATION = re.compile(rb"<destination(?:Ipv6)?CidrBlock>([^<]+)<")


class RouteSet(Mapping[Network, RouteTarget]):
    """The routes of one table as EC2 wrote them, in ``answer`` from ``begin`` to ``end``. For many threads.

    ``members`` maps the tags of a route to botocore's names. Every method raises Ec2Error (UNANSWERED) for
    what has not EC2's shape, because the next answer may be readable.
    """

    __slots__ = ("_answer", "_begin", "_end", "_members", "_places", "_searches")

    def __init__(self, answer: bytes, begin: int, end: int, members: Mapping[str, str]) -> None:
        self._answer, self._begin, self._end = answer, begin, end
        self._members = members
        self._searches = SEARCHES
        self._places: Mapping[bytes, int] | None = None

    def __getitem__(self, destination: Network) -> RouteTarget:
        place = self._place(destination)
        begin = self._answer.rfind(b"<item>", self._begin, place)
        end = self._answer.find(b"</item>", place, self._end)
        try:
            item = ET.fromstring(self._answer[begin:end] + b"</item>")  # noqa: S314 (``_is_plain``)
        except ET.ParseError as e:
            raise _unreadable(e) from e
        texts = {field.tag: field.text or "" for field in item}
        return target_of({name: texts[tag] for tag, name in self._members.items() if tag in texts})

    def __iter__(self) -> Iterator[Network]:
        return map(_network, self._index())

    def __len__(self) -> int:
        return len(self._index())

    def _place(self, destination: Network) -> int:
        """Return where a destination stands last, as botocore's callers read it. Raises KeyError."""
        text = str(destination).encode()
        if self._places is None and self._searches > 0:
            self._searches -= 1
            place = self._answer.rfind(b"CidrBlock>%s</" % text, self._begin, self._end)
            if place >= 0 or destination.version == 4:
                if place < 0:
                    raise KeyError(destination)
                return place
        return self._index()[text]

    def _index(self) -> Mapping[bytes, int]:
        """Return the place of each destination in Python's spelling."""
        if self._places is None:
            matches = _DESTINATION.finditer(self._answer, self._begin, self._end)
            places = {match[1]: match.start() for match in matches}
            if self._answer.find(b":", self._begin, self._end) >= 0:
                places = {_canonical(text): place for text, place in places.items()}
            self._places = places
        return self._places


def cut(
    operation_model: Any, response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: Any
) -> None:
    """Cut the route sets out of an answer: botocore's handler of ``EVENT``.

    A mark is a destination that is no network, so a set that is not put back is an error and no empty table.
    """
    body: bytes = response_dict["body"]
    if response_dict["status_code"] >= 300 or not _is_plain(body):
        return
    members = _members(operation_model)
    pieces: list[bytes] = []
    sets: dict[str, RouteSet] = {}
    at = 0
    for begin, end in _contents(body):
        if body.find(b"&", begin, end) < 0:
            mark = f"route set {len(sets)}"
            sets[mark] = RouteSet(body, begin, end, members)
            item = f"<item><destinationCidrBlock>{mark}</destinationCidrBlock></item>"
            pieces += body[at:begin], item.encode()
            at = end
    if sets:
        response_dict["body"] = b"".join((*pieces, body[at:]))
        customized_response_dict[CUT] = sets


def _is_plain(body: bytes) -> bool:
    """Whether no comment, CDATA, declaration or processing instruction follows the XML declaration.

    The search for one character comes first, because it is 30 times quicker.
    """
    after = body.find(b"?>", 0, 200) + 1
    return not any(body.find(sign, after) >= 0 <= body.find(b"<" + sign, after) for sign in (b"!", b"?"))


def _contents(body: bytes) -> list[tuple[int, int]]:
    """Return where the content of each route set begins and ends; nothing if the tags do not pair.

    Routes have no capital S (except in a name to come), and the search for one character is quick.
    """
    openings: list[int] = []
    closings: list[int] = []
    at = body.find(b"S")
    while at >= 0:
        if body.startswith(_OPEN, at - _OPEN.index(b"S")):
            openings.append(at + len(b"Set>"))
        elif body.startswith(_CLOSE, at - _CLOSE.index(b"S")):
            closings.append(at - _CLOSE.index(b"S"))
        at = body.find(b"S", at + 1)
    bounds = [bound for pair in zip(openings, closings, strict=False) for bound in pair]
    pairs = len(openings) == len(closings) and bounds == sorted(bounds)
    return list(zip(openings, closings, strict=True)) if pairs else []


@cache
def _members(operation: Any) -> Mapping[str, str]:
    """Return botocore's name of each tag of a route, in its own order."""
    tables = operation.output_shape.members["RouteTables"]
    routes = tables.member.members["Routes"]
    return {shape.serialization["name"]: name for name, shape in routes.member.members.items()}


def _canonical(text: bytes) -> bytes:
    """Return a destination in Python's spelling: an IPv6 network has several."""
    return str(_network(text)).encode() if b":" in text else text


def _network(text: bytes) -> Network:
    try:
        return network_of(text.decode())
    except ValueError as e:
        raise _unreadable(e) from e


def _unreadable(e: Exception) -> Ec2Error:
    return Ec2Error(Ec2Fault.UNANSWERED, "DescribeRouteTables", "", f"a route that cannot be read: {e!r}")
