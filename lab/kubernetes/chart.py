"""The product on the cluster: its chart, installed by helm with the image of this checkout."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cni_floatip import __version__
from lab import cmdline, images
from lab.errors import LabError
from lab.kubernetes.kubectl import Kubectl
from lab.world import Lab

CHART = cmdline.CHECKOUT / "install" / "helm" / "cni-floatip"
RELEASE, NAMESPACE = "cni-floatip", "kube-system"
BUILT = cmdline.CHECKOUT / ".cache" / "bin"
NOT_IN_PODS = ("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE")
"""The token is a file of the lab's, which no pod sees: agents act in the node's name."""


def helm_program() -> Path:
    """Return where helm is. Raises ``LabError`` where it is not."""
    path = shutil.which("helm", path=os.pathsep.join([str(BUILT), os.environ.get("PATH", os.defpath)]))
    if path is None:
        raise LabError(f"no helm here: `{cmdline.SETUP}` builds it, where Go is")
    return Path(path)


class Chart:
    """``install`` is also how to upgrade; values of this lab stand below those that are given."""

    def __init__(self, lab: Lab, kubectl: Kubectl) -> None:
        self._lab = lab
        self._kubectl = kubectl

    def values(self) -> dict[str, Any]:
        """Return the values that install/README.md has an administrator write, for this lab."""
        node = next(iter(self._lab.nodes.values()))
        aws = {name: value for name, value in node.env.items() if name.startswith("AWS_")}
        return {
            "image": {"repository": images.NAME, "tag": __version__, "pullPolicy": "Never"},
            "config": self._lab.node_config(),
            "extraEnv": [{"name": name, "value": aws[name]} for name in aws if name not in NOT_IN_PODS],
        }

    def install(
        self, values: Mapping[str, Any] | None = None, *, chart: Path = CHART, wait: float = 180
    ) -> None:
        """Install or upgrade, and wait for the agents. ``values`` replace the lab's, key by key."""
        path = self._kubectl.kubeconfig.with_name("values.json")
        path.write_text(json.dumps({**self.values(), **(values or {})}, indent=1))
        self.helm("upgrade", "--install", RELEASE, str(chart), "-f", str(path))
        self.rollout_status(wait)

    def rollout_status(self, seconds: float = 180) -> None:
        """Wait until the rollout of the agents has ended."""
        arguments = ("rollout", "status", f"daemonset/{RELEASE}", "-n", NAMESPACE, f"--timeout={seconds:g}s")
        self._kubectl(*arguments, timeout=seconds + 30)

    def uninstall(self) -> None:
        """Remove the release; the agents end, and what they had on the nodes stays (install/README.md)."""
        self.helm("uninstall", RELEASE, "--wait")

    def helm(self, *arguments: str) -> str:
        """Run helm in the release's namespace. Raises ``LabError`` with its words if it fails."""
        done = self._kubectl.run(str(helm_program()), "--namespace", NAMESPACE, *arguments, timeout=300)
        if done.returncode:
            raise LabError(f"helm {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")
        return done.stdout
