"""What the product relies on of a Kubernetes API, one function each, for a kube-apiserver and the stand-in.

The stand-in is tested with them at every run, a kube-apiserver 1.34 by ``make test-kubernetes``, so that the
two cannot differ in what matters.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

MERGE = "application/merge-patch+json"
OTHER_UID = "11111111-1111-1111-1111-111111111111"
NODE = "fact-node"

Document = dict[str, Any]


class Api(Protocol):
    """An API server with an administrator, and a user who has the rights that a fact gives."""

    namespace: str

    def ask(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        content_type: str = "application/json",
        user: str = "admin",
    ) -> tuple[int, Document]: ...

    def watch(self, path: str) -> list[Document]:
        """Return all events of a watch that the server ends."""

    def allow(self, *rights: str) -> None:
        """Give ``user`` these rights and no others: "patch pods/status"."""


@dataclass(frozen=True, slots=True)
class Https:
    """Requests to one API server, each over a connection of its own."""

    address: str
    port: int
    authority: Path

    def ask(
        self, method: str, path: str, token: str, body: bytes | None, content_type: str
    ) -> tuple[int, bytes]:
        context = ssl.create_default_context(cafile=str(self.authority))
        connection = http.client.HTTPSConnection(self.address, self.port, context=context, timeout=60)
        try:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": content_type}
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


class Facts:
    """The facts' own words for one API: Leases of its namespace."""

    def __init__(self, api: Api, name: str) -> None:
        """``name``: of the objects of this fact."""
        self.api = api
        self.name = name
        self.leases = f"/apis/coordination.k8s.io/v1/namespaces/{api.namespace}/leases"
        self.pods = "/api/v1/namespaces/default/pods"

    def lease(self, **spec: Any) -> Document:
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.name, "namespace": self.api.namespace},
            "spec": spec,
        }

    def create(self, **spec: Any) -> Document:
        status, created = self.api.ask("POST", self.leases, self.lease(**spec))
        assert status == 201, created
        return created

    def put(self, document: Document, **spec: Any) -> tuple[int, Document]:
        changed = deepcopy(document)
        changed["spec"].update(spec)
        return self.api.ask("PUT", f"{self.leases}/{self.name}", changed)

    def get(self) -> tuple[int, Document]:
        return self.api.ask("GET", f"{self.leases}/{self.name}")

    def delete(self, **only: str) -> int:
        options = {"preconditions": only} if only else None
        return self.api.ask("DELETE", f"{self.leases}/{self.name}", options)[0]

    def pod(self) -> Document:
        spec = {"nodeName": NODE, "containers": [{"name": "c", "image": "i"}]}
        body = {
            "metadata": {"name": self.name, "labels": {"a": "1"}},
            "spec": spec,
            "kind": "Pod",
            "apiVersion": "v1",
        }
        status, created = self.api.ask("POST", self.pods, body)
        assert status == 201, created
        return created

    def patch_status(self, patch: Document, user: str = "admin") -> tuple[int, Document]:
        return self.api.ask("PATCH", f"{self.pods}/{self.name}/status", patch, content_type=MERGE, user=user)

    def events(self, version: str, query: str = "") -> list[str]:
        path = f"{self.leases}?watch=1&timeoutSeconds=1&resourceVersion={version}{query}"
        return [
            " ".join(
                [
                    event["type"],
                    event["object"].get("metadata", {}).get("name") or str(event["object"].get("code")),
                ]
            )
            for event in self.api.watch(path)
        ]


def version(document: Document) -> str:
    return str(document["metadata"]["resourceVersion"])


def without(document: Document, key: str) -> Document:
    result = deepcopy(document)
    del result["metadata"][key]
    return result


def what_is_created_has_uid_version_and_time(facts: Facts) -> None:
    parts = facts.create(leaseDurationSeconds=2)["metadata"]
    assert parts["uid"]
    assert parts["resourceVersion"]
    assert parts["creationTimestamp"].endswith("Z")


def a_second_create_is_a_conflict(facts: Facts) -> None:
    facts.create()
    status, answer = facts.api.ask("POST", facts.leases, facts.lease())
    assert (status, answer["kind"], answer["reason"]) == (409, "Status", "AlreadyExists")


def a_put_needs_a_version(facts: Facts) -> None:
    created = facts.create()
    assert facts.put(without(created, "resourceVersion"), holderIdentity="x")[0] == 422


def a_put_of_an_old_version_is_a_conflict(facts: Facts) -> None:
    created = facts.create()
    assert facts.put(created, holderIdentity="x")[0] == 200
    assert facts.put(created, holderIdentity="y")[0] == 409
    assert facts.get()[1]["spec"]["holderIdentity"] == "x"


def the_same_changed_body_twice_is_a_conflict(facts: Facts) -> None:
    created = facts.create()
    assert [facts.put(created, holderIdentity="x")[0] for _ in range(2)] == [200, 409]


def an_unchanged_body_keeps_the_version(facts: Facts) -> None:
    created = facts.create(holderIdentity="x")
    status, answer = facts.put(created)
    assert (status, version(answer)) == (200, version(created))


def a_put_of_another_uid_is_a_conflict(facts: Facts) -> None:
    created = facts.create()
    created["metadata"]["uid"] = OTHER_UID
    assert facts.put(created, holderIdentity="x")[0] == 409


def a_put_onto_a_deleted_lease_creates_it(facts: Facts) -> None:
    created = facts.create()
    assert facts.delete() == 200
    status, answer = facts.put(without(created, "uid"))
    assert status == 201
    assert answer["metadata"]["uid"] != created["metadata"]["uid"]


def a_put_onto_a_deleted_lease_with_its_uid_is_a_conflict(facts: Facts) -> None:
    created = facts.create()
    assert facts.delete() == 200
    assert facts.put(created)[0] == 409
    assert facts.get()[0] == 404


def a_put_needs_the_name_of_its_path(facts: Facts) -> None:
    created = facts.create()
    assert facts.api.ask("PUT", f"{facts.leases}/other-{facts.name}", created)[0] == 400


def a_delete_with_another_uid_or_version_is_a_conflict(facts: Facts) -> None:
    created = facts.create()
    uid, first = created["metadata"]["uid"], version(created)
    assert facts.delete(uid=OTHER_UID) == 409
    assert facts.delete(uid=uid, resourceVersion="1") == 409
    assert facts.delete(uid=uid, resourceVersion=first) == 200
    assert facts.delete(uid=uid) == 404


def durations_are_whole_seconds_above_zero(facts: Facts) -> None:
    created = facts.create()
    assert [facts.put(created, leaseDurationSeconds=value)[0] for value in (0, 2.5, "2", 2)] == [
        422,
        400,
        400,
        200,
    ]


def transitions_are_not_negative(facts: Facts) -> None:
    assert facts.put(facts.create(), leaseTransitions=-1)[0] == 422


def times_have_microseconds(facts: Facts) -> None:
    created = facts.create()
    times = ("2026-01-01T00:00:00Z", "x", "2026-01-01T00:00:00.123456Z")
    answers = [facts.put(created, renewTime=value)[0] for value in times]
    assert answers == [400, 400, 200]


def a_holder_may_be_empty_or_absent(facts: Facts) -> None:
    created = facts.create(holderIdentity="x")
    status, emptied = facts.put(created, holderIdentity="")
    assert (status, emptied["spec"]["holderIdentity"]) == (200, "")
    status, answer = facts.put(emptied, holderIdentity=None)
    assert (status, "holderIdentity" in answer["spec"]) == (200, False)


def a_preferred_holder_is_accepted_and_dropped(facts: Facts) -> None:
    status, answer = facts.put(facts.create(), preferredHolder="x")
    assert (status, "preferredHolder" in answer["spec"]) == (200, False)


def an_unknown_field_is_dropped(facts: Facts) -> None:
    created = facts.create(holderIdentity="x")
    status, answer = facts.put(created, unknown=1)
    assert (status, answer["spec"], version(answer)) == (200, created["spec"], version(created))


def annotations_are_texts(facts: Facts) -> None:
    created = facts.create()
    created["metadata"]["annotations"] = {"members": 1}
    assert facts.put(created)[0] == 400
    created["metadata"]["annotations"] = {"members": "\x00 \ud800 ä"}
    status, answer = facts.put(created)
    assert (status, answer["metadata"]["annotations"]) == (200, {"members": "\x00 \ufffd ä"})


def a_name_has_253_characters_at_most(facts: Facts) -> None:
    for length, wanted in ((253, 201), (254, 422)):
        document = facts.lease()
        document["metadata"]["name"] = facts.name + "x" * (length - len(facts.name))
        assert facts.api.ask("POST", facts.leases, document)[0] == wanted


def a_name_is_in_lower_case(facts: Facts) -> None:
    for name in ("Upper", "a_b", "-a", ""):
        document = facts.lease()
        document["metadata"]["name"] = name
        assert facts.api.ask("POST", facts.leases, document)[0] == 422


def a_namespace_must_be_there(facts: Facts) -> None:
    document = facts.lease()
    document["metadata"]["namespace"] = "nowhere"
    assert facts.api.ask("POST", "/apis/coordination.k8s.io/v1/namespaces/nowhere/leases", document)[0] == 404
    assert facts.api.ask("POST", facts.leases, document)[0] == 400


def a_node_may_own_a_lease(facts: Facts) -> None:
    document = facts.lease()
    owner = {"apiVersion": "v1", "kind": "Node", "name": NODE, "uid": OTHER_UID}
    document["metadata"]["ownerReferences"] = [owner]
    status, answer = facts.api.ask("POST", facts.leases, document)
    assert (status, answer["metadata"]["ownerReferences"]) == (201, [owner])


def a_label_gets_through_the_status_of_a_pod_and_the_spec_does_not(facts: Facts) -> None:
    facts.pod()
    status, answer = facts.patch_status({"metadata": {"labels": {"b": "2"}}, "spec": {"nodeName": "other"}})
    assert (status, answer["metadata"]["labels"], answer["spec"]["nodeName"]) == (
        200,
        {"a": "1", "b": "2"},
        NODE,
    )
    status, answer = facts.patch_status({"metadata": {"labels": {"b": None}}})
    assert (status, answer["metadata"]["labels"]) == (200, {"a": "1"})


def a_patch_that_changes_nothing_keeps_the_version(facts: Facts) -> None:
    facts.pod()
    patch = {"metadata": {"labels": {"b": "2"}}}
    first, second = (facts.patch_status(patch)[1] for _ in range(2))
    assert version(first) == version(second)


def a_patch_for_another_pod_of_the_name_is_refused(facts: Facts) -> None:
    facts.pod()
    assert facts.patch_status({"metadata": {"uid": OTHER_UID, "labels": {"b": "2"}}})[0] == 422
    assert facts.patch_status({"metadata": {"resourceVersion": "1", "labels": {"b": "2"}}})[0] == 409
    facts.name = f"no-{facts.name}"
    assert facts.patch_status({"metadata": {"labels": {"b": "2"}}})[0] == 404


def a_patch_names_its_type(facts: Facts) -> None:
    facts.pod()
    assert facts.api.ask("PATCH", f"{facts.pods}/{facts.name}/status", {})[0] == 415


def the_right_to_a_pods_status_suffices_for_a_label(facts: Facts) -> None:
    facts.pod()
    facts.api.allow("patch pods/status")
    label = {"metadata": {"labels": {"b": "2"}}}
    assert facts.patch_status(label, user="user")[0] == 200
    path = f"{facts.pods}/{facts.name}"
    status, answer = facts.api.ask("PATCH", path, label, content_type=MERGE, user="user")
    assert (status, answer["reason"]) == (403, "Forbidden")
    assert f'pods "{facts.name}" is forbidden: User "' in answer["message"]
    assert 'cannot patch resource "pods" in API group "" in the namespace "default"' in answer["message"]


def every_right_is_one_of_its_own(facts: Facts) -> None:
    created = facts.create()
    facts.api.allow("get leases", "update leases")
    path = f"{facts.leases}/{facts.name}"
    requests = [
        ("GET", path, None),
        ("PUT", path, created),
        ("GET", facts.leases, None),
        ("POST", facts.leases, facts.lease()),
    ]
    requests += [("DELETE", path, None), ("GET", f"{facts.leases}?watch=1&timeoutSeconds=1", None)]
    statuses = [
        facts.api.ask(method, where, document, user="user")[0] for method, where, document in requests
    ]
    assert statuses == [200, 200, 403, 403, 403, 403]


def who_is_not_known_is_refused(facts: Facts) -> None:
    status, answer = facts.api.ask("GET", facts.leases, user="nobody")
    assert (status, answer["reason"], answer["message"]) == (401, "Unauthorized", "Unauthorized")


def an_event_is_in_the_namespace_of_its_object(facts: Facts) -> None:
    path = "/api/v1/namespaces/default/events"
    event: Document = {
        "metadata": {"name": facts.name},
        "involvedObject": {"kind": "Pod", "name": "web", "namespace": "default"},
        "reason": "Moved",
        "message": "text",
        "type": "Normal",
        "count": 1,
    }
    assert [facts.api.ask("POST", path, event)[0] for _ in range(2)] == [201, 409]
    status, answer = facts.api.ask("PATCH", f"{path}/{facts.name}", {"count": 2}, content_type=MERGE)
    assert (status, answer["count"]) == (200, 2)
    event["metadata"]["name"] = f"other-{facts.name}"
    event["involvedObject"]["namespace"] = "elsewhere"
    assert facts.api.ask("POST", path, event)[0] == 422


def the_addresses_of_api_servers_are_in_an_endpoint_slice(facts: Facts) -> None:
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"
    status, answer = facts.api.ask("GET", path)
    assert status == 200
    assert [port["name"] for port in answer["ports"]] == ["https"]
    assert all(endpoint["conditions"]["ready"] for endpoint in answer["endpoints"])
    assert len([address for endpoint in answer["endpoints"] for address in endpoint["addresses"]]) == 2


def a_list_comes_in_pages(facts: Facts) -> None:
    whole = facts.name
    for number in range(5):
        facts.name = f"{whole}-{number}"
        last = facts.create()
    path, names, more = f"{facts.leases}?limit=2", [], ""
    while True:
        status, page = facts.api.ask("GET", f"{path}&continue={more}" if more else path)
        assert status == 200
        assert int(page["metadata"]["resourceVersion"]) >= int(version(last))
        assert len(page["items"]) <= 2
        names += [item["metadata"]["name"] for item in page["items"]]
        if not (more := page["metadata"].get("continue", "")):
            break
    assert [name for name in names if name.startswith(whole)] == [f"{whole}-{number}" for number in range(5)]
    assert facts.api.ask("GET", f"{path}&continue=abc")[0] == 400
    status, page = facts.api.ask("GET", f"{path}&resourceVersion=0")
    assert (status, page["metadata"].get("continue", ""), len(page["items"]) >= 5) == (200, "", True)


def a_list_is_selected(facts: Facts) -> None:
    facts.pod()
    for selector, wanted in ((NODE, True), ("other", False)):
        status, page = facts.api.ask("GET", f"/api/v1/pods?fieldSelector=spec.nodeName%3D{selector}")
        assert status == 200
        assert (facts.name in [item["metadata"]["name"] for item in page["items"]]) is wanted
    assert facts.api.ask("GET", f"{facts.leases}?fieldSelector=spec.x%3Dy")[0] == 400


def a_list_of_a_version_to_come_fails(facts: Facts) -> None:
    status, answer = facts.api.ask("GET", f"{facts.leases}?resourceVersion=99999999999")
    assert (status, answer["reason"]) == (504, "Timeout")


def a_watch_goes_on_from_a_version(facts: Facts) -> None:
    created = facts.create()
    changed = facts.put(created, holderIdentity="x")[1]
    facts.put(changed, holderIdentity="y")
    facts.delete()
    wanted = [f"{kind} {facts.name}" for kind in ("MODIFIED", "MODIFIED", "DELETED")]
    assert [event for event in facts.events(version(created)) if facts.name in event] == wanted
    one = facts.events(version(created), f"&fieldSelector=metadata.name%3D{facts.name}")
    assert one == wanted
    assert facts.events(version(created), "&fieldSelector=metadata.name%3Dother") == []


def a_watch_shows_the_version_of_the_removal(facts: Facts) -> None:
    created = facts.create()
    facts.delete()
    path = f"{facts.leases}?watch=1&timeoutSeconds=1&resourceVersion={version(created)}"
    removal = next(
        event for event in facts.api.watch(path) if event["object"]["metadata"]["name"] == facts.name
    )
    assert removal["type"] == "DELETED"
    assert int(version(removal["object"])) > int(version(created))


def a_watch_without_a_version_shows_what_is_there(facts: Facts) -> None:
    facts.create()
    assert f"ADDED {facts.name}" in facts.events("")
    assert f"ADDED {facts.name}" in facts.events("0")


def a_watch_of_a_version_to_come_is_silent(facts: Facts) -> None:
    facts.create()
    assert facts.events("99999999999") == []


def a_watch_of_no_version_fails(facts: Facts) -> None:
    assert facts.api.ask("GET", f"{facts.leases}?watch=1&resourceVersion=abc")[0] == 500


FACTS: Sequence[Callable[[Facts], None]] = (
    what_is_created_has_uid_version_and_time,
    a_second_create_is_a_conflict,
    a_put_needs_a_version,
    a_put_of_an_old_version_is_a_conflict,
    the_same_changed_body_twice_is_a_conflict,
    an_unchanged_body_keeps_the_version,
    a_put_of_another_uid_is_a_conflict,
    a_put_onto_a_deleted_lease_creates_it,
    a_put_onto_a_deleted_lease_with_its_uid_is_a_conflict,
    a_put_needs_the_name_of_its_path,
    a_delete_with_another_uid_or_version_is_a_conflict,
    durations_are_whole_seconds_above_zero,
    transitions_are_not_negative,
    times_have_microseconds,
    a_holder_may_be_empty_or_absent,
    a_preferred_holder_is_accepted_and_dropped,
    an_unknown_field_is_dropped,
    annotations_are_texts,
    a_name_has_253_characters_at_most,
    a_name_is_in_lower_case,
    a_namespace_must_be_there,
    a_node_may_own_a_lease,
    a_label_gets_through_the_status_of_a_pod_and_the_spec_does_not,
    a_patch_that_changes_nothing_keeps_the_version,
    a_patch_for_another_pod_of_the_name_is_refused,
    a_patch_names_its_type,
    the_right_to_a_pods_status_suffices_for_a_label,
    every_right_is_one_of_its_own,
    who_is_not_known_is_refused,
    an_event_is_in_the_namespace_of_its_object,
    the_addresses_of_api_servers_are_in_an_endpoint_slice,
    a_list_comes_in_pages,
    a_list_is_selected,
    a_list_of_a_version_to_come_fails,
    a_watch_goes_on_from_a_version,
    a_watch_shows_the_version_of_the_removal,
    a_watch_without_a_version_shows_what_is_there,
    a_watch_of_a_version_to_come_is_silent,
    a_watch_of_no_version_fails,
)


def name_of(fact: Callable[[Facts], None]) -> str:
    """Return the name of a fact's objects."""
    return f"fact-{FACTS.index(fact)}"
