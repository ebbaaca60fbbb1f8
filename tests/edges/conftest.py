"""The edges to AWS against the simulated EC2 and instance metadata, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lab.ec2 import SimulatedEC2, sample
from lab.ec2.cloud import access_key
from lab.ec2.sample import Sample
from lab.webserver import open_socket


@pytest.fixture
def ec2(cloud: SimulatedEC2, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An EC2 with the sample VPC, found through the environment as a node finds it."""
    cloud.reset()
    listener = cloud.listen(open_socket("127.0.0.1", 0), "a1")
    host, port = listener.address
    for service in ("EC2", "STS"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", f"http://{host}:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", access_key(cloud.account))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    yield cloud
    cloud.faults.clear()
    listener.close()


@pytest.fixture
def world(ec2: SimulatedEC2) -> Sample:
    return sample.fresh(ec2)
