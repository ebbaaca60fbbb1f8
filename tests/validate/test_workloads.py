"""``floatipctl validate``: Deployments and StatefulSets whose pods are elected, and networks that are."""

from __future__ import annotations

import contextlib
import copy
import json
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_floatip import cli
from cni_floatip.config import election
from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.validate.report import compare, examine
from tests.validate.test_networks import FLOATIP, conflist, ipvlan, nad

ELECTED = FLOATIP | {"activate": "ready"}
ANNOTATION = "k8s.v1.cni.cncf.io/networks"
LABELS = {"app": "web"}
MINE = {"matchLabels": LABELS}
HOSTS = {"topologyKey": "kubernetes.io/hostname", "labelSelector": MINE}
ZONES = {
    "topologyKey": "topology.kubernetes.io/zone",
    "maxSkew": 1,
    "whenUnsatisfiable": "DoNotSchedule",
    "labelSelector": MINE,
}


@pytest.fixture(autouse=True)
def _released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(election, "RELEASED", True)


def elected(*addresses: str, name: str = "vip", **keys: Any) -> dict[str, Any]:
    """Return an elected network; ``keys`` are those of ``election``."""
    return nad(conflist(ipvlan(*addresses), ELECTED | ({"election": keys} if keys else {})), name)


def deployment(**changes: Any) -> dict[str, Any]:
    """Return a Deployment with nothing to remark; ``changes`` by path, with ``__`` for each dot."""
    spec: dict[str, Any] = {
        "replicas": 2,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        "selector": MINE,
        "template": {
            "metadata": {"labels": LABELS, "annotations": {ANNOTATION: "vip@net1"}},
            "spec": {
                "affinity": {
                    "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [HOSTS]},
                },
                "topologySpreadConstraints": [ZONES],
                "containers": [{"name": "web", "lifecycle": {"preStop": {"sleep": {"seconds": 5}}}}],
            },
        },
    }
    raw = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
    raw = copy.deepcopy(raw)
    for path, value in changes.items():
        *parents, last = path.split("__")
        where: Any = raw
        for key in parents:
            where = where[key]
        if value is None:
            del where[last]
        else:
            where[last] = value
    return raw


def judged(*documents: Any, **options: Any) -> list[str]:
    """Return all findings about documents in one file, and about what is between them."""
    report = examine("f", b"".join(f"---\n{json.dumps(one)}\n".encode() for one in documents), **options)
    compare([report])
    return [str(finding).removeprefix("f: ") for finding in report.findings]


def remarked(raw: Any) -> dict[str, str]:
    """Return what is said of a Deployment, each text by its path."""
    label = "Deployment web: "
    lines = judged(elected(), raw)
    assert all(line.startswith(label) for line in lines), lines
    return dict(line.removeprefix(label).split(": warning: ", 1) for line in lines)


def test_a_pair_that_a_failover_and_a_rollout_leave_alone() -> None:
    assert judged(elected(), deployment()) == []


@pytest.mark.parametrize("number", [0, 1, None])
def test_fewer_than_two_replicas(number: int | None) -> None:
    (path, text), *others = remarked(deployment(spec__replicas=number)).items()
    assert (path, others) == ("$.spec.replicas", [])
    assert text.startswith(f"{1 if number is None else number}: nobody is there to take over")


POD = "spec__template__spec__"
HOST, ZONE = "$.spec.template.spec.affinity", "$.spec.template.spec.topologySpreadConstraints"
REVISION = {"matchLabelKeys": ["pod-template-hash"]}


def against(*terms: Any) -> dict[str, Any]:
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": list(terms)}}


def selecting(**selector: Any) -> dict[str, Any]:
    return HOSTS | {"labelSelector": selector}


def expression(operator: str, *values: str, key: str = "app") -> dict[str, Any]:
    return selecting(matchExpressions=[{"key": key, "operator": operator, "values": list(values)}])


PLACED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no affinity": ({"affinity": None}, [HOST]),
    "no spread": ({"topologySpreadConstraints": None}, [ZONE]),
    "neither": ({"affinity": None, "topologySpreadConstraints": None}, [HOST, ZONE]),
    "a preference": (
        {
            "affinity": {
                "podAntiAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {"weight": 100, "podAffinityTerm": HOSTS}
                    ]
                }
            }
        },
        [HOST],
    ),
    "a spread that gives way": (
        {"topologySpreadConstraints": [ZONES | {"whenUnsatisfiable": "ScheduleAnyway"}]},
        [ZONE],
    ),
    "a spread by default strict": (
        {"topologySpreadConstraints": [{key: ZONES[key] for key in ZONES if key != "whenUnsatisfiable"}]},
        [],
    ),
    "an uneven spread": ({"topologySpreadConstraints": [ZONES | {"maxSkew": 2}]}, [ZONE]),
    "a spread over hosts alone": (
        {"topologySpreadConstraints": [ZONES | {"topologyKey": "kubernetes.io/hostname"}]},
        [ZONE],
    ),
    "a spread of others": (
        {"topologySpreadConstraints": [ZONES | {"labelSelector": {"matchLabels": {"app": "db"}}}]},
        [ZONE],
    ),
    "a spread of nobody": (
        {"topologySpreadConstraints": [{key: ZONES[key] for key in ZONES if key != "labelSelector"}]},
        [ZONE],
    ),
    "a spread over zone ids": (
        {"topologySpreadConstraints": [ZONES | {"topologyKey": "topology.k8s.aws/zone-id"}]},
        [],
    ),
    # A host is spread over evenly also with two pods of a rollout on it.
    "a spread over hosts in the place of an affinity": (
        {
            "affinity": None,
            "topologySpreadConstraints": [ZONES, ZONES | {"topologyKey": "kubernetes.io/hostname"}],
        },
        [HOST],
    ),
    "apart by zone, and so by host": (
        {
            "affinity": against(HOSTS | {"topologyKey": "topology.kubernetes.io/zone"}),
            "topologySpreadConstraints": None,
        },
        [],
    ),
    "apart from others": ({"affinity": against(selecting(matchLabels={"app": "db"}))}, [HOST]),
    "apart from pods with more labels": (
        {"affinity": against(selecting(matchLabels={**LABELS, "tier": "x"}))},
        [HOST],
    ),
    "apart from every pod": ({"affinity": against(selecting())}, []),
    "apart from nobody": ({"affinity": against({"topologyKey": "kubernetes.io/hostname"})}, [HOST]),
    "apart in another namespace": ({"affinity": against(HOSTS | {"namespaces": ["other"]})}, [HOST]),
    "apart within a revision": ({"affinity": against(HOSTS | REVISION)}, [HOST]),
    "zones within a revision": ({"topologySpreadConstraints": [ZONES | REVISION]}, []),
    "In": ({"affinity": against(expression("In", "db", "web"))}, []),
    "In without it": ({"affinity": against(expression("In", "db"))}, [HOST]),
    "NotIn": ({"affinity": against(expression("NotIn", "db"))}, []),
    "NotIn with it": ({"affinity": against(expression("NotIn", "web"))}, [HOST]),
    "Exists": ({"affinity": against(expression("Exists"))}, []),
    "Exists not": ({"affinity": against(expression("Exists", key="tier"))}, [HOST]),
    "DoesNotExist": ({"affinity": against(expression("DoesNotExist", key="tier"))}, []),
    "DoesNotExist, but does": ({"affinity": against(expression("DoesNotExist"))}, [HOST]),
    "no operator": ({"affinity": against(expression("Is", "web"))}, [HOST]),
    "one zone": (
        {"nodeSelector": {"topology.kubernetes.io/zone": "eu-central-1a"}},
        ['$.spec.template.spec.nodeSelector["topology.kubernetes.io/zone"]'],
    ),
}


@pytest.mark.parametrize("name", PLACED)
def test_where_two_pods_may_land(name: str) -> None:
    changes, paths = PLACED[name]
    raw = deployment(**{POD + key: value for key, value in changes.items()})
    texts = remarked(raw)
    assert list(texts) == paths
    assert all("one host" in texts[path] for path in paths if path == HOST)
    assert all("one zone" in texts[path] for path in paths if path != HOST)


def stopping(*hooks: Any) -> dict[str, Any]:
    containers = [{"name": f"c{n}", **({"lifecycle": hook} if hook else {})} for n, hook in enumerate(hooks)]
    return deployment(spec__template__spec__containers=containers)


SLEEP, COMMAND = {"preStop": {"sleep": {"seconds": 5}}}, {"preStop": {"exec": {"command": ["/bin/drain"]}}}


@pytest.mark.parametrize(
    ("hooks", "warned"),
    [
        ((None,), True),
        (({"postStart": {"sleep": {"seconds": 5}}},), True),
        (({"preStop": {"sleep": {"seconds": 0}}},), True),
        ((SLEEP,), False),
        ((COMMAND,), False),
        ((None, SLEEP), False),
        ((None, None), True),
        ((), True),
    ],
)
def test_a_pod_that_serves_no_more_when_it_ends(hooks: tuple[Any, ...], warned: bool) -> None:
    texts = remarked(stopping(*hooks))
    assert list(texts) == ["$.spec.template.spec.containers"] * warned
    assert all("preStop" in text for text in texts.values())


def test_a_pod_that_is_killed_at_once() -> None:
    (path,) = remarked(deployment(spec__template__spec__terminationGracePeriodSeconds=0))
    assert path == "$.spec.template.spec.terminationGracePeriodSeconds"
    assert not remarked(deployment(spec__template__spec__terminationGracePeriodSeconds=10))


SURGE, MISSING = "$.spec.strategy.rollingUpdate.maxSurge", "$.spec.strategy.rollingUpdate.maxUnavailable"


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ({"type": "Recreate"}, {"$.spec.strategy.type": "a rollout ends all pods before"}),
        ({}, {SURGE: "1 (the default 25%): with replicas: 2 a rollout takes 3 hosts"}),
        (None, {SURGE: "1 (the default 25%): with replicas: 2 a rollout takes 3 hosts"}),
        (
            {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            {SURGE: "1: with replicas: 2 a rollout takes 3"},
        ),
        ({"rollingUpdate": {"maxSurge": "100%"}}, {SURGE: "2: with replicas: 2 a rollout takes 4 hosts"}),
        ({"rollingUpdate": {"maxSurge": "0%", "maxUnavailable": "50%"}}, {}),
        (
            {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 2}},
            {MISSING: "2: a rollout ends all 2 pods at once"},
        ),
        (
            {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "100%"}},
            {MISSING: "2: a rollout ends all 2 pods"},
        ),
        ({"rollingUpdate": {"maxSurge": "x%", "maxUnavailable": []}}, {}),
    ],
)
def test_rollouts(strategy: Any, expected: dict[str, str]) -> None:
    texts = remarked(deployment(spec__strategy=strategy))
    assert list(texts) == list(expected)
    assert all(texts[path].startswith(text) for path, text in expected.items())


def test_a_stateful_set_has_no_surge() -> None:
    raw = deployment(spec__strategy=None, kind="StatefulSet", spec__replicas=1)
    (line,) = judged(elected(), raw)
    assert line.startswith("StatefulSet web: $.spec.replicas: warning: 1: ")


# -- which networks a workload has


def naming(text: Any, **metadata: Any) -> dict[str, Any]:
    raw = deployment(spec__replicas=1, metadata={"name": "web", **metadata})
    raw["spec"]["template"]["metadata"]["annotations"][ANNOTATION] = text
    return raw


@pytest.mark.parametrize(
    ("text", "finds"),
    [
        ("vip", True),
        ("vip@net1", True),
        (" other , vip@net1", True),
        ("core/vip@net1", True),
        ("vip2", False),
        ('[{"name": "vip"}]', True),
        ('[{"name": "vip", "namespace": "core", "interface": "net1"}]', True),
        ('[{"name": "other"}]', False),
        ("[{", False),
        ("", False),
        (7, False),
    ],
)
def test_a_workload_is_judged_if_a_network_of_its_pods_is_elected(text: Any, finds: bool) -> None:
    report = examine("f", b"".join(f"---\n{json.dumps(one)}\n".encode() for one in (elected(), naming(text))))
    compare([report])
    assert [finding.path for finding in report.findings] == ["$.spec.replicas"] * finds
    assert report.ignored == ([] if finds else ["Deployment web"])
    assert report.judged == ["NetworkAttachmentDefinition vip"] + ["Deployment web"] * finds


@pytest.mark.parametrize(
    ("mine", "its", "finds"),
    [("core", "core", True), ("core", "edge", False), ("core", None, True), (None, "core", True)],
)
def test_a_network_is_of_the_workloads_namespace(mine: str | None, its: str | None, finds: bool) -> None:
    network = elected()
    network["metadata"] |= {"namespace": mine} if mine else {}
    raw = naming("vip", **({"namespace": its} if its else {}))
    assert len(judged(network, raw)) == finds


def test_of_two_networks_with_one_name_the_one_of_its_namespace_counts() -> None:
    plain = nad(conflist(ipvlan("192.168.0.9/32"), FLOATIP), namespace="core")
    other = elected("192.168.0.8/32")
    assert judged(other, plain, naming("vip", namespace="core")) == []
    assert len(judged(other, plain, naming("vip", namespace="edge"))) == 1


def test_a_workload_in_another_file_of_the_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network, workload = tmp_path / "network.json", tmp_path / "workload.json"
    network.write_text(json.dumps(elected()))
    workload.write_text(json.dumps(naming("vip")))
    assert cli.main(["validate", str(workload), str(network)]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{workload}: Deployment web: $.spec.replicas: warning: ")
    assert second == f"{network}: NetworkAttachmentDefinition vip: ok"
    assert cli.main(["validate", str(workload)]) == 0
    assert capsys.readouterr().out == f"{workload}: nothing of floatip in it (Deployment web)\n"


def test_a_workload_of_plain_networks_is_passed_over_as_before() -> None:
    report = examine("f", json.dumps(naming("vip")).encode())
    plain = examine("g", json.dumps(nad(conflist())).encode())
    compare([report, plain])
    assert (report.judged, report.ignored, report.findings) == ([], ["Deployment web"], [])


# -- several networks of a pod

SETTINGS = '$.spec.template.metadata.annotations["k8s.v1.cni.cncf.io/networks"]'


def of_a_pod(*networks: dict[str, Any]) -> list[str]:
    raw = deployment()
    names = ",".join(network["metadata"]["name"] for network in networks)
    raw["spec"]["template"]["metadata"]["annotations"][ANNOTATION] = names
    return judged(*networks, raw)


ONE = {"name": "one"}
TWO = {"name": "two"}


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ({}, {}, None),
        ({"failbackSeconds": 60, "zones": ["a"]}, {"failbackSeconds": 60, "zones": ["a"]}, None),
        (
            {"failbackSeconds": 60, "zones": ["a"]},
            {"zones": ["a"]},
            "one and two are one group and differ in failbackSeconds",
        ),
        ({"zones": ["a", "b"]}, {"zones": ["b", "a"]}, "one and two are one group and differ in zones"),
        (
            {"group": "core", "unreadySeconds": 5},
            {"group": "core"},
            "one and two are one group and differ in unreadySeconds",
        ),
        ({"unreadySeconds": 2}, {}, None),
        ({"group": "core", "unreadySeconds": 5}, {"group": "edge"}, None),
        ({"group": "core"}, {}, "one is of the group core and two of none"),
        ({}, {"group": "core"}, "two is of the group core and one of none"),
    ],
)
def test_networks_of_one_pod_have_the_same_settings(first: Any, second: Any, says: str | None) -> None:
    lines = of_a_pod(elected("192.168.0.2/32", **ONE, **first), elected("192.168.0.3/32", **TWO, **second))
    lead = f"Deployment web: {SETTINGS}: warning: "
    assert [line.startswith(f"{lead}{says}") for line in lines] == [True] * (says is not None), lines


def test_a_plain_network_in_an_elected_pod() -> None:
    plain = nad(conflist(ipvlan("192.168.0.3/32"), FLOATIP), "two")
    (line,) = of_a_pod(elected("192.168.0.2/32", **ONE), plain)
    assert line.startswith(
        f"Deployment web: {SETTINGS}: warning: two is not elected, so the pod that is added last"
    )


def test_networks_of_others_are_not_floatips_business() -> None:
    """Neither such as are not among the files, nor such as have no floatip."""
    raw = deployment()
    raw["spec"]["template"]["metadata"]["annotations"][ANNOTATION] = "vip,sriov,elsewhere/x"
    assert judged(elected(), nad(conflist(ipvlan("192.168.0.9/32")), "sriov"), raw) == []


# -- networks with one destination

VPC = [ip_network("10.10.0.0/16")]
CONTESTED = "of another group: the older group has the traffic, the pods of the other none"


def test_two_groups_in_one_dummy_subnet() -> None:
    networks = (elected("10.10.254.5/28", **ONE), elected("10.10.254.6/28", **TWO))
    (line,) = judged(*networks, vpc_cidrs=VPC)
    assert line == (
        "NetworkAttachmentDefinition two: $.plugins[0].ipam.addresses[0].address: warning: the subnet "
        f"10.10.254.0/28 is also in NetworkAttachmentDefinition one, {CONTESTED}"
    )


@pytest.mark.parametrize(
    ("first", "second", "contested"),
    [
        ({"group": "core"}, {"group": "core"}, False),
        ({"group": "core"}, {"group": "edge"}, True),
        ({}, {}, False),  # both are named after the address
        ({"group": "core"}, {}, True),
        ({"group": "192.168.0.2"}, {}, False),
    ],
)
def test_one_address_in_two_groups(first: Any, second: Any, contested: bool) -> None:
    lines = judged(elected(**ONE, **first), elected(**TWO, **second))
    assert [line.endswith(CONTESTED) for line in lines] == [True] * contested


def test_groups_of_two_namespaces_are_two() -> None:
    one, two = elected(**ONE, group="core"), elected(**TWO, group="core")
    one["metadata"]["namespace"], two["metadata"]["namespace"] = "a", "b"
    assert [line.endswith(CONTESTED) for line in judged(one, two)] == [True]


def test_two_interfaces_of_a_pod_in_one_subnet_are_one_group() -> None:
    """The default group is all of a pod, which only the workload tells."""
    networks = [elected("10.10.254.5/28", **ONE), elected("10.10.254.6/28", **TWO)]
    raw = deployment()
    raw["spec"]["template"]["metadata"]["annotations"][ANNOTATION] = "one,two"
    assert judged(*networks, raw, vpc_cidrs=VPC) == []


def test_an_elected_and_a_plain_network_with_one_address() -> None:
    (line,) = judged(nad(conflist(), "one"), elected(**TWO))
    assert line.endswith("and one of the two is elected: while it is, an ADD with the other is refused")


# -- one network


def test_pods_that_bring_their_addresses_are_no_fixed_group() -> None:
    def network(**keys: Any) -> list[str]:
        maker = ipvlan(capabilities={"ips": True}, ipam={"type": "static"})
        return judged(nad(conflist(maker, ELECTED | {"election": keys})))

    (line,) = network(group="core")
    assert line.startswith(
        "NetworkAttachmentDefinition vip: $.plugins[1].election.group: warning: pods that bring"
    )
    assert network(zones=["a"]) == []
    assert judged(elected(group="core")) == []


def test_a_failback_without_a_zone_to_go_to() -> None:
    (line,) = judged(elected(failbackSeconds=60))
    assert "$.plugins[1].election.failbackSeconds: warning: has no effect without zones" in line
    assert judged(elected(failbackSeconds=60, zones=["a"])) == []


ALLOWED: dict[str, Any] = {
    "allowedDestinations": [{"cidr": "192.168.0.0/24"}],
    "allowedRouteTables": {"tags": {"floatip": "*"}},
}


def test_a_policy_without_elections() -> None:
    (line,) = judged(elected(), policy=NodeConf.parse(ALLOWED))
    where = "NetworkAttachmentDefinition vip: $.plugins[1].activate"
    assert line == f"{where}: refused at ADD: the node configuration has no elections"
    assert judged(elected(), policy=NodeConf.parse(ALLOWED | {"elections": {}})) == []


@pytest.mark.parametrize(
    "conflicting", [elected(), conflist(ipvlan(), ELECTED), ELECTED | {"cniVersion": "1.0.0"}]
)
def test_it_says_what_this_release_has_not(conflicting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the entry stands: every ADD is refused, whatever the nodes' policy."""
    assert judged(conflicting) == []
    monkeypatch.setattr(election, "RELEASED", False)
    (line,) = judged(conflicting)
    assert line.endswith('activate: elected claims are not in this release; write "add"')
    assert "warning" not in line


def test_it_says_so_of_a_node_configuration_too(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = ALLOWED | {"elections": {}}
    assert judged(policy) == []
    monkeypatch.setattr(election, "RELEASED", False)
    assert judged(policy) == [
        "$.elections: elected claims are not in this release: no agent starts with it; leave the key out"
    ]


def test_a_veto_that_a_rollout_of_the_agents_outlasts() -> None:
    (line,) = judged(ALLOWED | {"elections": {"vetoSeconds": 29}})
    assert line.startswith("$.elections.vetoSeconds: warning: a rollout keeps a node without its agent")
    assert judged(ALLOWED | {"elections": {"vetoSeconds": 30}}) == []


# -- documents of any shape

ODD: list[Any] = [None, 7, True, "x", [], [7], [[]], {}, {"x": 1}, [{}], [{"x": []}], "100%", -1]


def _places(raw: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    return [path, *(place for key, value in inner for place in _places(value, (*path, key)))]


PLACES = _places(deployment(spec__template__spec__nodeSelector={"a": "b"}))[1:]


@given(st.sampled_from(PLACES), st.sampled_from(ODD), st.sampled_from(PLACES), st.sampled_from(ODD))
def test_a_workload_of_any_shape_is_judged_without_an_exception(
    place: tuple[Any, ...], value: Any, other: tuple[Any, ...], another: Any
) -> None:
    raw = deployment(spec__template__spec__nodeSelector={"a": "b"})
    for path, odd in ((place, value), (other, another)):
        with contextlib.suppress(LookupError, TypeError):  # the first has replaced what holds the second
            where: Any = raw
            for key in path[:-1]:
                where = where[key]
            where[path[-1]] = odd
    report = examine("f", json.dumps(elected()).encode())
    workload = examine("g", json.dumps(raw).encode())
    compare([report, workload])
