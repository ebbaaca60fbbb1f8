"""Calls that are nearly right, through the agent's whole way from a request to its answer and its log."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from tests.agent.server.test_handler import Agent
from tests.agent.server.test_hostile_texts import ENV, FULL, VERBS, Nothing
from tests.support.malformed import Mutator
from tests.support.samples import sampled

FEW, MANY = 300, 15_000


@pytest.mark.parametrize("seed", sampled("test_no_call_is_a_mistake_of_ours", range(1, 6), [1]))
def test_no_call_is_a_mistake_of_ours(tmp_path: Path, seed: int) -> None:
    agent = Agent(tmp_path, metadata=lambda _: Nothing())
    chance = random.Random(seed)  # noqa: S311
    mutator = Mutator(chance)
    for number in range(FEW if seed == 1 else MANY):
        verb = chance.choice((*VERBS, "ADD", "ADD", "CHECK"))
        env = ENV | {"CNI_CONTAINERID": "abc", "CNI_IFNAME": "net1"}
        if chance.random() < 0.3:
            name = chance.choice(list(env))
            env[name] = mutator.text().encode(errors="surrogatepass").decode(errors="surrogateescape")
        stdin = mutator.raw(FULL)
        agent.said.text = ""
        began = time.process_time()
        code, answer, _ = agent.ask(verb, stdin, **env)
        took = time.process_time() - began
        shown = (seed, number, verb, env, stdin[:2000], answer, agent.said.text[-3000:])
        assert code != 999, shown
        assert took < 2, shown
        lines = [json.loads(line) for line in agent.said.text.splitlines()]
        assert not [line for line in lines if "traceback" in line], shown
        assert code == 0 or verb != "DEL" or code in (1, 4, 6, 7), shown
