"""Finds the proxy that the environment sets for the SDK's requests."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from botocore.utils import get_environ_proxies

METADATA = "http://169.254.169.254"
"""Where the SDK looks for credentials last, unless AWS_EC2_METADATA_SERVICE_ENDPOINT says otherwise."""


def proxy_of(url: str) -> str:
    """Return the proxy through which the environment sends requests to ``url``, "" for none."""
    return without_password(get_environ_proxies(url).get(urlsplit(url).scheme) or "")


def without_password(proxy: str) -> str:
    """Return the URL of a proxy without its password, for messages."""
    scheme, there, rest = proxy.rpartition("://")
    return scheme + there + rest.rpartition("@")[2]


def proxied_metadata() -> str | None:
    """Say that the SDK asks instance metadata for credentials through a proxy; None: it does not."""
    url = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT") or METADATA
    if proxy := proxy_of(url):
        host = url.partition("://")[2].strip("/")
        return f"instance metadata is asked through the proxy {proxy}: name {host} in NO_PROXY"
    return None
