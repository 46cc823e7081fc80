"""The interpreter's own text, read without importing it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from lmgraft.errors import UserError
from lmgraft.seams.data_source import DataSource, Document, Unit
from lmgraft_python_docs import places
from lmgraft_python_docs.plugin import PythonDocsConfig, lmgraft_data_source
from lmgraft_python_docs.render import read_topics, render_module
from lmgraft_python_docs.source import PythonDocs

MODULE = b'''"""Says what it is."""
import nothing_of_this_name
if True:
    def guarded(a: int, *, b=2) -> str:
        """Deep
            inside."""
        def local():
            "not shown"
class Pair(dict, metaclass=M):
    "Two."
    def __init__(self, left): ...
    def __repr__(self): ...
    async def join(self):
        "Joins."
    def _hidden(self): ...
    def _told(self): "Told."
'''

RENDERED = """demo.pair

Says what it is.

guarded(a: int, *, b=2) -> str

    Deep
    inside.

class Pair(dict, metaclass=M)

    Two.

Pair.__init__(self, left)
async Pair.join(self)

    Joins.

Pair._told(self)

    Told."""


def source(**settings: object) -> PythonDocs:
    return PythonDocs(PythonDocsConfig(**settings))  # type: ignore[arg-type]


@pytest.fixture
def fake_stdlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "python"
    for name, content in {
        "pydoc_data/__init__.py": b"",
        "pydoc_data/topics.py": b"# made\ntopics = {'if': 'The if statement', 'del': 'The del ' 'statement'}\n",
        "good.py": b'"Good."\nraise SystemExit\n',
        "silent.py": b"x = 1\n",
        "broken.py": b"def (:\n",
        "latin.py": b"# coding: latin-1\n'caf\xe9'\n",
        "undecodable.py": b"'caf\xe9'\n",
        "pack/__init__.py": b"'Pack.'",
        "pack/tests/test_it.py": b"'Tests.'",
        "site-packages/other.py": b"'Other.'",
        "__pycache__/cached.py": b"'Cached.'",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    monkeypatch.setattr(places, "stdlib", lambda: root)
    return root


def everything(docs: PythonDocs) -> dict[str, Document]:
    return {document.id: document for unit in docs.units() for document in docs.read(unit, 0)}


def test_a_module_reads_like_help() -> None:
    assert render_module(MODULE, "demo.pair") == RENDERED


def test_a_module_without_docstrings_gives_nothing() -> None:
    assert render_module(b"def f(): return 1\n", "demo") is None


def test_half_of_a_surrogate_pair_does_not_survive() -> None:
    text = render_module(b'"a\\ud800b"', "demo")
    assert text is not None
    assert text.encode() == b"demo\n\na?b"


def test_documents_of_a_small_library(fake_stdlib: Path) -> None:
    documents = everything(source())
    assert {name: document.text for name, document in documents.items()} == {
        "stdlib/good.py": "good\n\nGood.",
        "stdlib/latin.py": "latin\n\ncafé",
        "stdlib/pack/__init__.py": "pack\n\nPack.",
        "topics:del": "The del statement",
        "topics:if": "The if statement",
    }
    assert documents["stdlib/good.py"].group == "stdlib/good.py"
    assert documents["topics:if"].group == documents["topics:del"].group == "topics"


def test_units_are_sorted_files_with_their_sizes(fake_stdlib: Path) -> None:
    units = source().units()
    assert [unit.id for unit in units] == sorted(unit.id for unit in units)
    for unit in units:
        assert unit.path is not None
        assert Path(unit.path).stat().st_size == unit.size
    assert "stdlib/pydoc_data/topics.py" not in {unit.id for unit in units}


def test_test_folders_only_when_asked(fake_stdlib: Path) -> None:
    assert "stdlib/pack/tests/test_it.py" not in everything(source())
    assert "stdlib/pack/tests/test_it.py" in everything(source(tests=True))


def test_reading_goes_on_from_any_offset(fake_stdlib: Path) -> None:
    docs = source()
    for unit in docs.units():
        whole = list(docs.read(unit, 0))
        for offset in range(len(whole) + 2):
            assert list(docs.read(unit, offset)) == whole[offset:]


def test_no_topics_is_said_in_three_lines(fake_stdlib: Path) -> None:
    (fake_stdlib / "pydoc_data/topics.py").unlink()
    with pytest.raises(UserError) as caught:
        source().units()
    assert "pydoc_data" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 3


def test_spoilt_topics_are_said_in_three_lines(fake_stdlib: Path) -> None:
    (fake_stdlib / "pydoc_data/topics.py").write_text("topics = call()\n")
    with pytest.raises(UserError, match=r"topics\.py"):
        everything(source())


def test_an_installed_package_is_parsed_and_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lmgraft_sample_package"
    (package / "tests").mkdir(parents=True)
    (package / "__init__.py").write_text('"Sample."\nraise RuntimeError("imported")\n')
    (package / "tests" / "test_x.py").write_text('"Test."\n')
    (tmp_path / "lmgraft_sample_single.py").write_text('"Single."\nraise RuntimeError("imported")\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    docs = source(installed=["lmgraft_sample_package", "lmgraft_sample_single"])
    added = [unit for unit in docs.units() if unit.id.startswith("installed/")]
    texts = {document.id: document.text for unit in added for document in docs.read(unit, 0)}
    assert texts == {
        "installed/lmgraft_sample_package/__init__.py": "lmgraft_sample_package\n\nSample.",
        "installed/lmgraft_sample_single.py": "lmgraft_sample_single\n\nSingle.",
    }
    assert "lmgraft_sample_package" not in sys.modules


def test_a_distribution_is_found_by_its_name() -> None:
    units = [unit.id for unit in source(installed=["hydra-core"]).units()]
    assert "installed/hydra/main.py" in units


def test_a_missing_package_is_named() -> None:
    with pytest.raises(UserError, match="no_such_package_here") as caught:
        source(installed=["no_such_package_here"]).units()
    assert len(str(caught.value).splitlines()) == 3


def test_an_installed_file_that_does_not_parse_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("x = 1\ndef (:\n")
    with pytest.raises(UserError, match=r"bad\.py:2 "):
        list(source().read(Unit(id="installed/bad.py", path=str(path)), 0))


def test_settings_are_checked() -> None:
    assert not list(PythonDocsConfig(installed=["numpy", "scikit-learn"]).check())
    assert len(list(PythonDocsConfig(installed=["", "a/b", "json"]).check())) == 3
    assert list(PythonDocsConfig(installed=["numpy", "numpy"]).check())


def test_this_interpreter_is_read_whole() -> None:
    docs = source()
    assert isinstance(docs, DataSource)
    before = set(sys.modules)
    documents = everything(docs)
    assert not {name for name in set(sys.modules) - before if not name.startswith("encodings")}
    assert docs.units() == docs.units()
    assert sum(document.length() for document in documents.values()) > 2_000_000
    assert "The JSON document being parsed" in (documents["stdlib/json/decoder.py"].text or "")
    assert "topics:assert" in documents
    assert not [name for name in documents if "site-packages" in name or "/test/" in name]


def test_topics_are_never_executed() -> None:
    with pytest.raises((SyntaxError, ValueError)):
        read_topics(b"topics = __import__('os').environ")


def test_the_hook_offers_it() -> None:
    assert [component.name for component in lmgraft_data_source()] == ["python_docs"]
