"""The only module that imports moto's EC2: its state, and what it must know before our corrections apply.

moto keeps one cloud per process, in one backend per account and Region, and is not thread-safe: whoever
calls in here holds the lock of SimulatedEC2.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Mapping
from functools import cache
from ipaddress import IPv6Network
from typing import Any

from moto.core import responses
from moto.core.base_backend import BackendDict
from moto.core.exceptions import ServiceException
from moto.core.request import Request as MotoRequest
from moto.core.responses import ActionResult
from moto.core.utils import method_names_from_class
from moto.ec2 import models, urls
from moto.ec2.exceptions import InvalidSubnetIdError, InvalidVPCIdError
from moto.ec2.models import elastic_network_interfaces, route_tables
from moto.ec2.responses import EC2Response
from moto.iam.models import get_account_id_from
from moto.moto_api._internal import mock_random
from moto.sts.models import sts_backends
from moto.sts.responses import TokenResponse
from werkzeug.exceptions import HTTPException

from lab.ec2 import transit
from lab.ec2.refusal import Refusal
from lab.webserver import Answer

KEY_PREFIX = "AKIALAB0"
"""An access key of this prefix and an account id (20 characters in all) speaks for that account."""

CARD = 1000
"""How far apart moto's numbers of the ENIs of two network cards are."""

SHARED: dict[str, tuple[Any, set[str]]] = {}
"""VPC id -> (owner's backend, participants). Global because moto's own state is."""


def access_key(account: str) -> str:
    """Return the access key that the lab takes as ``account``'s own identity."""
    return KEY_PREFIX + account


class LabRoute(route_tables.Route):
    """A route whose state and instance are looked up when they are asked for.

    moto: always active, no instance.
    """

    propagated = False
    eni_backend: Any = None

    @property
    def target_instance(self) -> Any:
        """The instance behind the route, if the target is attached to one."""
        return self.interface.instance if self.interface else self.instance

    @property
    def state(self) -> str:
        """Blackhole when the target is not available (Amazon EC2 API Reference, data type Route, State)."""
        if self.interface is not None:
            if self.eni_backend.enis.get(self.interface.id) is not self.interface:
                return "blackhole"
            return "active" if is_running(self.interface.instance) else "blackhole"
        if self.instance is not None:
            return "active" if is_running(self.instance) else "blackhole"
        gateway: Any = self.gateway
        if gateway is not None and gateway.id.startswith("igw-"):
            return "active" if gateway.vpc else "blackhole"
        if self.nat_gateway is not None:
            return "active" if self.nat_gateway.state in ("pending", "available") else "blackhole"
        return "active"

    @property
    def origin(self) -> str:
        """How the route came about (RouteOrigin, "Amazon EC2 API Reference")."""
        if self.propagated:
            return "Advertisement" if self.interface else "EnableVgwRoutePropagation"
        return str(super().origin)


def is_running(instance: Any) -> bool:
    """Say whether packets to an ENI of this instance arrive anywhere."""
    return instance is not None and instance.state in ("pending", "running")


class LabEC2(models.EC2Backend):
    """moto's backend, which also finds what is shared with it, and has a Transit Gateway that works."""

    @property
    def _url_module(self) -> Any:
        return urls

    def _load_amis(self) -> None:
        """Start without images: moto would make 1300, most of the time of a reset, and takes any image id."""

    def get_subnet(self, subnet_id: str) -> Any:
        """Find a subnet of this account, or one of a VPC that is shared with it."""
        try:
            return super().get_subnet(subnet_id)
        except InvalidSubnetIdError:
            for owner, participants in SHARED.values():
                if self.account_id in participants:
                    return models.EC2Backend.get_subnet(owner, subnet_id)
            raise

    def get_vpc(self, vpc_id: str) -> Any:
        """Find a VPC of this account, or one that is shared with it."""
        try:
            return super().get_vpc(vpc_id)
        except InvalidVPCIdError:
            owner, participants = SHARED.get(vpc_id, (None, set()))
            if owner is not None and self.account_id in participants:
                return models.EC2Backend.get_vpc(owner, vpc_id)
            raise

    def associate_ipv6(self, vpc_id: str, cidr: str) -> dict[str, Any]:
        """Give a VPC an IPv6 block of our choice (a pool of one's own). moto: a random one only."""
        vpc = self.get_vpc(vpc_id)
        cidr = str(IPv6Network(cidr))
        association: dict[str, Any] = vpc.associate_vpc_cidr_block(None, True)
        association["cidr_block"] = cidr
        for table in self.route_tables.values():
            if table.vpc_id == vpc_id:
                self.create_route(table.id, None, destination_ipv6_cidr_block=cidr, local=True)
        self._open_to_ipv6(vpc_id)
        return association

    def _open_to_ipv6(self, vpc_id: str) -> None:
        """Let IPv6 through where IPv4 is let through by default ("Default network ACL" and "Default security
        groups", Amazon VPC User Guide). moto: IPv4 alone."""
        for acl in self.network_acls.values():
            numbers = {entry.rule_number for entry in acl.network_acl_entries}
            if acl.vpc_id == vpc_id and acl.default and 101 not in numbers:
                for egress in (False, True):
                    self.create_network_acl_entry(
                        acl.id, 101, "-1", "allow", egress, "", None, None, None, None, "::/0"
                    )
        group: Any = self.get_security_group_from_name("default", vpc_id=vpc_id)
        if group and not any("CidrIpv6" in rule.ip_range for rule in group.egress_rules):
            self.authorize_security_group_egress(group.id, "-1", "-1", "-1", [{"CidrIpv6": "::/0"}])

    create_transit_gateway_route = transit.create
    replace_transit_gateway_route = transit.replace
    delete_transit_gateway_route = transit.delete


class LabAttachment(elastic_network_interfaces.Attachment):
    """Where an ENI is attached: device numbers count per network card. moto: one card."""

    def __init__(self, eni: Any) -> None:
        super().__init__(eni)
        self.network_card_index, self.device_index = card_and_device(eni.device_index)


def card_and_device(number: int) -> tuple[int, int]:
    """Return card and device of the number by which moto keeps an ENI of an instance."""
    return divmod(number, CARD)


class LabResponse(EC2Response):
    """moto's dispatcher with three actions more."""

    def attach_network_interface(self) -> ActionResult:
        """Attach to a network card, 0 unless it says otherwise. moto: one card."""
        number = int(self._get_param("DeviceIndex")) + CARD * int(self._get_param("NetworkCardIndex", 0))
        self.error_on_dryrun()
        made = self.ec2_backend.attach_network_interface(
            self._get_param("NetworkInterfaceId"), self._get_param("InstanceId"), number
        )
        answer = {"AttachmentId": made.attachment_id, "NetworkCardIndex": made.network_card_index}
        return ActionResult(answer)

    def replace_transit_gateway_route(self) -> ActionResult:
        """Point a route of a Transit Gateway elsewhere. moto: not implemented."""
        route = self.ec2_backend.replace_transit_gateway_route(
            self._get_param("TransitGatewayRouteTableId"),
            self._get_param("DestinationCidrBlock"),
            self._get_param("TransitGatewayAttachmentId"),
            bool(self._get_param("Blackhole", False)),
        )
        return ActionResult({"route": route})

    def associate_vpc_cidr_block(self) -> ActionResult:
        """Take an IPv6 block by name. moto: a random one only."""
        cidr = self._get_param("Ipv6CidrBlock")
        if not cidr:
            return super().associate_vpc_cidr_block()
        vpc = self._get_param("VpcId")
        association = self.ec2_backend.associate_ipv6(vpc, cidr)
        answer = {
            "AssociationId": association["association_id"],
            "Ipv6CidrBlock": cidr,
            "Ipv6CidrBlockState": {"State": "associating"},
            "Ipv6Pool": self._get_param("Ipv6Pool"),
        }
        return ActionResult({"VpcId": vpc, "Ipv6CidrBlockAssociation": answer})


def make_route(table: Any, v4: str | None, v6: str | None, **target: Any) -> LabRoute:
    """Return a route that is in no table yet."""
    kind: Any = LabRoute  # moto declares methods abstract that it never enforces
    made: LabRoute = kind(table, v4, v6, **target)
    return made


setattr(route_tables, "Route", LabRoute)  # noqa: B010 - a class of moto's gives way to ours
setattr(elastic_network_interfaces, "Attachment", LabAttachment)  # noqa: B010 - as this one
setattr(responses, "method_names_from_class", cache(method_names_from_class))  # noqa: B010 - 1 ms a call
models.ec2_backends.backend = LabEC2


class _Saver(pickle.Pickler):
    """Leaves out the backend itself, which everything in it refers to."""

    def persistent_id(self, obj: Any) -> str | None:
        return "backend" if isinstance(obj, LabEC2) else None


class _Loader(pickle.Unpickler):
    """Lets what is loaded refer to ``backend``."""

    def __init__(self, saved: bytes, backend: LabEC2) -> None:
        super().__init__(io.BytesIO(saved))
        self._backend = backend

    def persistent_load(self, _name: str) -> LabEC2:
        return self._backend


RESPONSES = {"ec2": LabResponse, "sts": TokenResponse}


class Cloud:
    """One Region of the simulated cloud, all accounts."""

    def __init__(self, region: str, account: str, seed: int) -> None:
        self.region = region
        self.account = account
        self.reset(seed)

    def reset(self, seed: int) -> None:
        """Empty every account. Ids and MAC addresses follow from the seed."""
        BackendDict.reset()
        SHARED.clear()
        mock_random.seed(seed)
        self.backend(self.account)

    def save(self) -> bytes:
        """Return what the default account has, and what its next ids follow from."""
        data = io.BytesIO()
        _Saver(data).dump((vars(self.backend(self.account)), mock_random.getstate()))
        return data.getvalue()

    def load(self, saved: bytes) -> None:
        """Give the default account, which is empty, what ``save`` returned."""
        backend = self.backend(self.account)
        held, random = _Loader(saved, backend).load()
        vars(backend).update(held)
        mock_random.setstate(random)

    def backend(self, account: str) -> Any:
        """Return what one account has in this Region."""
        return models.ec2_backends[account][self.region]

    def backends(self) -> Iterator[Any]:
        """Yield every account that has been used."""
        for account in list(models.ec2_backends):
            yield self.backend(account)

    def account_of(self, key: str) -> str:
        """Return the account that an access key speaks for: its name says so, or AssumeRole issued it."""
        if key.startswith(KEY_PREFIX):
            return key.removeprefix(KEY_PREFIX)
        result = get_account_id_from(key)
        return result if key.startswith("ASIA") else self.account

    def share(self, vpc: str, account: str) -> None:
        """Let ``account`` take part in a VPC (resource share of all its subnets)."""
        owner = next((b for b in self.backends() if vpc in b.vpcs), None)
        if owner is None:
            raise Refusal("InvalidVpcID.NotFound", f"The vpc ID '{vpc}' does not exist")
        SHARED.setdefault(vpc, (owner, set()))[1].add(account)
        self.backend(account)

    def viewers(self, vpc: str, owner: str) -> frozenset[str]:
        """Return the accounts that see a VPC of ``owner``."""
        return frozenset({owner} | SHARED.get(vpc, (None, set()))[1])

    def table(self, table_id: str) -> tuple[Any, Any]:
        """Return a route table of any account and the backend that holds it."""
        for backend in self.backends():
            if table_id in backend.route_tables:
                return backend, backend.route_tables[table_id]
        raise Refusal("InvalidRouteTableID.NotFound", f"The routeTable ID '{table_id}' does not exist")

    def interface(self, eni_id: str) -> tuple[Any, Any]:
        """Return a network interface of any account and the backend that holds it."""
        for backend in self.backends():
            if eni_id in backend.enis:
                return backend, backend.enis[eni_id]
        message = f"The networkInterface ID '{eni_id}' does not exist"
        raise Refusal("InvalidNetworkInterfaceID.NotFound", message)

    def instance(self, instance_id: str) -> Any:
        """Return an instance of any account."""
        for backend in self.backends():
            for instance in backend.all_instances():
                if instance.id == instance_id:
                    return instance
        raise Refusal("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist")

    def assume(self, account: str, role: str, session: str) -> Any:
        """Return fresh credentials of a role, as instance metadata hands them out."""
        arn = f"arn:aws:iam::{account}:role/{role}"
        return sts_backends[account]["aws"].assume_role(self.region, session, arn, "", 6 * 3600, "")

    def call(self, service: str, account: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Let moto carry out a call in an account."""
        sent = {**headers, "x-moto-account-id": account, "User-Agent": f"region/{self.region}"}
        request = MotoRequest.from_primitives(
            "POST", f"http://{service}.{self.region}.amazonaws.com/", sent, body
        )
        try:
            status, answered, text = RESPONSES[service].dispatch(request)
        except NotImplementedError as e:  # moto says it in prose, with HTML and status 500
            code = "InvalidParameterValue" if "ilter" in str(e) else "InvalidAction"
            raise Refusal(code, f"not in this lab: {e}") from e
        except ServiceException as e:
            raise Refusal(e.code, e.message) from e
        except (HTTPException, LookupError, AttributeError, TypeError, ValueError, AssertionError) as e:
            raise Refusal("InternalError", f"not in this lab: {type(e).__name__}: {e}") from e
        content = str(answered.get("Content-Type", "text/xml;charset=UTF-8"))
        return Answer(int(status), text if isinstance(text, bytes) else text.encode(), content_type=content)
