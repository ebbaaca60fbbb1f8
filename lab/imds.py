"""Instance metadata as EC2 serves it on 169.254.169.254: version 2 only, with session tokens.

What an instance looks like is asked anew for every request, so an ENI shows up as soon as it is attached.
("Use the Instance Metadata Service to access instance metadata" and "Instance metadata categories", Amazon
EC2 User Guide.)
"""

from __future__ import annotations

import argparse
import base64
import functools
import json
import secrets
import socket
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from lab.instance import Credentials, InstanceView, InterfaceView
from lab.webserver import Answer, Listener, Request, open_socket, wait_for_the_end

__all__ = ["Credentials", "Imds", "InstanceView", "InterfaceView"]

TTL_HEADER = "x-aws-ec2-metadata-token-ttl-seconds"
TOKEN_HEADER = "x-aws-ec2-metadata-token"  # the name of a header
MAX_TTL = 21600
ITEMS = "/latest/meta-data/"
DOCUMENT = "/latest/dynamic/instance-identity/document"


class Imds:
    """The metadata service of one instance, on as many sockets as it has links."""

    def __init__(
        self, instance: Callable[[], InstanceView], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._instance = instance
        self._clock = clock
        self._lock = threading.Lock()
        self._tokens: dict[str, float] = {}
        self._credentials: Credentials | None = None
        self._listeners: list[Listener] = []
        self._cut = False
        self._shown: dict[str, str | None] = {}

    def listen(self, sock: socket.socket) -> Listener:
        """Serve on a listening socket."""
        listener = Listener(sock, self.handle, lambda: not self._cut)
        self._listeners.append(listener)
        return listener

    def cut(self) -> None:
        """Refuse and break connections, as if the instance had lost the service."""
        self._cut = True
        for listener in self._listeners:
            listener.sever()

    def show(self, path: str, text: str | None) -> None:
        """Show ``text`` at ``path`` below ``meta-data/`` until ``heal``; None: nothing there, or below it.

        So metadata is for moments after an attach: items are missing, empty, or say something else.
        """
        self._shown = {**self._shown, path: text}

    def heal(self) -> None:
        """Undo ``cut`` and ``show``."""
        self._cut = False
        self._shown = {}

    def close(self) -> None:
        """Stop serving on every socket."""
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def forget_tokens(self) -> None:
        """Make every token invalid, as a stop and start of the instance does."""
        with self._lock:
            self._tokens.clear()

    def handle(self, request: Request) -> Answer:
        """Answer one request."""
        if request.method == "PUT" and request.path == "/latest/api/token":
            return self._token(request)
        if request.method != "GET":
            return _refuse(405, "Method Not Allowed")
        with self._lock:
            good_until = self._tokens.get(request.headers.get(TOKEN_HEADER, ""), 0.0)
        if good_until <= self._clock():
            return _refuse(401, "Unauthorized")
        text = self._find(request.path)
        return Answer(200, text.encode()) if text is not None else _refuse(404, "Not Found")

    def _token(self, request: Request) -> Answer:
        """Hand out a session token, good for 1 s to 6 h; never to a forwarded request."""
        if "x-forwarded-for" in request.headers:
            return _refuse(403, "Forbidden")
        wanted = request.headers.get(TTL_HEADER, "")
        if not wanted.isdigit() or not 1 <= int(wanted) <= MAX_TTL:
            return _refuse(400, "Bad Request")
        token = base64.b64encode(secrets.token_bytes(40)).decode()
        with self._lock:
            now = self._clock()
            self._tokens = {t: until for t, until in self._tokens.items() if until > now}
            self._tokens[token] = now + int(wanted)
        return Answer(200, token.encode(), {"X-Aws-Ec2-Metadata-Token-Ttl-Seconds": wanted})

    def _find(self, path: str) -> str | None:
        """Return an item, or the listing of a directory, or nothing."""
        instance = self._instance()
        if path == DOCUMENT:
            return instance.document()
        if not f"{path}/".startswith(ITEMS):
            return None
        wanted = path.removeprefix(ITEMS.rstrip("/")).strip("/")
        items = instance.items() | self._role(instance)
        for path, text in self._shown.items():
            items = {item: what for item, what in items.items() if not f"{item}/".startswith(f"{path}/")}
            items |= {} if text is None else {path: text}
        if wanted in items and not path.endswith("/"):
            return items[wanted]
        return _listing(items, wanted)

    def _role(self, instance: InstanceView) -> dict[str, str]:
        if not instance.role or instance.credentials is None:
            return {}
        with self._lock:
            got = self._credentials
        if got is None or got.expires < time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 300)):
            got = instance.credentials()
            with self._lock:
                self._credentials = got
        document = {
            "Code": "Success",
            "LastUpdated": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "Type": "AWS-HMAC",
            "AccessKeyId": got.access_key,
            "SecretAccessKey": got.secret_key,
            "Token": got.token,
            "Expiration": got.expires,
        }
        return {f"iam/security-credentials/{instance.role}": json.dumps(document, indent=2)}


def _listing(items: Mapping[str, str], directory: str) -> str | None:
    """Return what a directory holds, one name a line; a directory in it ends in a slash, a role does not."""
    prefix = f"{directory}/" if directory else ""
    names = dict.fromkeys(
        head + slash
        for path in sorted(items)
        if path.startswith(prefix)
        for head, slash, _ in [path.removeprefix(prefix).partition("/")]
    )
    return "\n".join(names) if names else None


def _refuse(status: int, reason: str) -> Answer:
    page = f"<html><head><title>{status} - {reason}</title></head></html>"
    return Answer(status, page.encode(), content_type="text/html")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``imds`` to the lab's command line."""
    parser = subparsers.add_parser(
        "imds",
        help="serve the metadata of one instance alone",
        description="Serve the metadata (IMDSv2) of one instance of a running `lab ec2` until Ctrl-C.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument(
        "--port", type=int, default=8001, help="port; 0 takes a free one (default %(default)s)"
    )
    parser.add_argument("--ec2", required=True, metavar="URL", help="where `lab ec2` listens")
    parser.add_argument(
        "--instance", required=True, metavar="ID", help="the instance; `lab ec2 --sample` has two"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    instance = functools.partial(fetch, args.ec2.rstrip("/"), args.instance)
    try:
        view = instance()
        sock = open_socket(args.host, args.port)
    except OSError as e:  # urllib's errors are OSErrors
        print(f"cannot serve metadata of {args.instance} on {args.host} port {args.port}: {e}")
        return 1
    service = Imds(instance)
    host, port = service.listen(sock).address
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    print(f"# metadata of {view.instance_id} at {url}; Ctrl-C ends it")
    print(f"export AWS_EC2_METADATA_SERVICE_ENDPOINT={url}")
    print(f"export AWS_REGION={view.region}", flush=True)
    wait_for_the_end()
    service.close()
    return 0


def fetch(url: str, instance_id: str) -> InstanceView:
    """Ask a simulated EC2 in another process what an instance looks like."""

    def ask(request: urllib.request.Request) -> Any:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - the user's own URL
            return json.load(answer)

    def credentials() -> Credentials:
        where = f"{url}/_lab/credentials/{instance_id}"
        return Credentials(**ask(urllib.request.Request(where, method="POST")))  # noqa: S310

    result = ask(urllib.request.Request(f"{url}/_lab/instance/{instance_id}"))  # noqa: S310
    listed: list[dict[str, Any]] = result.pop("interfaces")
    interfaces = tuple(
        InterfaceView(**{name: _frozen(value) for name, value in item.items()}) for item in listed
    )
    return InstanceView(**{**result, "interfaces": interfaces, "credentials": credentials})


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
