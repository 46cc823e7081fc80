"""What the suite of tokenizers asks about, and how core takes a tokenizer from texts to a loaded folder."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from lmgraft.component import Component, ComponentConfig
from lmgraft.seams.tokenizer import ExtendingTokenizer, TextTokenizer
from lmgraft.testing.common import PartSuite
from lmgraft.testing.inputs import NASTY, byte_tokenizer, texts

__all__ = ["TokenizerBase", "files_of", "quoted", "saved_files", "special_tokens"]

_MARKS = [chr(code) for code in range(0x0300, 0x0370)]
_PLANES = 17


class TokenizerBase(PartSuite):
    """Texts to learn from and to encode, and how both are done."""

    seam = "tokenizer"
    lossless: ClassVar[bool] = True
    """False for tokenizers that change text: case, white space, unknown characters."""

    def training(self) -> list[str]:
        """What it learns from."""
        return texts(240, seed=1)

    def shown(self) -> list[str]:
        """What it encodes: the kit's texts, and strings over all of Unicode."""
        return [*texts(80, seed=2), *NASTY, *_fuzzed(240)]

    def base(self) -> Path | None:
        """For a part with ``extend``: the folder of the tokenizer that it extends, by default one of bytes. None has it
        trained instead."""
        byte_tokenizer(self.folder / "base")
        return self.folder / "base"

    def behaviour(self, part: Any) -> Any:
        loaded = self._saved(part, self.training(), "behaviour")
        return {"ids": loaded.encode_batch(self.shown()), "fingerprint": loaded.fingerprint()}

    def _base_of(self, part: Any) -> Path | None:
        return self.base() if isinstance(part, ExtendingTokenizer) else None

    def _trained(self, name: str = "saved") -> TextTokenizer:
        return self._saved(self.build(), self.training(), name)

    def _saved(self, part: Any, learnt: Sequence[str], name: str) -> TextTokenizer:
        """Trains, saves and loads as the tokenizer stage does; the texts come once, as an iterator."""
        from lmgraft.artifacts import tokenizer as saved

        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        _learn(part, learnt, self._base_of(part))
        saved.save(part, self.installed.component, folder)
        return saved.load(folder)

    def _round(self, loaded: TextTokenizer, text: str) -> str:
        """Where text may be lost, the token for what is unknown is left out: its name would be encoded as text."""
        return loaded.decode(loaded.encode_batch([text])[0], skip_special=not self.lossless)


def _learn(part: Any, learnt: Iterable[str], base: Path | None) -> None:
    if base is None:
        part.train(iter(learnt))
    else:
        part.extend(base, iter(learnt))


def saved_files(
    component: Component[Any], config: ComponentConfig, learnt: list[str], base: Path | None, folder: Path
) -> dict[str, bytes]:
    """What a build of the part saves to the empty ``folder`` after learning; called in a process of its own."""
    from lmgraft.artifacts import tokenizer as saved
    from lmgraft.registry import build

    part = build(component, config)
    _learn(part, learnt, base)
    saved.save(part, component, folder)
    return files_of(folder)


def files_of(folder: Path) -> dict[str, bytes]:
    """Name -> content of every file below ``folder``."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def special_tokens(folder: Path) -> dict[str, int | None]:
    """The special tokens of a saved tokenizer as they are written, with their ids where ``tokenizer.json`` names them.
    The one for unknown text is not among them: text that spells it may well be unknown."""
    from lmgraft.artifacts import tokenizer as saved

    config = json.loads((folder / saved.CONFIG).read_text(encoding="utf-8"))
    added = json.loads((folder / saved.FILE).read_text(encoding="utf-8")).get("added_tokens") or []
    found: dict[str, int | None] = {_content(config[key]): None for key in ("eos_token", "pad_token")}
    found |= {token["content"]: token["id"] for token in added if isinstance(token, dict) and token.get("special")}
    found.pop(_content(config.get("unk_token")), None)
    return found


def _content(token: Any) -> Any:
    return token["content"] if isinstance(token, dict) else token


def _fuzzed(count: int, seed: int = 0) -> list[str]:
    """Short strings over all planes of Unicode without surrogates, combining marks alone and in runs among them."""
    rng = random.Random(seed)
    found = []
    for number in range(count):
        plane = number % _PLANES
        codes = [rng.randrange(plane << 16, (plane + 1) << 16) for _ in range(rng.randint(1, 8))]
        letters = [chr(code) for code in codes if not 0xD800 <= code < 0xE000]
        if number % 3 == 0:
            letters = [*rng.choices(_MARKS, k=rng.randint(1, 4)), *letters, rng.choice(_MARKS)]
        if number % 5 == 0:
            letters += rng.choices(" \t\n\r\x00\x1f\x7f\x85\xa0\u200d\ufeff\ufffd", k=3)
        found.append("".join(letters) or chr(number))
    return found


def quoted(text: str) -> str:
    """A text in a message: escaped, so that marks and white space are seen."""
    shown = ascii(text)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
