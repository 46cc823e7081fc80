"""The suite of the door ``merge``."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from lmgraft.artifacts import checkpoint, layers
from lmgraft.component import Component, ComponentConfig
from lmgraft.errors import UserError
from lmgraft.seams.merge import VocabularyMerge
from lmgraft.testing._wider import rows_kept, wider_tokenizer
from lmgraft.testing.common import PartSuite
from lmgraft.testing.elsewhere import Failed, elsewhere
from lmgraft.testing.models import BROKEN, WIDE, contents, llama_shapes, unused, write_gpt2, write_llama
from lmgraft.testing.outcome import Nonconforming, NotApplicable

__all__ = ["MergeSuite", "grown"]

#: What a merge may hold of one model.
_SHARE = 3
_STATUS = Path("/proc/self/status")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "float64": "F64"}
_DEPTHS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")


class MergeSuite(PartSuite):
    """Holds a merge to the rules of :mod:`lmgraft.seams.merge`.

    It is given ``models`` llama-like folders of ``layers`` small layers; override :meth:`write` for another family.
    A :class:`~lmgraft.seams.merge.VocabularyMerge` is asked for the vocabulary of a tokenizer that has the models' own
    tokens, two of them with other ids, and some more.
    """

    seam = "merge"
    models: ClassVar[int] = 1
    """How many it is given."""
    layers: ClassVar[int] = 32

    def write(self, folder: Path, number: int, hidden: int) -> None:
        """Writes the model ``number`` of those that are merged: ``hidden`` is its width, at which 32 layers weigh a few
        hundred kilobytes or, for measuring memory, 130 MB."""
        write_llama(folder, layers=self.layers, hidden=hidden, seed=number)

    def write_narrow(self, folder: Path, number: int) -> None:
        """Writes the model ``number`` in bfloat16, of the smallest width; override it with :meth:`write`."""
        write_llama(folder, layers=self.layers, seed=number, dtype="bfloat16")

    def behaviour(self, part: Any) -> Any:
        out = self._fresh("out")
        out.mkdir()  # a stage's is there and empty
        self._merge(part, self._models(), out)
        return contents(out)

    # --- checks -----------------------------------------------------------------------------------------------------

    def test_writes_a_model_folder(self) -> None:
        """a whole model folder in safetensors, whose config.json tells the truth and whose numbers are finite"""
        out = self._fresh("out")
        self._merge(self.build(), self._models(), out)
        pickled = [path.name for path in out.rglob("*") if path.suffix in _PICKLES]
        self.require(
            not pickled,
            f"{self.name} writes {pickled[0] if pickled else ''}",
            "a pickle runs code where it is opened, so nothing downstream reads one",
            "write safetensors: lmgraft.artifacts.checkpoint.write, or lmgraft.artifacts.streaming.write",
        )
        try:
            checkpoint.verify(out)
        except UserError as error:
            first = error.problems[0]
            self.require(
                False, f"{self.name} writes no whole model folder: {first.fact}", first.cause,
                "write config.json, and every tensor to model.safetensors or to shards with an index",
            )  # fmt: skip
        self._truthful(out)
        self._finite(out)

    def test_old_tokens_keep_their_rows(self) -> None:
        """given another vocabulary, tokens of the model keep their rows bit for bit, and every token has one"""
        part = self.build()
        if not isinstance(part, VocabularyMerge):
            raise NotApplicable("it has no merge_vocabulary")
        self.require(
            getattr(self.compose(), "takes_tokenizer", False),
            f"the settings of {self.name} do not say that it takes a tokenizer",
            "a recipe that names one is refused before any work, and lmgraft merge has no option --tokenizer",
            "takes_tokenizer: ClassVar[bool] = True",
        )
        models, out = self._models(), self._fresh("out")
        tokenizer = self._tokenizer()
        self._merge(part, models, out)
        fault = rows_kept(models[0], tokenizer, out)
        self.require(
            not fault,
            f"{self.name} makes no model for the tokenizer that it is given",
            fault,
            "match tokens by their piece in tokenizer.json, copy the bytes of their rows, and write vocab_size",
        )

    def test_inputs_are_untouched(self) -> None:
        """the models that it reads stay as they are, to the byte"""
        models = self._models()
        before = {model.name: contents(model) for model in models}
        self._merge(self.build(), models, self._fresh("out"))
        self.require_equal(
            before,
            {model.name: contents(model) for model in models},
            f"{self.name} changes a model that it reads",
            "open files for reading and write below `out` only: inputs are artifacts that other stages share",
        )

    def test_progress_reaches_the_end(self) -> None:
        """progress is told after each tensor, in bytes, up to the sum"""
        seen: list[tuple[int, int]] = []
        out = self._fresh("out")
        self._merge(self.build(), self._models(), out, lambda done, total: seen.append((done, total)))
        self.require(
            len(seen) >= self.layers,
            f"{self.name} calls progress {len(seen)} times for a model of {self.layers} layers",
            "the bar stands still, and at each call core asks whether the run is to stop",
            "call progress(bytes done, bytes in all) after each tensor",
        )
        done, totals = [now for now, _ in seen], {total for _, total in seen}
        self.require(
            len(totals) == 1 and done == sorted(done) and done[0] >= 0 and done[-1] == seen[-1][1] > 0,
            f"{self.name} tells a progress that does not end at its end",
            f"the last call says {done[-1]} of {seen[-1][1]} bytes, the largest is {max(done)}",
            "add up the bytes of the tensors that are written; their sum is `bytes in all` from the first call on",
        )

    def test_unmergeable_models_are_refused_before_writing(self) -> None:
        """models that are broken or do not go together are refused with a UserError, before anything is written"""
        part = self.build()
        for wrong, spoil in BROKEN.items():
            models = self._models()
            spoil(models[-1])
            self._refused(part, models, f"a model folder {wrong}")
        if self.models > 1:
            models = [*self._models()[:-1], self._fresh("wider")]
            self.write(models[-1], self.models - 1, 16)
            self._refused(part, models, "models of other shapes")
            models = [*models[:-1], self._fresh("other")]
            write_gpt2(models[-1], layers=self.layers)
            self._refused(part, models, "models of two families")

    def test_refuses_another_number_of_models(self) -> None:
        """where its settings say how many models it takes, another number of them is refused before anything is
        written"""
        least, most = getattr(self.compose(), "takes_models", (0, None))
        self.require(
            least <= self.models and (most is None or self.models <= most),
            f"the settings of {self.name} say {least} to {most} models, and the suite gives it {self.models}",
            "core refuses what takes_models does not allow, in recipes and on the command line",
            "takes_models: ClassVar[tuple[int, int | None]] = (fewest, most or None)",
        )
        part, models = self.build(), self._models()
        if least > 1:
            self._refused(part, models[:1] * (least - 1), f"{least - 1} of the {least} models that it takes at least")
        if most is not None:
            self._refused(part, [*models, *models[:1] * (most + 1 - len(models))], f"{most + 1} models")

    def test_tells_the_dtype_of_its_numbers(self) -> None:
        """of bfloat16 models it makes a whole one whose config.json tells the dtype that its numbers have"""
        models = [self._fresh(f"narrow-{number}") for number in range(self.models)]
        for number, folder in enumerate(models):
            self.write_narrow(folder, number)
        told = checkpoint.read_config(models[0])
        out = self._fresh("out")
        self._merge(self.build(), models, out)
        self._finite(out)
        config = checkpoint.read_config(out)
        words = {config[key] for key in ("dtype", "torch_dtype") if key in config}
        kinds = {header.dtype for header in checkpoint.headers(out).values()}
        self.require(
            not words
            or ("dtype" not in told and "torch_dtype" not in told)
            or {_DTYPES.get(w) for w in words} == kinds,
            f"{self.name} writes {', '.join(sorted(kinds))}, and config.json says {', '.join(sorted(map(str, words)))}",
            "transformers loads a model in the dtype that its config.json tells",
            "write the models' dtype, or tell the other one under dtype and torch_dtype, where the file has them",
        )

    def test_streams(self) -> None:
        """memory stays far below the model's size"""
        if not _STATUS.is_file():
            raise NotApplicable("memory is read from /proc, which this system does not have")
        warm, models = self._models(), self._models(WIDE)
        size = sum(path.stat().st_size for path in models[0].glob("*.safetensors"))
        component, config = self.installed.component, self.compose()
        out = self._fresh("out")
        try:
            sent = component, config, warm, models, out, self._tokenizer()
            grew = elsewhere("lmgraft.testing.merge:grown", *sent)
        except Failed as failed:
            self.require(False, f"{self.name} fails in a process of its own", str(failed), "mend merge()")
        held, whole = _megabytes(grew), _megabytes(size)
        self.require(
            grew < size / _SHARE,
            f"{self.name} holds {held} in memory while it merges a model of {whole}",
            "memory grows with the model, so one of 70 billion parameters would want 140 GB",
            "take one tensor at a time, safetensors.safe_open(file).get_tensor(name), and write it before the next:"
            " into shards, or behind a header that tells every shape: lmgraft.artifacts.streaming copies and computes",
        )

    # --- how core calls a merge -------------------------------------------------------------------------------------

    def _models(self, hidden: int = 8) -> list[Path]:
        found = [self._fresh(f"model-{number}") for number in range(self.models)]
        for number, folder in enumerate(found):
            self.write(folder, number, hidden)
        return found

    def _merge(self, part: Any, models: Sequence[Path], out: Path, progress: Any = None) -> None:
        try:
            merged(part, models, out, self._tokenizer(), *([progress] if progress else []))
        except UserError as error:
            first = error.problems[0]
            remedy = "in the suite, `models = N` where it takes N models, write() where it wants other ones"
            raise Nonconforming(f"{self.name} refuses the kit's models: {first.fact}", first.cause, remedy) from error

    def _refused(self, part: Any, models: Sequence[Path], what: str) -> None:
        out = self._fresh("refused")
        fact, ended = f"{self.name} takes {what}", "it merged them without a word"
        try:
            merged(part, models, out, self._tokenizer())
        except UserError:
            written = sorted(contents(out)) if out.exists() else []
            self.require(
                not written,
                f"{self.name} refuses {what} after it wrote {', '.join(written[:3])}",
                "half a model is left behind",
                "look at every config.json and header first: lmgraft.artifacts.checkpoint.headers reads no tensor",
            )
            return
        except Exception as error:
            fact, ended = f"{self.name} breaks off on {what}", f"it raised {type(error).__name__}: {error}"
        self.require(
            False, fact, ended,
            "read with lmgraft.artifacts.checkpoint, which says what is broken; compare config.json and shapes, raise "
            "UserError(Problem(fact, cause, remedy))",
        )  # fmt: skip

    def _tokenizer(self) -> Path:
        """The folder of the tokenizer that a VocabularyMerge is given."""
        folder = self.folder / "wider"
        if not folder.exists():
            wider_tokenizer(folder)
        return folder

    def _fresh(self, name: str) -> Path:
        return unused(self.folder, name)

    # --- what it wrote ----------------------------------------------------------------------------------------------

    def _truthful(self, out: Path) -> None:
        config = checkpoint.read_config(out)
        depth = next((config[key] for key in _DEPTHS if isinstance(config.get(key), int)), None)
        added = layers.added(config)
        self.require(
            config.get(layers.NEW_LAYERS, added) == added and (depth is None or all(new < depth for new in added)),
            f"{self.name} writes {layers.NEW_LAYERS} {config.get(layers.NEW_LAYERS)} into config.json",
            f"trainable_layers: [added] would train layers of these numbers, and the model has {depth}",
            "list the numbers of the layers that it added, in the result and in order, from 0",
        )
        there = {name: list(header.shape) for name, header in checkpoint.headers(out).items()}
        remedy = "write config.json from what you write, not from what you read: its depth and every size"
        if config["model_type"] == "llama":
            try:
                told = {name: list(shape) for name, shape in llama_shapes(config).items()}
            except KeyError as error:
                self.require(False, f"{self.name} writes a config.json without {error}", "a llama has one", remedy)
            for name in [*told, *there]:
                self.require(
                    told.get(name) == there.get(name),
                    f"{self.name} writes a config.json that does not fit its tensors",
                    f"{name}: config.json makes it {told.get(name) or 'absent'}, "
                    f"and the file has it {there.get(name) or 'not at all'}",
                    remedy,
                )
            return
        numbers = {int(word) for name in there for word in name.split(".")[:-1] if word.isdigit()}
        self.require(
            depth is None or not numbers or max(numbers) + 1 == depth,
            f"{self.name} writes a config.json of {depth} layers",
            f"its tensors are numbered up to {max(numbers, default=0)}",
            remedy,
        )

    def _finite(self, out: Path) -> None:
        import torch

        for name, tensor in checkpoint.tensors(out).items():
            self.require(
                not tensor.is_floating_point() or bool(torch.isfinite(tensor.float()).all()),
                f"{self.name} writes {name} with numbers that are not finite",
                "the models that it was given have finite numbers only",
                "look for a division by zero and for sums in a dtype that is too narrow",
            )


def merged(part: Any, models: Sequence[Path], out: Path, tokenizer: Path, *progress: Any) -> None:
    """Calls the part as core does: a VocabularyMerge with a tokenizer."""
    if isinstance(part, VocabularyMerge):
        part.merge_vocabulary(models, tokenizer, out, *progress)
    else:
        part.merge(models, out, *progress)


def grown(
    component: Component[Any],
    config: ComponentConfig,
    warm: Sequence[Path],
    models: Sequence[Path],
    out: Path,
    tokenizer: Path,
) -> int:
    """Bytes of anonymous memory that merging takes at its peak, in this process. Pages of mapped files do not count:
    the system drops them when it wants to."""
    import gc

    from lmgraft.registry import build

    part = build(component, config)
    merged(part, warm, out.with_name("warm"), tokenizer)  # libraries are imported, pools of threads are there
    gc.collect()
    before = peak = _anonymous()
    over = threading.Event()

    def look(*_: int) -> None:
        nonlocal peak
        peak = max(peak, _anonymous())

    def watch() -> None:
        while not over.wait(0.002):
            look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        merged(part, models, out, tokenizer, look)
    finally:
        over.set()
        thread.join()
    return peak - before


def _anonymous() -> int:
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("RssAnon:"):
            return 1024 * int(line.split()[1])
    sys.exit("/proc/self/status has no RssAnon")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"
