"""Small tokenizers of every kind, trained here in a moment and saved as tokenizer.json."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

__all__ = ["TEXTS", "byte_level", "sentence_piece", "unigram", "word_piece"]

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "it",
    "rains",
    "in",
    "old",
    "age",
]
TEXTS = [" ".join(WORDS[(n * 7 + place * place) % len(WORDS)] for place in range(30)) for n in range(200)]


def byte_level(file: Path, size: int = 360) -> Path:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|end|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    return _trained(tokenizer, trainer, file)


def sentence_piece(file: Path) -> Path:
    """As LLaMA's: BPE over ▁, bytes for what is not in the vocabulary."""
    alphabet = sorted({character for text in TEXTS for character in text.replace(" ", "▁")} | {"▁"})
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *alphabet]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("o", "x"), ("▁", "f")]
    vocabulary = {piece: place for place, piece in enumerate(dict.fromkeys([*pieces, *map("".join, merges)]))}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.save(str(file))
    return file


def word_piece(file: Path) -> Path:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[UNK]", "[PAD]", "[SEP]"]
    return _trained(
        tokenizer, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False), file
    )


def unigram(file: Path) -> Path:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=["<unk>", "<pad>"], unk_token="<unk>", initial_alphabet=list("12⁄"),
        show_progress=False,
    )  # fmt: skip
    return _trained(tokenizer, trainer, file)


def _trained(tokenizer: Tokenizer, trainer: object, file: Path) -> Path:
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.save(str(file))
    return file
