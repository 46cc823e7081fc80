"""A SentencePiece model with pieces appended, as Chinese-LLaMA did it (merge_tokenizers.py of Chinese-LLaMA-Alpaca;
Cui, Yang, Yao 2023, arXiv 2304.08177, section 2): those of a donor whose text is missing, in the donor's order.

Deviation: their pieces all have the score 0; :class:`~lmgraft_vocabularies.plugin.Scores` has that as ``zero``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from lmgraft.errors import Problem, UserError
from lmgraft.vocabulary import learnable

from lmgraft_vocabularies.continuing import continue_bpe
from lmgraft_vocabularies.convert import to_json
from lmgraft_vocabularies.english import is_english
from lmgraft_vocabularies.library import opened
from lmgraft_vocabularies.patterns import is_byte_level
from lmgraft_vocabularies.plugin import Scores
from lmgraft_vocabularies.sentence_model import SPACE, Kind, Piece, PieceType, SentenceModel
from lmgraft_vocabularies.vocabulary import Vocabulary
from lmgraft_vocabularies.words import count_words

__all__ = ["SentenceBase"]

#: Share of the occurrences of missing characters that new characters cover (sentencepiece's character_coverage).
COVERAGE = 0.9995
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_WORD = re.compile(f"{SPACE}?[^{SPACE}]+|{SPACE}")


class SentenceBase:
    """A vocabulary with a SentencePiece model, which takes new pieces."""

    def __init__(self, vocabulary: Vocabulary, scores: Scores, protect_english: bool) -> None:
        assert vocabulary.model is not None
        _check_scores(vocabulary.model, scores)
        _complete(vocabulary)
        self._vocabulary = vocabulary
        self._model: SentenceModel = vocabulary.model
        self._tokenizer = opened(vocabulary.content, vocabulary.path)
        self._scores = scores
        self._protect_english = protect_english
        self._protected: list[str] = []

    def protect(self, texts: Iterable[str]) -> None:
        """Pieces that occur in ``texts`` are not added, so their encodings stay as they are, and those of single lines,
        which begin with a space that the model puts before them."""
        self._protected += count_words((part for text in texts for part in (text, *text.split("\n"))), self._split)

    def take(self, donor: Vocabulary) -> int:
        """Appends the donor's pieces that are missing; returns how many there were."""
        return self._append(_pieces(donor))

    def learn(self, texts: Iterable[str], count: int, least: int) -> int:
        """Appends up to ``count`` pieces learnt from ``texts``: characters that the base has as bytes only, then pieces
        by going on with byte-pair encoding; returns how many there were."""
        if self._model.kind is not Kind.bpe:
            fact = f"{self._vocabulary.path} is a unigram model, and new_tokens={count}"
            cause = "merges are learnt by going on with byte-pair encoding, which a unigram model has none of"
            raise UserError(Problem(fact, cause, "pieces=PATH of a donor, trained by the tokenizer unigram"))
        words = self._symbols(count_words(learnable(texts, "extended"), self._split))
        names = [piece.text if piece.type is PieceType.normal else f"\0{piece.text}" for piece in self._model.pieces]
        before = len(names)
        taken = self._characters(words, count, least)
        names += taken

        def allowed(left: int, right: int) -> bool:
            return self._takes(names[left] + names[right])

        numbered = _numbered(words, {name: number for number, name in enumerate(names)})
        for _ in continue_bpe(numbered, names, count - len(taken), allowed, least=least):
            pass  # pieces are all that counts: every place at which one can be cut becomes a merge
        return self._append(Piece(name) for name in names[before:])

    def _takes(self, text: str) -> bool:
        return not (self._protect_english and is_english(text.replace(SPACE, "")))

    def _append(self, pieces: Iterable[Piece]) -> int:
        have = {piece.text for piece in self._model.pieces}
        missing = [piece for piece in pieces if piece.text not in have and self._takes(piece.text)]
        missing = list({piece.text: piece for piece in missing}.values())
        if self._protected:
            found = _occurring({piece.text for piece in missing}, self._protected)
            missing = [piece for piece in missing if piece.text not in found]
        self._vocabulary.append_pieces(self._scored(missing))
        post_processor = self._vocabulary.content.get("post_processor")
        self._vocabulary.content = {**to_json(self._model), "post_processor": post_processor}
        return len(missing)

    def _scored(self, pieces: list[Piece]) -> list[Piece]:
        if self._scores is Scores.donor:
            return pieces
        old = [0.0, *(piece.score for piece in self._model.pieces if piece.type is PieceType.normal)]
        # Runs of spaces may have -1e9 (LLaMA). float32 holds whole numbers up to 2^24, so steps of one stay apart.
        lowest, count = min(score for score in old if score > -(2**23)), len(pieces)
        start = {Scores.zero: 0.0, Scores.first: max(old) + count, Scores.last: lowest - 1}[self._scores]
        step = 0 if self._scores is Scores.zero else 1
        scores = [start - step * number for number in range(count)]
        return [Piece(piece.text, score) for piece, score in zip(pieces, scores, strict=True)]

    def _split(self, text: str) -> list[str]:
        normalizer = self._tokenizer.normalizer
        return _WORD.findall(normalizer.normalize_str(text) if normalizer else text)

    def _symbols(self, words: Counter[str]) -> list[tuple[list[str], int]]:
        """Each word as the base cuts it, with its frequency; characters that the base does not have stand alone."""
        have = {piece.text for piece in self._model.pieces}
        found = []
        for word, count in words.items():
            pieces: list[str] = []
            for known, run in groupby(word, have.__contains__):
                letters = "".join(run)
                tokens = self._tokenizer.model.tokenize(letters) if known else ()
                pieces += [token.value for token in tokens] if known else letters
            found.append((pieces, count))
        return found

    def _characters(self, words: list[tuple[list[str], int]], most: int, least: int) -> list[str]:
        have = {piece.text for piece in self._model.pieces}
        counts: Counter[str] = Counter()
        for pieces, count in words:
            for piece in pieces:
                if piece not in have and self._takes(piece):
                    counts[piece] += count
        total, covered, taken = sum(counts.values()), 0, []
        for letter, count in sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])):
            if len(taken) == most or count < least or covered >= COVERAGE * total:
                break
            covered += count
            taken.append(letter)
        return taken


def _numbered(words: Iterable[tuple[list[str], int]], ids: Mapping[str, int]) -> dict[tuple[int, ...], int]:
    """Words as symbols; one with a character that is no symbol falls into the parts around it."""
    found: dict[tuple[int, ...], int] = {}
    for pieces, count in words:
        for known, run in groupby(pieces, ids.__contains__):
            symbols = tuple(ids[piece] for piece in run) if known else ()
            if len(symbols) > 1:
                found[symbols] = found.get(symbols, 0) + count
    return found


def _occurring(pieces: set[str], words: Iterable[str]) -> set[str]:
    """The pieces that stand in a word, and those that reach over two, of which words do not tell."""
    found = {piece for piece in pieces if SPACE in piece[1:]}
    lengths = sorted({len(piece) for piece in pieces})
    for word in words:
        for length in lengths:
            if length > len(word):
                break
            found.update(pieces.intersection(word[at : at + length] for at in range(len(word) - length + 1)))
    return found


def _pieces(donor: Vocabulary) -> Iterator[Piece]:
    """The donor's ordinary pieces in its order."""
    if donor.model is not None:
        kinds = (PieceType.normal, PieceType.user_defined)
        yield from (Piece(piece.text, piece.score) for piece in donor.model.pieces if piece.type in kinds)
        return
    kind = donor.content["model"].get("type", "BPE")
    if kind not in ("BPE", "Unigram") or is_byte_level(donor.content):
        fact = f"{donor.path} gives no pieces to a SentencePiece model"
        cause = f"it is {'byte-level ' if is_byte_level(donor.content) else ''}{kind}, whose pieces are of another kind"
        raise UserError(Problem(fact, cause, "pieces=PATH of a SentencePiece .model, or of a tokenizer bpe or unigram"))
    special = donor.special()
    scores = dict(donor.content["model"]["vocab"]) if kind == "Unigram" else {}
    for text, _ in sorted(donor.ids().items(), key=lambda entry: entry[1]):
        if text not in special and not _BYTE.fullmatch(text):
            yield Piece(text, float(scores.get(text, 0.0)))


def _check_scores(model: SentenceModel, scores: Scores) -> None:
    unigram = model.kind is Kind.unigram
    if unigram and scores in (Scores.last, Scores.first):
        cause = "its scores are log-probabilities, which are added up: no rank puts pieces before or behind others"
        raise UserError(Problem(f"{model.path} is a unigram model, and scores={scores.name}", cause, "scores=donor"))
    if not unigram and scores is Scores.donor:
        cause = "it is a BPE model, whose scores are ranks"
        raise UserError(Problem(f"{model.path} takes no scores of a donor", cause, "scores=last"))


def _complete(vocabulary: Vocabulary) -> None:
    """Gives the model the tokens that its tokenizer.json has beyond it (a padding token), so that ids agree."""
    model = vocabulary.model
    assert model is not None
    special = vocabulary.special()
    more = sorted((index, text) for text, index in vocabulary.ids().items() if index >= len(model.pieces))
    if [index for index, _ in more] != list(range(len(model.pieces), len(model.pieces) + len(more))):
        cause = f"the ids of tokens behind its {len(model.pieces):,} pieces leave gaps"
        raise UserError(
            Problem(f"{vocabulary.path} cannot be extended", cause, "give the .model alone, base_path=PATH")
        )
    kinds = {True: PieceType.control, False: PieceType.user_defined}
    vocabulary.append_pieces([Piece(text, 0.0, kinds[text in special]) for _, text in more])
