"""SentencePiece's unigram language model (Kudo 2018, arXiv 1804.10959) as a ``tokenizer.json``.

Training is this plugin's own, for the reason that ``_unigram_training`` gives; encoding is Hugging Face's ``Unigram``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from lmgraft.errors import Fault
from lmgraft.vocabulary import learnable
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from lmgraft_subword import _pieces, _words
from lmgraft_subword._pieces import SPACE
from lmgraft_subword._texts import covering
from lmgraft_subword._unigram_training import Settings, learn
from lmgraft_subword.plugin import UnigramConfig

__all__ = ["Unigram"]


class Unigram:
    """Satisfies :class:`lmgraft.seams.tokenizer.Tokenizer`.

    A text is split into words (the pattern of ``_pieces.words``) and each word is cut into the pieces whose scores add
    up highest. Nothing is normalised and no space is put before a text, so every text is given back exactly but for
    U+2581 itself, which becomes a space. Splitting words first keeps a text that spells a special token or a byte's
    piece (``<0x41>``) from being taken for it: the library's model would match them.

    Ids: unknown 0, end 1, padding 2, further special tokens, 256 bytes, then pieces by falling score.
    """

    def __init__(self, config: UnigramConfig) -> None:
        self.config = config
        self._tokenizer: Tokenizer | None = None

    def train(self, texts: Iterable[str]) -> None:
        """Learns the vocabulary; ``vocab_size`` is an upper bound where ``texts`` hold too few strings twice.

        Raises :class:`~lmgraft.errors.UserError` for text that nothing can be learnt from
        (:func:`lmgraft.vocabulary.learnable`), and for an alphabet larger than the vocabulary.
        """
        config, fixed = self.config, _pieces.set_pieces(self.config)
        counted = _words.count(learnable(texts, "unigram"), _pieces.words(config.split_digits), config.max_characters)
        characters: Counter[str] = Counter()
        for word, times in counted.items():
            for character in word:
                characters[character] += times
        del characters[SPACE]
        alphabet = sorted(covering(characters, config.coverage))
        _pieces.refuse_small("unigram", config, len(fixed), len(alphabet), "a smaller coverage (0.99)")
        words = _words.numbered(counted, alphabet)
        settings = Settings(
            pieces=config.vocab_size - len(fixed),
            longest=config.max_piece_length,
            seeds=config.seed_pieces,
            shrink=config.shrink,
            sub_iterations=config.sub_iterations,
        )
        spelt = [SPACE if character == " " else character for character in alphabet]
        learnt = [
            ("".join(spelt[code] for code in words.codes[at : at + size]), float(score))
            for at, size, score in zip(*learn(words, len(alphabet), settings), strict=True)
        ]
        self._tokenizer = _built(config, fixed, learnt)

    def save(self, folder: Path) -> None:
        """Writes ``tokenizer.json`` and ``tokenizer_config.json``, as ``transformers.AutoTokenizer`` reads them."""
        if self._tokenizer is None:
            raise Fault("unigram: save was called before train")
        _pieces.write(self._tokenizer, self.config, folder)


def _built(config: UnigramConfig, fixed: list[str], learnt: list[tuple[str, float]]) -> Tokenizer:
    vocabulary = [*((piece, 0.0) for piece in fixed), *learnt]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=config.byte_fallback))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_pieces.words(config.split_digits)), behavior="isolated"),
            pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="never", split=False),
        ]
    )
    tokenizer.decoder = _pieces.decoder(config.byte_fallback)
    _pieces.add_special(tokenizer, fixed[: 3 + len(config.special_tokens)])
    return tokenizer
