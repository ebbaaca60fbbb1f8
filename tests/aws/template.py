"""The CloudFormation template as a stack would be made of it: parameters in, resources out.

Resolves the functions that the template uses. What only AWS knows (an id, an ARN) becomes its name in square
brackets: ``[RouteTable]``, ``[NodeRole.Arn]``.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from email import message_from_string
from functools import cache
from pathlib import Path
from typing import Any

SHIPPED = Path(__file__).parents[2] / "install" / "cloudformation"
NODES, DUMMY = SHIPPED / "floatip-nodes.yaml", SHIPPED / "floatip-dummy-subnet.yaml"
ALERTS = SHIPPED / "floatip-alerts.yaml"
PSEUDO = {
    "AWS::Region": "eu-central-1",
    "AWS::AccountId": "111122223333",
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
    "AWS::StackName": "floatip-nodes",
}
GIVEN = {
    "ClusterName": "core",
    "KubernetesVersion": "1.34",
    "ClusterEndpoint": "https://0A1B.gr7.eu-central-1.eks.amazonaws.com",
    "ClusterCertificateAuthority": "LS0tLS1CRUdJTg==",
    "ServiceCidr": "172.20.0.0/16",
    "ClusterSecurityGroup": "sg-1",
    "VpcId": "vpc-1",
    "VpcCidr": "10.10.0.0/16",
    "ZoneA": "eu-central-1a",
    "NodeSubnetA": "subnet-a",
    "ZoneB": "eu-central-1b",
    "NodeSubnetB": "subnet-b",
    "Namespaces": "core-*",
    "EniSubnetCidrs": "10.10.1.0/24,10.10.2.0/24,10.10.3.0/24,10.10.4.0/24,10.10.5.0/24,10.10.6.0/24",
}
THIRD_ZONE: dict[str, Any] = {"ZoneC": "eu-central-1c", "NodeSubnetC": "subnet-0c"}
TRANSIT = {
    "TransitGateway": "tgw-0a",
    "ClientCidr": "10.0.0.0/8",
    "TransitGatewayRouteTable": "tgw-rtb-0a",
    "TransitGatewaySubnetCidrs": "10.10.9.0/28,10.10.9.16/28,10.10.9.32/28",
}
NOTHING = object()


@cache
def _decoded(template: Path) -> Any:
    """Read a template as cfn-lint does: once, and by nobody changed. To import it takes a second."""
    from cfnlint.decode import decode

    document, problems = decode(str(template))
    assert not problems
    return document


@dataclass
class Stack:
    """What one set of parameters makes of the template."""

    document: Any
    parameters: dict[str, str]

    def __init__(self, template: Path = NODES, **parameters: str) -> None:
        self.document = _decoded(template)
        declared = self.document["Parameters"]
        assert set(parameters) <= set(declared)
        defaults = {name: str(item["Default"]) for name, item in declared.items() if "Default" in item}
        self.parameters = {**defaults, **{k: v for k, v in GIVEN.items() if k in declared}, **parameters}
        assert set(self.parameters) == set(declared), "a parameter is not given"

    def of(self, kind: str) -> dict[str, Any]:
        """Return the properties of the resources of one type that are made, by logical name."""
        return {
            name: self.value(resource.get("Properties", {}))
            for name, resource in self.document["Resources"].items()
            if resource["Type"] == kind and self._is_made(resource)
        }

    def outputs(self) -> dict[str, str]:
        result = self.document["Outputs"]
        return {name: self.value(item["Value"]) for name, item in result.items() if self._is_made(item)}

    def user_data(self) -> str:
        (template,) = self.of("AWS::EC2::LaunchTemplate").values()
        return base64.b64decode(template["LaunchTemplateData"]["UserData"]).decode()

    def user_data_parts(self) -> dict[str, str]:
        """Return the parts of the user data by content type."""
        message = message_from_string(self.user_data())
        assert message.is_multipart()
        parts: Any = message.get_payload()
        return {part.get_content_type(): part.get_payload() for part in parts}

    def refusals(self) -> list[str]:
        """Return why CloudFormation refuses the parameters, before it makes anything."""
        asserted = [
            item
            for rule in self.document["Rules"].values()
            if self.value(rule.get("RuleCondition", True))
            for item in rule["Assertions"]
        ]
        return [item["AssertDescription"] for item in asserted if not self.value(item["Assert"])]

    def holds(self, condition: str) -> bool:
        return bool(self.value(self.document["Conditions"][condition]))

    def _is_made(self, thing: Any) -> bool:
        return "Condition" not in thing or self.holds(thing["Condition"])

    def value(self, output: Any) -> Any:
        """Return what something in the template comes to."""
        if isinstance(output, list):
            return [v for v in (self.value(item) for item in output) if v is not NOTHING]
        if not isinstance(output, dict):
            return output
        if len(output) == 1:
            (name, argument), *_ = output.items()
            if name.startswith("Fn::") or name in ("Ref", "Condition"):
                function = getattr(self, f"_{name.removeprefix('Fn::').lower()}")
                if isinstance(argument, str) or name != "Condition":
                    return function(argument)
        resolved = {key: self.value(item) for key, item in output.items()}
        return {key: item for key, item in resolved.items() if item is not NOTHING}

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NOTHING
        if name in self.parameters:
            given = self.parameters[name]
            is_list = self.document["Parameters"][name]["Type"] == "CommaDelimitedList"
            return given.split(",") if is_list else given
        return PSEUDO.get(name) or self._made(name, f"[{name}]")

    def _getatt(self, what: list[str] | str) -> str:
        name, attribute = what.split(".") if isinstance(what, str) else what
        return self._made(name, f"[{name}.{attribute}]")

    def _made(self, name: str, placeholder: str) -> str:
        """Refuse what CloudFormation refuses: a reference to a resource that is not made."""
        assert self._is_made(self.document["Resources"][name]), f"{name} is not made"
        return placeholder

    def _condition(self, name: str) -> bool:
        return self.holds(name)

    def _if(self, output: list[Any]) -> Any:
        return self.value(output[1] if self.holds(output[0]) else output[2])

    def _equals(self, output: list[Any]) -> bool:
        left, right = (str(self.value(item)) for item in output)
        return left == right

    def _not(self, output: list[Any]) -> bool:
        return not self.value(output[0])

    def _and(self, output: list[Any]) -> bool:
        return all(self.value(item) for item in output)

    def _or(self, output: list[Any]) -> bool:
        return any(self.value(item) for item in output)

    def _join(self, output: list[Any]) -> str:
        return str(output[0]).join(self.value(output[1]))

    def _select(self, output: list[Any]) -> str:
        return str(self.value(output[1])[int(output[0])])

    def _sub(self, answer: Any) -> str:
        text, given = (answer, {}) if isinstance(answer, str) else answer
        values = {name: self.value(item) for name, item in given.items()}

        def put(match: re.Match[str]) -> str:
            name = match[1]
            if name in values:
                return str(values[name])
            return str(self._getatt(name) if "." in name else self._ref(name))

        return re.sub(r"\$\{([A-Za-z0-9.:]+)\}", put, text)

    def _base64(self, output: Any) -> str:
        return base64.b64encode(self.value(output).encode()).decode()


def plain(document: Any) -> Any:
    """Return a document of cfn-lint's as Python's own."""
    return json.loads(json.dumps(document))
