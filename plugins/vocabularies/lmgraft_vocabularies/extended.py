"""The part ``extended``: a vocabulary that is there, with pieces appended; every old id keeps its piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from lmgraft.chat import source
from lmgraft.errors import Fault, Problem, UserError

from lmgraft_vocabularies.byte_level import ByteLevelBase
from lmgraft_vocabularies.patterns import check_pattern, is_byte_level
from lmgraft_vocabularies.plugin import ExtendedConfig, Protect
from lmgraft_vocabularies.reading import find
from lmgraft_vocabularies.sentence_extension import SentenceBase
from lmgraft_vocabularies.vocabulary import Vocabulary, read

__all__ = ["Extended"]

#: Characters of the protected text that are read at a time.
_BLOCK = 1 << 20


class Extended:
    """Satisfies :class:`lmgraft.seams.tokenizer.ExtendingTokenizer` and ``ReadingTokenizer``."""

    def __init__(self, config: ExtendedConfig) -> None:
        self.config = config
        self._vocabulary: Vocabulary | None = None

    def inputs(self) -> Mapping[str, str]:
        """The files that the settings name; raises :class:`~lmgraft.errors.UserError` where one is missing."""
        found: dict[str, str] = {}
        for role, path in (("base", self.config.base_path), ("pieces", self.config.pieces)):
            if path:
                files = find(Path(path).expanduser()).all()
                found.update({f"{role}.{name}": place for name, place in files.items()})
        if self.config.protect_path:
            found["protect"] = self.config.protect_path
        return found

    def train(self, texts: Iterable[str]) -> None:
        """Extends the vocabulary at ``base_path``."""
        if not self.config.base_path:
            cause = "a vocabulary is extended, and neither the stage's base nor base_path names one"
            remedy = "base=STAGE in the tokenizer stage, or base_path=PATH in the part"
            raise UserError(Problem("tokenizer extended has nothing to extend", cause, remedy))
        self._extend(read(Path(self.config.base_path).expanduser()), texts)

    def extend(self, base: Path, texts: Iterable[str]) -> None:
        """Extends the vocabulary in the folder ``base``."""
        self._extend(read(base), texts)

    def save(self, folder: Path) -> None:
        """Writes ``tokenizer.json`` and ``tokenizer_config.json``; of a SentencePiece base ``tokenizer.model`` too."""
        if self._vocabulary is None:
            raise Fault("extended: save was called before train or extend")
        self._vocabulary.write(folder)

    def _extend(self, vocabulary: Vocabulary, texts: Iterable[str]) -> None:
        config = self.config
        base = self._taking(vocabulary)
        if config.protect_path:
            base.protect(_blocks(Path(config.protect_path).expanduser()))
        if config.pieces:
            added = base.take(self._donor(vocabulary))
        else:
            added = base.learn(texts, config.new_tokens, config.min_frequency)
        if not added:
            cause = "the donor's pieces are there already" if config.pieces else "no pair occurs often enough"
            remedy = "another donor, or more text" if not config.pieces else "another donor, or protect=nothing"
            raise UserError(Problem(f"{vocabulary.path}: there is no piece to add", cause, remedy))
        vocabulary.name_roles(config.end_token, config.pad_token)
        if config.chat_template is not None:
            vocabulary.chat_template = source(config.chat_template)
        self._vocabulary = vocabulary

    def _taking(self, vocabulary: Vocabulary) -> ByteLevelBase | SentenceBase:
        """The base as something that takes pieces."""
        protect_english = self.config.protect is Protect.english
        if vocabulary.model is not None:
            return SentenceBase(vocabulary, self.config.scores, protect_english)
        if is_byte_level(vocabulary.content):
            if not self.config.any_pattern:
                check_pattern(vocabulary.content, vocabulary.path)
            return ByteLevelBase(vocabulary, protect_english)
        kind = vocabulary.content["model"].get("type", "BPE")
        cause = f"it is {kind}, not byte-level, and no SentencePiece .model lies beside it"
        remedy = "a base that is byte-level BPE, or a SentencePiece .model"
        raise UserError(Problem(f"{vocabulary.path} cannot be extended", cause, remedy))

    def _donor(self, base: Vocabulary) -> Vocabulary:
        path = Path(self.config.pieces or "").expanduser()
        donor = read(path)
        if base.model is None and (donor.model is not None or not is_byte_level(donor.content)):
            kind = donor.content["model"].get("type", "BPE")
            cause = (
                f"the donor is {'a SentencePiece model' if donor.model else kind}, and {base.path} is byte-level BPE"
            )
            remedy = "pieces=PATH of a byte-level tokenizer.json, or new_tokens=N to learn pieces from the corpus"
            raise UserError(Problem(f"{path} gives no pieces to that base", cause, remedy))
        return donor


def _blocks(path: Path) -> Iterator[str]:
    """The text of a file, whole lines at a time."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            while lines := file.readlines(_BLOCK):
                yield "".join(lines)
    except OSError as error:
        cause = error.strerror or str(error)
        raise UserError(
            Problem(f"{path} cannot be read", cause, "protect_path=PATH of a text file, or null")
        ) from error
