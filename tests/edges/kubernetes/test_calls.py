"""Calls of the Kubernetes API: what is sent, what refusals mean, and answers that are none."""

from __future__ import annotations

from typing import Any

import pytest

from cni_floatip.edges.kubernetes import client as calls
from cni_floatip.edges.kubernetes import connection
from cni_floatip.edges.kubernetes.client import KubernetesClient
from cni_floatip.edges.kubernetes.resources import EVENTS, LEASES, NODES, PODS, Selection
from cni_floatip.model.errors import ApiError, ApiFault
from lab.kubernetes.standin import Oddity
from tests.edges.kubernetes.conftest import NAMESPACE, Scene

STATUSES = [
    (400, ApiFault.INVALID),
    (401, ApiFault.REFUSED),
    (403, ApiFault.REFUSED),
    (404, ApiFault.NOT_FOUND),
    (405, ApiFault.INVALID),
    (408, ApiFault.SERVER),
    (409, ApiFault.CONFLICT),
    (410, ApiFault.EXPIRED),
    (413, ApiFault.INVALID),
    (415, ApiFault.INVALID),
    (422, ApiFault.INVALID),
    (429, ApiFault.THROTTLED),
    (302, ApiFault.INVALID),
    (500, ApiFault.SERVER),
    (503, ApiFault.SERVER),
    (504, ApiFault.SERVER),
]
FOREIGN = [
    b"",
    b"null",
    b"[]",
    b"1",
    b'"text"',
    b"{",
    b"\xff\xfe\x00",
    b'{"metadata": ' + b"9" * 5000 + b"}",
    b"[" * 100_000,
    b'{"a": ' * 100_000,
]
"""Bodies that are no object of the API."""
NO_NAMES = ["", "..", ".", "a/b", "A", "a b", "a\r\nb", "\ud800", "x" * 254, "-a", "a?watch=1", "a%2fb"]


def refusal(call: Any, *arguments: Any) -> ApiError:
    with pytest.raises(ApiError) as raised:
        call(*arguments)
    return raised.value


def test_an_object_is_created_read_replaced_listed_and_deleted(api_scene: Scene) -> None:
    client = api_scene.client()
    created = client.create(LEASES, api_scene.lease(holderIdentity="x"))
    created["spec"]["holderIdentity"] = "y"
    replaced = client.replace(LEASES, created)
    assert client.get(LEASES, "a", NAMESPACE) == replaced
    listing = client.list(Selection(LEASES, NAMESPACE))
    assert [item["spec"]["holderIdentity"] for item in listing.items] == ["y"]
    assert listing.version == replaced["metadata"]["resourceVersion"]
    client.delete(LEASES, replaced)
    assert refusal(client.get, LEASES, "a", NAMESPACE).fault is ApiFault.NOT_FOUND
    assert refusal(client.delete, LEASES, replaced).fault is ApiFault.NOT_FOUND


def test_a_label_gets_to_a_pod_through_its_status(api_scene: Scene) -> None:
    api_scene.api.put("pods", "web", {"spec": {"nodeName": "a1"}}, "default")
    pod = api_scene.client().patch_pod_status(
        "default", "web", {"metadata": {"labels": {"floatip.io/active": "true"}}, "spec": {"nodeName": "b1"}}
    )
    assert (pod["metadata"]["labels"], pod["spec"]["nodeName"]) == ({"floatip.io/active": "true"}, "a1")
    assert api_scene.calls() == ["api1: patch pods/status/default/web -> 200"]


def test_an_event_is_created_and_counted(api_scene: Scene) -> None:
    client = api_scene.client()
    event = {
        "metadata": {"name": "web.1", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": "web", "namespace": "default"},
        "count": 1,
    }
    client.create(EVENTS, event)
    assert refusal(client.create, EVENTS, event).fault is ApiFault.CONFLICT
    assert client.patch_event("default", "web.1", {"count": 2})["count"] == 2


def test_a_selection_is_listed(api_scene: Scene) -> None:
    for name, node in (("web", "a1"), ("db", "b1")):
        api_scene.api.put(
            "pods", name, {"metadata": {"labels": {"app": name}}, "spec": {"nodeName": node}}, "default"
        )
    api_scene.api.put("nodes", "a1", {})
    client = api_scene.client()

    def names(selection: Selection) -> list[str]:
        return [item["metadata"]["name"] for item in client.list(selection).items]

    assert names(Selection(PODS)) == ["db", "web"]
    assert names(Selection(PODS, fields="spec.nodeName=a1", cached=True)) == ["web"]
    assert names(Selection(PODS, "default", labels="app=db")) == ["db"]
    assert names(Selection(PODS, "kube-system")) == []
    assert names(Selection(NODES)) == ["a1"]


def test_the_uid_goes_with_a_replacement_so_a_deleted_lease_is_not_created_anew(api_scene: Scene) -> None:
    client = api_scene.client()
    created = client.create(LEASES, api_scene.lease())
    api_scene.api.remove("leases", "a", NAMESPACE)
    assert refusal(client.replace, LEASES, created).fault is ApiFault.CONFLICT
    assert refusal(client.get, LEASES, "a", NAMESPACE).fault is ApiFault.NOT_FOUND


def test_a_get_reads_no_cache(api_scene: Scene) -> None:
    client = api_scene.client()
    client.create(LEASES, api_scene.lease())
    client.get(LEASES, "a", NAMESPACE)
    assert [
        call.query for call in api_scene.api.calls if call.verb == "get" and call.resource == "leases"
    ] == [{}]


def test_another_object_of_the_name_is_neither_replaced_nor_deleted(api_scene: Scene) -> None:
    client = api_scene.client()
    created = client.create(LEASES, api_scene.lease())
    api_scene.api.remove("leases", "a", NAMESPACE)
    other = client.create(LEASES, api_scene.lease(holderIdentity="other"))
    for document in (created, {**other, "metadata": {**other["metadata"], "resourceVersion": "1"}}):
        assert refusal(client.replace, LEASES, document).fault is ApiFault.CONFLICT
        assert refusal(client.delete, LEASES, document).fault is ApiFault.CONFLICT
    assert client.get(LEASES, "a", NAMESPACE) == other


@pytest.mark.parametrize("missing", ["uid", "resourceVersion"])
def test_nothing_is_replaced_or_deleted_without_uid_and_version(api_scene: Scene, missing: str) -> None:
    client = api_scene.client()
    created = client.create(LEASES, api_scene.lease())
    api_scene.forget_calls()
    for value in (None, "", 7):
        document = {**created, "metadata": {**created["metadata"], missing: value}}
        with pytest.raises(ValueError, match=f"no {missing}"):
            client.replace(LEASES, document)
        with pytest.raises(ValueError, match=f"no {missing}"):
            client.delete(LEASES, document)
    assert api_scene.calls() == []


def test_a_lease_is_never_patched(api_scene: Scene) -> None:
    """A PATCH does not go to the priority level of leader elections."""
    client = api_scene.client()
    lease = client.create(LEASES, api_scene.lease())
    lease["spec"]["holderIdentity"] = "x"
    lease = client.replace(LEASES, lease)
    client.get(LEASES, "a", NAMESPACE)
    client.list(Selection(LEASES, NAMESPACE))
    client.watch(Selection(LEASES, NAMESPACE), lease["metadata"]["resourceVersion"]).close()
    client.delete(LEASES, lease)
    verbs = [call.verb for call in api_scene.api.calls if call.resource == "leases"]
    assert verbs == ["create", "update", "get", "list", "watch", "delete"]
    assert [
        name for name in dir(KubernetesClient) if "patch" in name.lower() and not name.startswith("_")
    ] == [
        "patch_event",
        "patch_pod_status",
    ]


@pytest.mark.parametrize(("status", "fault"), STATUSES, ids=[str(status) for status, _ in STATUSES])
def test_a_status_has_a_meaning(api_scene: Scene, status: int, fault: ApiFault) -> None:
    client = api_scene.client()
    for server in (api_scene.first, api_scene.second):
        body = b'{"kind": "Status", "message": "in the API\'s words"}'
        server.oddities.append(
            Oddity(status=status, body=body, headers={"Retry-After": "7", "Location": "/x"})
        )
    error = refusal(client.get, NODES, "a1")
    assert (error.fault, error.status, error.message) == (fault, status, "in the API's words")
    assert error.retry_after == 7
    assert str(error) == f"GET nodes/a1: {status} in the API's words"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("12", 12), ("9" * 9, 300), ("9" * 5000, None), ("-1", None), ("soon", None)],
)
def test_a_wait_that_the_api_asks_for_is_bounded(api_scene: Scene, text: str, seconds: float | None) -> None:
    client = api_scene.client()
    for server in (api_scene.first, api_scene.second):
        server.oddities.append(Oddity(status=429, headers={"Retry-After": text}))
    assert refusal(client.get, NODES, "a1").retry_after == seconds


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_api_server_that_ends_or_is_busy_is_left_for_the_other(api_scene: Scene, status: int) -> None:
    client = api_scene.client()
    api_scene.api.put("nodes", "a1", {})
    api_scene.first.oddities.append(Oddity(status=status, body=b"{}", applies=False))
    assert client.get(NODES, "a1")["metadata"]["name"] == "a1"
    assert api_scene.calls() == ["api2: get nodes/a1 -> 200"]


@pytest.mark.parametrize("body", FOREIGN, ids=range(len(FOREIGN)))
def test_a_body_that_is_no_object_is_an_error(api_scene: Scene, body: bytes) -> None:
    client = api_scene.client()
    lease = client.create(LEASES, api_scene.lease())
    for call in (
        lambda: client.get(NODES, "a1"),
        lambda: client.list(Selection(NODES)),
        lambda: client.create(LEASES, api_scene.lease("b")),
        lambda: client.replace(LEASES, lease),
        lambda: client.patch_pod_status("default", "web", {}),
    ):
        api_scene.first.oddities.append(Oddity(status=200, body=body))
        error = refusal(call)
        assert (error.fault, error.status) == (ApiFault.SERVER, 200)
    api_scene.first.oddities.append(Oddity(status=403, body=body))
    assert refusal(client.get, NODES, "a1").fault is ApiFault.REFUSED


@pytest.mark.parametrize("items", [b"{}", b'"x"', b"[1]", b"[null]", b"[[]]"])
def test_a_list_of_anything_else_is_an_error(api_scene: Scene, items: bytes) -> None:
    client = api_scene.client()
    api_scene.first.oddities.append(Oddity(body=b'{"items": ' + items + b', "metadata": 5}'))
    if items == b"{}":
        assert client.list(Selection(NODES)).items == ()
    else:
        assert refusal(client.list, Selection(NODES)).fault is ApiFault.SERVER


def test_an_answer_is_bounded(api_scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MOST_BYTES", 1000)
    client = api_scene.client()
    api_scene.api.put("nodes", "a1", {"spec": {"text": "x" * 1000}})
    error = refusal(client.get, NODES, "a1")
    assert error.fault is ApiFault.UNANSWERED
    assert "more than 1000 bytes" in error.message


def test_the_words_of_a_refusal_are_bounded_and_on_one_line(api_scene: Scene) -> None:
    client = api_scene.client()
    api_scene.first.oddities.append(
        Oddity(status=422, body=b'{"message": "a\\n\\u001b' + b"x" * 100_000 + b'"}')
    )
    error = refusal(client.get, NODES, "a1")
    assert len(str(error)) < 1200
    assert str(error).isprintable()


@pytest.mark.parametrize("name", NO_NAMES, ids=range(len(NO_NAMES)))
def test_a_text_that_can_name_nothing_is_not_sent(api_scene: Scene, name: str) -> None:
    """Names of pods and nodes are read from Leases, which others may write."""
    client = api_scene.client()
    lease = client.create(LEASES, api_scene.lease())
    api_scene.forget_calls()
    hostile = {**lease, "metadata": {**lease["metadata"], "name": name}}
    elsewhere = {**lease, "metadata": {**lease["metadata"], "namespace": name}}
    for call in (
        lambda: client.get(PODS, name, "default"),
        lambda: client.get(PODS, "web", name),
        lambda: client.replace(LEASES, hostile),
        lambda: client.replace(LEASES, elsewhere),
        lambda: client.delete(LEASES, hostile),
        lambda: client.patch_pod_status("default", name, {}),
        *(
            [lambda: client.create(LEASES, hostile), lambda: client.list(Selection(PODS, name))]
            if name
            else []
        ),
    ):
        assert refusal(call).fault is ApiFault.INVALID
    assert api_scene.calls() == []


def test_a_list_comes_in_pages(api_scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "PAGE", 3)
    client = api_scene.client()
    names = [f"n{number}" for number in range(8)]
    for name in names:
        api_scene.api.put("nodes", name, {})
    assert [item["metadata"]["name"] for item in client.list(Selection(NODES)).items] == names
    assert api_scene.calls() == ["api1: list nodes -> 200"] * 3


def test_a_list_begins_anew_when_its_version_is_forgotten(
    api_scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "PAGE", 3)
    client = api_scene.client()
    for number in range(4):
        api_scene.api.put("nodes", f"n{number}", {})
    api_scene.first.oddities += [
        Oddity(matches=lambda verb, _: verb == "list"),  # the first page comes as it is
        Oddity(matches=lambda verb, _: verb == "list", status=410, body=b"{}"),
    ]
    assert len(client.list(Selection(NODES)).items) == 4
    assert len(api_scene.calls()) == 4


def test_a_list_without_an_end_is_an_error(api_scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MOST_PAGES", 3)
    client = api_scene.client()
    body = b'{"items": [], "metadata": {"continue": "more"}}'
    api_scene.first.oddities += [Oddity(status=200, body=body) for _ in range(9)]
    assert refusal(client.list, Selection(NODES)).fault is ApiFault.SERVER
    assert len(api_scene.first.oddities) == 6


def test_faults_say_what_a_caller_may_conclude() -> None:
    assert {fault for fault in ApiFault if fault.is_unknown} == {ApiFault.UNANSWERED, ApiFault.SERVER}
    assert {fault for fault in ApiFault if fault.is_current} == {ApiFault.NOT_FOUND, ApiFault.CONFLICT}
    assert {fault for fault in ApiFault if fault.is_transient} == {
        ApiFault.UNANSWERED,
        ApiFault.SERVER,
        ApiFault.THROTTLED,
    }


def test_a_right_that_is_missing_is_named(api_scene: Scene) -> None:
    api_scene.api.allow("other", ["get leases"], user="somebody")
    api_scene.api.rotate("other")
    client = api_scene.client(knows=False)
    error = refusal(client.create, LEASES, api_scene.lease())
    assert error.fault is ApiFault.REFUSED
    assert 'User "somebody" cannot create resource "leases"' in error.message
