"""Checks the ENIs in use again, because others may turn the source/dest check on, or remove a tag."""

from __future__ import annotations

from ...model.errors import Ec2Error
from ...operations.world import World
from ...rules.reconcile import Outage
from ..observe.recorder import Recorder


class InterfaceCheck:
    """Checks ENIs of live claims. ``checked``: those whose source/dest check is on, as last read."""

    def __init__(self, world: World, recorder: Recorder) -> None:
        self.checked: frozenset[str] = frozenset()
        self._world = world
        self._counts = recorder

    def look(self) -> None:
        """Check every ENI in use again. Logs what it cannot read."""
        world, wanted = self._world, self._world.policy.source_dest_check
        used = {(claim.region, claim.eni) for claim in world.claims.all()[0] if claim.live}
        if wanted == "ignore" and not world.policy.allowed_interfaces:
            return
        checked: set[str] = set()
        for region, eni in sorted(used):
            try:
                ec2 = world.vpc(region)
                interface = ec2.network_interface(eni)
                if not world.policy.allows_interface(interface):
                    sentence = f"{eni} has pods, but no longer has the tags of allowedInterfaces"
                    world.log(sentence, "warning", eni=eni)
                if not interface.checks_source or wanted == "ignore":
                    continue
                checked.add(eni)
                if wanted == "disable":
                    ec2.disable_source_dest_check(eni)
                    checked.remove(eni)
                    self._counts.repaired("source-dest-check")
                    sentence = f"source/dest check of {eni} was on: turned off"
                    world.log(sentence, "warning", event="source-dest-check", eni=eni)
            except Ec2Error as e:
                checked |= self.checked & {eni}  # the others were not seen
                sentence = f"cannot verify the source/dest check and tags of {eni}: {e}"
                world.log(sentence, "warning", eni=eni)
        for eni in sorted(checked - self.checked):
            sentence = f"source/dest check of {eni} is on: EC2 drops the traffic of floating IPs"
            world.log(sentence, "warning", event=Outage.CHECKED.value, eni=eni)
        for eni in sorted(self.checked - checked):
            world.log(
                f"source/dest check of {eni} no longer drops traffic of a pod", event="unchecked", eni=eni
            )
        self.checked = frozenset(checked)
