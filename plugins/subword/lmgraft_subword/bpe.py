"""Byte-pair encoding of characters (Sennrich et al. 2016, arXiv 1508.07909) in SentencePiece's manner, as LLaMA-2's.

Training is Hugging Face's ``tokenizers``; it is deterministic once the alphabet is given (see ``_texts``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from lmgraft.artifacts.tokenizer import library_threads
from lmgraft.errors import Fault
from lmgraft.vocabulary import learnable
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from lmgraft_subword import _pieces
from lmgraft_subword._pieces import SPACE
from lmgraft_subword._texts import Sample, covering
from lmgraft_subword.plugin import BPEConfig

__all__ = ["BPE"]

#: A noncharacter: stands in the sample for characters outside the alphabet, and is taken out with the words' borders.
_BORDER = "\ufffe"


class BPE:
    """Satisfies :class:`lmgraft.seams.tokenizer.Tokenizer`.

    Ids: unknown 0, end 1, padding 2, further special tokens, 256 bytes, the alphabet, then pieces as they were learnt.

    The file has LLaMA-2's shape: spaces become U+2581, and nothing splits text before the merges. No space is put
    before a text, and none is stripped: so every text is given back exactly (but for U+2581 itself, which becomes a
    space), and texts encoded one by one are joined without a trace. Merges are all pairs of pieces that make a piece,
    by the piece's id, as SentencePiece and llama.cpp merge: they give the same ids.
    """

    def __init__(self, config: BPEConfig) -> None:
        self.config = config
        self._tokenizer: Tokenizer | None = None

    def train(self, texts: Iterable[str]) -> None:
        """Learns the vocabulary; ``vocab_size`` is an upper bound where ``texts`` hold too few pairs.

        Raises :class:`~lmgraft.errors.UserError` for text that nothing can be learnt from
        (:func:`lmgraft.vocabulary.learnable`), and for an alphabet larger than the vocabulary.
        """
        config, fixed = self.config, _pieces.set_pieces(self.config)
        with Sample(learnable(texts, "bpe")) as sample:
            characters = covering(sample.characters, config.coverage)
            alphabet = _pieces.alphabet(characters)
            remedy = "a smaller coverage" + (" (0.99)" if config.coverage > 0.99 else "")
            _pieces.refuse_small("bpe", config, len(fixed), len(alphabet), remedy)
            learnt = _learn(sample, config, alphabet, config.vocab_size - len(fixed))
        self._tokenizer = _built(config, fixed, learnt)

    def save(self, folder: Path) -> None:
        """Writes ``tokenizer.json`` and ``tokenizer_config.json``, as ``transformers.AutoTokenizer`` reads them."""
        if self._tokenizer is None:
            raise Fault("bpe: save was called before train")
        _pieces.write(self._tokenizer, self.config, folder)


def _learn(sample: Sample, config: BPEConfig, alphabet: list[str], size: int) -> list[str]:
    """Pieces in the order in which they were learnt, the alphabet first."""
    raw = [" " if piece == SPACE else piece for piece in alphabet]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_BORDER, behavior="removed"),
            pre_tokenizers.Split(Regex(_pieces.words(config.split_digits)), behavior="isolated"),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=config.min_frequency,
        max_token_length=config.max_piece_length,
        initial_alphabet=raw,
        limit_alphabet=len(raw),
        show_progress=False,
    )
    with library_threads():
        tokenizer.train_from_iterator(_bordered(sample, set(raw)), trainer)
    found = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    return [piece.replace(" ", SPACE) for piece, _ in found]


def _bordered(sample: Sample, known: set[str]) -> Iterator[str]:
    """The sample with a border for every character outside the alphabet: no piece reaches over one."""
    others = str.maketrans(dict.fromkeys(set(sample.characters) - known, _BORDER))
    return (text.translate(others) for text in sample) if others else iter(sample)


def _built(config: BPEConfig, fixed: list[str], learnt: list[str]) -> Tokenizer:
    vocabulary = {piece: index for index, piece in enumerate([*fixed, *learnt])}
    own = {piece: vocabulary[piece] for piece in learnt}
    model = models.BPE(
        vocab=vocabulary,
        merges=[merge for piece in learnt for merge in _merges(piece, own)],
        unk_token=config.unknown_token,
        fuse_unk=True,
        byte_fallback=config.byte_fallback,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.decoder = _pieces.decoder(config.byte_fallback)
    _pieces.add_special(tokenizer, fixed[: 3 + len(config.special_tokens)])
    return tokenizer


def _merges(piece: str, own: dict[str, int]) -> list[tuple[str, str]]:
    """The pairs of learnt pieces that make ``piece``, lowest ids first. None makes a special token or a byte."""
    pairs = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
    return sorted((pair for pair in pairs if pair[0] in own and pair[1] in own), key=lambda p: (own[p[0]], own[p[1]]))
