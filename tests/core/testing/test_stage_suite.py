"""The suite of stages sees what is wrong, and says so by the right check; its recipes hold what a stage reads."""

from __future__ import annotations

import pytest
from lmgraft.testing import Nonconforming, StageSuite
from third_party import Distribution, component, module

LETTERS = """\
import json
import os
import time
from collections import Counter
from pathlib import Path

from lmgraft.artifacts import corpus
from lmgraft.errors import Stopped


class Letters:
    artifact = "letters"

    def __init__(self, config):
        self.config = config

    def identity(self, context):
        return {"of": ["a", "b"]}

    def run(self, context):
        folder = context.work
        (source,) = context.inputs["corpus"]
        for split in ("train", "validation"):
            partial, ready = context.work / f"{split}.partial", context.work / f"{split}.json"
            if not ready.exists():
                counts = Counter()
                for document in corpus.documents(source.path, split):
                    context.alive()
                    counts.update(document.text)
                partial.write_text(json.dumps(counts, sort_keys=True))
                partial.replace(ready)
        counts = {split: json.loads((context.work / f"{split}.json").read_text()) for split in ("train", "validation")}
        (context.out / "letters.json").write_text(json.dumps(counts))

    def summary(self, artifact):
        yield "letters", str(len(json.loads((artifact.path / "letters.json").read_text())))
"""
FINAL = "json.dumps(counts))"
IDENTITY = 'return {"of": ["a", "b"]}'
ALIVE = "                    context.alive()\n"
BEGIN = "        folder = context.work\n"
KILLED = "test_killed_it_goes_on"
SUMMARY = "str(len("

#: right, wrong, the check that sees it, a word of what it says
WRONG = [
    (FINAL, "json.dumps([counts, int(time.time())]))", "test_the_same_bytes_in_another_store", "at another time"),
    (FINAL, "json.dumps([counts, str(context.out)]))", "test_the_same_bytes_in_another_store", "another store"),
    (FINAL, "json.dumps([counts, str(context.out)]))", "test_no_path_in_the_artifact", "in which it was made"),
    (FINAL, "json.dumps([counts, list({'a', 'b', 'c', 'd'})]))", KILLED, "in another process"),
    ("            counts = Counter()\n", "            counts = Counter()\n                ready.touch()\n",
     KILLED, "does not go on after it was killed"),
    ('f"{split}.partial"', 'f"{split}.json"', KILLED, "while it wrote a file"),
    (IDENTITY, "return {'of': list({'a', 'b', 'c', 'd', 'e'})}", "test_identity_is_plain", "in another process"),
    (IDENTITY, "return {'at': time.time()}", "test_identity_is_plain", "two identities"),
    (IDENTITY, "return {'at': {1, 2}}", "test_identity_is_plain", "no plain data"),
    (IDENTITY, "return {'at': time.time()}", "test_runs_in_a_recipe", "where nothing has changed"),
    ('(context.out / "letters.json")', '(context.work / "letters.json")', "test_runs_in_a_recipe", "empty artifact"),
    (BEGIN, "        (context.out.parent / 'cache').write_text('x')\n", "test_nothing_outside_out_and_work", "cache"),
    (BEGIN, "        Path('cache').write_text('x')\n", "test_no_stray_writes", "cache"),
    (BEGIN, "        (context.out / 'a').symlink_to('/tmp')\n", "test_nothing_outside_out_and_work", "plain files"),
    ('artifact = "letters"', 'artifact = "words"', "test_artifact_is_named", "'words'"),
    (ALIVE, "", "test_stops_when_asked", "never called"),
    (ALIVE, "                    try:\n                        context.alive()\n"
     "                    except Stopped:\n                        pass\n", "test_stops_when_asked", "caught"),
    (SUMMARY, "(len(", "test_summary_is_words", "summary"),
    (FINAL, "json.dumps([counts, context.config.size if hasattr(context, 'config') else self.config.workers]))",
     "test_execution_settings", "workers"),
]  # fmt: skip

CONFIG = '''
@dataclass
class LettersConfig(StageConfig):
    """Counts letters."""

    artifact = "letters"

    corpus: str = from_stage("corpus", default="corpus")
    workers: int = execution(1)
'''


@pytest.fixture
def suite(site):
    made = []

    def install(source: str = LETTERS, config: str = CONFIG, **attributes: object) -> StageSuite:
        light = module("stage", component("letters", "letters_kind.part:Letters", "LettersConfig"), before=config)
        files = {"letters_kind/__init__.py": "", "letters_kind/plugin.py": light, "letters_kind/part.py": source}
        site.install(Distribution("letters-kind", files, {"stage": {"letters": "letters_kind.plugin"}}))
        made.append(type("TestLetters", (StageSuite,), {"component": "letters", **attributes})())
        made[-1].setup_method()
        return made[-1]

    yield install
    for one in made:
        one.teardown_method()


@pytest.mark.parametrize(
    ("right", "wrong", "check", "word"), WRONG, ids=[f"{check}-{word.replace(' ', '-')}" for *_, check, word in WRONG]
)
def test_a_wrong_stage_is_seen(suite, right, wrong, check, word):
    assert LETTERS.count(right) == 1
    one = suite(LETTERS.replace(right, wrong))
    with pytest.raises(Nonconforming, match=word):
        getattr(one, check)()


@pytest.mark.parametrize(
    "check", sorted({check for *_, check, _ in WRONG} | {"test_equal_builds", "test_defaults_compose"})
)
def test_a_right_one_passes(suite, check):
    getattr(suite(), check)()


def test_what_the_kit_cannot_make_is_asked_of_the_author(suite):
    table = CONFIG.replace('from_stage("corpus", default="corpus")', 'from_stage("table", default="table")')
    with pytest.raises(Nonconforming, match=r"reads table, which no stage(.|\n)*recipe\(\)"):
        suite(config=table).test_defaults_compose()
    teacher = CONFIG + '    teacher: Any = slot("teacher")\n'
    with pytest.raises(Nonconforming, match="one teacher, and none comes with lmgraft"):
        suite(config=f"from typing import Any\n{teacher}").test_defaults_compose()
    with pytest.raises(Nonconforming, match="names filter, and the slots of letters are none"):
        suite(parts={"filter": "length"}).test_defaults_compose()


@pytest.mark.parametrize("kind", ["tokenizer", "tokens", "model", "scores"])
def test_a_recipe_has_what_the_stage_reads(suite, kind):
    reads = CONFIG.replace('from_stage("corpus", default="corpus")', f'from_stage("{kind}", default="anything")')
    one = suite(config=reads)
    (artifact,) = one._scene().inputs["corpus"]
    assert artifact.kind == kind
    assert list(artifact.path.iterdir())


def test_a_recipe_of_the_authors_is_taken(suite):
    def recipe(self) -> str:
        return f"""\
        defaults:
          - base
          - stage@words: corpus
          - data_source@words.sources: [files]
          - stage@counted: letters
          - _self_
        stages: [words, counted]
        words: {{workers: 1, validation_bytes: 2000, sources: {{files: {{path: {self.texts()}}}}}}}
        counted: {{corpus: words}}
        """

    one = suite(recipe=recipe, settings={"workers": 7})
    assert one.compose().workers == 7
    assert one._scene().stage.name == "counted"
    one.test_runs_in_a_recipe()
