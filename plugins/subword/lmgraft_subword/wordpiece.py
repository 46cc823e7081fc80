"""WordPiece (Schuster and Nakajima 2012; Wu et al. 2016, arXiv 1609.08144) as in BERT (Devlin et al. 2019, arXiv
1810.04805).

Training is Hugging Face's ``tokenizers``, which learns the pieces by BPE's merges, as all open trainers of WordPiece
do (Google's own, by likelihood, was never published). The library numbers the pieces of single characters within words
in the order of a hash table and breaks ties by these numbers, so it gives another vocabulary in every process; here
they are numbered beforehand, which makes it deterministic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lmgraft.artifacts.tokenizer import library_threads
from lmgraft.errors import Fault, Problem, UserError
from lmgraft.vocabulary import learnable
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from lmgraft_subword import _pieces
from lmgraft_subword._texts import Sample, most_frequent
from lmgraft_subword.plugin import WordPieceConfig

__all__ = ["WordPiece"]

WITHIN = "##"


class WordPiece:
    """Satisfies :class:`lmgraft.seams.tokenizer.Tokenizer`. It is lossy: white space, and whatever is unknown.

    A text is normalised and split as BERT splits it (at white space and around every punctuation mark); each word is
    cut into the longest pieces that fit, from its left, and pieces within a word begin with ``##``. A word that cannot
    be cut, or that is longer than ``max_word_length``, becomes the unknown token as a whole. Decoding joins words by
    spaces, without one before ``. ? ! ,``.

    Ids: padding 0, unknown 1, end 2, further special tokens, characters, characters within words, then pieces as they
    were learnt. Unlike BERT's file this one adds no [CLS] and no [SEP] around a text: core ends documents itself.
    """

    def __init__(self, config: WordPieceConfig) -> None:
        self.config = config
        self._tokenizer: Tokenizer | None = None

    def train(self, texts: Iterable[str]) -> None:
        """Learns the vocabulary; ``vocab_size`` is an upper bound where ``texts`` hold too few pairs.

        Raises :class:`~lmgraft.errors.UserError` for text that nothing can be learnt from
        (:func:`lmgraft.vocabulary.learnable`), and for an alphabet larger than the vocabulary.
        """
        config = self.config
        normalizer, splitter = _normalizer(config), pre_tokenizers.BertPreTokenizer()
        special = [config.pad_token, config.unknown_token, config.end_token, *config.special_tokens]
        with Sample(learnable(texts, "wordpiece")) as sample:
            becomes = {raw: _becomes(raw, normalizer) for raw in sample.characters}
            alphabet = sorted(most_frequent(_normalised(sample.characters, becomes))[: config.alphabet])
            if not alphabet:
                fact, cause = "tokenizer wordpiece: there is no word to learn from", "the sample holds white space only"
                raise UserError(Problem(fact, cause, "give the corpus text"))
            within = [WITHIN + letter for letter in alphabet if not _stands_alone(letter, normalizer, splitter)]
            remedy = "a smaller alphabet (every character may stand alone and within a word)"
            _pieces.refuse_small("wordpiece", config, len(special), len(alphabet) + len(within), remedy)
            tokenizer = Tokenizer(models.WordPiece(unk_token=config.unknown_token))
            tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
            trainer = trainers.WordPieceTrainer(
                vocab_size=config.vocab_size,
                min_frequency=config.min_frequency,
                special_tokens=[*special, *alphabet, *within],  # what stands here gets the first ids, in this order
                initial_alphabet=alphabet,
                limit_alphabet=len(alphabet),
                continuing_subword_prefix=WITHIN,
                show_progress=False,
            )
            with library_threads():
                tokenizer.train_from_iterator(_spelled(sample, becomes, set(alphabet)), trainer)
        self._tokenizer = _built(config, special, tokenizer.get_vocab(with_added_tokens=False))

    def save(self, folder: Path) -> None:
        """Writes ``tokenizer.json`` and ``tokenizer_config.json``, as ``transformers.AutoTokenizer`` reads them."""
        if self._tokenizer is None:
            raise Fault("wordpiece: save was called before train")
        known = {"cls_token": "[CLS]", "mask_token": "[MASK]"}
        more = {key: token for key, token in known.items() if token in self.config.special_tokens}
        _pieces.write(self._tokenizer, self.config, folder, {"sep_token": self.config.end_token, **more})


def _built(config: WordPieceConfig, special: list[str], vocabulary: dict[str, int]) -> Tokenizer:
    model = models.WordPiece(
        vocab=dict(sorted(vocabulary.items(), key=lambda item: item[1])),
        unk_token=config.unknown_token,
        max_input_chars_per_word=config.max_word_length,
        continuing_subword_prefix=WITHIN,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer = _normalizer(config), pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=WITHIN, cleanup=True)
    _pieces.add_special(tokenizer, special)
    return tokenizer


def _normalizer(config: WordPieceConfig) -> Any:
    return normalizers.BertNormalizer(
        clean_text=config.clean,
        handle_chinese_chars=config.split_chinese,
        strip_accents=config.strip_accents,
        lowercase=config.lowercase,
    )


def _becomes(raw: str, normalizer: Any) -> str:
    """What normalising makes of one character, without white space; BERT's works character by character."""
    return "".join(normalizer.normalize_str(raw).split())


def _normalised(characters: Counter[str], becomes: dict[str, str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for raw, count in characters.items():
        for character in becomes[raw]:
            found[character] += count
    return found


def _stands_alone(letter: str, normalizer: Any, splitter: Any) -> bool:
    """Is it a word by itself wherever it stands (punctuation, a Chinese character)?"""
    found = splitter.pre_tokenize_str(normalizer.normalize_str(f"a{letter}a"))
    return len(found) > 1


def _spelled(sample: Sample, becomes: dict[str, str], alphabet: set[str]) -> Iterator[str]:
    """The sample with a space for every character outside the alphabet: it would be left out of its word otherwise."""
    others = str.maketrans({raw: " " for raw, spelt in becomes.items() if not alphabet.issuperset(spelt)})
    return (text.translate(others) for text in sample) if others else iter(sample)
