"""Readies credentials and EC2 before the first ADD; without credentials the agent is not ready."""

from __future__ import annotations

import threading

from ..edges import host
from ..model.errors import CniError, Ec2Error
from ..model.values import Node
from .ec2.shared import SharedEc2
from .metadata import MetadataCache
from .observe.health import Milestone
from .observe.logs import DedupLog
from .observe.redaction import redact

CREDENTIALS_SECONDS = 5.0
WARM_SECONDS = 30.0


class Preparation:
    """Prepares EC2, in a thread of its own. ``node``: this instance, None until metadata answers."""

    def __init__(self, aws: SharedEc2, metadata: MetadataCache, log: DedupLog) -> None:
        self.node: Node | None = None
        self.credentials = Milestone("no AWS credentials yet")
        self._aws = aws
        self._metadata = metadata
        self._log = log

    def run(self, stop: threading.Event) -> None:
        """Wait until there are credentials; then prepare EC2 before the first ADD needs it."""
        while problem := self._aws.credentials_problem():
            self._log(problem, "warning")
            self.credentials.because(redact(problem))
            if stop.wait(CREDENTIALS_SECONDS):
                return
        self.credentials.reach()
        while not self._prepare():
            if stop.wait(CREDENTIALS_SECONDS):
                return
        stop.wait()

    def _prepare(self) -> bool:
        """Find out which node this is, and prepare EC2, which only makes the first ADD faster."""
        try:
            self.node = self._metadata(host.clock() + WARM_SECONDS).node()
            self._aws.warm(self.node.region)
        except (CniError, Ec2Error) as e:
            self._log(f"EC2 does not answer yet: {e}", "warning")
        except Exception as e:  # noqa: BLE001 (ADDs do without the preparation, so it is only tried again)
            self._log.failure("cannot prepare the EC2 clients", e)
        else:
            return True
        return False
