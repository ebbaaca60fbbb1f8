"""Guards the ENIs in use: keeps pods from instance metadata, and the host from forwarding packets of an ENI.

An ENI is guarded when a claim on it is first recorded, which is before the pod has any route through it. The
guard is checked again in each of the keeper's rounds, and with a further pod once half a minute has passed.
It stays on an ENI that is no longer used, because it costs nothing and a pod may outlive its DEL. The rule
against forwarding ends with the last claim on the ENI that is not gone, because another may use the ENI then.

An ENI that cannot be guarded is logged, once, and is in ``problems``. It stops no ADD, because the pods'
``unreachable`` routes are there all the same. With host-device the ENI is in the pod, and so is the guard: a
pod with NET_ADMIN can remove it (the next check restores it), a pod with NET_RAW sends past it. Such an ENI
never counts as guarded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from ..edges import podnet
from ..edges.podnet import forwarding, guard, host_use
from ..model.claim import Claim
from ..model.claim_state import State
from ..model.errors import CniError
from ..model.values import Attachment, Link
from ..operations.world import World
from .observe.recorder import Recorder

COVERED_SECONDS = 30.0
"""For how long a guarded link of the host is trusted to be so when another pod comes to it."""

Listen = Callable[[Callable[[Attachment, Claim | None], None]], None]


@dataclass(frozen=True, slots=True)
class _GuardedLink:
    """Where an ENI's link is: on the host, or in the network namespace of a pod."""

    link: Link
    netns: str = ""


class Guard:
    """Guards every ENI that claims use, once it has subscribed to them. For many threads."""

    def __init__(self, world: World, recorder: Recorder) -> None:
        self._world = world
        self._counts = recorder
        self._claims: dict[Attachment, Claim] = {}
        self._places: dict[str, _GuardedLink] = {}
        self._problems: dict[str, str] = {}
        self._covered: dict[str, float] = {}
        self._unforwarded: dict[str, str] = {}
        self._uses: dict[str, str] = {}
        self._attentive = True
        self._knowing = threading.Lock()
        self._doing = threading.Lock()

    @property
    def problems(self) -> Mapping[str, str]:
        """By MAC, what is wrong with the guard of an ENI in use."""
        with self._knowing:
            return dict(self._problems)

    @property
    def uses(self) -> Mapping[str, str]:
        """By MAC, how the host itself uses an ENI in use: the guard keeps it from metadata there, too."""
        with self._knowing:
            return dict(self._uses)

    def subscribe(self, listen: Listen) -> None:
        """Learn of the claims that an earlier agent left, each ENI guarded once, then of each change."""
        self._attentive = False
        listen(self.on_claim_change)
        self._attentive = True
        self.check_all()

    def on_claim_change(self, attachment: Attachment, claim: Claim | None) -> None:
        """Take note of a claim (None: it is gone); guard its ENI if the claim is new. Raises nothing."""
        used = claim is not None and claim.mac != "" and claim.state is not State.GONE
        with self._knowing:
            known = self._claims.pop(attachment, None)
            if claim is not None and used:
                self._claims[attachment] = claim
            in_use = {claim.mac for claim in self._claims.values()}
        if not self._attentive:
            return
        if claim is not None and used and (known is None or known.netns != claim.netns):
            since = self._covered.get(claim.mac)
            if since is None or self._world.clock() - since > COVERED_SECONDS:
                self.cover(claim.mac)
        if known is not None and known.mac not in in_use:
            self._let_forward(known.mac)

    def check_all(self) -> None:
        """Check the ENIs in use again, and mend. Raises nothing; one bad ENI does not hide the others."""
        with self._knowing:
            in_use = {claim.mac for claim in self._claims.values()}
            for mac in self._places.keys() - in_use:
                del self._places[mac]
            for mac in self._problems.keys() - in_use:
                del self._problems[mac]
            for mac in self._covered.keys() - in_use:
                del self._covered[mac]
            for mac in self._uses.keys() - in_use:
                del self._uses[mac]
        for mac in sorted(in_use):
            self.cover(mac)
        with self._doing:
            self._stop_forwarding_only_from(in_use)

    def cover(self, mac: str) -> str | None:
        """Guard the ENI with this MAC; return what is wrong with that, or None. Idempotent."""
        with self._doing:
            try:
                place = self._find(mac)
                self._unforwarded[mac] = place.link.name if place and not place.netns else ""
                problems = list(self._mend(mac, place)) if place else [self._nowhere(mac)]
            except CniError as error:
                place, problems = None, [str(error)]
            problem = "; ".join(filter(None, problems)) or None
            self._report(mac, problem)
            self._covered.pop(mac, None)
            if not problem and place and not place.netns:
                self._covered[mac] = self._world.clock()
        return problem

    def _find(self, mac: str) -> _GuardedLink | None:
        """Look for the link where it was, then on the host, then in the pods that claim it."""
        known = self._places.get(mac)
        if known and not known.netns:  # reading one link is cheaper than listing every pod's
            try:
                link = podnet.host_link(known.link.index)
            except CniError:
                link = None
            if link and link.mac == mac:
                return _GuardedLink(link)
        link = podnet.link_by_mac(mac)
        return _GuardedLink(link) if link else next(self._in_pods(mac), None)

    def _in_pods(self, mac: str) -> Iterator[_GuardedLink]:
        for claim in self._of(mac):
            try:
                if self._world.inode(claim.netns) != claim.netns_inode:
                    continue
                with podnet.open_pod(claim.netns, claim.attachment.ifname) as pod:
                    link = pod.link
            except (CniError, OSError):
                continue  # this pod has gone, or cannot be seen from here
            if link.mac == mac:
                yield _GuardedLink(link, claim.netns)

    def _mend(self, mac: str, place: _GuardedLink) -> Iterator[str]:
        """Guard the link and yield what is wrong. A changed guard counts as a repair."""
        before = self._places.get(mac)
        again = before is not None and (before.netns, before.link.index) == (place.netns, place.link.index)
        try:
            done = guard.ensure(place.link, place.netns)
        except CniError as error:
            yield str(error)
        else:
            self._places[mac] = place
            if again and done.changed:
                self._counts.repaired("guard")
                sentence = (
                    f"restored the metadata guard of {place.link.name} ({mac}): another program had"
                    " removed it"
                )
                self._world.log(sentence, "warning", event="guard", mac=mac)
            if place.netns:
                yield (
                    f"{place.link.name} is itself in a pod (host-device): no filter of the node keeps this"
                    " pod from instance metadata, so the pod is trusted with the node's role"
                )
            if done.behind:
                yield f"another program's {done.behind} runs before the metadata guard of {place.link.name}"
        if not place.netns:
            try:
                if forwarding.stop(place.link) and again:
                    self._counts.repaired("forwarding")
            except CniError as error:
                yield str(error)
            self._see_host(mac, place.link)

    def _stop_forwarding_only_from(self, in_use: set[str]) -> None:
        """Remove our rules for other link names: an earlier agent's, or those of a link that was renamed."""
        self._unforwarded = {mac: name for mac, name in self._unforwarded.items() if mac in in_use}
        if self._unforwarded.keys() != in_use:
            return  # the link of one ENI is not known yet
        try:
            forwarding.resume(but=set(self._unforwarded.values()))
        except CniError as error:
            self._world.log(str(error), "warning")

    def _let_forward(self, mac: str) -> None:
        """Remove the rule against forwarding from an unused ENI. If that fails, the next check removes it."""
        with self._doing:
            self._covered.pop(mac, None)  # first, so that a new user of the ENI checks it
            with self._knowing:
                if any(claim.mac == mac for claim in self._claims.values()):
                    return  # a new claim has come meanwhile
            name = self._unforwarded.pop(mac, "")
            try:
                forwarding.resume({name} - set(self._unforwarded.values()))
            except CniError as error:
                self._world.log(str(error), "warning")

    def _see_host(self, mac: str, link: Link) -> None:
        """Warn of a host that uses the ENI. That is no pod's fault, and the guard stays as it is."""
        try:
            use = host_use.used_by_host(link)
        except CniError as error:
            self._world.log(str(error), "warning")
            return
        with self._knowing:
            before = self._uses.pop(mac, "")
            if use:
                self._uses[mac] = use
        if use and use != before:
            sentence = f"{use}; the metadata guard keeps the host from instance metadata there, too"
            self._world.log(sentence, "warning", event="host uses ENI", mac=mac)

    def _nowhere(self, mac: str) -> str | None:
        """Return that there is no such link, if a live claim has it."""
        live = any(claim.live for claim in self._of(mac))
        return f"no link with MAC {mac} to guard, on the host or in a pod that claims it" if live else None

    def _of(self, mac: str) -> list[Claim]:
        with self._knowing:
            return [claim for claim in self._claims.values() if claim.mac == mac]

    def _report(self, mac: str, problem: str | None) -> None:
        with self._knowing:
            before = self._problems.pop(mac, "")
            if problem:
                self._problems[mac] = problem
        if problem and problem != before:
            sentence = f"the metadata guard of ENI {mac} is not complete: {problem}"
            self._world.log(sentence, "warning", event="unguarded", mac=mac)
        elif before and not problem:
            self._world.log(f"the metadata guard of ENI {mac} is complete again", event="guarded", mac=mac)
