"""Whom the client trusts, and what proves who calls: certificates, no proxy, tokens that change."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from cni_floatip.edges.kubernetes.account import REREAD_SECONDS, ServiceAccount
from cni_floatip.edges.kubernetes.resources import LEASES, NODES, Selection
from cni_floatip.model.errors import ApiFault
from lab.kubernetes.pki import Authority
from lab.kubernetes.standin import TOKEN, StandIn
from tests.edges.kubernetes.conftest import NAMESPACE, Scene
from tests.edges.kubernetes.test_calls import refusal

READ = "get nodes/a1 -> 200"


pytestmark = pytest.mark.usefixtures("one_node")


def test_the_certificate_must_name_the_api_whatever_address_is_dialled(tmp_path: Path) -> None:
    """Any server of the cluster may have a certificate of its authority, and one for the address."""
    with StandIn(tmp_path / "other", names=["etcd.kube-system.svc"]) as api:
        api_scene = Scene(api, service=0)
        error = refusal(api_scene.client(knows=False).get, NODES, "a1")
        assert error.fault is ApiFault.UNANSWERED
        assert "certificate" in error.message
        assert api.calls == []
        watch = refusal(api_scene.client(knows=False).watch, Selection(LEASES, NAMESPACE), "1")
        assert "certificate" in watch.message
        api_scene.close()


def test_the_address_need_not_be_in_the_certificate(tmp_path: Path) -> None:
    with StandIn(tmp_path / "other", certified=["10.0.0.1"]) as api:
        api.put("nodes", "a1", {})
        api_scene = Scene(api, service=0)
        api_scene.client().get(NODES, "a1")
        api_scene.close()


def test_another_authority_is_not_trusted(api_scene: Scene, tmp_path: Path) -> None:
    other = Authority(tmp_path / "authority")
    (api_scene.api.account / "ca.crt").write_bytes(other.certificate.read_bytes())
    error = refusal(api_scene.client(knows=False).get, NODES, "a1")
    assert error.fault is ApiFault.UNANSWERED
    assert "certificate" in error.message
    assert api_scene.api.calls == []


def test_no_proxy_is_used_and_nothing_is_read_from_the_environment(
    api_scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.setblocking(False)
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, url)
        keys = tmp_path / "keys"
        monkeypatch.setenv("SSLKEYLOGFILE", str(keys))
        monkeypatch.setenv("SSL_CERT_FILE", "/nothing")
        client = api_scene.client(whole=10)
        version = client.get(NODES, "a1")["metadata"]["resourceVersion"]
        client.watch(Selection(NODES), version).close()
        with pytest.raises(BlockingIOError):
            proxy.accept()
    assert not keys.exists()


def test_a_token_that_is_refused_is_read_again(api_scene: Scene) -> None:
    client = api_scene.client()
    client.get(NODES, "a1")
    api_scene.api.allow("fresh")
    api_scene.api.refuse(TOKEN)
    api_scene.api.rotate("fresh")
    client.get(NODES, "a1")
    version = client.list(Selection(NODES)).version
    assert api_scene.calls() == [
        f"api1: {READ}",
        "api1: get nodes/a1 -> 401",
        f"api1: {READ}",
        "api1: list nodes -> 200",
    ]
    api_scene.api.allow("fresher")
    api_scene.api.refuse("fresh")
    api_scene.api.rotate("fresher")
    client.watch(Selection(NODES), version).close()
    assert [call.status for call in api_scene.api.calls if call.verb == "watch"] == [401, 200]


def test_a_token_that_is_refused_and_still_the_same_is_no_reason_to_call_again(api_scene: Scene) -> None:
    client = api_scene.client()
    api_scene.api.refuse(TOKEN)
    assert refusal(client.get, NODES, "a1").fault is ApiFault.REFUSED
    assert refusal(client.watch, Selection(NODES), "1").fault is ApiFault.REFUSED
    assert api_scene.calls() == ["api1: get nodes/a1 -> 401", "api1: watch nodes -> 401"]


def test_a_token_is_read_again_each_minute(api_scene: Scene) -> None:
    """The old one is valid for a while: nothing is refused."""
    now = [1000.0]
    api_scene.account = ServiceAccount(api_scene.api.account, clock=lambda: now[0])
    client = api_scene.client()
    api_scene.api.allow("fresh", user="fresh")
    api_scene.api.rotate("fresh")
    now[0] += REREAD_SECONDS - 1
    client.get(NODES, "a1")
    now[0] += 1
    client.get(NODES, "a1")
    assert [call.user for call in api_scene.api.calls if call.resource == "nodes"] == ["agent", "fresh"]


def test_an_authority_is_read_again_each_minute(api_scene: Scene, tmp_path: Path) -> None:
    now = [1000.0]
    api_scene.account = ServiceAccount(api_scene.api.account, clock=lambda: now[0])
    client = api_scene.client()
    client.get(NODES, "a1")
    accepted = api_scene.first.accepted
    now[0] += REREAD_SECONDS
    client.get(NODES, "a1")
    assert api_scene.first.accepted == accepted, "the same authority: the connection stays"
    other = Authority(tmp_path / "authority")
    (api_scene.api.account / "ca.crt").write_bytes(other.certificate.read_bytes())
    now[0] += REREAD_SECONDS
    assert "certificate" in refusal(client.get, NODES, "a1").message


def test_files_that_cannot_be_read_for_a_while_change_nothing(api_scene: Scene) -> None:
    now = [1000.0]
    api_scene.account = ServiceAccount(api_scene.api.account, clock=lambda: now[0])
    client = api_scene.client()
    for file in ("token", "ca.crt"):
        (api_scene.api.account / file).rename(api_scene.api.account / f"{file}.away")
    now[0] += REREAD_SECONDS
    client.get(NODES, "a1")


@pytest.mark.parametrize("file", ["token", "ca.crt"])
@pytest.mark.parametrize("content", [None, b"", b"\n", b"a\r\nb", b"\xff\xfe", b"x" * 100_000], ids=range(6))
def test_without_a_service_account_there_is_a_refusal(
    api_scene: Scene, file: str, content: bytes | None
) -> None:
    path = api_scene.api.account / file
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    client = api_scene.client(knows=False)
    for error in (refusal(client.get, NODES, "a1"), refusal(client.watch, Selection(NODES), "1")):
        assert error.fault is ApiFault.REFUSED
        assert "no service account in this pod" in error.message
    assert api_scene.api.calls == []
