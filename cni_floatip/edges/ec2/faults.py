"""Classifies failed requests to EC2 or STS: tables from the SDK's exceptions and AWS's codes to faults."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from botocore import exceptions as sdk
from botocore.exceptions import HTTPClientError
from botocore.parsers import ResponseParserError
from botocore.retries.standard import ThrottledRetryableChecker

from ...model.errors import Ec2Error, Ec2Fault

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
"""EC2 and STS API references, "Error codes". See ``meaning``."""

THROTTLING = frozenset(ThrottledRetryableChecker._THROTTLED_ERROR_CODES)  # type: ignore[attr-defined]
"""The codes by which any of AWS's services may say "ask again later", as the SDK lists them."""


@contextmanager
def readable(action: str) -> Iterator[None]:
    """Raise Ec2Error for an answer without EC2's shape; the next one may be readable."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise Ec2Error(Ec2Fault.UNANSWERED, action, "", f"an answer that cannot be read: {e!r}") from e


def attempt(action: str, send: Callable[[], Any], drop_connections: Callable[[], None]) -> Any:
    try:
        return _send_once(send)
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
        raise Ec2Error(Ec2Fault.NOT_SENT, action, "", str(e)) from e  # their provider may be away for a while
    except sdk.PartialCredentialsError as e:
        raise Ec2Error(Ec2Fault.DENIED, action, "", str(e)) from e
    except RuntimeError as e:  # what the SDK says of credentials that are expired when they come
        raise Ec2Error(Ec2Fault.DENIED, action, "", str(e)) from e
    except OSError as e:  # a file that holds a token is missing, or there are no descriptors
        raise Ec2Error(Ec2Fault.NOT_SENT, action, "", f"no credentials: {e}") from e
    except (sdk.BotoCoreError, ValueError) as e:
        raise Ec2Error(Ec2Fault.REFUSED, action, "", str(e)) from e


def _send_once(send: Callable[[], Any]) -> Any:
    """Send once. A pool that another thread has just dropped sent nothing, so a retry uses a new pool."""
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
    """Return the fault of an error of EC2 or STS. An unknown one is REFUSED, with status 5xx UNANSWERED."""
    if code in THROTTLING or status == HTTPStatus.TOO_MANY_REQUESTS:
        return Ec2Fault.THROTTLED
    # ReplaceRoute says this of a route that does not exist (moto pull request 6425, checked on AWS).
    if code == "InvalidParameterValue" and "There is no route defined for" in message:
        return Ec2Fault.NO_ROUTE
    # STS could not fetch the issuer's keys (API reference, AssumeRoleWithWebIdentity).
    if code == "InvalidIdentityToken" and "retrieve verification key" in message:
        return Ec2Fault.NOT_SENT
    return FAULTS.get(code) or (Ec2Fault.UNANSWERED if status >= 500 else Ec2Fault.REFUSED)
