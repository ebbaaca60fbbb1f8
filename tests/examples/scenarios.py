"""One scenario for each example: what its words mean in the lab, and what is then to be seen there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

ALL = ("main", "a", "b", "client", "tgw")
CORE: Mapping[str, Mapping[str, str]] = {table: {"floatip": "core"} for table in ALL}
BOTH = ("vpc", "tgw")


@dataclass(frozen=True, slots=True)
class Scenario:
    """``claims``: interface of the pod -> the destinations that lead to it. ``tags``: table -> its tags.

    ``tables`` have the route afterwards, all others not. ``heard_by``: the clients that the pod answers.
    ``kept``: whether the routes outlive DEL, which in direct mode is so unless the file says ``release``.
    """

    file: str
    claims: Mapping[str, tuple[str, ...]]
    policy: str = "node-minimal.json"
    namespace: str = "default"
    node: str = "a1"
    tags: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: CORE)
    tables: tuple[str, ...] = ALL
    heard_by: tuple[str, ...] = BOTH
    kept: bool = True

    def __str__(self) -> str:
        return f"{self.file} under {self.policy}"


SCENARIOS = (
    Scenario("pattern-1.yaml", {"net1": ("192.168.0.10/32",)}),
    Scenario(
        "pattern-1.yaml",
        {"net1": ("192.168.0.10/32",)},
        policy="node-per-namespace.json",
        namespace="core-signalling",
    ),
    # b1 belongs to an account that merely takes part in the VPC.
    Scenario("pattern-1.yaml", {"net1": ("192.168.0.10/32",)}, policy="node-shared-vpc.json", node="b1"),
    Scenario("pattern-1-two-interfaces.yaml", {"net1": ("192.168.0.11/32",), "net2": ("192.168.0.12/32",)}),
    Scenario(
        "pattern-2.yaml",
        {"net1": ("10.10.254.0/28",)},
        policy="node-per-namespace.json",
        namespace="core-signalling",
    ),
    Scenario("ipv6.yaml", {"net1": ("fd00:192:168::13/128",)}, policy="node-full.json"),
    Scenario(
        "dual-stack.yaml", {"net1": ("192.168.0.14/32", "fd00:192:168::14/128")}, policy="node-full.json"
    ),
    Scenario("static-routes.yaml", {"net1": ("192.168.0.15/32",)}),
    Scenario("host-device.yaml", {"net1": ("192.168.0.16/32",)}, policy="node-full.json"),
    Scenario("watched-vip.yaml", {"net1": ("192.168.0.19/32",)}),
    Scenario(
        "route-tables-by-tag.yaml",
        {"net1": ("192.168.0.17/32",)},
        policy="node-per-namespace.json",
        namespace="edge",
        tags={
            "client": {"floatip": "core", "plane": "media"},
            "main": {"plane": "signalling"},
            **{table: {"floatip": "core", "plane": "signalling"} for table in ("a", "b", "tgw")},
        },
        tables=("a", "b", "tgw"),
        heard_by=("tgw",),
    ),
    # The main table is allowed by its id alone, and selected because the nodes' subnet has no other.
    Scenario(
        "route-tables-by-subnet.yaml",
        {"net1": ("192.168.0.18/32",)},
        policy="node-full.json",
        tags={"client": {"floatip": "core"}, "tgw": {"floatip": "core"}},
        tables=("client", "tgw", "main"),
    ),
    Scenario(
        "cnitool.conflist", {"net1": ("192.168.0.2/32",)}, tags={t: {"floatip": t} for t in ALL}, kept=False
    ),
)
