"""The node configuration: nothing is allowed that it does not say, and each refusal names file and place."""

import json
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from cni_floatip.config.election import Elections
from cni_floatip.config.nodeconf import (
    MINIMAL,
    AllowedDestination,
    NodeConf,
    SocketAddress,
    WatchLimits,
    load_forgivingly,
    needs_exact_entry,
)
from cni_floatip.model.errors import InvalidConfig
from cni_floatip.model.values import RouteTable

REFUSED = [
    pytest.param(
        {"allowedDestinations": [{"cidr": "192.168.0.1/24"}]},
        "$.allowedDestinations[0].cidr: 192.168.0.1/24 has host bits set; write 192.168.0.0/24",
        id="host-bits",
    ),
    pytest.param(
        {"allowedDestinations": [{"namespaces": ["core"]}]},
        '$.allowedDestinations[0].cidr: missing, for example "192.168.0.0/24"',
        id="C09-no-cidr",
    ),
    pytest.param(
        {"allowedDestinations": ["192.168.0.0/24"]},
        '$.allowedDestinations[0]: "192.168.0.0/24" is not an object',
        id="C09-bare-cidr",
    ),
    pytest.param(
        {"allowedDestinations": [{"cidr": "192.168.0.0/24", "namespaces": []}]},
        "$.allowedDestinations[0].namespaces: [] is empty",
        id="C09-no-namespace",
    ),
    pytest.param(
        {"allowedDestinations": [{"cidr": "192.168.0.0/24", "namespaces": ["Core"]}]},
        '$.allowedDestinations[0].namespaces[0]: "Core" is not a namespace pattern such as "core-*"',
        id="C09-namespace",
    ),
    pytest.param(
        {"allowedDestinations": [{"cidr": "169.254.168.0/22"}]},
        "$.allowedDestinations[0].cidr: 169.254.168.0/22 is link-local (instance metadata, DNS, time): "
        "never a destination",
        id="never",
    ),
    pytest.param(
        {"allowedRouteTables": {"all": True}},
        '$.allowedRouteTables.all: unknown key "all" with value true',
        id="C08-all-tables",
    ),
    pytest.param(
        {"roles": {"1111": "arn:aws:iam::111122223333:role/floatip"}},
        '$.roles["1111"]: "1111" is not an account id such as "111122223333"',
        id="C09-account",
    ),
    pytest.param(
        {"roles": {"111122223333": "me"}},
        '$.roles["111122223333"]: "me" is not a role ARN such as "arn:aws:iam::111122223333:role/floatip"',
        id="C09-role",
    ),
    pytest.param(
        {"roles": {"111122223333": "arn:aws:iam::444455556666:role/floatip"}},
        '$.roles["111122223333"]: arn:aws:iam::444455556666:role/floatip is a role of account 444455556666; '
        "the route tables' owner is 111122223333",
        id="role-of-another-account",
    ),
    pytest.param(
        {"sourceDestCheck": False},
        '$.sourceDestCheck: false is not "disable", "require" or "ignore"',
        id="C09-source-dest-check",
    ),
    pytest.param({"dataDir": "state"}, '$.dataDir: "state" is not an absolute path', id="C09-relative-path"),
    pytest.param(
        {"socketPath": "/" + "x" * 107},
        "$.socketPath: has 108 bytes; the kernel takes at most 107",
        id="long-socket-path",
    ),
    pytest.param(
        {"metricsAddress": "localhost:9818"},
        '$.metricsAddress: "localhost:9818" is not IP:port, such as 127.0.0.1:9818 or [::]:9818',
        id="metrics-by-name",
    ),
    pytest.param(
        {"healthAddress": "127.0.0.1:65536"},
        '$.healthAddress: "127.0.0.1:65536" is not IP:port, such as 127.0.0.1:9818 or [::]:9818',
        id="port",
    ),
    pytest.param({"watchLimits": {"burst": 0}}, "$.watchLimits.burst: 0 is less than 1", id="C09-burst"),
    pytest.param(
        {"elections": True}, "$.elections: true is not an object or null", id="C09-elections-switched-on"
    ),
    pytest.param(
        {"elections": {"namespace": "Floatip"}},
        '$.elections.namespace: "Floatip" is not an elections namespace such as "floatip-elections"',
        id="C09-elections-namespace",
    ),
    pytest.param(
        {"elections": {"leaseSeconds": 2.5}},
        "$.elections.leaseSeconds: 2.5 is not a whole number",
        id="C09-lease-in-parts",
    ),
    pytest.param(
        {"elections": {"vetoSeconds": 60.5}},
        "$.elections.vetoSeconds: 60.5 is not a whole number",
        id="C09-veto-in-parts",
    ),
    pytest.param(
        {"elections": {"renewSeconds": 0.09}},
        "$.elections.renewSeconds: 0.09 is less than 0.1",
        id="C09-renewals-too-many",
    ),
    pytest.param(
        {"elections": {"renewSeconds": 1}},
        "$.elections.renewSeconds: leaseSeconds 2 is less than 4 x renewSeconds 1, so lost renewals would "
        "pass for a death; write leaseSeconds 4, or a smaller renewSeconds",
        id="renewals-beside-the-default-lease",
    ),
    pytest.param(
        {"elections": {"renewSeconds": 1, "leaseSeconds": 3}},
        "$.elections.leaseSeconds: leaseSeconds 3 is less than 4 x renewSeconds 1, so lost renewals would "
        "pass for a death; write leaseSeconds 4, or a smaller renewSeconds",
        id="lease-of-three-renewals",
    ),
    pytest.param(
        {"elections": {"renewSeconds": 0.2, "leaseSeconds": 1}},
        "$.elections.leaseSeconds: leaseSeconds 1 leaves a node 0.8 s to reconnect to the API, which takes "
        "more than the 1 s that a call waits for its answer; write 2",
        id="lease-too-short-to-reconnect",
    ),
    pytest.param(
        {"elections": {"vetoSeconds": 2}},
        "$.elections.vetoSeconds: vetoSeconds 2 is not more than leaseSeconds 2, so a restart of the agent "
        "would move the addresses of its node; write vetoSeconds 60",
        id="veto-without-effect",
    ),
    pytest.param(
        {"elections": {"leaseSeconds": 60}},
        "$.elections.leaseSeconds: vetoSeconds 60 is not more than leaseSeconds 60, so a restart of the "
        "agent would move the addresses of its node; write vetoSeconds 120",
        id="lease-beside-the-default-veto",
    ),
    pytest.param(
        {"elections": {"leaseSeconds": "2s", "renewSeconds": 14}},
        '$.elections.leaseSeconds: "2s" is not a whole number',
        id="C09-times-are-compared-only-where-each-is-sound",
    ),
    pytest.param(
        {"elections": {"onCordons": True}},
        '$.elections.onCordons: unknown key "onCordons" with value true; did you mean onCordon?',
        id="C08-elections-typo",
    ),
    pytest.param(
        {"metricAddress": 1},
        '$.metricAddress: unknown key "metricAddress" with value 1; did you mean metricsAddress?',
        id="C08-typo",
    ),
]


@pytest.mark.parametrize(("document", "message"), REFUSED)
def test_refused_with_file_and_place(document: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document))
    with pytest.raises(InvalidConfig) as refused:
        NodeConf.load(str(path))
    assert refused.value.msg == f"{path}: {message}"


def test_without_the_file_nothing_is_allowed_and_a_minimal_one_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "absent.json"
    with pytest.raises(InvalidConfig) as refused:
        NodeConf.load(str(path))
    assert refused.value.msg == (f"{path} does not exist, so no destination and no route table is allowed")
    assert refused.value.details == f"a minimal one: {MINIMAL}"
    path.write_text(MINIMAL)
    assert NodeConf.load(str(path)).allows_destination(ip_network("192.168.0.2/32"), "core-1")


def test_a_file_that_is_no_json_is_named_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{\n"allowedDestinations": [}')
    with pytest.raises(InvalidConfig) as refused:
        NodeConf.load(str(path))
    assert refused.value.msg == f"{path}: line 2 column 25: not JSON: Expecting value"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig) as refused:
        NodeConf.load(str(tmp_path))
    assert refused.value.msg == f"{tmp_path} cannot be read: Is a directory"


def test_an_empty_policy_allows_nothing() -> None:
    policy = NodeConf.parse({})
    assert not policy.allows_destination(ip_network("192.168.0.2/32"), "core")
    assert not policy.allows_table(RouteTable("rtb-1", "vpc-1", "111122223333", {}, {"floatip": "*"}))


def test_every_key_of_nodeconf_is_parsed() -> None:
    policy = NodeConf.parse(
        {
            "roles": {"111122223333": "arn:aws-cn:iam::111122223333:role/path/floatip"},
            "watchLimits": {"addresses": 32},
            "metricsAddress": None,
            "healthAddress": "[::1]:9000",
            "logFormat": "text",
            "releaseGraceSeconds": 0,
        }
    )
    assert policy.roles == {"111122223333": "arn:aws-cn:iam::111122223333:role/path/floatip"}
    assert policy.watch_limits == WatchLimits(addresses=32, seconds_per_change=5, burst=4)
    assert policy.metrics_address is None
    assert policy.health_address == SocketAddress("::1", 9000)
    assert str(policy.health_address) == "[::1]:9000"
    assert (policy.log_format, policy.release_grace_seconds) == ("text", 0)


def test_elections_are_off_until_the_key_is_there() -> None:
    assert NodeConf.parse({}).elections is None
    assert NodeConf.parse({"elections": None}).elections is None
    assert NodeConf.parse({"elections": {}}).elections == Elections(
        namespace="floatip-elections",
        renew_seconds=0.5,
        lease_seconds=2,
        veto_seconds=60,
        on_cordon=True,
        pod_label=False,
    )


def test_every_key_of_elections_is_parsed() -> None:
    written = {
        "namespace": "leases",
        "renewSeconds": 2,
        "leaseSeconds": 8.0,
        "vetoSeconds": 120.0,
        "onCordon": False,
        "podLabel": True,
    }
    elections = NodeConf.parse({"elections": written}).elections
    assert elections == Elections("leases", 2, 8, 120, on_cordon=False, pod_label=True)
    # A Lease's duration is an int32, which an API server does not read from 8.0.
    assert [type(seconds) for seconds in (elections.lease_seconds, elections.veto_seconds)] == [int, int]


@pytest.mark.parametrize(("renew", "lease"), [(0.5, 2), (0.75, 3), (0.1, 2), (15, 60), (2, 8), (0.25, 2)])
def test_times_that_hold_together_are_accepted(renew: float, lease: int) -> None:
    times = {"renewSeconds": renew, "leaseSeconds": lease, "vetoSeconds": lease + 1}
    assert NodeConf.parse({"elections": times}).elections


POLICY = NodeConf.parse(
    {
        "allowedDestinations": [
            {"cidr": "192.168.0.0/16", "namespaces": ["core-*"]},
            {"cidr": "192.168.7.0/24", "namespaces": ["edge", "ra?"]},
            {"cidr": "10.10.254.0/28"},
            {"cidr": "10.0.0.0/8", "namespaces": ["core-1"]},
            {"cidr": "2001:db8::/48"},
        ],
        "allowedRouteTables": {"ids": ["rtb-9"], "tags": {"floatip": "*", "env": "lab"}},
    }
)


@pytest.mark.parametrize(
    ("network", "namespace", "entry"),
    [
        pytest.param("192.168.0.2/32", "core-1", "192.168.0.0/16", id="inside"),
        pytest.param("192.168.0.2/32", "core", None, id="glob-needs-the-dash"),
        pytest.param("192.168.0.2/32", "my-core-1", None, id="glob-is-anchored"),
        pytest.param("192.168.7.2/32", "core-1", "192.168.0.0/16", id="narrower-entry-of-another-namespace"),
        pytest.param("192.168.7.2/32", "edge", "192.168.7.0/24", id="by-name"),
        pytest.param("192.168.7.2/32", "ran", "192.168.7.0/24", id="question-mark"),
        pytest.param("192.168.7.2/32", "rain", None, id="question-mark-is-one-character"),
        pytest.param("192.168.8.2/32", "edge", None, id="beside"),
        pytest.param("192.168.0.0/15", "core-1", None, id="wider-than-the-entry"),
        pytest.param("192.168.0.2/32", "", None, id="outside-kubernetes-no-namespace-matches"),
        pytest.param("10.10.254.0/28", "", "10.10.254.0/28", id="outside-kubernetes-every-namespace"),
        pytest.param("10.10.254.0/28", "core-1", "10.10.254.0/28", id="exact-before-wider"),
        pytest.param("2001:db8::5/128", "any", "2001:db8::/48", id="v6"),
        pytest.param("2001:db8:1::5/128", "any", None, id="v6-beside"),
    ],
)
def test_which_entry_allows(network: str, namespace: str, entry: str | None) -> None:
    destination = POLICY.entry_for(ip_network(network), namespace)
    assert (str(destination.cidr) if destination else None) == entry
    assert POLICY.allows_destination(ip_network(network), namespace) is (entry is not None)


def test_an_exact_entry_names_the_network_itself() -> None:
    entry = AllowedDestination(ip_network("10.0.0.0/8"), ("core-1", "edge"))
    assert entry.exact(ip_network("10.0.0.0/8"))
    assert not entry.exact(ip_network("10.0.0.0/16"))
    assert str(entry) == "10.0.0.0/8 for core-1, edge"


@pytest.mark.parametrize(
    ("network", "answer"),
    [
        pytest.param("192.168.0.0/16", False, id="16"),
        pytest.param("192.168.0.0/15", True, id="shorter-than-16"),
        pytest.param("2001:db8::/48", False, id="48"),
        pytest.param("2001:db8::/47", True, id="shorter-than-48"),
        pytest.param("10.10.0.0/16", True, id="is-a-vpc-cidr"),
        pytest.param("10.10.254.0/24", False, id="inside-the-vpc"),
        pytest.param("100.64.0.0/18", True, id="contains-the-second-vpc-cidr"),
    ],
)
def test_what_needs_an_exact_entry(network: str, answer: bool) -> None:
    vpc = [ip_network(cidr) for cidr in ("10.10.0.0/16", "100.64.8.0/22", "2600:1f14::/56")]
    assert needs_exact_entry(ip_network(network), vpc) is answer


@pytest.mark.parametrize(
    ("table", "tags", "answer"),
    [
        pytest.param("rtb-9", {}, True, id="by-id"),
        pytest.param("rtb-1", {"floatip": "x", "env": "lab"}, True, id="by-tags"),
        pytest.param("rtb-1", {"floatip": "x"}, False, id="all-tags-must-match"),
        pytest.param("rtb-1", {"floatip": "x", "env": "prod"}, False, id="value-differs"),
        pytest.param("rtb-1", {}, False, id="neither"),
    ],
)
def test_which_tables_may_be_written(table: str, tags: dict[str, str], answer: bool) -> None:
    assert POLICY.allows_table(RouteTable(table, "vpc-1", "111122223333", {}, tags)) is answer


@pytest.mark.parametrize(
    ("text", "directories"),
    [
        ('{"dataDir": "/a", "spoolDir": "/b", "unheard": "of"}', ("/a", "/b")),
        ('{"dataDir": "/a", "spoolDir": 7}', ("/a", NodeConf().spool_dir)),
        ('{"spoolDir": "/b", "dataDir": []}', (NodeConf().data_dir, "/b")),
        ("[]", (NodeConf().data_dir, NodeConf().spool_dir)),
        ("{", (NodeConf().data_dir, NodeConf().spool_dir)),
    ],
)
def test_of_a_policy_with_faults_a_del_believes_where_the_directories_are(
    tmp_path: Path, text: str, directories: tuple[str, str]
) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    sentences: list[str] = []
    conf = load_forgivingly({"FLOATIP_CONFIG": str(file)}, sentences.append)
    assert (conf.data_dir, conf.spool_dir) == directories
    assert conf == replace(NodeConf(), data_dir=conf.data_dir, spool_dir=conf.spool_dir)
    assert str(file) in sentences[0]
