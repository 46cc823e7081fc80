"""The longest span of a text that stands in the training documents, against a search that is plainly right."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lmgraft.stages.copies import TrainingText


def plainly(text: str, documents: list[str]) -> int:
    spans = [text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1)]
    return max((len(span) for span in spans if any(span in document for document in documents)), default=0)


@given(st.text("abé漢", max_size=14), st.lists(st.text("abé漢", max_size=20), max_size=4))
def test_the_longest_span_is_found(text: str, documents: list[str]) -> None:
    assert TrainingText(documents).longest_copy(text) == plainly(text, documents)


def test_no_span_reaches_over_the_end_of_a_document() -> None:
    assert TrainingText(["one two", " three"]).longest_copy("two three") == len(" three")


def test_a_text_that_is_too_large_is_not_looked_up() -> None:
    assert TrainingText(["x" * 99], limit=100).longest_copy("xx") == 2
    assert TrainingText(["x" * 100], limit=100).longest_copy("xx") is None
    assert TrainingText(iter(["x" * 60, "y" * 60]), limit=100).longest_copy("xx") is None


def test_a_whole_copy_is_as_long_as_the_text() -> None:
    assert TrainingText(["before. A whole sentence. after"]).longest_copy("A whole sentence.") == 17
    assert TrainingText([]).longest_copy("anything") == 0
