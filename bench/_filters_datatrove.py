"""What datatrove says of documents; run by the peer's Python: ``labels|bare|pipeline IN OUT``.

``IN`` and ``OUT`` are folders of JSON Lines. ``labels`` writes for each document the reason of each of the four filters
by itself, every rule by itself, and what C4 leaves and counts; ``bare`` times the four in one process; ``pipeline`` is
datatrove's own run of two tasks on two workers, which writes what is kept.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter

QUALITY = {
    "gopher_short_doc": {"min_doc_words": 50},
    "gopher_long_doc": {"max_doc_words": 100_000},
    "gopher_below_avg_threshold": {"min_avg_word_length": 3},
    "gopher_above_avg_threshold": {"max_avg_word_length": 10},
    "gopher_too_many_hashes": {"max_symbol_word_ratio": 0.1},
    "gopher_too_many_bullets": {"max_bullet_lines_ratio": 0.9},
    "gopher_too_many_end_ellipsis": {"max_ellipsis_lines_ratio": 0.3},
    "gopher_below_alpha_threshold": {"max_non_alpha_words_ratio": 0.8},
    "gopher_enough_stop_words": {"min_stop_words": 2},
}
NO_QUALITY = {name: None for settings in QUALITY.values() for name in settings}
NO_REPETITION = {
    "dup_line_frac": None, "dup_para_frac": None, "dup_line_char_frac": None, "dup_para_char_frac": None,
    "top_n_grams": (), "dup_n_grams": (),
}  # fmt: skip
TOP = {2: 0.2, 3: 0.18, 4: 0.16}
DUP = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
REPETITION: dict[str, dict[str, Any]] = {
    "dup_para_frac": {"dup_para_frac": 0.3},
    "dup_para_char_frac": {"dup_para_char_frac": 0.2},
    "dup_line_frac": {"dup_line_frac": 0.3},
    "dup_line_char_frac": {"dup_line_char_frac": 0.2},
    **{f"top_{n}_gram": {"top_n_grams": ((n, limit),)} for n, limit in TOP.items()},
    **{f"duplicated_{n}_n_grams": {"dup_n_grams": ((n, limit),)} for n, limit in DUP.items()},
}
NO_FINEWEB = {"line_punct_thr": 0.0, "short_line_thr": 1e9, "char_duplicates_ratio": 1e9, "new_line_ratio": 1e9}
FINEWEB = {
    "line_punct_ratio": {"line_punct_thr": 0.12},
    "short_line_ratio": {"short_line_thr": 0.67},
    "char_dup_ratio": {"char_duplicates_ratio": 0.01},
    "list_ratio": {"new_line_ratio": 0.3},
}
NO_C4 = {"filter_lorem_ipsum": False, "filter_curly_bracket": False, "min_num_sentences": -1}
C4 = {
    "lorem_ipsum": {"filter_lorem_ipsum": True},
    "curly_bracket": {"filter_curly_bracket": True},
    "too_few_sentences": {"min_num_sentences": 5},
}
LINES = {
    "line-filter-too_long_word": "too_long_word",
    "line-filter-no_terminal_punc": "no_terminal_punct",
    "line-filter-too_few_words": "too_few_words",
    "line-filter-javascript": "javascript",
    "line-filter-policy": "policy",
}


def four() -> dict[str, Any]:
    """In FineWeb's order."""
    return {
        "gopher_repetition": GopherRepetitionFilter(),
        "gopher_quality": GopherQualityFilter(),
        "c4": C4QualityFilter(),
        "fineweb": FineWebQualityFilter(),
    }


def single() -> dict[str, dict[str, Any]]:
    """Filter -> rule -> the filter with that rule alone."""
    every = (
        ("gopher_repetition", GopherRepetitionFilter, NO_REPETITION, REPETITION),
        ("gopher_quality", GopherQualityFilter, NO_QUALITY, QUALITY),
        ("c4", C4QualityFilter, NO_C4, C4),
        ("fineweb", FineWebQualityFilter, NO_FINEWEB, FINEWEB),
    )
    return {name: {rule: kind(**{**off, **on}) for rule, on in rules.items()} for name, kind, off, rules in every}


def reason(judge: Any, text: str) -> tuple[str, str]:
    """The reason of a drop, and the text after the filter."""
    document = Document(text=text, id="")
    try:
        found = judge.filter(document)
    except ZeroDivisionError:  # a document of no words, with the rule that drops it switched off
        return "no_words", text
    return ("" if found is True else found[1]), document.text


def labels(rows: list[dict[str, str]]) -> list[dict[str, Any]]:
    whole, alone = four(), single()
    gone: Counter[str] = Counter()
    whole["c4"].stat_update = lambda *names, **_: gone.update(names)
    answers = []
    for row in rows:
        text = row["text"]
        gone.clear()
        found = {name: reason(judge, text) for name, judge in whole.items()}
        fired = {reason(judge, text)[0] for rules in alone.values() for judge in rules.values()}
        answers.append({
            "id": row["id"],
            "reasons": {name: said for name, (said, _) in found.items()},
            "c4": found["c4"][1],
            "lines": {LINES[name]: count for name, count in gone.items() if name in LINES},
            "fired": sorted(fired - {"", "no_words"}),
        })  # fmt: skip
    return answers


def bare(rows: list[dict[str, str]]) -> dict[str, float]:
    judges = list(four().values())
    for judge in judges:
        reason(judge, rows[0]["text"])
    started, cpu = time.perf_counter(), time.process_time()
    kept = 0
    for row in rows:
        document = Document(text=row["text"], id="")
        kept += all(judge.filter(document) is True for judge in judges)
    return {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu, "kept": kept}


def main() -> None:
    what, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if what == "pipeline":
        steps = [JsonlReader(str(source)), *four().values(), JsonlWriter(str(target / "out"), compression=None)]
        LocalPipelineExecutor(steps, tasks=2, workers=2, logging_dir=str(target / "logs")).run()
        return
    rows = [json.loads(line) for file in sorted(source.glob("*.jsonl")) for line in file.read_bytes().splitlines()]
    answer = labels(rows) if what == "labels" else bare(rows)
    target.write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
