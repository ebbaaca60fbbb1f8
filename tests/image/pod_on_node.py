"""Lab nodes on which the DaemonSet's pod runs: the client from its bundle, the agent in its container.

A node's runtime executes ``/opt/cni/bin/floatip`` and nothing else: the installed file names its interpreter
by that path. What stands there is the node's own directory, in a mount namespace of each call.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from lab import private
from lab.chain import Runtime, plugin_path
from lab.images import Image
from lab.node import Node
from lab.world import Lab
from tests.image.pods import Container, node_policy

BIN = Path("/opt/cni/bin")
FORWARDED = ("AWS_ENDPOINT_URL_EC2", "AWS_ENDPOINT_URL_STS", "AWS_EC2_METADATA_SERVICE_ENDPOINT")


class PodOnNode:
    """The DaemonSet's pod on one lab node. ``install`` is its init container, ``agent`` the other one."""

    def __init__(self, image: Image, lab: Lab, node: Node, scratch: Path) -> None:
        """``scratch``: an empty directory outside of /run, where the lab is."""
        self.node = node
        state = node.state
        self.bin_dir, self.data, self._config = state / "cni-bin", state / "cni-data", state / "configmap"
        self._run_dir, self._scratch = state / "run", scratch
        for made in (self.bin_dir, self.data, self._config, self._run_dir):
            made.mkdir()
        # The manifest's configuration with this lab's addresses and tables, as an administrator fills it in.
        policy = {**node_policy(), **lab.node_config(), "releaseGraceSeconds": 3}
        (self._config / "config.json").write_text(json.dumps(policy))
        host = {
            "/opt/cni/bin": self.bin_dir,
            "/run/floatip": self._run_dir,
            "/var/lib/cni/floatip": self.data,
            "/run/netns": Path("/run/netns"),
            "configMap:cni-floatip": self._config,
        }
        env = {name: node.env[name] for name in FORWARDED}
        self.install, self.agent = (
            Container(image, name, node.netns, host, state, env) for name in ("install-client", "agent")
        )
        node.runtime = Runtime(self._execute, lambda: [self.bin_dir, *plugin_path()])

    def start(self) -> None:
        """Start the pod as the kubelet does."""
        assert self.install.run() == 0, self.install.log
        self.agent.start()

    def close(self) -> None:
        self.install.remove()
        self.agent.remove()

    def claims(self) -> list[str]:
        """Return the states of the claims, as ``kubectl exec`` shows them."""
        done = self.agent.execute("floatipctl", "claims", "--json")
        assert done.returncode == 0, done.stderr
        return sorted(claim["state"] for claim in json.loads(done.stdout)["claims"])

    def _execute(
        self, argv: list[str], stdin: str, env: Mapping[str, str], timeout: float
    ) -> subprocess.CompletedProcess[str]:
        """Run a plugin on the node; ours where a runtime has it."""
        if Path(argv[0]).parent != self.bin_dir:
            return self.node.run(argv, input=stdin, env=env, timeout=timeout)
        places = {
            str(BIN): self.bin_dir,
            "/run/floatip": self._run_dir,
            "/var/lib/cni/floatip": self.data,
        }
        command = [*private.mounts(places, self._scratch), str(BIN / Path(argv[0]).name), *argv[1:]]
        return self.node.run(command, input=stdin, env=env, timeout=timeout)
