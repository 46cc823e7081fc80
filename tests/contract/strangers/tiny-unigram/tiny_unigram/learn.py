"""Learning and saving."""

import json
import math
from collections import Counter

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tiny_unigram import BYTES, SPECIAL


class TinyUnigram:
    def __init__(self, config):
        self.config = config
        self.pieces = None

    def train(self, texts):
        split = splitter()
        words = Counter()
        for text in texts:
            words.update(word for word, _ in split.pre_tokenize_str(text))
        counts = substrings(words, self.config.longest)
        singles = sorted(pre_tokenizers.ByteLevel.alphabet())
        assert len(singles) == BYTES
        special = {self.config.end, self.config.pad}
        # What a piece saves: the ids that it makes one of. Ties fall by the piece itself.
        longer = sorted(
            (
                piece
                for piece, n in counts.items()
                if len(piece) > 1 and n >= self.config.at_least and piece not in special
            ),
            key=lambda piece: (-counts[piece] * (len(piece) - 1), piece),
        )
        chosen = singles + longer[: self.config.entries - BYTES - SPECIAL]
        # Half a count for what never occurred: any byte can be written.
        total = sum(max(counts[piece], 0.5) for piece in chosen)
        self.pieces = [(piece, math.log(max(counts[piece], 0.5) / total)) for piece in chosen]

    def save(self, folder):
        tokenizer = Tokenizer(models.Unigram(self.pieces))
        tokenizer.pre_tokenizer = splitter()
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens(
            [AddedToken(token, special=True, normalized=False) for token in (self.config.end, self.config.pad)]
        )
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(str(folder / "tokenizer.json"))
        names = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": self.config.end,
            "pad_token": self.config.pad,
        }
        (folder / "tokenizer_config.json").write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")


def splitter():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def substrings(words, longest):
    counts = Counter()
    for word, n in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(start + longest, len(word)) + 1):
                counts[word[start:end]] += n
    return counts
