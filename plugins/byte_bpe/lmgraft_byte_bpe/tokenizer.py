"""Byte-level BPE (Sennrich et al. 2016, arXiv 1508.07909; bytes and the split pattern: GPT-2, Radford et al. 2019).

Training is Hugging Face's ``tokenizers``. It is deterministic: words are counted first, pairs of equal count are merged
lowest ids first, and threads only share out the counting.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from lmgraft.artifacts.tokenizer import CONFIG, FILE, library_threads
from lmgraft.errors import Fault
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from lmgraft_byte_bpe.plugin import ByteBPEConfig, Pattern

__all__ = ["ByteBPE"]

SPLITTERS = {
    # The pattern itself is built into the library's ByteLevel.
    Pattern.gpt2: lambda: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
}


class ByteBPE:
    """Satisfies :class:`lmgraft.seams.tokenizer.Tokenizer`.

    Every byte is a token, so every string is encoded without an unknown token and decoded exactly. Ids: the end token
    0, the padding token 1, the 256 bytes, then the merges in the order in which they were learnt.
    """

    def __init__(self, config: ByteBPEConfig) -> None:
        self.config = config
        self._tokenizer: Tokenizer | None = None

    def train(self, texts: Iterable[str]) -> None:
        """Learns the vocabulary; ``vocab_size`` is an upper bound where ``texts`` hold too few pairs."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = SPLITTERS[self.config.pattern]()
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.config.vocab_size,
            min_frequency=self.config.min_frequency,
            special_tokens=[self.config.end_token, self.config.pad_token],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        with library_threads():
            tokenizer.train_from_iterator(texts, trainer)
        self._tokenizer = tokenizer

    def save(self, folder: Path) -> None:
        """Writes ``tokenizer.json`` and ``tokenizer_config.json``, as ``transformers.AutoTokenizer`` reads them."""
        if self._tokenizer is None:
            raise Fault("byte_bpe: save was called before train")
        folder.mkdir(parents=True, exist_ok=True)
        self._tokenizer.save(str(folder / FILE))
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": self.config.end_token,
            "eos_token": self.config.end_token,
            "pad_token": self.config.pad_token,
            "clean_up_tokenization_spaces": False,
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
