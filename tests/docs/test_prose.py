"""How the documents and the product's texts are written: CONTRIBUTING.md, "Words"."""

from __future__ import annotations

import pytest

from tests.docs.pages import Page, parse, told
from tests.docs.prose import ITEM, WIDTH, faults, inner_ends, paragraphs, product


@pytest.mark.parametrize("page", told(), ids=str)
def test_a_page_begins_with_whom_it_is_for(page: Page) -> None:
    lines = [line for _, line in page.prose if line.strip() and not line.startswith("<!--")]
    assert lines[0].startswith("# ")
    assert lines[1].startswith("For "), f"{page}: write for whom it is, as in 'For operators who ...'"


@pytest.mark.parametrize("page", told(), ids=str)
def test_a_line_holds_one_sentence(page: Page) -> None:
    wrong = [f"{page}:{number}: {line}" for number, line in paragraphs(page) if inner_ends(line)]
    assert not wrong


@pytest.mark.parametrize("page", told(), ids=str)
def test_a_line_of_prose_fits_the_window(page: Page) -> None:
    long = [
        f"{page}:{number}: {line}"
        for number, line in paragraphs(page)
        if len(line) > WIDTH and not only_code(line)
    ]
    assert not long


def only_code(line: str) -> bool:
    """Whether the line is a command or a document in back quotes, with at most two words before it."""
    head, _, rest = ITEM.sub("", line).strip().partition("`")
    return len(head.split()) <= 2 and rest.rstrip(".").endswith("`") and len(rest) > WIDTH / 2


@pytest.mark.parametrize("page", told(), ids=str)
def test_a_page_is_plain_english(page: Page) -> None:
    wrong = [f"{page}:{n}: {what}: {line}" for n, line in paragraphs(page) for what in faults(line)]
    assert not wrong


def test_help_log_and_errors_are_plain_english() -> None:
    sentences = list(product())
    assert len(sentences) > 500
    assert not [f"{where}: {what}: {text}" for where, text in sentences for what in faults(text)]


@pytest.mark.parametrize(
    "text",
    [
        "Who asks while a read is under way shares the next one",
        "the agent: what is bound has no route",
        "the client is to be installed again",
        "a client is replaced at one blow",
        "a look failed as nobody expected",
    ],
)
def test_the_old_constructions_are_faults(text: str) -> None:
    assert faults(text)


def test_sentences_are_told_apart() -> None:
    page = parse("x.md", "# X\n\nOne. Two.\nOne (and. Two.) here.\n* `a. B` is one.\n| a. B |\n> c. D\n")
    assert [inner_ends(line) for _, line in paragraphs(page)] == [1, 0, 0]
