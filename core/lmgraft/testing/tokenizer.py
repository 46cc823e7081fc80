"""The suite of seam ``tokenizer``: trained on the kit's texts, saved, and read as every later stage reads it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path
from typing import Any

from lmgraft.seams.tokenizer import ExtendingTokenizer, first_id
from lmgraft.testing._tokenizer_base import TokenizerBase, files_of, quoted, special_tokens
from lmgraft.testing._vocabularies import remapped
from lmgraft.testing.elsewhere import Failed, elsewhere
from lmgraft.testing.outcome import NotApplicable

__all__ = ["TokenizerSuite"]

# A rank or a later run reads the folder anew; hash randomisation makes the order of sets another one there.
_ELSEWHERE = """
import json, sys
from pathlib import Path
from lmgraft.artifacts import tokenizer
loaded = tokenizer.load(Path(sys.argv[1]))
shown = json.loads(Path(sys.argv[2]).read_text())
found = {"ids": loaded.encode_batch(shown), "fingerprint": loaded.fingerprint()}
Path(sys.argv[3]).write_text(json.dumps(found))
"""


class TokenizerSuite(TokenizerBase):
    """Holds a tokenizer to the rules of :mod:`lmgraft.seams.tokenizer`.

    It is trained on :meth:`training` and asked about :meth:`shown`; override these where the part is made for one kind
    of text. ``lossless = False`` is for tokenizers that change text (case, unknown characters): what they decode must
    then stay as it is when it is encoded again.
    """

    # --- checks -----------------------------------------------------------------------------------------------------

    def test_round_trip(self) -> None:
        """what is encoded decodes to the same text, all of Unicode; or, if not lossless, to a text that stays so"""
        loaded = self._trained()
        for text in self.shown():
            back = self._round(loaded, text)
            if not self.lossless:
                again = self._round(loaded, back)
                self.require(
                    again == back,
                    f"{self.name} changes a text again each time it is encoded and decoded",
                    f"{quoted(text)} becomes {quoted(back)}, and that becomes {quoted(again)}",
                    "let decode give what encode_batch reads: what normalising did once it must not do again",
                )
                continue
            self.require(
                back == text,
                f"{self.name} does not round-trip",
                _first_difference(text, back),
                "encode bytes and normalise nothing (no NFC or NFKC, lower-casing, stripping, added prefix space); "
                "where losing that is what it is for, lossless = False in the suite",
            )

    def test_fingerprint_follows_the_vocabulary(self) -> None:
        """another vocabulary has another fingerprint, the same one the same"""
        first, again = self._trained("first"), self._trained("again")
        self.require(
            first.fingerprint() == again.fingerprint(),
            f"{self.name} gives one vocabulary two fingerprints",
            f"{first.fingerprint()} and {again.fingerprint()}, trained on the same texts",
            "digest what decides ids and nothing else: no clock, no path, no order of a set",
        )
        shown = [*self.shown(), *map(_foreign, self.training()[:20])]
        told = first.encode_batch(shown)
        other = self._saved(self.build(), [_foreign(text) for text in self.training()], "other")
        differing = {"two trainings on other texts": other, **remapped(self.folder / "first", self.folder, told)}
        seen = 0
        for how, tokenizer in differing.items():
            if tokenizer.encode_batch(shown) == told:
                continue
            seen += 1
            self.require(
                tokenizer.fingerprint() != first.fingerprint(),
                f"{self.name} has one fingerprint for two vocabularies",
                f"{how}: the same text has other ids, and the fingerprint is {first.fingerprint()} both times",
                "digest all that decides ids: pieces with their ids, merges, how text is split and normalised. Tokens "
                "and models of the other vocabulary pass for this one's otherwise",
            )
        if not seen:
            raise NotApplicable("it learns nothing, and no file of it holds a vocabulary that the kit can change")

    def test_training_is_deterministic(self) -> None:
        """the same texts in the same order give the same files, in another process too"""
        from lmgraft.testing.suite import disturb_random_numbers

        for number, name in enumerate(("one", "two")):
            disturb_random_numbers(number)
            self._trained(name)
        first, second = (files_of(self.folder / name) for name in ("one", "two"))
        remedy = "break ties (by the pair, by the first place), sort what comes from a set or a dict, leave out times"
        self.require_equal(
            first, second, f"{self.name} saves other bytes when it is trained on the same texts again", remedy
        )
        component, config = self.installed.component, self.compose()
        (self.folder / "three").mkdir()
        asked = (component, config, self.training(), self._base_of(self.build()), self.folder / "three")
        third: dict[str, bytes] = {}
        try:
            third = elsewhere("lmgraft.testing._tokenizer_base:saved_files", *asked)
        except Failed as error:
            fact = f"{self.name} cannot be trained in another process"
            self.require(False, fact, str(error), "let training need the texts and the settings only")
        self.require_equal(
            first,
            third,
            f"{self.name} saves other bytes when it is trained on the same texts in another process",
            remedy,
        )

    def test_ids_are_in_range(self) -> None:
        """ids are whole numbers from 0 to vocab_size - 1, a list for each text"""
        loaded, shown = self._trained(), self.shown()
        size, found = loaded.vocab_size, loaded.encode_batch(shown)
        self.require(
            len(found) == len(shown),
            f"{self.name} encodes {len(shown)} texts into {len(found)} lists of ids",
            "ids are matched to texts by their place",
            "return one list for each text, an empty one for an empty text",
        )
        for text, ids in zip(shown, found, strict=True):
            wrong = [index for index in ids if type(index) is not int or not 0 <= index < size]
            cause = f"{quoted(text)} holds it; vocab_size is {size}" if wrong else ""
            self.require(
                not wrong,
                f"{self.name} gives the id {wrong[0] if wrong else ''!r}",
                cause,
                "ids are ints from 0 to vocab_size - 1, and vocab_size is the highest one plus one, special ones too",
            )
        for name, index in (("end_id", loaded.end_id), ("pad_id", loaded.pad_id), ("first_id", first_id(loaded))):
            remedy = "give special tokens ids of their own below vocab_size"
            self.require(0 <= index < size, f"{self.name}: {name} is {index}", f"vocab_size is {size}", remedy)
        sizes = loaded.token_bytes()
        self.require(
            len(sizes) == size,
            f"{self.name}: token_bytes() has {len(sizes)} entries",
            f"vocab_size is {size}, and each id has its entry",
            "give 0 for special tokens and for ids that are not used",
        )

    def test_special_tokens(self) -> None:
        """the end is not the padding, and a text that spells a special token does not get its id"""
        loaded = self._trained("special")
        end, pad = loaded.end_id, loaded.pad_id
        remedy = "give padding a token of its own: it is masked, so a model could never learn to end"
        self.require(end != pad, f"{self.name} ends and pads with the id {end}", "end_id equals pad_id", remedy)
        special = special_tokens(self.folder / "special")
        named = {end: "of the end", pad: "of padding"}
        named |= {index: f"of {token}" for token, index in special.items() if index not in (None, end, pad)}
        for text in [*special, f"a{''.join(special)}b", *(f" {token} {token}\n" for token in special), *self.shown()]:
            ids = set(loaded.encode_batch([text])[0])
            taken = next((name for index, name in named.items() if index in ids), "")
            self.require(
                not taken,
                f"{self.name} takes text for a special token",
                f"{quoted(text)} has the id {taken}, so a document can end another",
                "keep special tokens out of what text is matched with (encode_special_tokens = True in the "
                "tokenizers library), and let no merge spell them",
            )
        plain = loaded.encode_batch(["one text"])[0]
        left = loaded.decode([*plain, end, pad], skip_special=True)
        self.require(
            left == loaded.decode(plain, skip_special=True),
            f"{self.name} decodes special tokens that it should leave out",
            f"skip_special gives {quoted(left)}",
            "leave the ids of special tokens out of decode where skip_special is true",
        )

    def test_chat_template_is_kept(self) -> None:
        """a chat template that it is given, or that core adds, stands in its files and changes no id"""
        from lmgraft.artifacts import tokenizer as saved

        template, plain = "{{ bos_token }}{{ messages[0]['content'] }}", self._trained("plain")
        has = any(field.name == "chat_template" for field in fields(self.installed.component.config))
        if has:
            made = self._saved(self.build(chat_template=template), self.training(), "templated")
        else:
            saved.set_chat_template(self.folder / "plain", template)
            made = saved.load(self.folder / "plain")
        self.require(
            made.chat_template == template,
            f"{self.name} loses its chat template",
            f"given {quoted(template)}, loaded {quoted(str(made.chat_template))}",
            'write lmgraft.chat.source(template) to tokenizer_config.json as "chat_template"',
        )
        self.require(
            made.fingerprint() == plain.fingerprint(),
            f"{self.name} has another fingerprint with a chat template",
            "no id depends on it; tokens would be packed anew for nothing",
            "leave chat_template out of fingerprint()",
        )

    def test_extending_keeps_ids(self) -> None:
        """every id of the tokenizer that it extends keeps its token, and the base's files stay as they were"""
        from lmgraft.artifacts import tokenizer as saved

        part = self.build()
        if not isinstance(part, ExtendingTokenizer):
            raise NotApplicable("it extends no tokenizer: it has no extend")
        base = self.base()
        if base is None:
            raise NotApplicable("the suite's base() is None, so it is trained")
        before, old = files_of(base), saved.load(base)
        new = self._saved(part, self.training(), "extended")
        self.require_equal(
            before,
            files_of(base),
            f"{self.name} changes the base",
            "read the base's folder and write to none but save's",
        )
        self.require(
            new.vocab_size >= old.vocab_size,
            f"{self.name} has {new.vocab_size} tokens, and its base {old.vocab_size}",
            "rows of a model's embedding belong to ids",
            "append tokens after the base's, and leave none out",
        )
        for name, given, found in _of_ids(self.folder / "extended", base, old, new):
            self.require(
                given == found,
                f"{self.name} gives {name} to another token",
                f"it is {quoted(repr(given))} in the base and {quoted(repr(found))} now",
                "keep every id of the base; append new tokens after its highest",
            )

    def test_saved_equals_loaded(self) -> None:
        """a copy of the saved folder, read in another process, gives the same ids and fingerprint"""
        from lmgraft.artifacts import tokenizer as saved

        here, shown = self._trained("made"), self.shown()
        expected = {"ids": here.encode_batch(shown), "fingerprint": here.fingerprint()}
        saved.copy(self.folder / "made", self.folder / "copied")
        shutil.rmtree(self.folder / "made")
        asked, out = self.folder / "shown.json", self.folder / "elsewhere.json"
        asked.write_text(json.dumps(shown), encoding="utf-8")
        env = {**os.environ, "PYTHONHASHSEED": "4242", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-c", _ELSEWHERE, str(self.folder / "copied"), str(asked), str(out)]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        said = done.stderr.strip().splitlines()
        self.require(
            done.returncode == 0,
            f"{self.name} cannot be read from a copy of what it saved, in another process",
            said[-1] if said else f"exit code {done.returncode}",
            "save all that encoding needs below the folder, and name no place in it",
        )
        self.require_equal(
            expected,
            json.loads(out.read_text()),
            f"{self.name} encodes otherwise when it is read in another process",
            "let ids depend on the saved files only: not on hash(), the order of a set or what was trained before",
        )

    def test_batch_size_is_irrelevant(self) -> None:
        """batches of one, of seven, in another order and from several threads give the same ids"""
        loaded, shown = self._trained(), self.shown()
        whole = loaded.encode_batch(shown)

        def in_batches(size: int, of: Sequence[str]) -> list[list[int]]:
            batches = [of[start : start + size] for start in range(0, len(of), size)]
            return [ids for batch in batches for ids in loaded.encode_batch(batch)]

        with ThreadPoolExecutor(4) as pool:
            runs = list(pool.map(lambda _: in_batches(7, shown), range(4)))
        found = {
            "in batches of one": in_batches(1, shown),
            "in batches of seven": in_batches(7, shown),
            "with the batch turned round": loaded.encode_batch(shown[::-1])[::-1],
            "from four threads at once": next((run for run in runs if run != whole), whole),
        }
        for how, ids in found.items():
            self.require_equal(
                whole,
                ids,
                f"{self.name} gives other ids {how}",
                "encode each text by itself and keep nothing between calls that decides ids; core encodes in threads",
            )

    def test_token_bytes(self) -> None:
        """the bytes of a text's ids add up to its UTF-8 bytes"""
        if not self.lossless:
            raise NotApplicable("it changes text, so the bytes of its ids need not be those of the text")
        loaded, shown = self._trained(), self.shown()
        sizes = loaded.token_bytes()
        for text, ids in zip(shown, loaded.encode_batch(shown), strict=True):
            total, size = sum(sizes[index] for index in ids), len(text.encode())
            self.require(
                total == size,
                f"{self.name}: the tokens of {quoted(text)} have {total} bytes",
                f"the text has {size}; bits per byte would be wrong by {total / max(1, size) - 1:+.0%}",
                "token_bytes() gives UTF-8 bytes, not characters, and counts a byte once",
            )
        special = [sizes[loaded.end_id], sizes[loaded.pad_id]]
        remedy = "give 0 for both in token_bytes()"
        cause = f"end and padding have {special[0]} and {special[1]}; neither is text"
        self.require(special == [0, 0], f"{self.name} gives special tokens bytes", cause, remedy)

    def test_empty_text(self) -> None:
        """an empty text has no ids, an empty batch no lists, and no ids give an empty text"""
        loaded = self._trained()
        for given, wanted in (([""], [[]]), ([], []), (["", "a", ""], [[], loaded.encode_batch(["a"])[0], []])):
            found = loaded.encode_batch(given)
            remedy = "add no begin, end or prefix token in encode_batch: core adds what belongs there"
            self.require(found == wanted, f"{self.name} encodes {given} as {found}", f"expected {wanted}", remedy)
        text = loaded.decode([])
        self.require(text == "", f"{self.name} decodes no ids as {text!r}", "expected an empty text", "join the pieces")


def _of_ids(folder: Path, base: Path, old: Any, new: Any) -> Iterator[tuple[str, Any, Any]]:
    """(what, in the base, in ``folder``) for each id of the base: its text, and its piece where both files say it."""
    for index in range(old.vocab_size):
        yield f"id {index}", old.decode([index]), new.decode([index])
    pieces, now = _pieces(base), _pieces(folder)
    for index, piece in pieces.items() if now else ():
        yield f"id {index}", piece, now.get(index)


def _pieces(folder: Path) -> dict[int, str]:
    """Id -> piece of a ``tokenizer.json`` that the tokenizers library reads; empty for another."""
    from tokenizers import Tokenizer

    try:
        found = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # the library raises bare Exception
        return {}
    return {index: piece for piece, index in found.get_vocab(with_added_tokens=True).items()}


def _foreign(text: str) -> str:
    """The text in letters of another alphabet, so that a vocabulary learnt from it must be another one."""
    return "".join(
        chr(0x0400 + ord(letter) % 80) if letter.isascii() and letter.isalpha() else letter for letter in text
    )


def _first_difference(text: str, back: str) -> str:
    """Where a text and what came back part, with a little of what stands before it."""
    longest = min(len(text), len(back))
    at = next((n for n in range(longest) if text[n] != back[n]), longest)
    start, lost = max(0, at - 8), text[at : at + 1]
    named = f"character {at}, U+{ord(lost):04X}, is lost or changed" if lost else f"something is added at its end, {at}"
    return f"{quoted(text[start : at + 8])} comes back as {quoted(back[start : at + 8])}: {named}"
