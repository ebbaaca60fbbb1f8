"""The stand-in for a Kubernetes API has the facts that ``tests/kubernetes`` tests on a kube-apiserver."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lab.kubernetes.standin import TOKEN, StandIn
from tests.support import api_facts
from tests.support.api_facts import FACTS, Facts, Https
from tests.support.waiting import throughout, until

USER = "a-token-of-a-user"


class StandInApi:
    """The stand-in as facts see it."""

    namespace = "facts"

    def __init__(self, api: StandIn) -> None:
        self.standin = api
        api.add_namespace(self.namespace)
        api.allow(TOKEN, user="admin")
        self._https = Https(*api.addresses[0], api.authority.certificate)

    def ask(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        content_type: str = "application/json",
        user: str = "admin",
    ) -> tuple[int, dict[str, Any]]:
        body = None if document is None else json.dumps(document).encode()
        token = {"admin": TOKEN, "user": USER}.get(user, "no-token")
        status, text = self._https.ask(method, path, token, body, content_type)
        return status, json.loads(text)

    def watch(self, path: str) -> list[dict[str, Any]]:
        status, text = self._https.ask("GET", path, TOKEN, None, "")
        assert status == 200
        return [json.loads(line) for line in text.splitlines()]

    def allow(self, *rights: str) -> None:
        self.standin.allow(USER, rights, user="user")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandInApi]:
    with StandIn(tmp_path_factory.mktemp("standin") / "api") as running:
        yield StandInApi(running)


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.__name__)
def test_the_stand_in_has_the_fact(api: StandInApi, fact: Callable[[Facts], None]) -> None:
    fact(Facts(api, api_facts.name_of(fact)))


def test_a_storage_that_is_stopped_holds_all_but_the_cache(api: StandInApi) -> None:
    facts = Facts(api, "stopped")
    created = facts.create()
    answers: list[int] = []
    api.standin.storage.stop()
    steps: list[Callable[[], int]] = [
        lambda: facts.get()[0],
        lambda: api.ask("GET", facts.leases)[0],
        lambda: facts.put(created, holderIdentity="x")[0],
    ]
    threads = [threading.Thread(target=lambda step=step: answers.append(step())) for step in steps]
    for thread in threads:
        thread.start()
    path = f"{facts.leases}/stopped?resourceVersion=0"
    assert api.ask("GET", path)[1] == created
    throughout(lambda: not answers, 0.2)
    api.standin.storage.start()
    until(lambda: sorted(answers) == [200, 200, 200], answers)


def test_what_was_forgotten_is_expired(api: StandInApi) -> None:
    facts = Facts(api, "forgotten")
    created = facts.create()
    facts.put(created, holderIdentity="x")
    more = api.ask("GET", f"{facts.leases}?limit=1")[1]["metadata"]["continue"]
    facts.put(facts.get()[1], holderIdentity="y")
    api.standin.storage.forget()
    assert facts.events(api_facts.version(created)) == ["ERROR 410"]
    status, answer = api.ask("GET", f"{facts.leases}?limit=1&continue={more}")
    assert (status, answer["reason"]) == (410, "Expired")
