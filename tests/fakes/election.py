"""An election that a test decides: what operations learn of the agent's, and what they tell it."""

from __future__ import annotations

from dataclasses import dataclass, field

from cni_floatip.model.claim import Claim
from cni_floatip.model.errors import CniError
from cni_floatip.model.values import Network
from cni_floatip.operations.election import ElectedLook


@dataclass
class FakeElection:
    """``holders`` are the uids of the pods that hold their group, ``kept`` those that ended as holders."""

    refused: CniError | None = None
    groups: dict[Network, str] = field(default_factory=dict)
    holders: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    looks: list[ElectedLook] = field(default_factory=list)

    def refusal(self) -> CniError | None:
        return self.refused

    def group_of(self, destination: Network) -> str | None:
        return self.groups.get(destination)

    def holds(self, claim: Claim) -> bool:
        return claim.pod.uid in self.holders

    def keeps(self, claim: Claim) -> bool:
        return claim.pod.uid in self.kept

    def on_look(self, look: ElectedLook) -> None:
        self.looks.append(look)
