"""The agent's own credentials, as metadata, Pod Identity and STS give them: late, not at all, again."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path

import pytest

from cni_floatip.agent.ec2.shared import SharedEc2
from cni_floatip.agent.observe.recorder import NullRecorder
from cni_floatip.config.nodeconf import NodeConf
from cni_floatip.edges import host
from cni_floatip.model.errors import Ec2Error, Ec2Fault
from cni_floatip.model.values import RouteKey

REGION = "eu-central-1"
AWAY = "11 NOT_SENT"
ACCOUNT = "111122223333"
PLACE = RouteKey("rtb-1", ip_network("192.168.0.2/32"))


class Aws:
    """EC2, STS and both sources of credentials on one port. ``away``: the sources and STS answer 503."""

    def __init__(self) -> None:
        self.away = False
        self.slow = 0.0
        self.lasts = timedelta(hours=6)
        self.given = 0
        self.asked: list[str] = []
        self.keys: list[str] = []
        aws = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_PUT(self) -> None:
                self.say(*(("", 503) if aws.away else ("token", 200)))

            def do_GET(self) -> None:
                aws.asked.append("source")
                time.sleep(aws.slow)
                if aws.away:
                    return self.say("{}", 503)
                if self.path.endswith("security-credentials/"):
                    return self.say("role")
                return self.say(json.dumps(aws.credentials()))

            def do_POST(self) -> None:
                sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
                action = dict(pair.split("=") for pair in sent.split("&"))["Action"]
                aws.asked.append(action)
                if "Authorization" in self.headers:
                    aws.keys.append(self.headers["Authorization"].split("Credential=")[1].split("/")[0])
                if not action.startswith("Assume"):
                    return self.say(f"<{action}Response><routeTableSet/></{action}Response>")
                time.sleep(aws.slow)
                if aws.away:
                    error = "<Error><Code>ServiceUnavailable</Code><Message>later</Message></Error>"
                    return self.say(f"<ErrorResponse>{error}</ErrorResponse>", 503)
                results = aws.credentials()
                answer = "".join(
                    f"<{theirs}>{results[ours]}</{theirs}>"
                    for theirs, ours in (
                        ("AccessKeyId", "AccessKeyId"),
                        ("SecretAccessKey", "SecretAccessKey"),
                        ("SessionToken", "Token"),
                        ("Expiration", "Expiration"),
                    )
                )
                result = f"<{action}Result><Credentials>{answer}</Credentials></{action}Result>"
                return self.say(f"<{action}Response>{result}</{action}Response>")

            def say(self, text: str, status: int = 200) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def credentials(self) -> dict[str, str]:
        self.given += 1
        return {
            "Code": "Success",
            "Type": "AWS-HMAC",
            "AccessKeyId": f"ASIA{self.given}",
            "SecretAccessKey": "made-up",
            "Token": "made-up",
            "AccountId": ACCOUNT,
            "LastUpdated": "2026-01-01T00:00:00Z",
            "Expiration": (datetime.now(UTC) + self.lasts).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    result = Aws()
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", result.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", result.url)
    yield result
    result.close()


def of_the_node(aws: Aws, monkeypatch: pytest.MonkeyPatch, _: Path) -> None:
    monkeypatch.delenv("AWS_EC2_METADATA_DISABLED")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws.url)


def of_the_pod(aws: Aws, monkeypatch: pytest.MonkeyPatch, token: Path) -> None:
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{aws.url}/v1/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(token))


def of_the_service_account(_: Aws, monkeypatch: pytest.MonkeyPatch, token: Path) -> None:
    monkeypatch.setenv("AWS_ROLE_ARN", f"arn:aws:iam::{ACCOUNT}:role/floatip")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_REGION", REGION)


Source = Callable[[Aws, pytest.MonkeyPatch, Path], None]
ALL = pytest.mark.parametrize("source", [of_the_node, of_the_pod, of_the_service_account])


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("made-up")
    return path


class Clock:
    """Runs as time does, and can be moved on."""

    ahead = 0.0

    def __call__(self) -> float:
        return host.clock() + self.ahead


@pytest.fixture
def running_clock() -> Clock:
    return Clock()


@pytest.fixture
def warm(aws: Aws, running_clock: Clock) -> SharedEc2:
    roles = {ACCOUNT: f"arn:aws:iam::{ACCOUNT}:role/owner"}
    return SharedEc2(NodeConf(roles=roles), NullRecorder(), running_clock)


def read(warm: SharedEc2, account: str = "", vpc: str = "vpc-1") -> str:
    """Read route tables; return the fault's name, "" for none."""
    try:
        warm.for_call(REGION).route_tables({"vpc-id": [vpc]}, account)
    except Ec2Error as e:
        return f"{e.to_cni_error('x').code} {e.fault.name}"
    return ""


def read_at_once(warm: SharedEc2) -> list[str]:
    """Read the route tables of twelve VPCs side by side; return what ``read`` does."""
    with ThreadPoolExecutor(12) as pool:
        return list(pool.map(lambda number: read(warm, vpc=f"vpc-{number}"), range(12)))


@ALL
@pytest.mark.parametrize("account", ["", ACCOUNT], ids=["ec2", "sts"])
def test_who_asked_before_there_were_credentials_is_answered_afterwards(
    aws: Aws,
    warm: SharedEc2,
    running_clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    token: Path,
    source: Source,
    account: str,
) -> None:
    """No client is kept that was made without credentials: botocore's would look for none again."""
    source(aws, monkeypatch, token)
    aws.away = True
    assert read(warm, account) == AWAY
    assert warm.credentials_problem()
    aws.away = False
    running_clock.ahead += 3
    assert read(warm, account) == ""
    assert warm.credentials_problem() is None
    assert "DescribeRouteTables" in aws.asked


@ALL
def test_credentials_that_cannot_be_renewed_are_used_to_their_end(
    aws: Aws,
    warm: SharedEc2,
    running_clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    token: Path,
    source: Source,
) -> None:
    source(aws, monkeypatch, token)
    aws.lasts = timedelta(minutes=8)
    assert read(warm) == ""
    aws.away = True
    assert {read(warm, vpc=f"vpc-{n}") for n in range(5)} == {""}
    assert set(aws.keys) == {"ASIA1"}


def test_a_renewal_that_fails_is_tried_once_and_queues_nobody(
    aws: Aws, warm: SharedEc2, running_clock: Clock, monkeypatch: pytest.MonkeyPatch, token: Path
) -> None:
    of_the_pod(aws, monkeypatch, token)
    aws.lasts = timedelta(minutes=4)  # less than RENEW_SECONDS: each call would renew
    assert read(warm) == ""
    aws.away, aws.slow = True, 0.3
    aws.asked.clear()
    assert read_at_once(warm) == [""] * 12
    assert aws.asked.count("DescribeRouteTables") == 12
    tries = aws.asked.count("source")
    assert tries <= 3, "one renewal, of the SDK's three attempts"
    began = time.monotonic()
    assert read(warm, vpc="vpc-13") == ""
    assert time.monotonic() - began < 5
    aws.away, aws.slow = False, 0.0
    aws.lasts = timedelta(hours=6)
    running_clock.ahead += 3
    assert read(warm, vpc="vpc-14") == ""
    assert aws.keys[-1] not in aws.keys[:-1]


def test_first_credentials_that_cannot_be_had_are_a_failure_of_all_who_wait(
    aws: Aws, warm: SharedEc2, monkeypatch: pytest.MonkeyPatch, token: Path
) -> None:
    of_the_pod(aws, monkeypatch, token)
    aws.away, aws.slow = True, 0.3
    assert read_at_once(warm) == [AWAY] * 12
    assert aws.asked.count("source") <= 3


def test_nothing_is_waited_for_between_a_turn_and_its_write(
    aws: Aws, warm: SharedEc2, running_clock: Clock, monkeypatch: pytest.MonkeyPatch, token: Path
) -> None:
    """What is decided after the turn is sent as it was decided, and not when a renewal has come or failed."""
    of_the_pod(aws, monkeypatch, token)
    aws.lasts = timedelta(minutes=4)
    view = warm.for_call(REGION)
    view.wait_turn("CreateRoute", PLACE, "", running_clock() + 5)
    aws.away, aws.slow = True, 0.3
    running_clock.ahead += 3  # nothing is remembered
    aws.asked.clear()
    view.create(PLACE, "eni-1")
    assert aws.asked == ["CreateRoute"]
    view.wait_turn("DeleteRoute", PLACE, "", running_clock() + 5)
    assert "source" in aws.asked, "it was renewed before"
    aws.asked.clear()
    view.delete(PLACE)
    assert aws.asked == ["DeleteRoute"]


@pytest.mark.parametrize("source", [of_the_pod, of_the_service_account])
@pytest.mark.parametrize("account", ["", ACCOUNT], ids=["ec2", "sts"])
def test_a_token_file_that_is_missing_is_a_fault_of_the_call(
    aws: Aws,
    warm: SharedEc2,
    running_clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    token: Path,
    source: Source,
    account: str,
) -> None:
    source(aws, monkeypatch, token)
    token.unlink()
    assert read(warm, account) == AWAY
    assert str(token) in str(warm.credentials_problem())
    token.write_text("made-up")
    running_clock.ahead += 3
    assert read(warm, account) == ""


def test_a_role_that_is_refused_by_sts_being_away_passes(
    aws: Aws, warm: SharedEc2, monkeypatch: pytest.MonkeyPatch, token: Path
) -> None:
    of_the_service_account(aws, monkeypatch, token)
    aws.away = True
    with pytest.raises(Ec2Error) as caught:
        warm.for_call(REGION).wait_turn("CreateRoute", PLACE, "", host.clock() + 1)
    assert caught.value.fault is Ec2Fault.NOT_SENT, "STS was asked, EC2 was not"


def test_credentials_that_are_over_are_asked_for_once_by_all_who_want_them(
    aws: Aws, warm: SharedEc2, running_clock: Clock, monkeypatch: pytest.MonkeyPatch, token: Path
) -> None:
    of_the_pod(aws, monkeypatch, token)
    aws.lasts = timedelta(seconds=8)  # less than LAST_SECONDS: not to be used
    assert read(warm) == ""
    aws.away, aws.slow = True, 0.3
    running_clock.ahead += 3
    aws.asked.clear()
    assert read_at_once(warm) == [AWAY] * 12
    assert aws.asked.count("source") <= 3, "one renewal, of the SDK's three attempts"


def test_a_renewal_that_fails_again_and_again_does_not_fill_the_log(
    aws: Aws, warm: SharedEc2, monkeypatch: pytest.MonkeyPatch, token: Path, caplog: pytest.LogCaptureFixture
) -> None:
    of_the_pod(aws, monkeypatch, token)
    aws.lasts = timedelta(minutes=4)
    assert read(warm) == ""
    aws.away = True
    for number in range(20):
        assert read(warm, vpc=f"vpc-{number}") == ""
    assert len([record for record in caplog.records if "Refreshing" in record.message]) <= 4
