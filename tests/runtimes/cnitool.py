"""``cnitool``: one CNI verb on one network namespace, as libcni does it, result cache included."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from lab import private

# Where lab/bootstrap.sh puts what it builds (cnitool, newer reference plugins), and where Debian's are.
BUILT = Path(__file__).parents[2] / ".cache" / "bin"
PACKAGED = Path("/usr/lib/cni")


class Node(Protocol):
    """Where the runtime runs: a lab node."""

    @property
    def env(self) -> Mapping[str, str]: ...
    def run(
        self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]: ...


def executable() -> str | None:
    """Return the cnitool that ``make`` built, or else one that the machine has."""
    return shutil.which("cnitool", path=BUILT) or shutil.which("cnitool")


class VerbFailed(Exception):
    """cnitool's exit status was not 0; the message is the plugin's, as cnitool shows it."""


class Cnitool:
    """cnitool on one node, with network configurations and a result cache of its own."""

    def __init__(self, node: Node, directory: Path, plugins: Path) -> None:
        self._node = node
        self._networks = directory / "net.d"
        self.cache = directory / "cache"
        self._scratch = directory / "scratch"
        for made in (self._networks, self.cache, self._scratch):
            made.mkdir(parents=True)
        self._env = {"NETCONFPATH": str(self._networks), "CNI_PATH": f"{plugins}:{BUILT}:{PACKAGED}"}

    def network(self, conflist: Mapping[str, Any]) -> str:
        """Offer a network to cnitool, in place of one with the same name. Returns the name."""
        name = str(conflist["name"])
        (self._networks / f"{name}.conflist").write_text(json.dumps(conflist))
        return name

    def add(self, network: str, netns: str | Path, ifname: str = "net1") -> dict[str, Any]:
        result = json.loads(self._verb("add", network, netns, ifname))
        assert isinstance(result, dict)
        return result

    def check(self, network: str, netns: str | Path, ifname: str = "net1") -> None:
        self._verb("check", network, netns, ifname)

    def delete(self, network: str, netns: str | Path, ifname: str = "net1") -> None:
        self._verb("del", network, netns, ifname)

    def status(self, network: str) -> None:
        # cnitool wants a namespace for every verb, and does not look at it for this one and the next.
        self._verb("status", network, "/none", "none")

    def gc(self, network: str) -> None:
        """The GC verb as cnitool sends it: with no list of valid attachments at all."""
        self._verb("gc", network, "/none", "none")

    def forget(self) -> None:
        """Lose the result cache, as EKS nodes do at boot: later calls come without ``prevResult``."""
        shutil.rmtree(self.cache / "results", ignore_errors=True)

    def cached(self) -> list[str]:
        """Return the names of the cached results: ``network-container-interface``."""
        return sorted(path.name for path in (self.cache / "results").glob("*"))

    def _verb(self, verb: str, network: str, netns: str | Path, ifname: str) -> str:
        tool = executable()
        assert tool is not None
        prefix = private.mounts({"/var/lib/cni": self.cache}, self._scratch)
        done = self._node.run(
            [*prefix, tool, verb, network, str(netns)], env={**self._env, "CNI_IFNAME": ifname}, timeout=120
        )
        if done.returncode != 0:
            raise VerbFailed(_message(done.stderr or done.stdout))
        return done.stdout


def _message(text: str) -> str:
    """Return the plugin's words alone: cnitool says them twice, with its own usage between."""
    return text.removeprefix("Error: ").partition("\nUsage:\n")[0].strip()
