"""The interface of an operation to the agent's election, and its stand-in where nothing is elected.

The pods of a group claim the same destinations, and their agents elect the one that has the routes
(``activate: ready``). The election decides which; operations learn here what they need of that, and ``take``
does what the election asks for. Everything here answers from memory, so no operation waits for Kubernetes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..model.claim import Claim
from ..model.errors import CniError, Ec2Fault, PolicyRefused
from ..model.values import Network, RouteKey, RouteTarget


@dataclass(frozen=True, slots=True)
class ElectedLook:
    """A look of the keeper at the tables of one account in one VPC, in which elected claims have routes.

    ``began``: when its read began (``World.clock``). ``fault``: why there was no answer, None if there was
    one. ``routes``: where each route of an elected claim here leads (None: nowhere), also in tables that came
    later. ``withheld``: the tables that policy does not give.
    """

    region: str
    account: str
    vpc: str
    began: float
    fault: Ec2Fault | None = None
    routes: Mapping[RouteKey, RouteTarget | None] = field(default_factory=dict)
    withheld: frozenset[str] = frozenset()


class Election(Protocol):
    """What operations need of the agent's election; ``NoElections`` stands in where there is none.

    ``refusal``: the error of an ADD that asks for an election, None where it may go on. There is one while
    elections are off (102) and while Kubernetes refuses the agent (401, 403: code 11); an API that is away
    refuses nothing.
    ``group_of``: the group that elects who has ``destination`` ("NAMESPACE/NAME"), as far as a list of groups
    shows that the agent has in any case (None: none, or there is no list now).
    ``holds``: whether the claim's pod holds its group, as far as is known.
    ``keeps``: whether the election may still release routes of a claim that has ended; else its record is
    forgotten, because its routes are another pod's.
    ``on_look``: a look has ended.
    """

    def refusal(self) -> CniError | None: ...
    def group_of(self, destination: Network) -> str | None: ...
    def holds(self, claim: Claim) -> bool: ...
    def keeps(self, claim: Claim) -> bool: ...
    def on_look(self, look: ElectedLook) -> None: ...


class NoElections:
    """``Election`` where nothing is elected: elections are off, or it is a call in direct mode.

    An elected claim keeps what it has: nothing of it is written or deleted.
    """

    def refusal(self) -> CniError | None:
        """Return the error of an ADD that asks for an election."""
        return PolicyRefused('$.activate: "ready": nobody elects on this node')

    def group_of(self, destination: Network) -> str | None:  # noqa: ARG002
        """Return None: there is no list of groups."""
        return None

    def holds(self, claim: Claim) -> bool:  # noqa: ARG002
        """Return that no pod is known to hold a group."""
        return False

    def keeps(self, claim: Claim) -> bool:  # noqa: ARG002
        """Return that an ended claim stays, because an election may be there later."""
        return True

    def on_look(self, look: ElectedLook) -> None:
        """Take no note."""
