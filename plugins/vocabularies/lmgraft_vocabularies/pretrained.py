"""The part ``pretrained``: a vocabulary that others trained, as lmgraft saves it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from lmgraft.chat import source
from lmgraft.errors import Fault

from lmgraft_vocabularies.patterns import check_pattern
from lmgraft_vocabularies.plugin import PretrainedConfig
from lmgraft_vocabularies.reading import find
from lmgraft_vocabularies.vocabulary import Vocabulary, read

__all__ = ["Pretrained"]


class Pretrained:
    """Satisfies :class:`lmgraft.seams.tokenizer.ReadingTokenizer`.

    Ids of tokenizer.json are those of Hugging Face's own; ids of a SentencePiece model those of ``sentencepiece``.
    """

    def __init__(self, config: PretrainedConfig) -> None:
        self.config = config
        self._vocabulary: Vocabulary | None = None

    def inputs(self) -> Mapping[str, str]:
        """The files that are read; raises :class:`~lmgraft.errors.UserError` where there are none."""
        return find(self._path()).all()

    def train(self, texts: Iterable[str]) -> None:
        """Reads the files. ``texts`` are not looked at: nothing is learnt."""
        vocabulary = read(self._path())
        if not self.config.any_pattern:
            check_pattern(vocabulary.content, vocabulary.path)
        vocabulary.name_roles(self.config.end_token, self.config.pad_token)
        if self.config.chat_template is not None:
            vocabulary.chat_template = source(self.config.chat_template)
        self._vocabulary = vocabulary

    def save(self, folder: Path) -> None:
        """Writes ``tokenizer.json`` and ``tokenizer_config.json``; of a SentencePiece model ``tokenizer.model`` too."""
        if self._vocabulary is None:
            raise Fault("pretrained: save was called before train")
        self._vocabulary.write(folder)

    def _path(self) -> Path:
        return Path(self.config.path or "").expanduser()
