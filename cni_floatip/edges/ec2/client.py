"""The edge to EC2: route tables, subnets, network interfaces; one attempt per call, errors sorted by table.

The only module that speaks to EC2, with the clients that ``sessions`` makes. The SDK retries nothing here: a
mutating request that is sent twice is decided twice, so repeating is the caller's business.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache, partial
from http import HTTPStatus
from ipaddress import ip_network
from typing import Any

from ...model.errors import Ec2Error, Ec2Fault
from ...model.values import Network, NetworkInterface, Place, RouteTable, Subnet, Target
from .sessions import Sdk

FAULTS: Mapping[str, Ec2Fault] = {
    "RouteAlreadyExists": Ec2Fault.ROUTE_EXISTS,
    "InvalidRoute.NotFound": Ec2Fault.NO_ROUTE,
    "InvalidRouteTableID.NotFound": Ec2Fault.NO_TABLE,
    "InvalidRouteTableId.NotFound": Ec2Fault.NO_TABLE,
    "InvalidRouteTableId.Malformed": Ec2Fault.NO_TABLE,
    "InvalidNetworkInterfaceID.NotFound": Ec2Fault.NO_ENI,
    "IDPCommunicationError": Ec2Fault.NOT_SENT,
    "RouteLimitExceeded": Ec2Fault.QUOTA,
    "IncorrectState": Ec2Fault.BUSY,
    "DependencyViolation": Ec2Fault.BUSY,
    "Unavailable": Ec2Fault.UNANSWERED,
    "ServiceUnavailable": Ec2Fault.UNANSWERED,
    "InternalError": Ec2Fault.UNANSWERED,
    "InternalFailure": Ec2Fault.UNANSWERED,
    "RequestTimeout": Ec2Fault.UNANSWERED,
    "RequestTimeoutException": Ec2Fault.UNANSWERED,
    "UnauthorizedOperation": Ec2Fault.DENIED,
    "AuthFailure": Ec2Fault.DENIED,
    "AccessDenied": Ec2Fault.DENIED,
    "ExpiredToken": Ec2Fault.DENIED,
    "ExpiredTokenException": Ec2Fault.DENIED,
    "RequestExpired": Ec2Fault.DENIED,
    "InvalidClientTokenId": Ec2Fault.DENIED,
}
"""EC2 and STS API references, "Error codes"; what means throttling the SDK knows. See ``meaning``."""

PROPAGATED = frozenset({"EnableVgwRoutePropagation", "Advertisement"})
"""Origins (EC2 API reference, Route) that mean propagated: by a gateway; by a VPC Route Server, to an ENI."""
NO_TARGET = frozenset(
    {"DestinationCidrBlock", "DestinationIpv6CidrBlock", "InstanceOwnerId", "Origin", "State"}
)
"""What EC2 says of a route beside its target (EC2 API reference, Route)."""
MAX_VALUES = 200
"""How many values the filters of one request may have."""


class Vpc:
    """EC2 in one region as this node sees it. Safe to use from several threads.

    ``roles`` maps an account to the role to assume for the route tables that it owns; ``sdk`` serves several
    regions. ``told`` hears of every request: action, "ok" or AWS's code or the fault's name, seconds.
    ``paging`` hears, before a read asks for one more page, of its action and account. Every method raises
    Ec2Error, and nothing else.
    """

    def __init__(
        self,
        region: str,
        roles: Mapping[str, str],
        *,
        sdk: Sdk | None = None,
        told: Callable[[str, str, float], None] = lambda *_: None,
        paging: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self._region = region
        self._sdk = sdk or Sdk(roles)
        self._told = told
        self._paging = paging

    def warm(self, account: str = "") -> None:
        """Have credentials, client and a connection ready before they are needed, by a dry run."""
        try:
            self.call("describe_route_tables", {"DryRun": True}, account)
        except Ec2Error as e:
            if e.code != "DryRunOperation":
                raise

    def identity(self) -> str:
        """Return how our own credentials were found, in the SDK's word; "" for none."""
        found: str = _attempt("GetCredentials", self._sdk.identity, lambda: None)
        return found

    def endpoint(self) -> str:
        """Return EC2's URL as the SDK resolves it. Nothing is sent, and no credentials are needed."""
        found: str = _attempt("EC2", lambda: self._sdk.endpoint(self._region), lambda: None)
        return found

    # -- reading --------------------------------------------------------------------------------------

    def route_tables(self, filters: Mapping[str, Sequence[str]], account: str = "") -> tuple[RouteTable, ...]:
        """Return the tables that match ``filters`` (DescribeRouteTables), as ``account`` sees them."""
        with _readable("DescribeRouteTables"):
            found = self.pages("describe_route_tables", "RouteTables", filters, account)
            return tuple(_table(table) for table in found)

    def subnets(self, filters: Mapping[str, Sequence[str]], account: str = "") -> tuple[Subnet, ...]:
        """Return the subnets that match ``filters`` (DescribeSubnets), as ``account`` sees them."""
        with _readable("DescribeSubnets"):
            found = self.pages("describe_subnets", "Subnets", filters, account)
            return tuple(_subnet(subnet) for subnet in found)

    def interfaces_in(self, subnets: Sequence[str], account: str = "") -> dict[str, str]:
        """Return one network interface for each of ``subnets`` that has any (DescribeNetworkInterfaces).

        An account sees its own interfaces only, but the owner of a shared VPC everybody's (VPC guide).
        """
        filters = {"subnet-id": subnets}
        with _readable("DescribeNetworkInterfaces"):
            found = self.pages("describe_network_interfaces", "NetworkInterfaces", filters, account)
            return {eni["SubnetId"]: eni["NetworkInterfaceId"] for eni in found}

    def attachments(self, enis: Sequence[str], account: str = "") -> dict[str, str]:
        """Return what each of ``enis`` is attached to, "" for nothing; one that does not exist is missing.

        An account sees its own interfaces only, but the owner of a shared VPC everybody's (VPC guide).
        """
        with _readable("DescribeNetworkInterfaces"):
            return dict(self._attachments(enis, account))

    def _attachments(self, enis: Sequence[str], account: str) -> Iterator[tuple[str, str]]:
        for start in range(0, len(enis), MAX_VALUES):
            filters = {"network-interface-id": enis[start : start + MAX_VALUES]}
            for eni in self.pages("describe_network_interfaces", "NetworkInterfaces", filters, account):
                attached = eni.get("Attachment") or {}
                to = attached.get("InstanceId") or attached.get("AttachmentId") or "what is not shown to us"
                free = attached.get("Status") == "detached" if attached else eni.get("Status") == "available"
                yield eni["NetworkInterfaceId"], "" if free else to

    def network_interface(self, eni: str) -> NetworkInterface:
        """Return the source/dest check and the tags of ``eni``."""
        filters = {"network-interface-id": [eni]}
        action = "DescribeNetworkInterfaces"
        with _readable(action):
            for found in self.pages("describe_network_interfaces", "NetworkInterfaces", filters):
                tags = {tag["Key"]: tag["Value"] for tag in found.get("TagSet", ())}
                return NetworkInterface(bool(found["SourceDestCheck"]), tags)
        raise Ec2Error(Ec2Fault.NO_ENI, action, "InvalidNetworkInterfaceID.NotFound", f"no {eni}")

    # -- writing --------------------------------------------------------------------------------------

    def turn(self, action: str, place: Place, account: str, deadline: float) -> None:  # noqa: ARG002
        """Have a client with credentials that are good for the write to come, which renews none.

        Nothing else is waited for: one call alone has no queue to stand in.
        """
        assumed = partial(self._sorted, "AssumeRole")
        _attempt(action, lambda: self._sdk.client(self._region, account, assumed), lambda: None)

    def disable_source_dest_check(self, eni: str) -> None:
        """Turn the source/destination check of ``eni`` off (ModifyNetworkInterfaceAttribute)."""
        self.call(
            "modify_network_interface_attribute",
            {"NetworkInterfaceId": eni, "SourceDestCheck": {"Value": False}},
        )

    def create(self, place: Place, eni: str, account: str = "") -> None:
        """Make the route ``place -> eni`` where there is none (CreateRoute)."""
        self._write("create_route", _cell(place) | {"NetworkInterfaceId": eni}, account)

    def replace(self, place: Place, eni: str, account: str = "") -> None:
        """Point the existing route at ``place`` to ``eni`` (ReplaceRoute)."""
        self._write("replace_route", _cell(place) | {"NetworkInterfaceId": eni}, account)

    def delete(self, place: Place, account: str = "") -> None:
        """Remove the route at ``place`` (DeleteRoute)."""
        self._write("delete_route", _cell(place), account)

    def _write(self, operation: str, parameters: Mapping[str, Any], account: str) -> None:
        """Send what was decided a moment ago, with the credentials that ``turn`` had renewed."""
        self.call(operation, parameters, account, as_it_is=True)

    # -- the SDK --------------------------------------------------------------------------------------

    def pages(
        self, operation: str, key: str, filters: Mapping[str, Sequence[str]], account: str = ""
    ) -> Iterator[Mapping[str, Any]]:
        """Yield what a Describe lists under ``key``, in the SDK's own shape; for us and for the doctor."""
        named = [{"Name": name, "Values": list(values)} for name, values in filters.items()]
        parameters: dict[str, Any] = {"Filters": named, "MaxResults": 100}
        while True:
            page = self.call(operation, parameters, account)
            yield from page[key]
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
        """Return what one request answers, or raise the Ec2Error that its failure means to us."""
        began = time.monotonic()
        try:
            answer = _attempt(action, send, drop_connections)
        except Ec2Error as e:
            if e.action != "AssumeRole" or action == "AssumeRole":  # ours, before a request, was told of
                self._told(e.action, e.code or e.fault.name, time.monotonic() - began)
            raise
        self._told(action, "ok", time.monotonic() - began)
        return answer


def _action(operation: str) -> str:
    return "".join(word.capitalize() for word in operation.split("_"))


@contextmanager
def _readable(action: str) -> Iterator[None]:
    """Raise Ec2Error where an answer has not the shape that EC2 gives it: asked again it may have."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise Ec2Error(Ec2Fault.UNANSWERED, action, "", f"an answer that cannot be read: {e!r}") from e


def _attempt(action: str, send: Callable[[], Any], drop_connections: Callable[[], None]) -> Any:
    from botocore import exceptions as sdk
    from botocore.parsers import ResponseParserError

    try:
        return _sent(send)
    except Ec2Error as e:  # of the AssumeRole that came before it
        if e.fault is Ec2Fault.UNANSWERED and e.action != action:
            e.fault = Ec2Fault.NOT_SENT
        raise
    except sdk.ClientError as e:
        refusal = _refusal(e.operation_name, e.response)
        if refusal.fault is Ec2Fault.UNANSWERED and e.operation_name != action:
            refusal.fault = Ec2Fault.NOT_SENT  # AssumeRoleWithWebIdentity came before it
        raise refusal from e
    except (sdk.ConnectTimeoutError, sdk.ProxyConnectionError, sdk.EndpointConnectionError) as e:
        drop_connections()
        raise Ec2Error(Ec2Fault.NOT_SENT, action, "", str(e)) from e
    except (sdk.HTTPClientError, ResponseParserError) as e:
        drop_connections()
        raise Ec2Error(Ec2Fault.UNANSWERED, action, "", str(e)) from e
    except (sdk.NoCredentialsError, sdk.CredentialRetrievalError) as e:
        raise Ec2Error(Ec2Fault.NOT_SENT, action, "", str(e)) from e  # who gives them may be away for a while
    except sdk.PartialCredentialsError as e:
        raise Ec2Error(Ec2Fault.DENIED, action, "", str(e)) from e
    except RuntimeError as e:  # what the SDK says of credentials that are expired when they come
        raise Ec2Error(Ec2Fault.DENIED, action, "", str(e)) from e
    except OSError as e:  # a file that holds a token is missing, or there are no descriptors
        raise Ec2Error(Ec2Fault.NOT_SENT, action, "", f"no credentials: {e}") from e
    except (sdk.BotoCoreError, ValueError) as e:
        raise Ec2Error(Ec2Fault.REFUSED, action, "", str(e)) from e


def _sent(send: Callable[[], Any]) -> Any:
    """Send once. A pool that another thread has just dropped took nothing: asked again it is a new one."""
    from botocore.exceptions import HTTPClientError

    for _ in range(3):
        try:
            return send()
        except HTTPClientError as e:
            if type(e.kwargs.get("error")).__name__ != "ClosedPoolError":
                raise
    return send()


def _refusal(action: str, response: Mapping[str, Any]) -> Ec2Error:
    code, message = response["Error"].get("Code", ""), response["Error"].get("Message", "")
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
    return Ec2Error(meaning(code, message, status), action, code, message)


def meaning(code: str, message: str = "", status: int = 400) -> Ec2Fault:
    """Return what an error of EC2 or STS means. One that is not known is REFUSED, of 5xx UNANSWERED."""
    if code in _throttling() or status == HTTPStatus.TOO_MANY_REQUESTS:
        return Ec2Fault.THROTTLED
    # ReplaceRoute says this of a route that does not exist (moto pull request 6425, checked on AWS).
    if code == "InvalidParameterValue" and "There is no route defined for" in message:
        return Ec2Fault.NO_ROUTE
    # STS could not fetch the issuer's keys (API reference, AssumeRoleWithWebIdentity).
    if code == "InvalidIdentityToken" and "retrieve verification key" in message:
        return Ec2Fault.NOT_SENT
    return FAULTS.get(code) or (Ec2Fault.UNANSWERED if status >= 500 else Ec2Fault.REFUSED)


@cache
def _throttling() -> frozenset[str]:
    """The codes by which any of AWS's services may say "ask again later", as the SDK lists them."""
    from botocore.retries.standard import ThrottledRetryableChecker

    return frozenset(ThrottledRetryableChecker._THROTTLED_ERROR_CODES)  # type: ignore[attr-defined]


def _cell(place: Place) -> dict[str, str]:
    family = "DestinationCidrBlock" if place.destination.version == 4 else "DestinationIpv6CidrBlock"
    return {"RouteTableId": place.table, family: str(place.destination)}


def _table(found: Mapping[str, Any]) -> RouteTable:
    associations = found.get("Associations", [])
    return RouteTable(
        id=found["RouteTableId"],
        vpc=found["VpcId"],
        account=found.get("OwnerId", ""),
        routes=dict(_routes(found.get("Routes", []))),
        tags={tag["Key"]: tag["Value"] for tag in found.get("Tags", [])},
        subnets=frozenset(a["SubnetId"] for a in associations if "SubnetId" in a),
        main=any(a.get("Main") for a in associations),
        is_gateway_table=any("GatewayId" in a for a in associations),
    )


def _routes(found: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Network, Target]]:
    for route in found:
        cidr = route.get("DestinationCidrBlock") or route.get("DestinationIpv6CidrBlock")
        if not cidr:
            continue  # a prefix list
        eni = route.get("NetworkInterfaceId")
        yield (
            _network(cidr),
            Target(
                id=eni or _target(route),
                is_eni=eni is not None,
                active=route.get("State") != "blackhole",
                propagated=route.get("Origin") in PROPAGATED,
            ),
        )


def _target(route: Mapping[str, Any]) -> str:
    """Return the id of what a route leads to that is no network interface; of a new kind with its key."""
    targets = {key: str(value) for key, value in route.items() if key not in NO_TARGET}
    known = (value for key, value in targets.items() if key.endswith("Id") or key == "CoreNetworkArn")
    others = (f"{key} {value}" for key, value in targets.items())
    return next(known, next(others, "an unknown target"))


@lru_cache(maxsize=8192)
def _network(text: str) -> Network:
    """Read a route's destination: a look of the node agent reads the same thousands each time."""
    return ip_network(text)


def _subnet(found: Mapping[str, Any]) -> Subnet:
    v6 = [
        association["Ipv6CidrBlock"]
        for association in found.get("Ipv6CidrBlockAssociationSet", [])
        if association.get("Ipv6CidrBlockState", {}).get("State") == "associated"
    ]
    v4 = [found["CidrBlock"]] if found.get("CidrBlock") else []
    return Subnet(
        found["SubnetId"],
        found["VpcId"],
        found.get("OwnerId", ""),
        tuple(map(ip_network, [*v4, *v6])),
        found.get("AvailabilityZoneId", ""),
    )
