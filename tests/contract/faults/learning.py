"""Faults of objectives, of a layout, of an evaluator and of a merge."""

from __future__ import annotations

from faults.fault import Fault, light

__all__ = ["FAULTS"]

# --- objectives ---------------------------------------------------------------------------------------------------

#: Next-token prediction with another loss.
OBJECTIVE = """\
from lmgraft.seams.objective import Example, Loss


class Part:
    asks = frozenset({asks})

    def __init__(self, config):
        self.config = config

    def columns(self):
        return frozenset({{"text"}})

    def encode(self, document, tokenizer):
        if not document.text:
            return []
        tokens = [tokenizer.end_id, *tokenizer.encode_batch([document.text])[0], tokenizer.end_id]
        return [Example(tokens, [0.0] + [1.0] * (len(tokens) - 1))]

    def normalizers(self, batch):
        return {{"tokens": float(_weights(batch).sum())}}

    def loss(self, out, batch, shared):
        weights = _weights(batch)
        costs = {costs}
        return Loss({{"tokens": {term}}})


def _weights(batch):
    return batch.weights * (batch.targets >= 0)
"""

#: The model answers at padding too, and nothing takes those answers out of the squared logarithm.
PADDING_LOSS = Fault(
    name="padding-loss",
    seam="objective",
    files={
        "plugin.py": light(
            "objective",
            "Next tokens, with a penalty on the softmax's denominator",
            '''
            penalty: float = 0.001
            """Weight of the squared logarithm of the denominator."""
            ''',
        ),
        "part.py": OBJECTIVE.format(
            asks='{"logprob", "logsumexp"}',
            costs="self.config.penalty * out.logsumexp.square() * weights - out.logprob * weights",
            term="costs.sum()",
        ),
    },
    slips=(("out.logsumexp.square() * weights", "out.logsumexp.square()"),),
    check="test_padding_changes_nothing",
    says=("padding_loss", "padding", "weights"),
)

#: Divides by what the model found hard; then neither the split nor the ranks leave the gradient alone.
PEEKING_NORMALISER = Fault(
    name="peeking-normaliser",
    seam="objective",
    files={
        "plugin.py": light(
            "objective",
            "Next tokens, the hard ones first (focal loss)",
            '''
            focus: float = 1.0
            """How much less an easy token counts."""
            ''',
        ),
        "part.py": OBJECTIVE.format(
            asks='{"logprob"}',
            costs="(1 - out.logprob.detach().exp()) ** self.config.focus * weights",
            term="-(out.logprob * costs).sum()",
        ),
    },
    slips=(
        (
            'return {"tokens": float(_weights(batch).sum())}',
            'return {"tokens": getattr(self, "_scale", 1.0)}',
        ),
        (
            'return Loss({"tokens": -(out.logprob * costs).sum()})',
            'self._scale = float(costs.sum())\n        return Loss({"tokens": -(out.logprob * costs).sum()})',
        ),
    ),
    check="test_normalizers_read_data_only",
    says=("peeking_normaliser", "normalizers", "batch"),
)

# --- a layout -----------------------------------------------------------------------------------------------------

#: Meant to leave out a microbatch that came short at the end of the data; there is always a last one.
LAST_MICROBATCH = Fault(
    name="last-microbatch",
    seam="parallelism",
    files={
        "plugin.py": light(
            "parallelism",
            "One process on a fixed number of threads",
            '''
            threads: int = execution(1)
            """Processor threads of a tensor operation."""
            ''',
        ),
        "part.py": """\
            from lmgraft.training.settings import repeatable
            from lmgraft_data_parallel.engine import SingleEngine


            class Engine(SingleEngine):
                def forward_backward(self, microbatches):
                    return super().forward_backward(list(microbatches))


            class Part:
                def __init__(self, config):
                    self.threads = config.threads

                def launch(self, work):
                    with repeatable(self.threads):
                        work(Engine)
        """,
    },
    slips=(("list(microbatches)", "list(microbatches)[:-1] or microbatches"),),
    check="test_microbatches_are_all_learnt",
    says=("last_microbatch", "microbatch", "forward_backward"),
)

# --- an evaluator -------------------------------------------------------------------------------------------------

BATCH_MEANS = Fault(
    name="batch-means",
    seam="evaluator",
    files={
        "plugin.py": light(
            "evaluator",
            "Bits that a model needs for a character of held-out text",
            '''
            batch_size: int = execution(8)
            """Documents handed to the model at once."""
            ''',
        ),
        "part.py": """\
            from itertools import islice
            from math import fsum, log

            from lmgraft.errors import Problem, UserError
            from lmgraft.seams.evaluator import Score


            class Part:
                def __init__(self, config):
                    self.size = config.batch_size

                def run(self, handle, tokenizer, *, data, limit):
                    texts = [document.text for document in islice(data.documents("validation"), limit) if document.text]
                    if not texts:
                        remedy = "corpus.validation_bytes=100000"
                        raise UserError(Problem("no text is held out", "the validation split is empty", remedy))
                    batches = [texts[start : start + self.size] for start in range(0, len(texts), self.size)]
                    nats = [self._nats(handle, tokenizer, batch) for batch in batches]
                    lengths = [sum(map(len, batch)) for batch in batches]
                    each = fsum(nat for found in nats for nat in found) / sum(lengths)
                    detail = {"documents": len(texts), "characters": sum(lengths)}
                    return [Score("character_bits", each / log(2), "bits/character", False, detail=detail)]

                def _nats(self, handle, tokenizer, batch):
                    window, end = handle.context, tokenizer.end_id
                    requests = [
                        ([end], ids[start : start + window])
                        for ids in tokenizer.encode_batch(batch)
                        for start in range(0, len(ids), window)
                    ]
                    return [-logprob for scored in handle.score(requests) for logprob in scored.logprobs]
        """,
    },
    slips=(
        (
            "fsum(nat for found in nats for nat in found) / sum(lengths)",
            "fsum(fsum(found) / length for found, length in zip(nats, lengths)) / len(batches)",
        ),
    ),
    check="test_execution_settings",
    says=("batch_means", "batch_size=", "sum before you divide"),
)

# --- a merge ------------------------------------------------------------------------------------------------------

LOADS_ALL = Fault(
    name="loads-everything",
    seam="merge",
    files={
        "plugin.py": light(
            "merge",
            "One model with every weight multiplied",
            '''
            factor: float = 0.5
            """What weights are multiplied with."""
            ''',
        ),
        "part.py": """\
            import json

            from lmgraft.artifacts import checkpoint, streaming
            from lmgraft.errors import Problem, UserError
            from safetensors import safe_open
            from safetensors.torch import save_file


            class Part:
                def __init__(self, config):
                    self.factor = config.factor

                def merge(self, models, out, progress=lambda done, total: None):
                    if len(models) != 1:
                        fact, cause = "PACKAGE takes one model", f"it is given {len(models)}"
                        raise UserError(Problem(fact, cause, "name one model"))
                    config, pieces = checkpoint.read_config(models[0]), streaming.pieces(models[0])
                    total, done, places = sum(piece.size for piece in pieces.values()), 0, {}
                    out.mkdir(parents=True, exist_ok=True)
                    tensors = self._scaled(pieces)
                    for number, (name, tensor) in enumerate(tensors, 1):
                        places[name] = f"model-{number:05d}-of-{len(pieces):05d}.safetensors"
                        save_file({name: tensor}, out / places[name], metadata={"format": "pt"})
                        done += pieces[name].size
                        progress(done, total)
                    self._write(out / checkpoint.INDEX, {"metadata": {"total_size": total}, "weight_map": places})
                    self._write(out / checkpoint.CONFIG, config)
                    generation = checkpoint.read_generation_config(models[0])
                    self._write(out / checkpoint.GENERATION_CONFIG, generation)

                def _scaled(self, pieces):
                    for name in sorted(pieces):
                        with safe_open(pieces[name].header.file, framework="pt") as file:
                            yield name, file.get_tensor(name) * self.factor

                def _write(self, path, content):
                    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
        """,
    },
    slips=(("tensors = self._scaled(pieces)", "tensors = list(self._scaled(pieces))"),),
    check="test_streams",
    says=("loads_everything", "memory", "tensor"),
)

FAULTS = [PADDING_LOSS, PEEKING_NORMALISER, LAST_MICROBATCH, BATCH_MEANS, LOADS_ALL]
