"""After a roll-back: the store of release 0.3.0, its own code, over records of this release.

Its code comes from this repository's history, so the test needs git and the whole history.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from cni_floatip.edges.store import Store
from cni_floatip.model.claim_state import State
from cni_floatip.model.values import Attachment
from tests.conftest import skip
from tests.core.shape import ROOT
from tests.edges.test_store import CLAIM
from tests.support.claims import a_claim, a_route

pytestmark = pytest.mark.needs("git")

RELEASE_0_3_0 = "66b196853f090cb23586395d4bdb1dff510bc4d7"
READER = """
import json, sys, time
from dataclasses import replace
from cni_floatip.store import Store

store = Store(sys.argv[1], sleep=time.sleep, clock=time.monotonic)
claims, problems = store.all()
for claim in claims:
    store.put(claim)  # what its agent does with every claim that it changes
print(json.dumps([[c.attachment.container for c in claims], [[p.reason, p.moved] for p in problems]]))
"""


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of release 0.3.0."""
    archive = subprocess.run(
        ["git", "archive", RELEASE_0_3_0, "cni_floatip"], cwd=ROOT.parent, capture_output=True, check=False
    )
    if archive.returncode:
        skip(f"this checkout does not have the history back to release 0.3.0: {archive.stderr.decode()}")
    directory = tmp_path_factory.mktemp("release")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(directory, filter="data")
    return directory


def test_plain_claims_work_and_elected_ones_are_kept_and_reported(release: Path, tmp_path: Path) -> None:
    store = Store(str(tmp_path), sleep=time.sleep, clock=time.monotonic)
    plain = [CLAIM, a_claim(a_route(State.SUPERSEDED), container="c2")]
    elected = [
        a_claim(a_route(State.STANDBY), container="c3", group=""),
        a_claim(a_route(State.ACTIVE), container="c4", group="core"),
        a_claim(a_route(State.RELEASING), container="c5", group="core"),
    ]
    for claim in (*plain, *elected):
        store.put(claim)
    before = {claim.attachment: store._path(claim.attachment).read_bytes() for claim in elected}

    done = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path)],
        cwd=release,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    containers, problems = json.loads(done.stdout)
    assert sorted(containers) == ["c1", "c2"]
    assert problems == [["written by a newer release (version 2)", False]] * 3
    after = {attachment: store._path(attachment).read_bytes() for attachment in before}
    assert after == before
    again, unread = store.all()
    assert unread == []
    by_container = {claim.attachment.container: claim for claim in again}
    assert set(by_container) == {"c1", "c2", "c3", "c4", "c5"}
    assert by_container["c4"] == elected[1]
    assert [route.state for route in by_container["c2"].routes] == [State.SUPERSEDED]
    assert by_container["c1"].attachment == Attachment("net", "c1", "net1")
