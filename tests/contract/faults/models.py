"""Faults of tokenizers and architectures."""

from __future__ import annotations

from faults.fault import Fault, light

__all__ = ["FAULTS"]

# --- tokenizers ---------------------------------------------------------------------------------------------------

TRAINED = """\
import hashlib
import json

from lmgraft.artifacts.tokenizer import CONFIG, FILE, library_threads
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

END, PAD = "<|end|>", "<|pad|>"


class Part:
    def __init__(self, config):
        self.vocab_size = config.vocab_size
        self.tokenizer = Tokenizer(models.BPE())
        self.tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        self.tokenizer.decoder = decoders.ByteLevel()

    def train(self, texts):
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            special_tokens=[END, PAD],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        with library_threads():
            self.tokenizer.train_from_iterator(texts, trainer)

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(str(folder / FILE))
        named = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "pad_token": PAD}
        (folder / CONFIG).write_text(json.dumps(named), encoding="utf-8")
"""

SIZE = '''
vocab_size: int = 300
"""Tokens at most, two special ones among them."""
'''

NOT_ROUND = Fault(
    name="not-round",
    seam="tokenizer",
    files={"plugin.py": light("tokenizer", "Byte-level BPE", SIZE), "part.py": TRAINED},
    slips=(
        ("decoders, models, pre_tokenizers", "decoders, models, normalizers, pre_tokenizers"),
        (
            "self.tokenizer.decoder = decoders.ByteLevel()",
            "self.tokenizer.decoder = decoders.ByteLevel()\n        self.tokenizer.normalizer = normalizers.NFKC()",
        ),
    ),
    check="test_round_trip",
    says=("not_round", "normal"),
)

#: What the part's own reader gives: a tokenizer that names itself.
READER = """

    def load(self, folder):
        return Ready(Tokenizer.from_file(str(folder / FILE)))


class Ready:
    chat_template = None

    def __init__(self, tokenizer):
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer
        self.vocab_size = tokenizer.get_vocab_size()
        self.end_id = tokenizer.token_to_id(END)
        self.pad_id = tokenizer.token_to_id(PAD)

    def encode_batch(self, texts):
        encoded = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encoded]

    def decode(self, ids, *, skip_special=False):
        return self.tokenizer.decode(list(ids), skip_special_tokens=skip_special)

    def token_bytes(self):
        pieces = [self.tokenizer.id_to_token(index) for index in range(self.vocab_size)]
        return [0 if piece in (END, PAD) else len(piece) for piece in pieces]

    def fingerprint(self):
        meaning = json.loads(self.tokenizer.to_str())
        return hashlib.sha256(json.dumps(meaning, sort_keys=True).encode()).hexdigest()
"""

#: Two vocabularies of one size have one fingerprint: cached ids of the one are then taken for the other's.
FROZEN_FINGERPRINT = Fault(
    name="frozen-fingerprint",
    seam="tokenizer",
    files={"plugin.py": light("tokenizer", "Byte-level BPE", SIZE), "part.py": TRAINED + READER.removeprefix("\n")},
    slips=(
        (
            "meaning = json.loads(self.tokenizer.to_str())",
            'meaning = {"kind": "byte-level BPE", "size": self.vocab_size, "end": END, "pad": PAD}',
        ),
    ),
    check="test_fingerprint_follows_the_vocabulary",
    says=("frozen_fingerprint", "fingerprint", "vocabular"),
)

# --- architectures ------------------------------------------------------------------------------------------------

LIGHT_MODEL = '''\
from __future__ import annotations

from dataclasses import dataclass

from lmgraft.component import Component, ComponentConfig
from lmgraft.hookspecs import hookimpl


@dataclass
class Config(ComponentConfig):
    hidden: int = 16
    """Width of the model."""
    context: int = 64
    """The longest sequence: positions have a table."""

    def provides(self) -> frozenset[str]:
        return frozenset({"norm"})

    @classmethod
    def from_hub(cls, config):
        if config.get("model_type") != "PACKAGE":
            return None
        return cls(hidden=config["hidden_size"], context=config["max_position_embeddings"])


@hookimpl
def lmgraft_architecture() -> list[Component]:
    summary = "One layer of attention between two tables"
    return [Component(name="PACKAGE", target="PACKAGE.part:Part", config=Config, summary=summary)]
'''

MODEL = """\
import torch
from lmgraft.seams.architecture import Role, TensorRole
from lmgraft.training import asks as positionwise
from torch import nn

ROLES = {
    "tokens.weight": TensorRole(Role.EMBEDDING),
    "places.weight": TensorRole(Role.POSITION),
    "query.weight": TensorRole(Role.QUERY, 0),
    "key.weight": TensorRole(Role.KEY, 0),
    "value.weight": TensorRole(Role.VALUE, 0),
    "mixed.weight": TensorRole(Role.ATTENTION_OUT, 0),
    "norm.weight": TensorRole(Role.NORM),
    "norm.bias": TensorRole(Role.BIAS),
    "head.weight": TensorRole(Role.HEAD),
}


class Part:
    def __init__(self, config):
        self.config = config

    def build(self, vocab_size, device="meta"):
        with torch.device(device):
            return Model(vocab_size, self.config.hidden, self.config.context)

    def role(self, name):
        return ROLES.get(name, TensorRole(Role.OTHER))

    def flops(self, seq_len, vocab_size=0):
        hidden = self.config.hidden
        return 6.0 * (4 * hidden * hidden + vocab_size * hidden) + 12.0 * hidden * seq_len

    def context(self):
        return self.config.context

    def hub_config(self, vocab_size):
        return {
            "model_type": "PACKAGE",
            "architectures": ["Model"],
            "vocab_size": vocab_size,
            "hidden_size": self.config.hidden,
            "max_position_embeddings": self.config.context,
        }

    def spec(self):
        return None


class Model(nn.Module):
    def __init__(self, vocab_size, hidden, context):
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, hidden)
        self.places = nn.Embedding(context, hidden)
        self.query, self.key, self.value, self.mixed = (nn.Linear(hidden, hidden, bias=False) for _ in range(4))
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, vocab_size, bias=False)

    def forward(self, tokens, positions=None, segments=None, targets=None, asks=(), cache=None):
        past = 0 if cache is None else cache[0].shape[1]
        if positions is None:
            positions = torch.arange(past, past + tokens.shape[1], device=tokens.device)
        if segments is None:
            segments = torch.zeros_like(tokens) if cache is None else cache[2][:, -1:].expand_as(tokens)
        x = self.tokens(tokens) + self.places(positions.clamp_min(0))
        keys, values, known = self.key(x), self.value(x), segments
        if cache is not None:
            keys, values, known = (torch.cat(pair, 1) for pair in zip(cache, (keys, values, known)))
        x = self.norm(x + self.mixed(self._attend(self.query(x), keys, values, segments, known, past)))
        out = positionwise.compute(x, self.head.weight, targets, frozenset(asks) - {"next_logits"})
        if "next_logits" in asks:
            out.next_logits = self.head(x[:, -1]).float()
            out.cache = (keys, values, known)
        return out

    def _attend(self, query, keys, values, segments, known, past):
        seen = torch.ones(query.shape[1], keys.shape[1], dtype=torch.bool, device=query.device).tril(past)
        seen = seen & (segments[:, :, None] == known[:, None, :])
        scores = query @ keys.transpose(1, 2) / query.shape[-1] ** 0.5
        return torch.softmax(scores.masked_fill(~seen, float("-inf")), -1) @ values
"""

#: The mask's diagonal is one too high: every position sees the token that it predicts.
LOOKS_AHEAD = Fault(
    name="looks-ahead",
    seam="architecture",
    files={"plugin.py": LIGHT_MODEL, "part.py": MODEL},
    slips=((".tril(past)", ".tril(past + 1)"),),
    check="test_causality",
    says=("looks_ahead", "later", "mask"),
)

#: The mask is aligned at its top left: with a cache, a new token sees the first one alone.
OTHER_CACHE = Fault(
    name="other-cache",
    seam="architecture",
    files={"plugin.py": LIGHT_MODEL, "part.py": MODEL},
    slips=((".tril(past)", ".tril()"),),
    check="test_cache_equals_no_cache",
    says=("other_cache", "cache"),
)

FAULTS = [NOT_ROUND, FROZEN_FINGERPRINT, LOOKS_AHEAD, OTHER_CACHE]
