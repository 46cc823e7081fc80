"""Byte-level BPE (Sennrich et al. 2016, arXiv 1508.07909; bytes and the first pattern: GPT-2, Radford et al. 2019).

Training is Hugging Face's ``tokenizers``. It is deterministic: words are counted first, pairs of equal count are merged
lowest ids first, and threads only share out the counting.

The files have the shape in which GPT-2, LLaMA-3 and Qwen-2 ship theirs, so converters recognise the pattern. Three
things differ. Nothing is normalised (Qwen-2's file has NFC, which would not give every text back; llama.cpp normalises
nothing for it either). No begin token is added by a post-processor: core puts the end token where documents end. And
special tokens have the lowest ids.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lmgraft.artifacts.tokenizer import CONFIG, FILE, library_threads
from lmgraft.errors import Fault
from lmgraft.vocabulary import learnable, tokenizer_config
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from lmgraft_byte_bpe.plugin import ByteBPEConfig, Pattern

__all__ = ["ByteBPE", "splitter"]

#: As they stand in the models' tokenizer.json. GPT-2's is built into the library's ByteLevel.
REGEXES = {
    Pattern.llama3: (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    Pattern.qwen2: (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}


def splitter(pattern: Pattern) -> Any:
    """The pre-tokenizer of ``pattern``, in the shape in which its model ships it."""
    if pattern is Pattern.gpt2:
        return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    split = pre_tokenizers.Split(Regex(REGEXES[pattern]), behavior="isolated", invert=False)
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


class ByteBPE:
    """Satisfies :class:`lmgraft.seams.tokenizer.Tokenizer`.

    Every byte is a token, so every string is encoded without an unknown token and decoded exactly. Ids: the end token
    0, the padding token 1, further special tokens, the 256 bytes, then the merges in the order in which they were
    learnt.

    With LLaMA-3's pattern a word that is a token is never built up from merges (``ignore_merges``), as LLaMA-3 has it
    and llama.cpp takes for granted.
    """

    def __init__(self, config: ByteBPEConfig) -> None:
        self.config = config
        self._tokenizer: Tokenizer | None = None

    def train(self, texts: Iterable[str]) -> None:
        """Learns the vocabulary; ``vocab_size`` is an upper bound where ``texts`` hold too few pairs.

        Raises :class:`~lmgraft.errors.UserError` for text that nothing can be learnt from
        (:func:`lmgraft.vocabulary.learnable`).
        """
        tokenizer = Tokenizer(models.BPE(ignore_merges=self.config.pattern is Pattern.llama3))
        tokenizer.pre_tokenizer = splitter(self.config.pattern)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.config.vocab_size,
            min_frequency=self.config.min_frequency,
            max_token_length=self.config.max_token_length,
            special_tokens=[self.config.end_token, self.config.pad_token, *self.config.special_tokens],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        with library_threads():
            tokenizer.train_from_iterator(learnable(texts, "byte_bpe"), trainer)
        self._tokenizer = tokenizer

    def save(self, folder: Path) -> None:
        """Writes ``tokenizer.json`` and ``tokenizer_config.json``, as ``transformers.AutoTokenizer`` reads them."""
        if self._tokenizer is None:
            raise Fault("byte_bpe: save was called before train")
        folder.mkdir(parents=True, exist_ok=True)
        self._tokenizer.save(str(folder / FILE))
        settings = self.config
        more = {"additional_special_tokens": list(settings.special_tokens)} if settings.special_tokens else {}
        config = tokenizer_config(
            settings.end_token, settings.pad_token, more=more, chat_template=settings.chat_template
        )
        (folder / CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
