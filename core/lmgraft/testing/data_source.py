"""The suite of seam ``data_source``: the kit's texts, written as the source reads them, must come out again."""

from __future__ import annotations

import pickle
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lmgraft.component import ComponentConfig
from lmgraft.registry import build
from lmgraft.seams.data_source import Damaged, Document, Unit
from lmgraft.testing import _listing
from lmgraft.testing._damage import REMEDY, damage_fault, read_damaged, untold
from lmgraft.testing._data_source_answers import distinct_texts, listed, pointing
from lmgraft.testing._documents import COLUMNS, fault, plain, texts_of
from lmgraft.testing._pins import moved, pins
from lmgraft.testing.common import PartSuite
from lmgraft.testing.inputs import texts
from lmgraft.testing.outcome import NotApplicable

__all__ = ["DataSourceSuite"]

_NOTHING = "its defaults read nothing and the suite writes nothing; see the check 'nothing is lost'"


class DataSourceSuite(PartSuite):
    """Holds a source to the rules of :mod:`lmgraft.seams.data_source`. Override :meth:`write`::

    class TestLetters(DataSourceSuite):
        component = "letters"
        settings = {"range_bytes": 500}  # several units, several documents in each

        def write(self, folder, texts):
            for number, text in enumerate(texts):
                (folder / f"{number}.letter").write_text(text, encoding="utf-8", newline="")
            return {"path": str(folder)}
    """

    seam = "data_source"
    most_units: ClassVar[int | None] = None
    """Of sources that read a lot without being given files: so many units, spread evenly, are looked at."""
    _folder: Path | None = None
    _given: Mapping[str, Any] | None = None

    # --- what an author writes --------------------------------------------------------------------------------------

    def write(self, folder: Path, texts: Sequence[str]) -> Mapping[str, Any] | None:
        """Writes ``texts`` in the source's own format below the empty ``folder``, at least two of them into one unit,
        and returns the settings that point there. None: the source reads no files that one could write (it makes its
        documents, or finds them on the machine)."""
        return None

    def break_input(self, folder: Path) -> Mapping[str, Any] | None:
        """Writes something below the empty ``folder`` that looks like the format and is not (a broken line, bytes that
        are no UTF-8, a missing column), and returns the settings that point there. None: nothing can be wrong."""
        return None

    def texts_for(self) -> list[str]:
        """The texts to be written: distinct, Unicode of all kinds among them. Override it where the format cannot hold
        every text, say one with line breaks."""
        return texts(24)

    def texts_of(self, document: Document) -> list[str]:
        """The texts that a document was made of: its ``text``, or what is said in its messages, prompt and answers."""
        return texts_of(document)

    # --- how the kit reads ------------------------------------------------------------------------------------------

    def prepare(self) -> Mapping[str, Any]:
        if self._folder is None:
            self._folder = self.folder / "source"
            self._given = self._write(self._folder, self._texts_for())
        return self._given or {}

    def behaviour(self, part: Any) -> Any:
        return [plain(document) for unit in self._units(part) for document in part.read(unit, 0)]

    # --- checks -----------------------------------------------------------------------------------------------------

    def test_units_are_disjoint(self) -> None:
        """no unit, document or text comes twice"""
        part = self.build()
        units = self._units(part)
        self._once([unit.id for unit in units], "lists the unit")
        where: dict[str, list[str]] = {}
        read: list[Document] = []
        for unit in units:
            for document in self._read(part, unit):
                where.setdefault(document.id, []).append(unit.id)
                read.append(document)
        twice = next((name for name, places in where.items() if len(places) > 1), None)
        self.require(
            twice is None,
            f"{self.name} reads the document {twice!r} twice",
            f"it comes in the units {' and '.join(map(repr, where.get(twice or '', ())))}",
            "end each unit where the next one begins: a range [start, end) without its end, a file in one unit only",
        )
        self._texts_once(read, units)

    def test_nothing_is_lost(self) -> None:
        """every text that was written is read, whole and once"""
        config = self.compose()
        if self._given is None and not config.ready():
            self.require(
                False,
                f"{self.name} cannot be checked by itself: its defaults read nothing",
                "the kit does not know its format",
                "ship a suite: a DataSourceSuite whose write(self, folder, texts) writes the texts in its format, in a "
                "module named under the entry-point group lmgraft.testing",
            )
        read = self._documents(self.build())
        self.require(
            bool(read),
            f"{self.name} gives no documents",
            f"its units are {', '.join(unit.id for unit in self.build().units()[:5]) or 'none'}",
            "give settings with which it reads something",
        )
        if self._given is None:
            raise NotApplicable("it reads nothing that the kit can write")
        written, found = Counter(self._texts_for()), self._texts(read)
        missing, added = written - found, found - written
        told = [f"{word} {_told(text)}" for word, texts in (("missing", missing), ("came", added)) for text in texts]
        self.require(
            not missing and not added,
            f"{self.name} does not give back what was written: {missing.total()} of {len(self._texts_for())} texts are "
            f"missing and {added.total()} others came",
            "; ".join(told[:: max(1, len(told) - 1)]),
            "read to the end of each unit and change nothing: no stripping, no other line ends (newline='' in open), "
            "no cut where texts are short. What the format cannot hold, texts_for() of the suite leaves out",
        )

    def test_offsets_resume(self) -> None:
        """reading from document n on gives what reading from the start gives after n documents"""
        config = self._config()
        for unit in self._units(self._built(config)):
            whole = [plain(document) for document in self._read(self._built(config), unit)]
            size = len(whole)
            for offset in sorted({0, 1, 2, size // 2, size - 1, size, size + 1, size + 1000} - {-1}):
                rest = [plain(document) for document in self._read(self._built(config), unit, offset)]
                self.require(
                    rest == whole[offset:],
                    f"{self.name} does not resume: unit {unit.id} from the offset {offset} gives {len(rest)} documents",
                    f"there are {size} from 0 on, so {len(whole[offset:])} belong there; "
                    + (self.differing(whole[offset:], rest) or "their order differs"),
                    "skip exactly the first `offset` documents of the unit: the offset counts documents that were "
                    "yielded, moves the start and never the end",
                )

    def test_units_are_deterministic(self) -> None:
        """the same input gives the same units and documents, whatever order the system lists files in"""
        config = self._config()
        first = self._seen(self._built(config))
        with _listing.reversed_order():
            second = self._seen(self._built(config))
        self.require_equal(
            first,
            second,
            f"{self.name} gives other units or documents when a folder is listed in another order",
            "sort what os.listdir, os.scandir, glob and rglob give, by names relative to the setting's folder",
        )
        found = _listing.units_elsewhere(self.installed.component, config, self.folder)
        self.require(
            isinstance(found, list),
            f"{self.name} gives no units in another process",
            str(found),
            "list them without anything that only the first process has",
        )
        self.require_equal(
            [list(_unit(unit)) for unit in self._built(config).units()],
            found,
            f"{self.name} gives other units in another process",
            "depend on the input and the settings only: not on hash(), the order of a set, the time or the process",
        )

    def test_units_are_pinned(self) -> None:
        """what a unit holds is pinned by a file or a digest; ids are the same wherever the folder lies"""
        config = self._config()
        units = self._built(config).units()
        for unit in units:
            self.require(
                bool(unit.digest) or unit.path is not None,
                f"{self.name}: nothing pins what unit {unit.id} holds",
                "it has neither a path nor a digest, so a changed input would be taken for the old one",
                "Unit(id, path=FILE) where it is read from one file, else digest=... of all that it holds",
            )
            found = unit.path is None or Path(unit.path).is_file()
            remedy = "path is the file that core digests; leave it out where there is none, and give digest"
            self.require(found, f"{self.name}: unit {unit.id} has the path {unit.path}", "that is no file", remedy)
        self._no_place_in(unit.id for unit in units)
        if not self._given or self._folder is None:
            return
        self._no_place_in(document.id for document in self._documents(self._built(config)))
        before = self._ids(config)
        self.require_equal(
            before,
            self._ids(self._moved()),
            f"{self.name} gives other ids when its folder is moved",
            "make ids from names relative to what the setting names",
        )
        self._sees_changes()

    def test_units_travel(self) -> None:
        """a unit that was sent to another process reads the same there"""
        config = self._config()
        for unit in self._units(self._built(config)):
            try:
                there = pickle.loads(pickle.dumps(unit))
            except Exception as error:
                remedy = "give lmgraft.seams.data_source.Unit itself, with plain values"
                cause = f"{type(error).__name__}: {error}"
                self.require(False, f"{self.name}: unit {unit.id} does not pickle", cause, remedy)
            self.require_equal(
                [plain(document) for document in self._built(config).read(unit, 0)],
                [plain(document) for document in self._built(config).read(there, 0)],
                f"{self.name} reads other documents from a unit that was sent to a worker",
                "let read() depend on the unit and the settings, not on what units() kept in the part",
            )

    def test_documents_are_sound(self) -> None:
        """documents have an id, one shape, the promised columns, and meta that is JSON"""
        config = self._config()
        columns = frozenset(each.removeprefix("columns:") for each in config.provides() if each.startswith("columns:"))
        self.require(
            not columns or bool(columns & COLUMNS),
            f"{self.name} promises the columns {', '.join(sorted(columns))}",
            f"documents have {', '.join(sorted(COLUMNS))}",
            'return frozenset({"columns:text"}) from provides(), or the columns that its documents have',
        )
        self.require(
            bool(columns),
            f"{self.name} promises no columns",
            "provides() names none, so a stage that needs text refuses this source",
            'return frozenset({"columns:text"}) from provides() of its settings',
        )
        part = self._built(config)
        for document in (document for unit in self._units(part) for document in part.read(unit, 0)):
            found = damage_fault(document) if isinstance(document, Damaged) else fault(document, columns)
            if found is not None:
                self.require(False, f"{self.name}: {found.fact}", found.cause, found.remedy)

    def test_bad_input_is_told(self) -> None:
        """damaged input is told by a message that names the file, not by a traceback or silence; reading may go on"""
        folder = self.folder / "damaged"
        folder.mkdir()
        broken = pointing(f"{type(self).__name__}.break_input", self.break_input(folder), folder)
        if broken is None:
            raise NotApplicable("the suite's break_input() breaks nothing")
        config = self._composed_with(broken)
        try:
            found, error = read_damaged(self._built(config))
        except Exception as raised:
            fact = f"{self.name} meets damaged input with {type(raised).__name__}"
            self.require(False, fact, str(raised) or "it has no message", REMEDY)
        wrong = untold(found, error, {path.name for path in folder.rglob("*") if path.is_file()})
        if wrong is not None:
            self.require(False, f"{self.name} {wrong.fact}", wrong.cause, wrong.remedy)
        if error is None:
            self._goes_on(config)

    # --- in short ---------------------------------------------------------------------------------------------------

    def _goes_on(self, config: ComponentConfig) -> None:
        """An offset counts documents, and nothing that is damaged between them."""
        for unit in self._built(config).units():
            whole = [plain(document) for document in self._read(self._built(config), unit)]
            for offset in range(1, min(len(whole), 4) + 1):
                self.require_equal(
                    whole[offset:],
                    [plain(document) for document in self._read(self._built(config), unit, offset)],
                    f"{self.name} does not resume behind damaged input: unit {unit.id} from the offset {offset}",
                    "the offset counts documents that were yielded, and not what is damaged between them",
                )

    def _read(self, part: Any, unit: Unit, offset: int = 0) -> list[Document]:
        """The documents alone."""
        return [one for one in part.read(unit, offset) if not isinstance(one, Damaged)]

    def _write(self, folder: Path, given: Sequence[str]) -> Mapping[str, Any] | None:
        folder.mkdir()
        return pointing(f"{type(self).__name__}.write", self.write(folder, given), folder)

    def _texts_for(self) -> list[str]:
        return distinct_texts(f"{type(self).__name__}.texts_for", self.texts_for())

    def _texts_of(self, document: Document) -> list[str]:
        return listed(f"{type(self).__name__}.texts_of", self.texts_of(document))

    def _config(self, **more: Any) -> ComponentConfig:
        config = self.compose(**more)
        if self._given is None and not config.ready():
            raise NotApplicable(_NOTHING)
        return config

    def build(self, **more: Any) -> Any:
        self._config(**more)
        return super().build(**more)

    def _use(self, config: ComponentConfig) -> None:
        self._config()
        super()._use(config)

    def _composed_with(self, given: Mapping[str, Any]) -> ComponentConfig:
        """Settings that point at other files than :meth:`write`'s."""
        from lmgraft.testing.composing import compose_part

        return compose_part(self.seam, self.component, {**self.settings, **given}, self.folder)

    def _built(self, config: ComponentConfig) -> Any:
        return build(self.installed.component, config)

    def _units(self, part: Any) -> list[Unit]:
        """All units, or as many as :attr:`most_units` allows."""
        units: list[Unit] = part.units()
        if self.most_units is None or len(units) <= self.most_units:
            return units
        return [units[number * len(units) // self.most_units] for number in range(self.most_units)]

    def _documents(self, part: Any) -> list[Document]:
        return [document for unit in self._units(part) for document in self._read(part, unit)]

    def _texts(self, read: Sequence[Document]) -> Counter[str]:
        return Counter(text for document in read for text in self._texts_of(document))

    def _seen(self, part: Any) -> list[Any]:
        units = self._units(part)
        return [[list(_unit(unit)), [plain(document) for document in part.read(unit, 0)]] for unit in units]

    def _ids(self, config: ComponentConfig) -> list[Any]:
        part = self._built(config)
        return [[unit.id, [document.id for document in self._read(part, unit)]] for unit in self._units(part)]

    def _once(self, names: Sequence[str], deed: str) -> None:
        counts = Counter(names)
        twice = next((name for name, count in counts.items() if count > 1), None)
        remedy = "give each unit an id of its own, such as the file's relative name and where the range starts"
        self.require(twice is None, f"{self.name} {deed} {twice!r} more than once", "ids name units", remedy)

    def _texts_once(self, read: Sequence[Document], units: Sequence[Unit]) -> None:
        if self._given is None:
            return
        written = Counter(self._texts_for())
        found = self._texts(read)
        twice = next((text for text in written if found[text] > written[text]), None)
        self.require(
            twice is None,
            f"{self.name} reads one text in two documents",
            f"{_told(twice or '')} was written once and came {found[twice or '']} times from {len(units)} units",
            "end each unit where the next one begins: what starts in a range belongs to it, what starts at its end "
            "to the next one",
        )

    def _no_place_in(self, ids: Any) -> None:
        for name in ids:
            self.require(
                str(self.folder) not in name and not Path(name).is_absolute(),
                f"{self.name} has a place of this machine in the id {name!r}",
                "the same input in another folder would be another one, and all work on it would be done again",
                "make ids from names relative to what the setting names",
            )

    def _moved(self) -> ComponentConfig:
        assert self._folder is not None
        assert self._given is not None
        there = self.folder / "another place" / "moved"
        there.parent.mkdir()
        given = moved(self._given, self._folder, there)
        shutil.move(self._folder, there)
        return self._composed_with(given)

    def _sees_changes(self) -> None:
        """Other texts of the same length must show in what pins the units."""
        old = self._texts_for()
        changed = [*old[:-1], old[-1].swapcase() if old[-1].swapcase() != old[-1] else old[-1][::-1]]
        found = []
        for name, given in (("old", old), ("changed", changed)):
            folder = self.folder / "pinned"
            settings = self._write(folder, given)
            if settings is None:
                return
            found.append(pins(self._built(self._composed_with(settings)).units()))
            shutil.move(folder, self.folder / name)
        self.require(
            found[0] != found[1],
            f"{self.name} does not see that its input changed",
            "one text was changed into another of the same length, and neither a file's content nor a digest differs",
            "let `digest` be one of the content (a hash, a commit), not of names, sizes or times",
        )


def _unit(unit: Unit) -> tuple[Any, ...]:
    return (unit.id, unit.path, unit.digest, unit.start, unit.end, unit.size)


def _told(text: str) -> str:
    shown = ascii(text)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
