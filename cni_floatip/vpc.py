"""The edge to EC2: route tables, subnets, network interfaces; one attempt per call, errors sorted by table.

The only module that imports botocore. The SDK retries nothing here: a mutating request that is sent twice is
decided twice (DESIGN 6), so repeating is the caller's business. boto3 itself is not imported: it would add a
third to the start-up time, and every name used here is botocore's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from .errors import Ec2Error, Ec2Fault
from .model import Network, Place, RouteTable, Subnet, Target

CONNECT_SECONDS = 1.0
READ_SECONDS = 4.0
REMEMBER_SECONDS = 2.0
"""How long a role that could not be assumed is not tried again."""
_MODEL = Path(__file__).parent / "ec2model"

FAULTS: Mapping[str, Ec2Fault] = {
    "RouteAlreadyExists": Ec2Fault.ROUTE_EXISTS,
    "InvalidRoute.NotFound": Ec2Fault.NO_ROUTE,
    "InvalidRouteTableID.NotFound": Ec2Fault.NO_TABLE,
    "InvalidRouteTableId.NotFound": Ec2Fault.NO_TABLE,
    "InvalidRouteTableId.Malformed": Ec2Fault.NO_TABLE,
    "InvalidNetworkInterfaceID.NotFound": Ec2Fault.NO_ENI,
    "RouteLimitExceeded": Ec2Fault.QUOTA,
    "IncorrectState": Ec2Fault.BUSY,
    "DependencyViolation": Ec2Fault.BUSY,
    "RequestLimitExceeded": Ec2Fault.THROTTLED,
    "Throttling": Ec2Fault.THROTTLED,
    "ThrottlingException": Ec2Fault.THROTTLED,
    "ThrottledException": Ec2Fault.THROTTLED,
    "EC2ThrottledException": Ec2Fault.THROTTLED,
    "SlowDown": Ec2Fault.THROTTLED,
    "Unavailable": Ec2Fault.UNANSWERED,
    "ServiceUnavailable": Ec2Fault.UNANSWERED,
    "InternalError": Ec2Fault.UNANSWERED,
    "InternalFailure": Ec2Fault.UNANSWERED,
    "UnauthorizedOperation": Ec2Fault.DENIED,
    "AuthFailure": Ec2Fault.DENIED,
    "AccessDenied": Ec2Fault.DENIED,
    "ExpiredToken": Ec2Fault.DENIED,
    "RequestExpired": Ec2Fault.DENIED,
    "InvalidClientTokenId": Ec2Fault.DENIED,
}
"""EC2 API reference, "Error codes". Any other is REFUSED, with a status of 5xx UNANSWERED."""


class Vpc:
    """EC2 in one region as this node sees it. Safe to use from several threads.

    ``roles`` maps an account to the role to assume for the route tables that it owns. Every method raises
    Ec2Error, and nothing else.
    """

    def __init__(self, region: str, roles: Mapping[str, str]) -> None:
        self._region = region
        self._roles = roles
        self._clients: dict[str, Any] = {}
        self._failed: dict[str, tuple[float, Exception | None]] = {}
        self._lock = threading.Lock()

    # -- reading --------------------------------------------------------------------------------------

    def route_tables(self, filters: Mapping[str, Sequence[str]], account: str = "") -> tuple[RouteTable, ...]:
        """Return the tables that match ``filters`` (DescribeRouteTables), as ``account`` sees them."""
        found = self._pages("describe_route_tables", "RouteTables", filters, account)
        return tuple(_table(table) for table in found)

    def subnets(self, filters: Mapping[str, Sequence[str]], account: str = "") -> tuple[Subnet, ...]:
        """Return the subnets that match ``filters`` (DescribeSubnets), as ``account`` sees them."""
        found = self._pages("describe_subnets", "Subnets", filters, account)
        return tuple(_subnet(subnet) for subnet in found)

    def interfaces_in(self, subnets: Sequence[str], account: str = "") -> dict[str, str]:
        """Return one network interface for each of ``subnets`` that has any (DescribeNetworkInterfaces).

        Each account sees its own interfaces only.
        """
        filters = {"subnet-id": subnets}
        found = self._pages("describe_network_interfaces", "NetworkInterfaces", filters, account)
        return {eni["SubnetId"]: eni["NetworkInterfaceId"] for eni in found}

    def source_dest_check(self, eni: str) -> bool:
        """Return whether EC2 drops what ``eni`` sends or receives for addresses other than its own."""
        filters = {"network-interface-id": [eni]}
        for found in self._pages("describe_network_interfaces", "NetworkInterfaces", filters):
            return bool(found["SourceDestCheck"])
        action = "DescribeNetworkInterfaces"
        raise Ec2Error(Ec2Fault.NO_ENI, action, "InvalidNetworkInterfaceID.NotFound", f"no {eni}")

    # -- writing --------------------------------------------------------------------------------------

    def disable_source_dest_check(self, eni: str) -> None:
        """Turn the source/destination check of ``eni`` off (ModifyNetworkInterfaceAttribute)."""
        self._call(
            "modify_network_interface_attribute",
            {"NetworkInterfaceId": eni, "SourceDestCheck": {"Value": False}},
        )

    def create(self, place: Place, eni: str, account: str = "") -> None:
        """Make the route ``place -> eni`` where there is none (CreateRoute)."""
        self._call("create_route", _cell(place) | {"NetworkInterfaceId": eni}, account)

    def replace(self, place: Place, eni: str, account: str = "") -> None:
        """Point the existing route at ``place`` to ``eni`` (ReplaceRoute)."""
        self._call("replace_route", _cell(place) | {"NetworkInterfaceId": eni}, account)

    def delete(self, place: Place, account: str = "") -> None:
        """Remove the route at ``place`` (DeleteRoute)."""
        self._call("delete_route", _cell(place), account)

    # -- the SDK --------------------------------------------------------------------------------------

    def _pages(
        self, operation: str, key: str, filters: Mapping[str, Sequence[str]], account: str = ""
    ) -> Iterator[Mapping[str, Any]]:
        named = [{"Name": name, "Values": list(values)} for name, values in filters.items()]
        parameters: dict[str, Any] = {"Filters": named, "MaxResults": 100}
        while True:
            page = self._call(operation, parameters, account)
            yield from page[key]
            if not page.get("NextToken"):
                return
            parameters["NextToken"] = page["NextToken"]

    def _call(self, operation: str, parameters: Mapping[str, Any], account: str = "") -> Mapping[str, Any]:
        from botocore import exceptions as sdk
        from botocore.parsers import ResponseParserError

        action = "".join(word.capitalize() for word in operation.split("_"))
        client = None
        try:
            client = self._client(account)
            answer: Mapping[str, Any] = getattr(client, operation)(**parameters)
        except sdk.ClientError as e:
            raise _refusal(action, e.response) from e
        except (sdk.ConnectTimeoutError, sdk.ProxyConnectionError, sdk.EndpointConnectionError) as e:
            self._drop_connections(client)
            raise Ec2Error(Ec2Fault.NOT_SENT, action, "", str(e)) from e
        except (sdk.HTTPClientError, ResponseParserError) as e:
            self._drop_connections(client)
            raise Ec2Error(Ec2Fault.UNANSWERED, action, "", str(e)) from e
        except (sdk.NoCredentialsError, sdk.PartialCredentialsError, sdk.CredentialRetrievalError) as e:
            raise Ec2Error(Ec2Fault.DENIED, action, "", str(e)) from e
        except (sdk.BotoCoreError, ValueError) as e:  # ValueError: an endpoint that is no URL
            raise Ec2Error(Ec2Fault.REFUSED, action, "", str(e)) from e
        return answer

    def _client(self, account: str) -> Any:
        """Return the EC2 client that acts for ``account`` ("": our own identity)."""
        with self._lock:
            if account not in self._clients:
                credentials = self._assume(account) if account else None
                self._clients[account] = _new_client("ec2", self._region, credentials)
            return self._clients[account]

    def _assume(self, account: str) -> Mapping[str, str]:
        """Assume the account's role. One failure is every waiting thread's: they would only repeat it."""
        if account not in self._roles:
            text = f"no role for account {account}: add it to roles of the node configuration"
            raise Ec2Error(Ec2Fault.DENIED, "AssumeRole", "", text)
        at, failure = self._failed.get(account, (0.0, None))
        if failure and time.monotonic() - at < REMEMBER_SECONDS:
            raise failure
        try:
            sts = _new_client("sts", self._region)
            answer = sts.assume_role(RoleArn=self._roles[account], RoleSessionName="floatip")
        except Exception as e:
            self._failed[account] = time.monotonic(), e
            raise
        found: Mapping[str, str] = answer["Credentials"]
        return found

    @staticmethod
    def _drop_connections(client: Any) -> None:
        """Forget pooled connections: when an AZ fails, some lead to an endpoint address that died with it."""
        if client is not None:
            client.close()


def _new_client(service: str, region: str, credentials: Mapping[str, str] | None = None) -> Any:
    """Return a client that loads our cut-down service model (see ``ec2model``): 4 times quicker to make."""
    import botocore.session
    from botocore.config import Config
    from botocore.loaders import Loader

    class OurModels(Loader):
        def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 (the SDK's signature)
            return ["ec2", "sts"]  # the SDK lists 400 directories to find the same

    session = botocore.session.Session()
    session.register_component("data_loader", OurModels(extra_search_paths=[str(_MODEL)]))
    keys: dict[str, Any] = {}
    if credentials:
        keys = {
            "aws_access_key_id": credentials["AccessKeyId"],
            "aws_secret_access_key": credentials["SecretAccessKey"],
            "aws_session_token": credentials["SessionToken"],
        }
    return session.create_client(
        service,
        region_name=region,
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=20,
        ),
        **keys,
    )


def _refusal(action: str, response: Mapping[str, Any]) -> Ec2Error:
    code, message = response["Error"].get("Code", ""), response["Error"].get("Message", "")
    fault = FAULTS.get(code)
    # ReplaceRoute says this of a route that does not exist (moto pull request 6425, checked on AWS).
    if code == "InvalidParameterValue" and "There is no route defined for" in message:
        fault = Ec2Fault.NO_ROUTE
    if fault is None:
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
        fault = Ec2Fault.UNANSWERED if status >= 500 else Ec2Fault.REFUSED
    return Ec2Error(fault, action, code, message)


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
        others = (value for key, value in route.items() if key.endswith("Id") or key == "CoreNetworkArn")
        yield (
            ip_network(cidr),
            Target(
                id=eni or next(others, "an unknown target"),
                is_eni=eni is not None,
                active=route.get("State") != "blackhole",
                propagated=route.get("Origin") == "EnableVgwRoutePropagation",
            ),
        )


def _subnet(found: Mapping[str, Any]) -> Subnet:
    v6 = [
        association["Ipv6CidrBlock"]
        for association in found.get("Ipv6CidrBlockAssociationSet", [])
        if association.get("Ipv6CidrBlockState", {}).get("State") == "associated"
    ]
    v4 = [found["CidrBlock"]] if found.get("CidrBlock") else []
    return Subnet(
        found["SubnetId"], found["VpcId"], found.get("OwnerId", ""), tuple(map(ip_network, [*v4, *v6]))
    )
