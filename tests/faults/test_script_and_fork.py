"""Direct mode by a fork and by its script: the same call, the same answer, the same traces.

Most tests make a call by a fork of a warm process (``lab.direct``). Here each verb also runs the installed
script, and what comes of both is compared.
"""

from __future__ import annotations

import json
import os
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lab import direct
from lab.node import Starter
from tests.support.samples import sampled
from tests.support.two_nodes import Attachment, Place, Scene, connected_in, ours_in

pytestmark = pytest.mark.lab(nodes_per_az=1, packets=False)

VIP, VIP6 = "192.168.0.2/28", "fd00:192:168::2/124"
STARTS: dict[str, Starter] = {"script": subprocess.Popen, "fork": direct.start}


def call(
    key: Place, start: Starter, verb: str, attachment: Attachment, *arguments: Path, **changes: Any
) -> dict[str, Any]:
    """Make a call; return all that can be seen of it."""
    journal = key.lab.ec2.journal
    journal.clear()
    config = {**attachment.config(), "cniVersion": "1.1.0", **changes}
    environ = {
        "FLOATIP_CONFIG": str(key.config),
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": attachment.container,
        "CNI_NETNS": attachment.pod.netns,
        "CNI_IFNAME": attachment.ifname,
        "CNI_PATH": "/nowhere",
    }
    argv = [str(direct.SCRIPT), *map(str, arguments)]
    done = key.node.run(argv, input=json.dumps(config), env=environ, start=start)
    return {
        "status": done.returncode,
        "answer": json.loads(done.stdout) if done.stdout else None,
        "stderr": sorted(done.stderr.splitlines()),  # tables are worked on side by side
        "asked of EC2": sorted(map(str, journal.of(caller=key.node.name))),
        "in the pod": ours_in(attachment.pod),
        "connected": connected_in(attachment.pod),
        "claims": key.alive(),
    }


@pytest.mark.parametrize(
    "verb",
    sampled(
        "test_each_verb_is_the_same_by_script_and_fork",
        ["ADD", "CHECK", "DEL", "GC", "STATUS"],
        ["ADD", "DEL"],
    ),
)
def test_each_verb_is_the_same_by_script_and_fork(scene: Scene, place: Place, verb: str) -> None:
    attachment = scene.attach(place, VIP, container="both")
    results = {}
    for how, start in STARTS.items():
        call(place, direct.start, "DEL", attachment)  # start over: in the pod, on the disk, in the VPC
        place.forget()
        scene.clear("192.168.0.2/32")
        scene.source_check(attachment.eni)
        if verb not in ("ADD", "STATUS"):
            assert call(place, direct.start, "ADD", attachment)["status"] == 0
        results[how] = call(place, start, verb, attachment, **{"cni.dev/valid-attachments": []})
    assert results["fork"] == results["script"]
    assert results["fork"]["status"] == 0
    assert bool(results["fork"]["asked of EC2"]) == (verb != "STATUS")


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("verb", "changes"),
    [
        ("ADD", {"nonsense": 1}),
        ("ADD", {"prevResult": None}),
        ("ADD", {"routeTables": {"ids": ["rtb-00000000"]}}),
        ("CHECK", {"routeTables": {"ids": []}}),
        ("DEL", {"nonsense": 1}),
        ("ADD", {"cniVersion": "9.9.9"}),
        ("BOGUS", {}),
    ],
    ids=str,
)
def test_a_refusal_is_the_same_by_script_and_fork(
    scene: Scene, place: Place, verb: str, changes: dict[str, Any]
) -> None:
    attachment = scene.attach(place, VIP, container="both")
    results = {how: call(place, start, verb, attachment, **changes) for how, start in STARTS.items()}
    assert results["fork"] == results["script"]


@pytest.mark.parametrize("sent", ["", '{"cniVersion": "0.4.0"}', "no JSON"])
def test_version_is_the_same_by_script_and_fork(sent: str) -> None:
    """VERSION takes the input that is there and waits for none: a pipe that is full before it starts."""
    results = {}
    for how, start in STARTS.items():
        reader, writer = os.pipe()
        os.write(writer, sent.encode())
        os.close(writer)
        environ = {"CNI_COMMAND": "VERSION"}
        process = start([str(direct.SCRIPT)], stdin=reader, stdout=-1, stderr=-1, env=environ, text=True)
        results[how] = (*process.communicate(), process.returncode)
        os.close(reader)
    assert results["fork"] == results["script"]
    assert json.loads(results["script"][0])["cniVersion"] == ("0.4.0" if "0.4.0" in sent else "1.1.0")


def test_without_a_command() -> None:
    results = {}
    for how, start in STARTS.items():
        process = start([str(direct.SCRIPT)], stdin=-3, stdout=-1, stderr=-1, env={}, text=True)
        results[how] = (*process.communicate(), process.returncode)
    assert results["fork"] == results["script"]


@pytest.mark.parametrize("verb", ["ADD", "CHECK", "DEL"])
def test_a_fork_has_nothing_left_to_load(scene: Scene, place: Place, verb: str) -> None:
    """Each fork would pay for it again: what the product comes to load belongs into ``direct_warm``."""
    attachment = scene.attach(place, VIP)
    if verb != "ADD":
        assert attachment.add().code == 0
    file = place.node.state / "loaded"
    start = partial(direct.start, entry="tests.faults.loading:main")
    answer = call(place, start, verb, attachment, file)
    assert answer["status"] == 0
    assert file.read_text() == ""
