"""What is seen outside becomes events: claims on disk, pods, Leases, this node, looks at routes.

Methods whose names begin with ``on_`` are for other threads: they post. The rest runs in the driver's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from functools import partial

from ...edges.kubernetes.resources import Document, Listing, metadata
from ...election.events import (
    ClaimsChanged,
    GroupRead,
    GroupSeen,
    GroupUnreadable,
    PodSeen,
    RoutesSeen,
)
from ...election.fitness import PodClaims
from ...election.lease import GroupLease, LeaseError, NodeLease
from ...election.member import GroupRules, Member
from ...election.node import ApiAnswered, CordonSeen, GroupsListed, NodeLeaseSeen
from ...model.claim import Claim
from ...model.errors import Ec2Fault
from ...model.values import Attachment, RouteKey, RouteTarget
from ...operations.election import ElectedLook
from .driver import Driver
from .objects import NodeView, PodView, node_of, pod_of
from .pods import PodBook, PodName
from .view import ElectionView

GROUP, NODE = "group.", "node."
LookScope = tuple[str, str, str]
"""Region, account and VPC: the scope of a look."""


class Intake:
    """``name_group`` has the group of a claim recorded, elsewhere. ``on_cordon``: whether cordons count."""

    def __init__(
        self,
        driver: Driver,
        book: PodBook,
        view: ElectionView,
        clock: Callable[[], float],
        name_group: Callable[[Attachment, str], object],
        *,
        on_cordon: bool,
    ) -> None:
        self._driver = driver
        self._book = book
        self._view = view
        self._clock = clock
        self._name_group = name_group
        self._on_cordon = on_cordon
        self.unformed: Collection[PodName] = frozenset()
        """Pods whose groups are to be formed yet: they are read anew, too. For any thread."""
        self._leases: dict[str, GroupLease] = {}
        self._looks: dict[LookScope, ElectedLook] = {}
        self._pods: dict[str, tuple[PodClaims, ...]] = {}

    # -- claims ---------------------------------------------------------------------------------------

    def on_claim(self, attachment: Attachment, claim: Claim | None) -> None:
        """Learn of a claim (``ClaimCache.listen``)."""
        self._driver.post(partial(self._see_claim, attachment, claim))

    def _see_claim(self, attachment: Attachment, claim: Claim | None) -> None:
        groups = self._book.see_claim(attachment, claim)
        if self.unformed or (claim is not None and claim.group == ""):
            self._name_groups()
        self._refresh(groups)

    def _name_groups(self) -> None:
        """Have groups named that can be named now: the claim that comes of it forms them."""
        for attachment, name in list(self._book.unnamed()):
            self._name_group(attachment, name)
        self.unformed = self._book.unformed()

    def _refresh(self, groups: Iterable[str]) -> None:
        """Tell members what claims their pods have."""
        now, driver = self._clock(), self._driver
        for group in groups:
            pods = self._book.pods_of(group)
            member = driver.members.get(group)
            if member is None and not pods:
                self._pods.pop(group, None)
                continue
            rules = self._rules(group)
            if member is None or member.rules != rules:
                driver.put(replace(member or Member(group, driver.surroundings), rules=rules))
            elif self._pods.get(group) == pods:
                continue
            self._pods[group] = pods
            driver.tell(group, ClaimsChanged(now, pods))
            for pod in pods:
                if pod_seen := self._book.pod_by_uid(pod.uid):
                    driver.tell(group, PodSeen(now, pod.uid, pod_seen.status))

    def _rules(self, group: str) -> GroupRules:
        conf = self._book.conf_of(group)
        return GroupRules(conf.zones, conf.failback_seconds, conf.unready_seconds)

    def meet(self) -> None:
        """Form the groups that claims on disk name: at the start, before anything is read of Kubernetes."""
        self._refresh(self._book.groups())

    # -- pods -----------------------------------------------------------------------------------------

    def on_pods(self, listing: Listing) -> None:
        """Learn of all pods of this node."""
        pods = [pod for item in listing.items if (pod := pod_of(item))]
        self._driver.post(partial(self._see_pods, self._clock(), pods))

    def on_pod(self, document: Document, is_gone: bool) -> None:
        """Learn of one pod of this node."""
        if pod := pod_of(document):
            self._driver.post(partial(self._see_pod, self._clock(), pod, is_gone=is_gone))

    def _see_pods(self, at: float, pods: Collection[PodView]) -> None:
        self._driver.tell_all(ApiAnswered(at))
        for uid in self._book.keep_pods(pods):
            self._tell_of_pod(at, uid, None)
        self._name_groups()
        for pod in pods:
            self._tell_of_pod(at, pod.uid, pod)

    def _see_pod(self, at: float, pod: PodView, *, is_gone: bool) -> None:
        self._driver.tell_all(ApiAnswered(at))
        if is_gone:
            self._book.forget_pod(pod.uid)
        else:
            self._book.see_pod(pod)
            self._name_groups()
        self._tell_of_pod(at, pod.uid, None if is_gone else pod)

    def _tell_of_pod(self, at: float, uid: str, pod: PodView | None) -> None:
        status = pod.status if pod else None
        groups = self._book.groups_of(uid)
        self._refresh(groups)  # a runtime may tell no uid: then its claims count from now on
        for group in groups:
            self._driver.tell(group, PodSeen(at, uid, status))

    # -- Leases ---------------------------------------------------------------------------------------

    def on_leases(self, listing: Listing, began: float | None = None) -> None:
        """Learn of all Leases. ``began``: when their reading began, None where that is not known."""
        self._driver.post(partial(self._see_leases, self._clock(), listing.items, began))

    def on_lease(self, document: Document, is_gone: bool) -> None:
        """Learn of one Lease from the watch."""
        self._driver.post(partial(self._see_lease, self._clock(), document, is_gone=is_gone))

    def _see_leases(self, at: float, documents: Iterable[Document], began: float | None) -> None:
        driver = self._driver
        leases: dict[str, GroupLease] = {}
        unreadable: set[str] = set()
        for document in documents:
            name = metadata(document, "name")
            if name.startswith(NODE):
                self._see_node_lease(at, document, is_gone=False)
            elif name.startswith(GROUP):
                lease = self._parse(at, name, document)
                if lease:
                    leases[name] = lease
                else:
                    unreadable.add(name)
        self._leases = leases
        self._view.list_groups(leases)
        driver.tell_all(GroupsListed(at, tuple(leases.values())))
        self._adopt(leases.values())
        for name, group in list(driver.names.items()):
            if name in unreadable:
                continue
            if began is not None:
                driver.tell(group, GroupRead(at, began, leases.get(name)))
            else:
                driver.tell(group, GroupSeen(at, leases.get(name)))

    def _see_lease(self, at: float, document: Document, *, is_gone: bool) -> None:
        name, driver = metadata(document, "name"), self._driver
        if name.startswith(NODE):
            self._see_node_lease(at, document, is_gone=is_gone)
            return
        driver.tell_all(ApiAnswered(at))
        if not name.startswith(GROUP):
            return
        lease = None if is_gone else self._parse(at, name, document)
        if lease:
            before = self._leases.get(name)
            self._leases[name] = lease
            if before is None or _claimed(before) != _claimed(lease):
                self._list_groups(at)
        elif self._leases.pop(name, None):
            self._list_groups(at)
        if (lease or is_gone) and (group := driver.names.get(name)):
            driver.tell(group, GroupSeen(at, lease))

    def _list_groups(self, at: float) -> None:
        self._view.list_groups(self._leases)
        self._driver.tell_all(GroupsListed(at, tuple(self._leases.values())))

    def _parse(self, at: float, name: str, document: Document) -> GroupLease | None:
        try:
            return GroupLease.parse(document)
        except LeaseError as e:
            if group := self._driver.names.get(name):
                self._driver.tell(group, GroupUnreadable(at, str(e)))
            return None

    def _see_node_lease(self, at: float, document: Document, *, is_gone: bool) -> None:
        try:
            lease = NodeLease.parse(document)
        except LeaseError:
            return
        if self._driver.surroundings.node_of(lease.node):
            self._driver.tell_all(NodeLeaseSeen(at, lease.node, None if is_gone else lease))
        else:
            self._driver.tell_all(ApiAnswered(at))

    def _adopt(self, leases: Iterable[GroupLease]) -> None:
        """Make members of groups that name this node as holder, of which it has no claims: it offers them."""
        driver = self._driver
        for lease in leases:
            holder = lease.holder
            if holder and holder.node == driver.surroundings.node and lease.group not in driver.members:
                driver.put(Member(lease.group, driver.surroundings))
                driver.tell(lease.group, ClaimsChanged(self._clock(), ()))

    # -- this node ------------------------------------------------------------------------------------

    def on_nodes(self, listing: Listing) -> None:
        """Learn of this node, the only one that is listed."""
        for document in listing.items:
            self.on_node(document, False)

    def on_node(self, document: Document, is_gone: bool) -> None:
        """Learn of this node. One that is gone from Kubernetes changes nothing here."""
        if not is_gone and (node := node_of(document)):
            self._driver.post(partial(self._see_node, self._clock(), node))

    def _see_node(self, at: float, node: NodeView) -> None:
        driver = self._driver
        if node.zone != driver.surroundings.zone:
            driver.surround(replace(driver.surroundings, zone=node.zone))
        driver.tell_all(CordonSeen(at, node.cordoned and self._on_cordon))

    # -- looks ----------------------------------------------------------------------------------------

    def on_look(self, look: ElectedLook) -> None:
        """Learn of a look of the keeper."""
        self._driver.post(partial(self._see_look, look))

    @property
    def withheld(self) -> frozenset[str]:
        """Return the tables that policy does not give, as the last looks showed. For any thread."""
        return frozenset().union(*(look.withheld for look in tuple(self._looks.values())))

    def _see_look(self, look: ElectedLook) -> None:
        at, here = self._clock(), (look.region, look.account, look.vpc)
        self._looks[here] = look
        self._refresh(self._book.groups())  # which ENIs are here was seen, too
        for group in self._book.groups():
            places = self._places(group)
            if here not in places:
                continue
            looks = [self._looks[place] for place in places if place in self._looks]
            if len(looks) == len(places):
                keys = [key for pod in self._book.pods_of(group) for key in pod.keys]
                self._driver.looked(group, _seen(at, keys, looks))

    def _places(self, group: str) -> set[LookScope]:
        """Return where the routes of a group's claims are."""
        return {
            (claim.region, route.account, claim.vpc)
            for pod in self._book.pods_of(group)
            for claim in self._book.claims_of(group, pod.uid)
            for route in claim.routes
        }


def _claimed(lease: GroupLease) -> tuple[object, ...]:
    """Return what of a group concerns other groups."""
    return lease.created, lease.destinations, bool(lease.holder or lease.members)


def _seen(at: float, keys: Iterable[RouteKey], looks: Collection[ElectedLook]) -> RoutesSeen:
    """Return what looks say of a group's routes: they are as old as the oldest, and fail as one does."""
    began = min(look.began for look in looks)
    if faults := {look.fault for look in looks if look.fault}:
        return RoutesSeen(at, began, None, throttled=faults == {Ec2Fault.THROTTLED})
    routes: dict[RouteKey, RouteTarget | None] = {}
    for look in looks:
        routes |= {key: look.routes[key] for key in keys if key in look.routes}
    return RoutesSeen(at, began, tuple(sorted(routes.items(), key=lambda item: item[0])))
