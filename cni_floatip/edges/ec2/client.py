"""The edge to EC2: route tables, subnets, network interfaces; one attempt per call.

The only module that speaks to EC2, with the clients that ``sessions`` makes. The SDK retries nothing here;
the caller retries, because each attempt of a mutating request needs its own decision.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from ...model.errors import Ec2Error, Ec2Fault
from ...model.values import NetworkInterface, RouteKey, RouteTable, Subnet
from .answers import subnet_of, table_of
from .faults import attempt, readable
from .route_sets import CUT
from .sessions import Sdk

MAX_VALUES = 200
"""The most values that the filters of one request may have."""


class Vpc:
    """EC2 in one region as this node sees it. Safe to use from several threads.

    ``roles`` maps an account to the role to assume for the route tables that it owns; ``sdk`` serves several
    regions. ``on_request`` hears of every request: action, "ok" or AWS's code or the fault's name, seconds.
    ``paging`` hears, before a read asks for one more page, of its action and account. Every method raises
    Ec2Error, and nothing else.
    """

    def __init__(
        self,
        region: str,
        roles: Mapping[str, str],
        *,
        sdk: Sdk | None = None,
        on_request: Callable[[str, str, float], None] = lambda *_: None,
        paging: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self._region = region
        self._sdk = sdk or Sdk(roles)
        self._on_request = on_request
        self._paging = paging

    def warm(self, account: str = "") -> None:
        """Prepare credentials, client and a connection before they are needed, by a dry run."""
        try:
            self.call("describe_route_tables", {"DryRun": True}, account)
        except Ec2Error as e:
            if e.code != "DryRunOperation":
                raise

    def identity(self) -> str:
        """Return how our own credentials were found, in the SDK's word; "" for none."""
        result: str = attempt("GetCredentials", self._sdk.identity, lambda: None)
        return result

    def endpoint(self) -> str:
        """Return EC2's URL as the SDK resolves it. Nothing is sent, and no credentials are needed."""
        result: str = attempt("EC2", lambda: self._sdk.endpoint(self._region), lambda: None)
        return result

    # -- reading --------------------------------------------------------------------------------------

    def route_tables(self, filters: Mapping[str, Sequence[str]], account: str = "") -> tuple[RouteTable, ...]:
        """Return the tables that match ``filters`` (DescribeRouteTables), as ``account`` sees them."""
        with readable("DescribeRouteTables"):
            return tuple(
                table_of(table, page.get(CUT, {}))
                for page in self._answers("describe_route_tables", filters, account)
                for table in page["RouteTables"]
            )

    def subnets(self, filters: Mapping[str, Sequence[str]], account: str = "") -> tuple[Subnet, ...]:
        """Return the subnets that match ``filters`` (DescribeSubnets), as ``account`` sees them."""
        with readable("DescribeSubnets"):
            results = self.pages("describe_subnets", "Subnets", filters, account)
            return tuple(subnet_of(subnet) for subnet in results)

    def interfaces_in(self, subnets: Sequence[str], account: str = "") -> dict[str, str]:
        """Return one network interface for each of ``subnets`` that has any (DescribeNetworkInterfaces).

        An account sees its own interfaces only, but the owner of a shared VPC everybody's (VPC guide).
        """
        filters = {"subnet-id": subnets}
        with readable("DescribeNetworkInterfaces"):
            results = self.pages("describe_network_interfaces", "NetworkInterfaces", filters, account)
            return {eni["SubnetId"]: eni["NetworkInterfaceId"] for eni in results}

    def attachments(self, enis: Sequence[str], account: str = "") -> dict[str, str]:
        """Return what each of ``enis`` is attached to, "" for nothing; one that does not exist is missing.

        An account sees its own interfaces only, but the owner of a shared VPC everybody's (VPC guide).
        """
        with readable("DescribeNetworkInterfaces"):
            return dict(self._attachments(enis, account))

    def _attachments(self, enis: Sequence[str], account: str) -> Iterator[tuple[str, str]]:
        for start in range(0, len(enis), MAX_VALUES):
            filters = {"network-interface-id": enis[start : start + MAX_VALUES]}
            for eni in self.pages("describe_network_interfaces", "NetworkInterfaces", filters, account):
                attached = eni.get("Attachment") or {}
                known = attached.get("InstanceId") or attached.get("AttachmentId")
                to = known or "an instance that EC2 does not show"
                free = attached.get("Status") == "detached" if attached else eni.get("Status") == "available"
                yield eni["NetworkInterfaceId"], "" if free else to

    def network_interface(self, eni: str) -> NetworkInterface:
        """Return the source/dest check and the tags of ``eni``."""
        filters = {"network-interface-id": [eni]}
        action = "DescribeNetworkInterfaces"
        with readable(action):
            for raw in self.pages("describe_network_interfaces", "NetworkInterfaces", filters):
                tags = {tag["Key"]: tag["Value"] for tag in raw.get("TagSet", ())}
                return NetworkInterface(bool(raw["SourceDestCheck"]), tags)
        raise Ec2Error(Ec2Fault.NO_ENI, action, "InvalidNetworkInterfaceID.NotFound", f"no {eni}")

    # -- writing --------------------------------------------------------------------------------------

    def wait_turn(self, action: str, key: RouteKey, account: str, deadline: float) -> None:  # noqa: ARG002
        """Make a client with credentials that are good for the coming write, which renews none.

        Waits for nothing else, because a single call has no queue.
        """
        self.ready(action, account)

    def ready(self, action: str, account: str) -> None:
        """Make a client with fresh credentials for ``action``, and send nothing but AssumeRole."""
        assumed = partial(self._sorted, "AssumeRole")
        attempt(action, lambda: self._sdk.client(self._region, account, assumed), lambda: None)

    def disable_source_dest_check(self, eni: str) -> None:
        """Turn the source/destination check of ``eni`` off (ModifyNetworkInterfaceAttribute)."""
        self.call(
            "modify_network_interface_attribute",
            {"NetworkInterfaceId": eni, "SourceDestCheck": {"Value": False}},
        )

    def create(self, key: RouteKey, eni: str, account: str = "") -> None:
        """Make the route ``key -> eni`` where there is none (CreateRoute)."""
        self._write("create_route", _route_arguments(key) | {"NetworkInterfaceId": eni}, account)

    def replace(self, key: RouteKey, eni: str, account: str = "") -> None:
        """Point the existing route at ``key`` to ``eni`` (ReplaceRoute)."""
        self._write("replace_route", _route_arguments(key) | {"NetworkInterfaceId": eni}, account)

    def delete(self, key: RouteKey, account: str = "") -> None:
        """Remove the route at ``key`` (DeleteRoute)."""
        self._write("delete_route", _route_arguments(key), account)

    def try_create(self, key: RouteKey, eni: str, account: str = "") -> None:
        """Ask whether ``create`` would be allowed, and write nothing (CreateRoute, ``DryRun``)."""
        self._try("create_route", key, eni, account)

    def try_replace(self, key: RouteKey, eni: str, account: str = "") -> None:
        """Ask whether ``replace`` would be allowed, and write nothing (ReplaceRoute, ``DryRun``)."""
        self._try("replace_route", key, eni, account)

    def _try(self, operation: str, key: RouteKey, eni: str, account: str) -> None:
        """Send a dry run, of which EC2 judges permissions alone: whether the route exists is all the same."""
        arguments = _route_arguments(key) | {"NetworkInterfaceId": eni, "DryRun": True}
        try:
            self.call(operation, arguments, account)
        except Ec2Error as e:
            if e.code != "DryRunOperation":
                raise

    def _write(self, operation: str, parameters: Mapping[str, Any], account: str) -> None:
        """Send the write that was just decided, with the credentials that ``wait_turn`` has renewed."""
        self.call(operation, parameters, account, as_it_is=True)

    # -- the SDK --------------------------------------------------------------------------------------

    def pages(
        self, operation: str, key: str, filters: Mapping[str, Sequence[str]], account: str = ""
    ) -> Iterator[Mapping[str, Any]]:
        """Yield what a Describe lists under ``key``, in the SDK's own shape; for us and for the doctor."""
        for answer in self._answers(operation, filters, account):
            yield from answer[key]

    def _answers(
        self, operation: str, filters: Mapping[str, Sequence[str]], account: str
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the pages of a Describe."""
        named = [{"Name": name, "Values": list(values)} for name, values in filters.items()]
        parameters: dict[str, Any] = {"Filters": named, "MaxResults": 100}
        while True:
            page = self.call(operation, parameters, account)
            yield page
            if not page.get("NextToken"):
                return
            parameters["NextToken"] = page["NextToken"]
            self._paging(_action(operation), account)

    def call(
        self,
        operation: str,
        parameters: Mapping[str, Any],
        account: str = "",
        service: str = "ec2",
        *,
        as_it_is: bool = False,
    ) -> Mapping[str, Any]:
        """Return the answer to one request, in the SDK's own shape; for us and for the doctor."""
        action = _action(operation)
        client: Any = None

        def drop_connections() -> None:
            """Forget pooled connections: when an AZ fails, some lead to an endpoint address that died."""
            if client is not None:
                client.close()

        def send() -> Any:
            nonlocal client
            assumed = partial(self._sorted, "AssumeRole")
            client = self._sdk.client(self._region, account, assumed, service, as_it_is=as_it_is)
            return getattr(client, operation)(**parameters)

        answer: Mapping[str, Any] = self._sorted(action, send, drop_connections)
        return answer

    def _sorted(
        self, action: str, send: Callable[[], Any], drop_connections: Callable[[], None] = lambda: None
    ) -> Any:
        """Return the answer to one request, or raise the Ec2Error that its failure means to us."""
        began = time.monotonic()
        try:
            answer = attempt(action, send, drop_connections)
        except Ec2Error as e:
            if e.action != "AssumeRole" or action == "AssumeRole":  # ours, before a request, was told of
                self._on_request(e.action, e.code or e.fault.name, time.monotonic() - began)
            raise
        self._on_request(action, "ok", time.monotonic() - began)
        return answer


def _action(operation: str) -> str:
    return "".join(word.capitalize() for word in operation.split("_"))


def _route_arguments(key: RouteKey) -> dict[str, Any]:
    family = "DestinationCidrBlock" if key.destination.version == 4 else "DestinationIpv6CidrBlock"
    return {"RouteTableId": key.table, family: str(key.destination)}
