"""Reads instance metadata: this instance's identity and its network interfaces.

The only module that speaks to it. Version 2 only (a token by PUT, reused for every GET), one connection.
EC2 user guide, "Instance metadata categories". The service is link-local: no proxy is ever used.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import re
import socket
import threading
import time
from collections.abc import Callable
from ipaddress import ip_network
from urllib.parse import urlsplit

from ..model.errors import InvalidConfig, TryAgain, short
from ..model.values import Eni, Network, Node

ENDPOINT = "http://169.254.169.254"
_TOKEN_SECONDS = 21600
_TIMEOUT = 1.0
_WHOLE_SECONDS = 2.0
"""How long one exchange may take in all, even while data keeps coming."""
_MACS = "meta-data/network/interfaces/macs/"
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_MOST = 256 * 1024
"""Bytes of one item; the longest, the list of MAC addresses, has some hundreds."""


class Metadata:
    """One conversation with the metadata service; ``close`` ends it.

    Every method raises TryAgain when the service does not answer before ``deadline`` (of ``clock``).
    """

    def __init__(
        self,
        deadline: float,
        *,
        endpoint: str = "",
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        try:
            url = urlsplit(endpoint or ENDPOINT)
            self._host, self._port = url.hostname or "", url.port or 80
        except ValueError:
            self._host = ""
        if not self._host:
            raise InvalidConfig(
                f"AWS_EC2_METADATA_SERVICE_ENDPOINT: {endpoint!r} is not a URL like {ENDPOINT}"
            )
        self._deadline = deadline
        self._clock = clock
        self._sleep = sleep
        self._token = ""
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def node(self) -> Node:
        """Return this instance, from its identity document."""
        text = self._need("dynamic/instance-identity/document")
        try:
            result = json.loads(text)
            raw = {key: result[key] for key in ("instanceId", "accountId", "region")}
            if wrong := [key for key, value in raw.items() if not isinstance(value, str) or not value]:
                raise ValueError(f"{', '.join(wrong)}: no text")
        except (ValueError, KeyError, TypeError, RecursionError) as e:
            text = f"instance metadata: the identity document cannot be read: {short(repr(e))}"
            raise TryAgain(text) from e
        return Node(instance=raw["instanceId"], account=raw["accountId"], region=raw["region"])

    def macs(self) -> tuple[str, ...]:
        """Return the MAC addresses of this instance's network interfaces, lower case."""
        listing = self._need(_MACS)
        results = tuple(line.strip("/").lower() for line in listing.split())
        if wrong := [mac for mac in results if not _MAC.fullmatch(mac)]:
            raise _late(_MACS, wrong[0])
        return results

    def knows(self, mac: str) -> bool:
        """Return whether ``mac`` is that of one of this instance's network interfaces."""
        return mac in self.macs()

    def primary_mac(self) -> str:
        """Return the MAC address of the primary network interface."""
        result = self._need("meta-data/mac").strip().lower()
        if not _MAC.fullmatch(result):
            raise _late("meta-data/mac", result)
        return result

    def role(self) -> str:
        """Return the name of the instance profile's role, "" when there is none."""
        return (self._get("meta-data/iam/security-credentials/") or "").strip()

    def eni(self, mac: str) -> Eni:
        """Return the network interface with ``mac``, one of ``macs()``.

        For moments after an attach, metadata leaves items out, shows them empty, or shows device number 0.
        So incomplete or contradictory items raise TryAgain.
        """
        base = f"{_MACS}{mac}"

        def networks(*names: str) -> tuple[Network, ...]:
            lines = [line for name in names for line in (self._get(f"{base}/{name}") or "").split()]
            if not lines:
                raise TryAgain(f"instance metadata has none of {', '.join(names)} for {mac} yet")
            return tuple(map(ip_network, lines))

        try:
            result = Eni(
                id=self.interface_id(mac),
                mac=mac,
                device_number=_number(self._need(f"{base}/device-number")),
                vpc=self._id(f"{base}/vpc-id", "vpc"),
                subnet=self._id(f"{base}/subnet-id", "subnet"),
                subnet_cidrs=networks("subnet-ipv4-cidr-block", "subnet-ipv6-cidr-blocks"),
                vpc_cidrs=networks("vpc-ipv4-cidr-blocks", "vpc-ipv6-cidr-blocks"),
                network_card=_number(self._get(f"{base}/network-card") or "0"),  # not every type has the item
            )
        except ValueError as e:
            raise TryAgain(f"instance metadata of {mac} cannot be read: {short(e)}") from e
        if outside := [net for net in result.subnet_cidrs if not _inside(net, result.vpc_cidrs)]:
            raise TryAgain(
                f"instance metadata of {mac} is not complete yet: its subnet has {outside[0]}, and its VPC no"
                " network around it"
            )
        if (result.network_card, result.device_number) == (0, 0) and mac != self.primary_mac():
            raise TryAgain(
                f"instance metadata of {mac} is not complete yet: device number 0, and another one is primary"
            )
        return result

    def interface_id(self, mac: str) -> str:
        """Return the id of the network interface with ``mac``, one of ``macs()``."""
        return self._id(f"{_MACS}{mac}/interface-id", "eni")

    def ask_again(self) -> bool:
        """Forget nothing, because every answer here is of this conversation."""
        return False

    def _id(self, path: str, kind: str) -> str:
        result = self._need(path).strip()
        if not re.fullmatch(rf"{kind}-[0-9A-Za-z-]{{1,64}}", result):
            raise _late(path, result)
        return result

    def _need(self, path: str) -> str:
        result = self._get(path)
        if not result:
            raise TryAgain(f"instance metadata has no {path}: is this an EC2 instance?")
        return result

    def _get(self, path: str) -> str | None:
        """Return the item at ``path``, None when there is none (404)."""
        pause = 0.05
        while True:
            try:
                if not self._token:
                    self._token = self._fetch_token()
                status, body = self._exchange("GET", path, {"X-aws-ec2-metadata-token": self._token})
                if status == 200:
                    return body
                if status == 404:
                    return None
                self._token = ""  # 401: it has run out, or the instance was stopped and started
                fault = f"status {status}"
            except (OSError, http.client.HTTPException) as e:
                self.close()
                fault = short(str(e) or type(e).__name__)
            except ValueError as e:  # what is no text, or no header
                self.close()
                self._token = ""
                fault = short(f"an answer that cannot be read: {e}")
            if self._clock() + pause > self._deadline:
                raise TryAgain(f"instance metadata at {self._host} does not answer: {path}: {fault}")
            self._sleep(pause * random.uniform(0.5, 1))  # noqa: S311 (jitter, not a secret)
            pause = min(pause * 2, 1.0)

    def _fetch_token(self) -> str:
        ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_SECONDS)}
        status, body = self._exchange("PUT", "api/token", ttl)
        if status != 200:
            raise http.client.HTTPException(f"no token (status {status})")
        return body

    def _exchange(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        if self._connection is None:
            left = max(0.05, min(_TIMEOUT, self._deadline - self._clock()))
            self._connection = http.client.HTTPConnection(self._host, self._port, timeout=left)
            self._connection.connect()
        ends = threading.Timer(max(0.05, min(_WHOLE_SECONDS, self._deadline - self._clock())), self._cut)
        ends.daemon = True
        ends.start()  # a time-out of the socket begins anew with each byte
        try:
            self._connection.request(method, f"/latest/{path}", headers=headers)
            response = self._connection.getresponse()
            if response.status == 403:  # to the PUT too
                raise TryAgain("instance metadata is switched off for this instance (HttpEndpoint)")
            body = response.read(_MOST + 1)
        finally:
            ends.cancel()
        if len(body) > _MOST or not response.isclosed():
            raise http.client.HTTPException(f"an answer of more than {_MOST} bytes, or of less than it says")
        return response.status, body.decode()

    def _cut(self) -> None:
        """End the running exchange: its reader finds the end of the stream."""
        connection = self._connection
        if connection is not None and (sock := connection.sock) is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def _late(path: str, result: str) -> TryAgain:
    return TryAgain(f"instance metadata shows {short(repr(result))} as {path}: not complete yet?")


def _number(text: str) -> int:
    if not (text.strip().isascii() and text.strip().isdigit()):
        raise ValueError(f"{text!r} is not a number")
    return int(text)


def _inside(network: Network, cidrs: tuple[Network, ...]) -> bool:
    return any(cidr.version == network.version and network.subnet_of(cidr) for cidr in cidrs)  # type: ignore[arg-type]
