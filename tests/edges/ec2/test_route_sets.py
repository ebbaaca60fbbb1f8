"""Route sets that are read when they are asked for, against botocore's own parse of the same answer."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any
from xml.sax.saxutils import escape

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from hypothesis import given
from hypothesis import strategies as st

from cni_floatip.edges.ec2.client import Vpc
from cni_floatip.edges.ec2.route_sets import EVENT, SEARCHES, RouteSet, cut
from cni_floatip.edges.ec2.sessions import Sdk
from cni_floatip.model.errors import Ec2Error, Ec2Fault
from cni_floatip.model.values import Network, RouteTable, RouteTarget
from lab.ec2.sample import Sample
from lab.ec2.simulated import SimulatedEC2

REGION = "eu-central-1"
VIP = ip_network("192.168.0.2/32")
ENI = {"networkInterfaceId": "eni-1", "instanceId": "i-1", "instanceOwnerId": "111122223333"}
KINDS: Mapping[str, Mapping[str, str]] = {
    "local": {"gatewayId": "local", "origin": "CreateRouteTable"},
    "internet gateway": {"gatewayId": "igw-1"},
    "VPN gateway, propagated": {"gatewayId": "vgw-1", "origin": "EnableVgwRoutePropagation"},
    "gateway endpoint": {"gatewayId": "vpce-1"},
    "egress-only": {"egressOnlyInternetGatewayId": "eigw-1"},
    "NAT": {"natGatewayId": "nat-1"},
    "NAT, blackhole": {"natGatewayId": "nat-1", "state": "blackhole"},
    "transit gateway": {"transitGatewayId": "tgw-1"},
    "peering": {"vpcPeeringConnectionId": "pcx-1"},
    "local gateway": {"localGatewayId": "lgw-1"},
    "carrier gateway": {"carrierGatewayId": "cagw-1"},
    "core network": {"coreNetworkArn": "arn:aws:networkmanager::111122223333:core-network/core-network-1"},
    "Oracle": {"odbNetworkArn": "arn:aws:odb:eu-central-1:111122223333:odb-network/1"},
    "address": {"ipAddress": "169.254.1.1"},
    "interface": ENI,
    "interface, blackhole": {**ENI, "state": "blackhole"},
    "interface, filtered": {**ENI, "state": "filtered"},
    "interface, advertised": {**ENI, "origin": "Advertisement"},
    "interface without instance": {"networkInterfaceId": "eni-2"},
    "interface without a name": {"networkInterfaceId": ""},
    "a kind to come": {"quantumGatewayId": "qgw-1"},
    "a field to come": {**ENI, "createTime": "2031-01-01T00:00:00Z"},
    "nothing": {},
}
"""Every kind of route (EC2 API reference, Route), and two that are not there yet."""


def route(destination: str, fields: Mapping[str, str]) -> str:
    """Return the item of a route. ``destination``: a network or a prefix list."""
    tag = "destinationPrefixListId" if destination.startswith("pl-") else "destinationCidrBlock"
    tag = "destinationIpv6CidrBlock" if ":" in destination else tag
    every = {tag: destination, "state": "active", "origin": "CreateRoute", **fields}
    return (
        "\n    <item>"
        + "".join(f"\n      <{name}>{escape(v)}</{name}>" for name, v in every.items())
        + "\n    </item>"
    )


def route_set(*routes: str) -> str:
    return f"<routeSet>{''.join(routes)}\n  </routeSet>"


def answer(*sets: str, before: str = "", token: str = "") -> bytes:
    """Return EC2's answer, with a table for each of ``sets``."""
    tables = "".join(
        f"\n <item>\n  <routeTableId>rtb-{number}</routeTableId><vpcId>vpc-1</vpcId><ownerId>1</ownerId>\n"
        f"  {one}<associationSet><item><routeTableId>rtb-{number}</routeTableId><subnetId>subnet-{number}"
        "</subnetId><main>false</main></item></associationSet><propagatingVgwSet/>"
        f"<tagSet><item><key>Set! S?</key><value>{number} &lt;routeSet&gt;</value></item></tagSet>\n </item>"
        for number, one in enumerate(sets)
    )
    next_token = f"<nextToken>{token}</nextToken>" if token else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<DescribeRouteTablesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
        f"<requestId>1</requestId>{before}<routeTableSet>{tables}\n</routeTableSet>{next_token}"
        "</DescribeRouteTablesResponse>"
    ).encode()


class Body(io.BytesIO):
    """An answer as urllib3 hands it over, in pieces."""

    def stream(self) -> Any:
        return iter(lambda: self.read(1000), b"")


class Ec2:
    """botocore's whole client, as ours, but for the wire."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = []
        self.vpc = Vpc(REGION, {}, sdk=(sdk := Sdk({})))
        meta = sdk.client(REGION, "", lambda call: call()).meta
        self.events = meta.events
        self.operation = meta.service_model.operation_model("DescribeRouteTables")
        self.events.register("before-send.ec2.DescribeRouteTables", self._send)

    def _send(self, request: Any, **_: Any) -> AWSResponse:
        status, body = self.answers.pop(0)
        return AWSResponse(request.url, status, HTTPHeaders(), Body(body))

    def cuts(self, body: bytes, status: int = 200) -> bool:
        """Whether anything is cut out of this answer; if not, botocore gets it as it came."""
        response, more = {"status_code": status, "body": body}, dict[str, Any]()
        cut(self.operation, response, more)
        assert bool(more) == (response["body"] != body)
        return bool(more)

    def read(self, *bodies: bytes, status: int = 200) -> tuple[RouteTable, ...]:
        self.answers = [(status, body) for body in bodies]
        return self.vpc.route_tables({"vpc-id": ["vpc-1"]})


@pytest.fixture(scope="module")
def both() -> Any:
    """Our client, and one whose answers are botocore's alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
        patch.delenv("AWS_ENDPOINT_URL_EC2", raising=False)
        ours, whole = Ec2(), Ec2()
        whole.events.unregister(EVENT, cut)
        yield ours, whole


@pytest.fixture
def ours(both: tuple[Ec2, Ec2]) -> Ec2:
    return both[0]


def is_cut(table: RouteTable) -> bool:
    return isinstance(table.routes, RouteSet)


def compare(both: tuple[Ec2, Ec2], *bodies: bytes) -> tuple[RouteTable, ...]:
    """Read with both; return our tables, which equal botocore's, asked one by one and as a whole."""
    ours, whole = (ec2.read(*bodies) for ec2 in both)
    for mine, theirs in zip(ours, whole, strict=True):
        assert isinstance(theirs.routes, dict)
        destinations = list(theirs.routes)
        for destination in destinations * 2:  # by search, later by index
            assert mine.routes[destination] == theirs.routes[destination]
            assert mine.routes.get(VIP) == theirs.routes.get(VIP)
        assert list(mine.routes) == destinations
        assert replace(mine, routes=dict(mine.routes)) == theirs
    again = both[0].read(*bodies)
    for mine, theirs in zip(again, whole, strict=True):
        assert len(mine.routes) == len(theirs.routes)  # the first question
        assert dict(mine.routes) == theirs.routes
    return ours


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("destination", ["10.0.0.0/8", "fd00::/64", "pl-1"])
def test_route_is_what_botocore_makes_of_it(both: tuple[Ec2, Ec2], kind: str, destination: str) -> None:
    others = [route(str(VIP), ENI), route("0.0.0.0/0", KINDS["NAT"])]
    (table,) = compare(both, answer(route_set(others[0], route(destination, KINDS[kind]), others[1])))
    assert is_cut(table)
    assert len(table.routes) == (2 if destination == "pl-1" else 3)


@pytest.mark.parametrize(
    "text", ["fd00::2/128", "fd00:0:0:0:0:0:0:2/128", "FD00::0002/128", "fd00:0000::2/128"]
)
def test_ipv6_is_known_in_every_spelling(both: tuple[Ec2, Ec2], text: str) -> None:
    (table,) = compare(both, answer(route_set(route("0.0.0.0/0", KINDS["NAT"]), route(text, ENI))))
    assert is_cut(table)
    assert table.routes[ip_network("fd00::2/128")] == RouteTarget("eni-1", is_eni=True)
    assert ip_network("fd00::3/128") not in table.routes


def test_destination_is_known_to_the_last_digit(both: tuple[Ec2, Ec2]) -> None:
    texts = ["192.168.0.2/3", "92.168.0.2/32", "192.168.0.20/32", "1192.168.0.2/32", "192.168.0.2/320"]
    (table,) = both[0].read(answer(route_set(*(route(text, ENI) for text in texts))))
    assert VIP not in table.routes
    assert len(table.routes) == len(texts)
    assert VIP not in table.routes


@pytest.mark.parametrize("first", [True, False], ids=["by search", "by index"])
def test_of_two_routes_to_one_destination_the_last_counts(both: tuple[Ec2, Ec2], *, first: bool) -> None:
    """As of botocore's list, however often the set was asked before: one may be static, one propagated."""
    body = answer(route_set(*(route(str(VIP), KINDS[kind]) for kind in ("interface", "NAT"))))
    tables = [ec2.read(body)[0] for ec2 in both]
    for table in () if first else tables:
        assert len(table.routes) == 1
    assert [table.routes[VIP].id for table in tables] == ["nat-1", "nat-1"]


def test_each_table_has_its_own_routes(both: tuple[Ec2, Ec2]) -> None:
    """Those without routes, in both spellings, stand between the others; associations and tags stay."""
    sets = [route_set(route(f"10.{n}.0.0/16", {"networkInterfaceId": f"eni-{n}"})) for n in range(4)]
    tables = compare(
        both, answer(sets[0], "<routeSet/>", sets[1], "<routeSet></routeSet>", sets[2], "", sets[3])
    )
    assert [str(next(iter(table.routes), None)) for table in tables] == [
        *("10.0.0.0/16", "None", "10.1.0.0/16", "None", "10.2.0.0/16", "None", "10.3.0.0/16")
    ]
    assert [is_cut(table) for table in tables] == [True, False, True, True, True, False, True]
    assert tables[2].subnets == {"subnet-2"}
    assert tables[2].tags == {"Set! S?": "2 <routeSet>"}


def test_pages_have_their_own_sets(both: tuple[Ec2, Ec2]) -> None:
    pages = [
        answer(*(route_set(route(f"10.{page}.{n}.0/24", ENI)) for n in range(2)), token="more" * (page < 2))
        for page in range(3)
    ]
    tables = compare(both, *pages)
    assert [str(next(iter(table.routes))) for table in tables] == [
        f"10.{page}.{n}.0/24" for page in range(3) for n in range(2)
    ]
    assert all(map(is_cut, tables))


CDATA = "<![CDATA[<routeSet>]]>"


@pytest.mark.parametrize(
    ("text", "cut_out"),
    [
        (answer(route_set(route("10.0.0.0/8", {"gatewayId": "a&b"})), route_set(route(str(VIP), ENI))), 1),
        (answer(route_set(route("10.0.0.0/8", {})).replace("/8", "&#47;8")), 0),
        (answer(route_set("<!-- ", route("10.0.0.0/8", ENI), " -->", route(str(VIP), ENI))), 0),
        (answer(route_set(route(str(VIP), ENI)), before="<!-- <routeSet> -->"), 0),
        (answer(route_set(route(str(VIP), ENI)), before=f"<note>{CDATA}</note>"), 0),
        (answer(route_set(route(str(VIP), ENI)), before="<?note <routeSet> ?>"), 0),
        (answer(route_set(route(str(VIP), ENI)).replace("<routeSet>", '<routeSet n="1">')), 0),
        (answer(route_set(route(str(VIP), ENI)).replace("<routeSet>", "<routeSet\n>")), 0),
        (answer(route_set(route(str(VIP), ENI)).replace("</routeSet>", "</routeSet >")), 0),
        (answer(route_set(route(str(VIP), ENI))).replace(b"UTF-8", b"ASCII"), 1),
        (answer(route_set(route(str(VIP), ENI))).split(b"\n", 1)[1], 1),
        (answer(route_set(route(str(VIP), ENI))).decode().replace("UTF-8", "UTF-16").encode("utf-16"), 0),
        (answer(route_set(route(str(VIP), ENI)).replace("\n", "").replace("  ", "")), 1),
        (answer(route_set(route(str(VIP), ENI)).replace("\n", "\r\n\t")), 1),
        (answer(), 0),
    ],
    ids=[
        *("entity", "destination with an entity", "comment in a set", "comment", "CDATA"),
        *("processing instruction", "attribute", "newline in the tag", "space in the end tag"),
        *("other encoding", "no declaration", "UTF-16", "no indentation", "tabs", "no tables"),
    ],
)
def test_what_is_not_plain_is_left_to_botocore(both: tuple[Ec2, Ec2], text: bytes, cut_out: int) -> None:
    assert sum(map(is_cut, compare(both, text))) == cut_out


def fault(call: Callable[[], object]) -> Ec2Fault:
    with pytest.raises(Ec2Error) as caught:
        call()
    return caught.value.fault


@pytest.mark.parametrize("at", [0.1, 0.3, 0.5, 0.7, 0.99])
def test_answer_that_was_cut_off_is_no_answer(both: tuple[Ec2, Ec2], at: float) -> None:
    whole = answer(*(route_set(*(route(f"10.{t}.{n}.0/24", ENI) for n in range(9))) for t in range(3)))
    for ec2 in both:
        assert fault(partial(ec2.read, whole[: int(len(whole) * at)])) is Ec2Fault.UNANSWERED


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("lost", [b"<routeSet>", b"</routeSet>"])
def test_sets_whose_tags_do_not_pair_are_not_cut(both: tuple[Ec2, Ec2], lost: bytes, number: int) -> None:
    """botocore gets the answer as it came, and refuses it."""
    pieces = answer(route_set(route(str(VIP), ENI)), route_set(route(str(VIP), ENI))).split(lost)
    pieces[number : number + 2] = [pieces[number] + pieces[number + 1]]
    assert not both[0].cuts(lost.join(pieces))
    for ec2 in both:
        assert fault(partial(ec2.read, lost.join(pieces))) is Ec2Fault.UNANSWERED


def test_sets_whose_tags_stand_in_the_wrong_order_are_not_cut(both: tuple[Ec2, Ec2]) -> None:
    text = answer(route_set(route(str(VIP), ENI)), route_set(route("10.0.0.0/8", ENI)))
    wrong = (
        text.replace(b"<routeSet>", b"?").replace(b"</routeSet>", b"<routeSet>").replace(b"?", b"</routeSet>")
    )
    assert not both[0].cuts(wrong)
    for ec2 in both:
        assert fault(partial(ec2.read, wrong)) is Ec2Fault.UNANSWERED


@pytest.mark.parametrize(
    ("status", "code", "meaning"),
    [(503, "RequestLimitExceeded", Ec2Fault.THROTTLED), (403, "UnauthorizedOperation", Ec2Fault.DENIED)],
)
def test_error_is_botocores(both: tuple[Ec2, Ec2], status: int, code: str, meaning: Ec2Fault) -> None:
    error = f"<Error><Code>{code}</Code><Message>{route_set(route(str(VIP), ENI))}</Message></Error>"
    for ec2 in both:
        body = f"<Response><Errors>{error}</Errors></Response>".encode()
        assert ec2.cuts(body)
        assert not ec2.cuts(body, status)
        assert fault(partial(ec2.read, body, status=status)) is meaning


@pytest.mark.parametrize("first", [True, False], ids=["by search", "by index"])
@pytest.mark.parametrize(
    "text",
    [
        route(str(VIP), ENI).replace("</networkInterfaceId>", "</networkInterfaceID>"),
        route(str(VIP), ENI).replace("<item>", '<item n="1">'),
        route(str(VIP), ENI).replace("</item>", ""),
    ],
    ids=["tags", "attribute", "no end"],
)
def test_item_that_cannot_be_read_is_a_passing_fault(ours: Ec2, text: str, *, first: bool) -> None:
    (table,) = ours.read(answer(route_set(route("10.0.0.0/8", ENI), text)))
    if not first:
        assert len(table.routes) == 2
    assert fault(lambda: table.routes.get(VIP)) is Ec2Fault.UNANSWERED


@pytest.mark.parametrize("text", ["fd00::1/64", "somewhere"])
def test_destination_that_is_no_network_is_a_passing_fault(ours: Ec2, text: str) -> None:
    (table,) = ours.read(answer(route_set(route(str(VIP), ENI), route(text, ENI))))
    assert fault(lambda: dict(table.routes)) is Ec2Fault.UNANSWERED


def test_mark_that_is_not_put_back_is_an_error(ours: Ec2) -> None:
    def forget(parsed: dict[str, Any], **_: Any) -> None:
        del parsed["RouteSets"]

    ours.events.register("after-call.ec2.DescribeRouteTables", forget)
    try:
        assert fault(lambda: ours.read(answer(route_set(route(str(VIP), ENI))))) is Ec2Fault.UNANSWERED
    finally:
        ours.events.unregister("after-call.ec2.DescribeRouteTables", forget)


def test_botocore_emits_the_event_over_http(ec2: SimulatedEC2, world: Sample) -> None:
    """If it does not any more, reads are right and slow: the routes of every table are parsed."""
    tables = Vpc(ec2.region, {}).route_tables({"vpc-id": [world.vpc]})
    assert len(tables) == 4
    assert all(map(is_cut, tables))


def test_many_threads_may_ask(ours: Ec2) -> None:
    networks = [IPv4Network((0x0A000000 + (n << 8), 24)) for n in range(500)]
    (table,) = ours.read(
        answer(route_set(*(route(str(net), {"gatewayId": f"igw-{net}"}) for net in networks)))
    )
    begin = threading.Barrier(8)
    wrong: list[Network] = []

    def ask() -> None:
        begin.wait()
        wrong.extend(net for net in networks if table.routes[net].id != f"igw-{net}")

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_narrowed_table_holds_no_answer(ours: Ec2) -> None:
    (table,) = ours.read(answer(route_set(route(str(VIP), ENI), route("10.0.0.0/8", KINDS["NAT"]))))
    narrowed = table.narrowed([VIP, ip_network("192.168.0.3/32")])
    assert narrowed.routes == {VIP: RouteTarget("eni-1", is_eni=True)}
    assert isinstance(narrowed.routes, dict)
    assert (narrowed.id, narrowed.tags, narrowed.subnets) == (table.id, table.tags, table.subnets)


NETWORKS = st.one_of(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)).map(lambda p: IPv4Network(p, strict=False)),
    st.tuples(st.integers(0, 2**128 - 1), st.integers(0, 128)).map(lambda p: IPv6Network(p, strict=False)),
)
TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["Cc"]), max_size=12)
TAGS = sorted({tag for fields in KINDS.values() for tag in fields} - {"state", "origin"})


@st.composite
def answers(draw: Any) -> bytes:
    """An answer of EC2's shape: any destinations, each once in a table; any fields, known or not."""

    def item(network: Network) -> str:
        fields = draw(st.dictionaries(st.sampled_from(TAGS), TEXT, max_size=3))
        fields["state"] = draw(st.sampled_from(["active", "blackhole", "filtered", ""]))
        fields["origin"] = draw(
            st.sampled_from(["CreateRoute", "EnableVgwRoutePropagation", "Advertisement"])
        )
        text = str(network)
        if network.version == 6 and draw(st.booleans()):
            text = draw(st.sampled_from([network.exploded, network.exploded.upper()]))
        return route(text, fields)

    def table(networks: Sequence[Network]) -> str:
        lists = [route(f"pl-{n}", {"gatewayId": "igw-1"}) for n in range(draw(st.integers(0, 2)))]
        items = draw(st.permutations([*map(item, networks), *lists]))
        return route_set(*items) if items or draw(st.booleans()) else "<routeSet/>"

    some = draw(st.lists(st.lists(NETWORKS, unique=True, max_size=SEARCHES + 3), max_size=4))
    result = answer(*map(table, some))
    return result if draw(st.booleans()) else result.replace(b"\n", b"").replace(b"  ", b"")


@given(body=answers())
def test_every_answer_reads_as_botocore_reads_it(both: tuple[Ec2, Ec2], body: bytes) -> None:
    compare(both, body)
