"""The facts that the doctor has read, as values. No I/O, no judgement."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from ..model.values import Network, RouteKey

NO_MANAGE = "node.k8s.amazonaws.com/no_manage"
"""The tag by which VPC CNI leaves an ENI alone."""


def slot(device: int, card: int) -> str:
    """Return where an ENI is attached: device indexes count per network card ("2"; on card 1 "1-2")."""
    return f"{card}-{device}" if card else str(device)


@dataclass(frozen=True, slots=True)
class Identity:
    """Our AWS identity. ``how``: where the SDK found the credentials (botocore's word)."""

    arn: str
    account: str
    how: str


@dataclass(frozen=True, slots=True)
class Ec2Interface:
    """An ENI of this instance as EC2 has it."""

    id: str
    device: int
    subnet: str
    groups: tuple[str, ...]
    checked: bool
    description: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    type: str = "interface"
    card: int = 0

    @property
    def slot(self) -> str:
        """Where it is attached."""
        return slot(self.device, self.card)

    @property
    def never(self) -> str | None:
        """Why floating IPs can never use the ENI; None: they can, as far as EC2 tells."""
        if self.is_vpc_cni:
            return "VPC CNI's own"
        return "EFA-only, which has no IP" if self.type == "efa-only" else None

    @property
    def is_vpc_cni(self) -> bool:
        """Whether VPC CNI made it for pods' cluster addresses, or EKS for their security groups (trunk)."""
        made = self.description.lower().startswith("aws-k8s-")
        return made or self.tags.get("eks:eni:owner") == "eks-vpc-resource-controller"

    @property
    def is_taken(self) -> bool:
        """Whether VPC CNI has put its tag on it: at its start it does so on every ENI that is not unmanaged.

        The tag stays when the ENI is taken from it again, so it says nothing of one that is unmanaged now.
        """
        return "node.k8s.amazonaws.com/instance_id" in self.tags and not self.is_unmanaged

    @property
    def is_unmanaged(self) -> bool:
        """Whether it has the tag that VPC CNI respects."""
        return self.tags.get(NO_MANAGE, "").lower() == "true"


@dataclass(frozen=True, slots=True)
class Choice:
    """An ENI of this node, as administrators choose by name what is judged.

    ``names``: what it goes by. ``never``: why floating IPs cannot use it. ``in_use``: a live claim does,
    which nobody can choose away.
    """

    eni: str
    slot: str
    names: frozenset[str]
    never: str = ""
    in_use: bool = False

    def is_judged(self, only: Collection[str]) -> bool:
        """Whether it is judged where only these names are to be (none: whatever floating IPs can use)."""
        return not self.never and (not only or self.in_use or not self.names.isdisjoint(only))


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one direction of a security group: the networks that they name, and prefix lists."""

    networks: frozenset[Network] = frozenset()
    prefix_lists: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class SecurityGroup:
    """A security group, without ports: which ones an application needs is its own business."""

    id: str
    inbound: Rules
    outbound: Rules


@dataclass(frozen=True, slots=True)
class AclEntry:
    """A rule of a network ACL. ``all_protocols``: it is not for some protocol or port alone."""

    number: int
    outbound: bool
    allow: bool
    network: Network
    all_protocols: bool = True


@dataclass(frozen=True, slots=True)
class NetworkAcl:
    """The network ACL of some subnets."""

    id: str
    subnets: frozenset[str]
    entries: tuple[AclEntry, ...]


@dataclass(frozen=True, slots=True)
class TgwAttachment:
    """Where a transit gateway is attached to the VPC: packets from it use these subnets' route tables."""

    id: str
    gateway: str
    subnets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EndpointAnswer:
    """How an endpoint answers. ``ahead``: by how many seconds its clock is ahead of ours (None: no Date)."""

    endpoint: str
    seconds: float
    ahead: float | None


@dataclass(frozen=True, slots=True)
class DryRun:
    """One dry run and what came of it. ``allowed``: None when that did not become clear."""

    action: str
    resource: str
    allowed: bool | None
    answer: str = ""


@dataclass(frozen=True, slots=True)
class FloatingLink:
    """The link of an ENI that floating IPs can use.

    ``in_use``: a live claim does. ``by_index``: it is named by its slot, if only as a second name.
    """

    eni: str
    mac: str
    slot: str
    name: str = ""
    index: int = 0
    up: bool = False
    carrier: bool = False
    mtu: int = 0
    in_use: bool = False
    by_index: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.eni})" if self.name else self.eni


@dataclass(frozen=True, slots=True)
class ClaimedPod:
    """A live claim as the agent tells it: who has what where.

    ``routes``: where its routes are to be, without those that an ADD is just writing.
    """

    pod: str
    ifname: str
    netns: str
    eni: str
    addresses: tuple[str, ...]
    routes: tuple[RouteKey, ...] = ()

    @property
    def tables(self) -> frozenset[str]:
        """The route tables of its routes."""
        return frozenset(key.table for key in self.routes)

    @property
    def restart(self) -> str:
        """The command after which the pod, if something else makes it again, starts anew."""
        namespace, _, name = self.pod.partition("/")
        return f"kubectl -n {namespace} delete pod {name}" if name else f"end the pod {self.pod}"


@dataclass(frozen=True, slots=True)
class KnownRoutes:
    """The routes in the agent's records, live or not: of a pod, in grace, or of a DEL that waits.

    ``lost_tables``: the ENIs of records of which the routes are not known ("": not even the ENI is).
    """

    keys: frozenset[RouteKey] = frozenset()
    lost_tables: frozenset[str] = frozenset()
    waiting: int = 0

    def has(self, key: RouteKey, eni: str) -> bool:
        """Whether a route that leads to ``eni`` is, or may be, on record."""
        return key in self.keys or not self.lost_tables.isdisjoint({eni, ""})
