"""EC2's query protocol: form parameters in, XML out, by the service model that botocore itself uses."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast
from xml.sax.saxutils import escape

from botocore.exceptions import UndefinedModelAttributeError
from botocore.model import OperationNotFoundError
from moto.core.parse import PROTOCOL_PARSERS
from moto.core.utils import get_service_model

from lab.ec2.refusal import Refusal
from lab.webserver import Answer

Document = Mapping[str, Any]

NAMESPACE = "http://ec2.amazonaws.com/doc/2016-11-15/"
PARSERS = {"ec2": "ec2", "sts": "query"}


@lru_cache(maxsize=256)
def operation(service: str, action: str) -> Any:
    """Return botocore's model of one action."""
    try:
        return get_service_model(service).operation_model(action)
    except (OperationNotFoundError, UndefinedModelAttributeError):
        raise Refusal("InvalidAction", f"The action {action} is not valid for this web service.") from None


def parse(service: str, action: str, form: Mapping[str, str]) -> dict[str, Any]:
    """Return the form's parameters as botocore's caller wrote them: nested, typed."""
    parser = PROTOCOL_PARSERS[PARSERS[service]](operation(service, action))
    try:
        return dict(parser.parse(cast("Any", {"values": form})))
    except ValueError as e:
        raise Refusal("InvalidParameterValue", str(e)) from e


def result(action: str, document: Document) -> Answer:
    """Return an EC2 answer that holds ``document``, a result in botocore's shape."""
    shape = operation("ec2", action).output_shape
    inner = _members(shape, document) if shape else f"<return>{_text(document.get('Return', True))}</return>"
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{action}Response xmlns="{NAMESPACE}">'
        f"<requestId>{uuid.uuid4()}</requestId>{inner}</{action}Response>"
    )
    return Answer(200, body.encode(), content_type="text/xml;charset=UTF-8")


def error(service: str, refusal: Refusal) -> Answer:
    """Return an error as the service in question words it."""
    what = f"<Code>{escape(refusal.code)}</Code><Message>{escape(refusal.message)}</Message>"
    if service == "ec2":
        number = f"<RequestID>{uuid.uuid4()}</RequestID>"
        body = f"<Response><Errors><Error>{what}</Error></Errors>{number}</Response>"
    else:
        number = f"<RequestId>{uuid.uuid4()}</RequestId>"
        body = f"<ErrorResponse><Error><Type>Sender</Type>{what}</Error>{number}</ErrorResponse>"
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return Answer(refusal.status, (head + body).encode(), content_type="text/xml;charset=UTF-8")


def _members(shape: Any, document: Document) -> str:
    return "".join(
        _element(member.serialization.get("name", name), member, document[name])
        for name, member in shape.members.items()
        if document.get(name) is not None
    )


def _element(tag: str, shape: Any, value: Any) -> str:
    if shape.type_name == "structure":
        return f"<{tag}>{_members(shape, value)}</{tag}>"
    if shape.type_name == "list":
        item = shape.member.serialization.get("name", "item")
        return f"<{tag}>{''.join(_element(item, shape.member, entry) for entry in value)}</{tag}>"
    return f"<{tag}>{_text(value)}</{tag}>"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else escape(str(value))
