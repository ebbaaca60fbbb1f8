"""Where EC2 and STS are asked, as our cut-down service descriptions say it: also on nodes without IPv4."""

from __future__ import annotations

from typing import Any

import pytest

from cni_floatip.edges.ec2.sessions import Sdk

ENDPOINTS = {
    ("eu-central-1", False): "{}.eu-central-1.amazonaws.com",
    ("eu-central-1", True): "{}.eu-central-1.api.aws",
    ("us-gov-west-1", True): "{}.us-gov-west-1.api.aws",
    ("cn-north-1", False): "{}.cn-north-1.amazonaws.com.cn",
    ("cn-north-1", True): "{}.cn-north-1.api.amazonwebservices.com.cn",
}


@pytest.mark.parametrize("service", ["ec2", "sts"])
@pytest.mark.parametrize(("region", "dualstack"), ENDPOINTS)
def test_endpoint_of_each_region(
    monkeypatch: pytest.MonkeyPatch, region: Any, dualstack: Any, service: str
) -> None:
    """With the environment that the chart gives the agent (``aws.useDualstackEndpoint``)."""
    for name in ("EC2", "STS"):
        monkeypatch.delenv(f"AWS_ENDPOINT_URL_{name}", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_STS_REGIONAL_ENDPOINTS", "regional")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    monkeypatch.delenv("AWS_USE_DUALSTACK_ENDPOINT", raising=False)
    if dualstack:
        monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    client = Sdk({}).client(region, "", lambda send: send(), service)
    assert client.meta.endpoint_url == "https://" + ENDPOINTS[region, dualstack].format(service)
