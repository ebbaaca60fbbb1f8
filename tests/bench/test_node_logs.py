"""What the logs of a node tell: sandbox, containers and ADD of one pod among others, in its last attempt."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from bench import node_logs
from lab.errors import LabError

UID, OTHER = "891a59f8-00b4-4dbe-8e5f-d78cc070c312", "a7ab8ac7-2eef-4b61-bbfd-ef8e452707e7"
FIRST, SECOND, FOREIGN = "1" * 64, "2" * 64, "3" * 64
APP, SIDECAR, STRANGER = "a" * 64, "b" * 64, "c" * 64


def at(second: float) -> str:
    return f"2026-11-29T22:09:{second:012.9f}Z"


def containerd(second: float, text: str) -> str:
    quoted = text.replace('"', '\\"')
    return f'time="{at(second)}" level=info msg="{quoted}"'


def sandbox(second: float, uid: str, sandbox_id: str, attempt: int = 0) -> str:
    meta = f"Name:web-1,Uid:{uid},Namespace:default,Attempt:{attempt},"
    return containerd(
        second, f'RunPodSandbox for &PodSandboxMetadata{{{meta}}} returns sandbox id "{sandbox_id}"'
    )


def created(second: float, sandbox_id: str, name: str, container: str) -> str:
    meta = f"&ContainerMetadata{{Name:{name},Attempt:0,}}"
    return containerd(
        second,
        f'CreateContainer within sandbox "{sandbox_id}" for {meta} returns container id "{container}"',
    )


def started(second: float, container: str) -> str:
    return containerd(second, f'StartContainer for "{container}" returns successfully')


CONTAINERD = "\n".join(
    [
        "something that is not of its format",
        sandbox(1, UID, FIRST),
        created(2, FIRST, "app", STRANGER),
        sandbox(10, OTHER, FOREIGN),
        sandbox(11, UID, SECOND, attempt=1),
        created(12, FOREIGN, "app", STRANGER),
        created(13, SECOND, "app", APP),
        containerd(13.5, f'StartContainer for "{APP}"'),
        started(14, STRANGER),
        started(15.25, APP),
        created(16, SECOND, "sidecar", SIDECAR),
        started(17, SIDECAR),
        sandbox(18, OTHER, "4" * 64),
    ]
)


def agent(second: float, **fields: object) -> str:
    document = {"msg": "ADD: done", "verb": "ADD", "uid": UID, "seconds": 0.5, "outcome": "ok", **fields}
    return f"{at(second)} stderr F {json.dumps(document)}"


def test_a_time_has_its_fraction() -> None:
    assert node_logs.wall("2026-11-29T22:09:42.284067849Z") - 1795990182 == pytest.approx(0.284068, abs=1e-5)
    assert node_logs.wall("2026-11-29T22:09:42Z") == 1795990182.0


def test_a_pod_is_told_from_others_and_from_its_sandbox_that_failed() -> None:
    boot = node_logs.boot(CONTAINERD, UID)
    assert boot.sandbox == node_logs.wall(at(11))
    assert boot.containers == {"app": node_logs.wall(at(15.25)), "sidecar": node_logs.wall(at(17))}


def test_a_container_that_did_not_start_is_an_error() -> None:
    with pytest.raises(LabError, match="no start of the container 'app'"):
        node_logs.boot(CONTAINERD.replace("returns successfully", ""), UID).began("app")


def test_the_last_add_that_succeeded_counts() -> None:
    log = "\n".join(
        [
            agent(1),
            agent(5, seconds=0.25),
            agent(6, outcome="11"),
            agent(7, uid=OTHER),
            agent(8, verb="DEL"),
            f"{at(9)} stderr F no JSON",
            "",
        ]
    )
    add = node_logs.add(log, UID)
    assert add.seconds == pytest.approx(0.25)
    assert add.end - time.monotonic() == pytest.approx(node_logs.wall(at(5)) - time.time(), abs=5)


def test_no_add_is_an_error() -> None:
    with pytest.raises(LabError, match="no ADD"):
        node_logs.add(agent(1, outcome="100"), UID)


def test_the_agents_log_is_that_of_all_its_containers(tmp_path: Path) -> None:
    for name in ("kube-system_cni-floatip-x_1", "kube-system_cni-floatip-y_2", "default_web_3"):
        place = tmp_path / "pods" / name / "agent"
        place.mkdir(parents=True)
        (place / "0.log").write_text(name)
    assert node_logs.agent_log(tmp_path).splitlines() == [
        "kube-system_cni-floatip-x_1",
        "kube-system_cni-floatip-y_2",
    ]
