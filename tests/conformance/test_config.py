"""C01 to C15: the network configuration on standard input."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conformance.harness import NEWEST, VERSIONS, WRITES, Bench, arguments

VIP = "192.168.0.6/32"
ATTACHMENT = ("ADD", "DEL", "CHECK")
VERBS = (*ATTACHMENT, "GC", "STATUS")
GIVEN = {"CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/nowhere", "CNI_IFNAME": "net1", "CNI_PATH": "/x"}


def send(bench: Bench, verb: str, stdin: bytes | str | dict[str, object]) -> Any:
    """Make a call about a pod that does not exist, with this on standard input."""
    text = json.dumps(stdin) if isinstance(stdin, dict) else stdin
    return bench.run(
        bench.environment(verb, **GIVEN),
        text if isinstance(text, bytes) else text.encode(errors="surrogatepass"),
    )


# -- what is no configuration at all ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stdin",
    [
        "",
        " ",
        "{",
        "ipvlan",
        '{"cniVersion": "1.1.0",}',
        "{} {}",
        b"\xff\xfe",
        "{'name': 'x'}",
        "[" * 100_000,
    ],
    ids=lambda stdin: repr(stdin[:20]),
)
def test_C01_not_json(bench: Bench, stdin: bytes | str) -> None:
    send(bench, "ADD", stdin).refused(6)


@pytest.mark.parametrize("verb", VERBS)
def test_C01_C02_whatever_the_verb(bench: Bench, verb: str) -> None:
    send(bench, verb, "{").refused(6)
    send(bench, verb, "[]").refused(6, "object")


@pytest.mark.parametrize("stdin", ["[]", "null", '"x"', "1", "true"])
def test_C02_json_but_no_object(bench: Bench, stdin: str) -> None:
    send(bench, "ADD", stdin).refused(6, "object")


@pytest.mark.parametrize("name", [..., None, "", 7, ["x"], "a/b", "-x", ".x", "a b", "x\n"], ids=repr)
def test_C03_name_is_missing_or_invalid(bench: Bench, name: object) -> None:
    send(bench, "ADD", bench.config(name=name)).refused(7, "$.name")


@pytest.mark.parametrize("verb", ["DEL", "CHECK", "GC", "STATUS"])
def test_C03_whatever_the_verb(bench: Bench, verb: str) -> None:
    send(bench, verb, bench.config(name=...)).refused(7, "$.name")


# -- cniVersion ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("absent", [..., "", None], ids=["absent", "empty", "null"])
@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_C04_no_cni_version_is_0_1_0(bench: Bench, verb: str, absent: object) -> None:
    answer = send(bench, verb, bench.config(cniVersion=absent))
    answer.refused(1)
    assert answer.document["details"] == f'config is "0.1.0", plugin supports {list(VERSIONS)}'


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.5.0", "1.2.0", "2.0.0"])
@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_C05_unsupported_version(bench: Bench, verb: str, version: str) -> None:
    send(bench, verb, bench.config(version)).refused(1, version, *VERSIONS)


@pytest.mark.parametrize("version", ["4.4.x", "1.0", "1.0.0-rc1"])
def test_C06_malformed_version(bench: Bench, version: str) -> None:
    """skel compares it on ADD and DEL, and reads it first on the others."""
    codes = {verb: send(bench, verb, bench.config(version)).code for verb in VERBS}
    assert codes == {"ADD": 1, "DEL": 1, "CHECK": 6, "GC": 6, "STATUS": 6}


# -- keys ---------------------------------------------------------------------------------------------------

OF_THE_RUNTIME = {
    "cniVersions": ["1.0.0", "1.1.0"],
    "capabilities": {"ips": True, "mac": True},
    "runtimeConfig": {"mac": "02:00:00:00:00:01", "ips": ["192.0.2.1/24"]},
    "args": {"cni": {"ips": ["192.0.2.1"], "labels": [{"key": "app", "value": "x"}]}, "other": 1},
    "ipam": {"type": "static"},
    "dns": {"nameservers": ["192.0.2.53"]},
    "ipMasq": True,
    "disableCheck": True,
    "disableGC": True,
    "deviceID": "0000:00:06.0",
    "pciBusID": "0000:00:06.0",
    "cni.dev/valid-attachments": [],
    "cni.dev/attachments": [],
    "cni.dev/something-new": {"any": "thing"},
}


def test_C07_C10_C11_reserved_keys_are_accepted_and_change_nothing(bench: Bench) -> None:
    """``args.cni`` and ``runtimeConfig`` go before CNI_ARGS where a plugin reads them; ours come from
    ``prevResult`` alone, so that no annotation of a pod decides what is claimed."""
    pod = bench.sandbox(VIP)
    environ = {"CNI_ARGS": arguments(pod.pod, IP="192.0.2.1")}
    result = bench.call("ADD", bench.config(prevResult=pod.prev(), **OF_THE_RUNTIME), pod, **environ).ok()
    assert result["ips"] == pod.prev()["ips"]
    assert bench.vpc(VIP) == bench.everywhere(pod.eni)
    assert all(
        "192.0.2" not in cidr for table in bench.lab.tables.values() for cidr in bench.lab.ec2.truth(table)
    )
    bench.call("CHECK", bench.config(prevResult=pod.prev(), **OF_THE_RUNTIME), pod).ok()
    bench.call("DEL", bench.config(**OF_THE_RUNTIME), pod).ok()


UNKNOWN = [
    ({"routeTable": ["rtb-1"]}, "routeTable", "rtb-1"),
    ({"routetables": {"all": True}}, "routetables", "true"),
    ({"logLevel": "debug"}, "logLevel", "debug"),
    ({"podRoutes": {"mtuu": 1500}}, "mtuu", "1500"),
    ({"routeTables": {"tags": {"a": "b"}, "tag": {"x": "y"}}}, "tag", '{"x": "y"}'),
]


@pytest.mark.parametrize(("keys", "key", "value"), UNKNOWN, ids=[key for _, key, _ in UNKNOWN])
def test_C08_unknown_key_of_our_own(bench: Bench, keys: dict[str, object], key: str, value: str) -> None:
    send(bench, "ADD", bench.config(**keys)).refused(2, key, value)


@pytest.mark.parametrize("verb", ["DEL", "GC", "STATUS"])
def test_C08_not_where_an_upgrade_must_not_fail(bench: Bench, verb: str) -> None:
    send(bench, verb, bench.config(unheard="of", routeTables=[1], podRoutes="none")).ok()


WRONG = {
    "$.routeTables": {"routeTables": ...},
    "$.routeTables.ids[1]": {"routeTables": {"ids": ["rtb-1", "table"]}},
    "$.destination": {"destination": "host"},
    "$.destination[0]": {"destination": ["10.9.0.1/24"]},
    "$.podRoutes.to[0]": {"podRoutes": {"to": ["10.9.0.1/24"]}},
    "$.podRoutes.gateway": {"podRoutes": {"gateway": "router"}},
    "$.podRoutes.sourceRouting": {"podRoutes": {"sourceRouting": 254}},
    "$.podRoutes.mtu": {"podRoutes": {"mtu": 68}},
    "$.onDelete": {"onDelete": "drop"},
    "$.watchAddresses[0]": {"watchAddresses": ["192.168.0.0"]},
    "$.timeoutSeconds": {"timeoutSeconds": 1},
}


@pytest.mark.parametrize("path", WRONG)
def test_C09_what_is_wrong_is_named_by_its_path(bench: Bench, path: str) -> None:
    send(bench, "ADD", bench.config(**WRONG[path])).refused(7, f"{path}: ")


def test_C08_C09_also_by_check(bench: Bench) -> None:
    send(bench, "CHECK", bench.config(unheard="of")).refused(2, "unheard", "of")
    send(bench, "CHECK", bench.config(onDelete="drop")).refused(7, "$.onDelete: ")


def test_C09_everything_that_is_wrong_at_once(bench: Bench) -> None:
    wrong = bench.config(onDelete="drop", timeoutSeconds=1000, podRoutes={"to": ["10.9.0.1/24"]})
    send(bench, "ADD", wrong).refused(7, "$.onDelete", "$.timeoutSeconds", "$.podRoutes.to[0]", "host bits")


# -- CNI_ARGS -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", ["UNKNOWN=1", "IgnoreUnknown=1;UNKNOWN=;;K8S_POD_NAME=a=b"])
def test_C12_unknown_arguments_are_ignored(bench: Bench, args: str) -> None:
    """Also without IgnoreUnknown: as the specification says, and whatever ``types.LoadArgs`` does."""
    pod = bench.sandbox(VIP)
    bench.call("ADD", bench.config(prevResult=pod.prev()), pod, CNI_ARGS=args).ok()


def test_C12_arguments_that_are_no_pairs(bench: Bench) -> None:
    pod = bench.sandbox(VIP)
    config, broken = bench.config(prevResult=pod.prev()), {"CNI_ARGS": "IgnoreUnknown=1;nonsense"}
    bench.call("ADD", config, pod, **broken).refused(4, "CNI_ARGS", "nonsense")
    bench.call("CHECK", config, pod, **broken).refused(4, "CNI_ARGS", "nonsense")
    bench.call("DEL", config, pod, **broken).ok()


# -- as bytes -----------------------------------------------------------------------------------------------


def test_C13_a_megabyte(bench: Bench) -> None:
    pod = bench.sandbox(VIP)
    dns = {"options": ["x" * 100] * 11_000}
    config = bench.config(prevResult=pod.prev(dns=dns))
    assert len(json.dumps(config)) > 2**20
    assert bench.call("ADD", config, pod).ok()["dns"] == dns


def test_C14_a_byte_order_mark_and_names_of_the_world(bench: Bench) -> None:
    """Sent raw and escaped, read and printed in a process whose locale is C."""
    pod = bench.sandbox(VIP)
    dns = {"domain": "bücher.example", "search": ["例え.テスト", "\U0001f600", "\ud800"]}
    config = bench.config(prevResult=pod.prev(dns=dns))
    raw = json.dumps({**config, "prevResult": pod.prev(dns={"domain": "bücher.example"})}, ensure_ascii=False)
    environ = bench.environment("ADD", pod, LANG="C", LC_ALL="C")
    document = bench.run(environ, b"\xef\xbb\xbf" + raw.encode()).ok()
    assert document["dns"] == {"domain": "bücher.example"}

    answer = bench.run(environ, json.dumps(config).encode())
    assert json.loads(answer.stdout.decode("utf-8", "surrogatepass"))["dns"] == dns


DUPLICATES = {
    "top": '{"cniVersion": "1.1.0", "name": "x", "name": "y"}',
    "nested": '{"cniVersion": "1.1.0", "name": "x", "routeTables": {"all": true, "all": true}}',
}


@pytest.mark.parametrize("which", DUPLICATES)
def test_C15_duplicate_keys(bench: Bench, which: str) -> None:
    """Two readers of such a text may see two documents: refused, and the key is named."""
    send(bench, "ADD", DUPLICATES[which]).refused(6, {"top": "$.name", "nested": "$.routeTables.all"}[which])


# -- answers to a refusal -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_an_error_has_the_version_of_the_request(bench: Bench, version: str) -> None:
    assert send(bench, "ADD", bench.config(version, onDelete="drop")).document["cniVersion"] == version
    assert send(bench, "ADD", "{").document["cniVersion"] == NEWEST


def test_a_refused_configuration_reaches_nobody(bench: Bench) -> None:
    pod = bench.sandbox(VIP)
    bench.add(pod, unheard="of").refused(2)
    assert not list(bench.lab.ec2.journal)
    assert not bench.written(*WRITES)
    assert bench.claims() == []
    assert pod.network() == []
