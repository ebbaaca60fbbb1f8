"""Reports unknown words on the command line of ``floatipctl``: names the word, and suggests what was meant.

argparse itself answers a mistyped option with what else is missing, and a mistyped command with a list.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Never

from ..model.errors import short

ALIKE = 0.6
_VALUE = re.compile(r"^-(\d+|\d*\.\d+)?$| ")
"""Words that argparse takes for a value although they begin with "-": a number, "-" itself, several words."""


class Parser(argparse.ArgumentParser):
    """A parser, and those of its commands."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse as argparse does, once every word in the place of an option or a command is known."""
        words = sys.argv[1:] if args is None else list(args)
        self._look(words)
        return super().parse_known_args(words, namespace)

    def _look(self, words: Sequence[str]) -> None:
        options = [option for action in self._actions for option in action.option_strings]
        commands = next((a.choices for a in self._actions if isinstance(a, argparse._SubParsersAction)), None)
        for word in words:
            if word == "--":
                return
            if word.startswith("-") and not _VALUE.search(word):
                if not any(_may_mean(word, option) for option in options):
                    self._unknown("option", word.partition("=")[0], options)
            elif commands is not None:
                if word not in commands:
                    self._unknown("command", word, commands)
                return

    def _unknown(self, what: str, word: str, there: Iterable[str]) -> Never:
        import difflib  # only here: every other command line does without

        meant = difflib.get_close_matches(short(word), list(there), 1, ALIKE)
        hint = f"did you mean {meant[0]}?" if meant else f"{self.prog} --help lists them all"
        self.error(f"unknown {what} {short(word)}: {hint}")


def _may_mean(word: str, option: str) -> bool:
    """Whether argparse may take ``word`` for this option: in full, cut short, or with its value."""
    if word.startswith("--"):
        return option.startswith(word.partition("=")[0])
    return option[:2] == word[:2]
