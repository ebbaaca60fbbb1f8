"""``kubectl`` as an administrator types it, on the client's machine in the VPC."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab import netns
from lab.errors import LabError
from lab.kubernetes.manifests import Manifest, as_list
from lab.node import PATH


class KubectlError(LabError):
    """kubectl ended with an error; the message is what it printed."""


class Kubectl:
    """``kubectl(...)`` runs a command and returns its output; the rest are commands that tests often need."""

    def __init__(self, program: Path, namespace: str, kubeconfig: Path) -> None:
        """``namespace``: the network namespace of the machine it runs on."""
        self.program = program
        self.namespace = namespace
        self.kubeconfig = kubeconfig

    def __call__(
        self,
        *arguments: str,
        input: str | None = None,  # noqa: A002 - named as in subprocess.run
        timeout: float = 180,
    ) -> str:
        """Return what a command prints. Raises ``KubectlError`` if it fails."""
        done = self.run(str(self.program), *arguments, input=input, timeout=timeout)
        if done.returncode:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def run(
        self,
        *argv: str,
        input: str | None = None,  # noqa: A002 - named as in subprocess.run
        timeout: float = 180,
    ) -> subprocess.CompletedProcess[str]:
        """Run any client of the API, such as helm, on that machine."""
        env = {"PATH": PATH, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.kubeconfig.parent)}
        return netns.inside(
            self.namespace,
            subprocess.run,
            list(argv),
            env=env,
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def apply(self, *manifests: Manifest) -> None:
        """Create or change objects."""
        self("apply", "-f", "-", input=json.dumps(as_list(manifests)))

    def get(self, *arguments: str) -> Any:
        """Return an object, or a list's items, as documents: ``get("pod", "web")``, ``get("pods", "-A")``."""
        document = json.loads(self("get", *arguments, "-o", "json"))
        return document["items"] if document["kind"] == "List" else document

    def wait(self, *arguments: str, seconds: float = 120) -> None:
        """Wait as ``kubectl wait`` does: ``wait("--for=condition=Ready", "pod/web")``."""
        self("wait", f"--timeout={seconds:g}s", *arguments, timeout=seconds + 30)

    def wait_created(self, *objects: str, seconds: float = 120) -> None:
        """Wait until these objects are there: ``kubectl wait`` does that for one, and fails for several."""
        end = time.monotonic() + seconds
        missing = set(objects)
        while missing:
            done = self.run(str(self.program), "get", *sorted(missing), "-o", "name", "--ignore-not-found")
            missing -= set(done.stdout.split())
            if missing and time.monotonic() > end:
                raise KubectlError(f"not there after {seconds:g} s: {', '.join(missing)} {done.stderr}")

    def exec(self, pod: str, *command: str, options: Sequence[str] = ()) -> str:
        """Return what a program in a pod prints."""
        return self("exec", *options, pod, "--", *command)
