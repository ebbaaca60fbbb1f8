"""The simulated EC2 as a caller meets it: botocore over HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from lab.ec2 import SimulatedEC2, sample
from lab.ec2.cloud import access_key
from lab.ec2.inprocess import session
from lab.ec2.sample import Sample
from lab.webserver import open_socket

IMPATIENT = Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=5)


@pytest.fixture
def ec2(cloud: SimulatedEC2) -> Iterator[SimulatedEC2]:
    """An empty EC2 without faults."""
    cloud.reset()
    yield cloud
    cloud.faults.clear()


@pytest.fixture(scope="module")
def callers(cloud: SimulatedEC2) -> dict[str, Any]:
    """The callers that have a socket, and its URL."""
    return {}


@pytest.fixture(scope="module")
def clients() -> dict[tuple[Any, ...], Any]:
    """The clients that were made already: making one takes longer than most calls."""
    return {}


@pytest.fixture
def connect(
    ec2: SimulatedEC2, callers: dict[str, Any], clients: dict[tuple[Any, ...], Any]
) -> Callable[..., Any]:
    """Make a botocore client that reaches EC2 over HTTP as a caller of its own."""

    def make(caller: str = "a1", service: str = "ec2", account: Any = None, **credentials: Any) -> Any:
        if caller not in callers:
            host, port = ec2.listen(open_socket("127.0.0.1", 0), caller).address
            callers[caller] = f"http://{host}:{port}"
        credentials = credentials or {
            "aws_access_key_id": access_key(account or ec2.account),
            "aws_secret_access_key": "secret",
        }
        key = (caller, service, *credentials.values())
        if key not in clients:
            clients[key] = new(caller, service, credentials)
        return clients[key]

    def new(caller: Any, service: Any, credentials: Any) -> Any:
        return session().create_client(
            service, region_name=ec2.region, endpoint_url=callers[caller], config=IMPATIENT, **credentials
        )

    return make


@pytest.fixture
def vpc(ec2: SimulatedEC2) -> Sample:
    """A VPC of two zones: see lab/ec2/sample.py."""
    return sample.fresh(ec2)


@pytest.fixture
def aws(connect: Callable[..., Any]) -> Any:
    """The client of node a1."""
    return connect()


@pytest.fixture
def refused() -> Callable[..., Any]:
    """Hold a block to one EC2 error: ``with refused("InvalidRoute.NotFound", status=400) as said: ...``."""

    @contextlib.contextmanager
    def expect(code: Any, *, status: int = 400) -> Iterator[Any]:
        output = SimpleNamespace(message=None)
        with pytest.raises(ClientError) as caught:
            yield output
        error = caught.value.response
        output.message = error["Error"]["Message"]
        assert (error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)

    return expect
