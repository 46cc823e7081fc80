"""The declaration of human rights in many languages: how often each is recognised, whole and line by line.

``LMGRAFT_TEST_DATA=... python plugins/language/tests/test_udhr.py [MODEL.bin]`` prints the table of the README, with a
column for a fastText model if one is given; a test compares the other columns.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from lmgraft_language.bayes import Bayes
from lmgraft_language.codes import normal
from lmgraft_language.fasttext_model import FastText

DATA = os.environ.get("LMGRAFT_TEST_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="LMGRAFT_TEST_DATA is not set")
README = Path(__file__).parents[1] / "README.md"
#: A shorter line is a heading or a number.
LEAST = 40


@cache
def model() -> Bayes:
    return Bayes()


@cache
def texts() -> dict[str, str]:
    """Id of a translation -> text, of the languages that the model knows."""
    with gzip.open(Path(DATA or "", "multilingual", "udhr_parallel.jsonl.gz"), "rb") as file:
        rows = [json.loads(line) for line in file.read().decode().split("\n") if line]
    known = model().codes - {"und"}
    return {row["id"]: row["text"] for row in rows if normal(row["id"]) in known}


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.split("\n") if len(line.strip()) >= LEAST]


def measured() -> Iterator[tuple[str, bool, float, int, int]]:
    """(id, whole is right, its probability, lines, lines that are right)."""
    for (name, text), (code, score) in zip(texts().items(), model().identify(list(texts().values())), strict=True):
        own = lines(text)
        right = sum(found == normal(name) for found, _ in model().identify(own))
        yield name, code == normal(name), score, len(own), right


def rendered(other: FastText | None = None) -> str:
    rows = []
    total = [0, 0, 0]
    for name, whole, score, count, right in measured():
        row = f"| {name} | {'yes' if whole else 'no'} | {score:.2f} | {count} | {right / count:.3f} |"
        if other is not None:
            found = other.identify(lines(texts()[name]))
            row += f" {sum(code == normal(name) for code, _ in found) / count:.3f} |"
        rows.append(row)
        total = [total[0] + whole, total[1] + count, total[2] + right]
    last = f"| all {len(rows)} | {total[0]} | | {total[1]} | {total[2] / total[1]:.3f} |"
    return "\n".join([*rows, last])


def test_the_readme_has_the_table_as_it_is_now() -> None:
    told = README.read_text(encoding="utf-8")
    missing = [row for row in rendered().splitlines() if row not in told]
    assert missing == []


def test_the_main_languages_are_recognised() -> None:
    found = {name: (whole, right / count) for name, whole, _, count, right in measured()}
    for name in ("eng", "deu", "fra", "spa", "rus", "tur", "cmn_hans", "cmn_hant", "jpn", "por_BR", "pol", "swe"):
        assert found[name][0]
        assert found[name][1] > 0.93
    assert sum(whole for whole, _ in found.values()) / len(found) > 0.9


def test_scores_are_those_of_the_library() -> None:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    library = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    shown = [line for text in list(texts().values())[::3] for line in lines(text)[:6]]
    shown += ["PLAIN CAPITALS ARE LOWERED", "e\u0301te\u0301 compose\u0301 de pie\u0300ces", "1234 :: $$ {}", "x" * 700]
    shown += [shown[0][:size] for size in range(1, 40)]
    for text, (code, score) in zip(shown, model().identify(shown), strict=True):
        label, expected = library.classify(text)
        if expected > 0.0142:  # one of 142 alike: it knows nothing of the text
            assert code == ("und" if label == "zxx" else normal(label)), text
            # A macrolanguage has the probabilities of its members.
            same = pytest.approx(expected, abs=1e-4)
            assert score == same or (score > expected and code in ("zh", "ar", "uz", "ku")), text


if __name__ == "__main__":
    print(rendered(FastText(Path(sys.argv[1])) if len(sys.argv) > 1 else None))
