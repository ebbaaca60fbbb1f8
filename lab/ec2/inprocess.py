"""botocore clients whose requests never leave the process."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import botocore.session
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from lab.webserver import Answer, Request


@functools.cache
def session() -> botocore.session.Session:
    """Return the one session of this process: it keeps the service models, which take a third of a second."""
    return botocore.session.Session()


def client(serve: Callable[[Request], Answer], service: str, region: str, key: str) -> Any:
    """Return a client of ``service`` whose requests are answered by ``serve``."""
    made: Any = session().create_client(
        service,
        region_name=region,
        endpoint_url=f"http://{service}.lab.invalid",
        aws_access_key_id=key,
        aws_secret_access_key="lab",
        config=Config(retries={"total_max_attempts": 1}),
    )

    def answer(request: Any, **_: Any) -> Any:
        got = serve(_received(request))
        response: Any = AWSResponse
        return response(request.url, got.status, {"content-type": got.content_type}, _Body(got.body))

    made.meta.events.register("before-send", answer)
    return made


def _received(request: Any) -> Request:
    body = request.body if isinstance(request.body, bytes) else str(request.body).encode()
    headers = {
        name.lower(): value.decode() if isinstance(value, bytes) else str(value)
        for name, value in request.headers.items()
    }
    return Request(request.method, "/", "", headers, body)


class _Body:
    """A body in memory, read the way botocore reads one from a socket."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_: Any) -> Iterator[bytes]:
        """Yield the whole body, once."""
        yield self.read()

    def read(self, *_: Any) -> bytes:
        """Return the whole body, once."""
        body, self._body = self._body, b""
        return body
