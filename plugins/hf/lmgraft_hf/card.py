"""The model card: ``README.md`` with a YAML header, in the words of the Hugging Face hub.

What is not known is said to be unknown and never guessed. Names come from users and from strangers' files: they are
written so that they can neither end a table's cell nor the header, and markup in them stays text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmgraft.artifacts import checkpoint, tokenizer
from lmgraft.printable import printable
from lmgraft.seams.exporter import Known

__all__ = ["card"]

_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")
_UNKNOWN = "not known"


def card(folder: Path, config: Mapping[str, Any], known: Known, template: str | None) -> str:
    """The card of the model in ``folder``; ``template``: its chat template."""
    sections = [
        "\n".join(_header(config, known)),
        "\n".join(_about(folder, config, known)),
        "\n".join(_use(folder, config, template)),
        *("\n".join(section) for section in (_origin(known), _data(known), _scores(known), _licence(known))),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _header(config: Mapping[str, Any], known: Known) -> Iterator[str]:
    yield "---"
    if known.license:
        if _SPDX.fullmatch(known.license):
            yield f"license: {_quoted(known.license.lower())}"
        else:
            yield "license: other"
            yield f"license_name: {_quoted(known.license)}"
    if known.languages:
        yield from ("language:", *(f"- {_quoted(language)}" for language in known.languages))
    datasets = list(dict.fromkeys(source.dataset for source in known.sources if source.dataset))
    if datasets:
        yield from ("datasets:", *(f"- {_quoted(name)}" for name in datasets))
    if _for_transformers(config):
        yield "library_name: transformers"
    yield "pipeline_tag: text-generation"
    yield from ("tags:", "- lmgraft")
    yield "---"


def _about(folder: Path, config: Mapping[str, Any], known: Known) -> Iterator[str]:
    yield f"# {_text(known.name) or 'A language model'}"
    yield ""
    recipe = f", by the recipe `{_code(known.recipe)}`" if known.recipe else ""
    kind = _code(str(config["model_type"]))
    count = checkpoint.parameters(folder)
    yield f"A `{kind}` of {count:,} parameters, built with [lmgraft](https://github.com/lmgraft/lmgraft){recipe}."
    yield ""
    dtypes = sorted({header.dtype for header in checkpoint.headers(folder).values()})
    rows = [("parameters", f"{count:,}"), ("weights", ", ".join(dtypes))]
    for label, names in (
        ("layers", ("num_hidden_layers", "n_layer")),
        ("width", ("hidden_size", "n_embd")),
        ("vocabulary", ("vocab_size",)),
        ("context", ("max_position_embeddings", "n_positions", "seq_length")),
    ):
        value = next((config[name] for name in names if isinstance(config.get(name), int)), None)
        if value is not None:
            rows.append((label, f"{value:,}"))
    yield from _table(("", ""), rows)


def _use(folder: Path, config: Mapping[str, Any], template: str | None) -> Iterator[str]:
    yield "## Use"
    yield ""
    if not _for_transformers(config):
        yield "transformers has no such model; lmgraft reads this folder:"
        yield from ("", "```sh", 'lmgraft generate FOLDER "Once upon a time"', "```")
        return
    yield "```python"
    yield "from transformers import AutoModelForCausalLM, AutoTokenizer"
    yield ""
    yield 'tokenizer = AutoTokenizer.from_pretrained("FOLDER")'
    yield 'model = AutoModelForCausalLM.from_pretrained("FOLDER")'
    if template is not None:
        yield 'messages = [{"role": "user", "content": "What can you do?"}]'
        yield "inputs = tokenizer.apply_chat_template("
        yield '    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True'
        yield ")"
    else:
        yield from _text_inputs(folder)
    yield 'inputs.pop("token_type_ids", None)'
    yield "answer = model.generate(**inputs, max_new_tokens=100)"
    yield 'print(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))'
    yield "```"


def _text_inputs(folder: Path) -> Iterator[str]:
    if _begins_by_itself(folder):
        yield 'inputs = tokenizer("Once upon a time", return_tensors="pt")'
        return
    yield "# A text begins with this token, as in training."
    yield 'text = (tokenizer.bos_token or "") + "Once upon a time"'
    yield 'inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")'


def _begins_by_itself(folder: Path) -> bool:
    """Whether transformers puts a token before a text: by tokenizer.json alone, whatever else is told."""
    file = folder / tokenizer.FILE
    if not file.is_file():
        return False
    try:
        return tokenizer.first_of(json.loads(file.read_text(encoding="utf-8")), {}) is not None
    except (AttributeError, KeyError, TypeError, ValueError):  # a part may keep what it likes there
        return False


def _origin(known: Known) -> Iterator[str]:
    if not known.stages and not known.versions:
        return
    yield "## How it was made"
    if known.stages:
        yield ""
        rows = [
            (_text(stage.name), _text(stage.kind), _text(", ".join(str(part["name"]) for part in stage.parts.values())))
            for stage in known.stages
        ]
        yield from _table(("stage", "kind", "parts"), rows)
        settings = {
            stage.name: {**stage.settings, **{slot: dict(part) for slot, part in stage.parts.items()}}
            for stage in known.stages
        }
        text = json.dumps(settings, indent=2, ensure_ascii=False)
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
        yield from ("", "<details><summary>Settings</summary>", "", f"{fence}json", text, fence, "", "</details>")
    if known.versions:
        yield ""
        told = ", ".join(f"{_text(name)} {_text(version)}" for name, version in known.versions.items())
        yield f"Versions: {told}."


def _data(known: Known) -> Iterator[str]:
    if not known.sources:
        return
    yield "## Data"
    yield ""
    rows = [
        (_text(source.name), _text(source.dataset or source.part), _text(source.license) or _UNKNOWN)
        for source in known.sources
    ]
    yield from _table(("source", "read from", "licence"), rows)


def _scores(known: Known) -> Iterator[str]:
    if not known.scores:
        return
    yield "## Scores"
    yield ""
    rows = []
    for row in known.scores:
        detail = row.get("detail")
        split = str(detail.get("split", "")) if isinstance(detail, Mapping) else ""
        named = f"{row.get('name')} (for comparison)" if row.get("reference") else str(row.get("name"))
        value = row.get("value")
        figure = f"{value:.4g}" if isinstance(value, float | int) else str(value)
        rows.append(
            (_text(named), _text(f"{figure} {row.get('unit') or ''}"), _text(str(row.get("evaluator"))), _text(split))
        )
    yield from _table(("score", "value", "by", "on"), rows)


def _licence(known: Known) -> Iterator[str]:
    yield "## Licence"
    yield ""
    if known.license:
        yield f"{_text(known.license)}, as told by whoever exported it."
    else:
        yield "The licence of this model is not known: nobody told one."
    unknown = [source.name for source in known.sources if not source.license]
    if unknown:
        yield f"The licence of the data of {_text(', '.join(unknown))} is not known."


def _for_transformers(config: Mapping[str, Any]) -> bool:
    """A type of lmgraft's own, or a model without norms, is nothing that transformers can build."""
    own = str(config.get("model_type", "")).startswith("lmgraft") or config.get("lmgraft_norm") == "none"
    return bool(config.get("architectures")) and not own


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _text(text: str) -> str:
    """One line in which markup is text and nothing acts on a terminal."""
    plain = printable(" ".join(text.split()))
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", plain) if plain else ""


def _code(text: str) -> str:
    """Within backticks."""
    return re.sub("[`<>]", "'", printable(" ".join(text.split())))


def _quoted(text: str) -> str:
    """A scalar of YAML: JSON's strings are among them. Plain where nothing in it means anything; what begins as numbers
    and dates do may be one (``0x10``)."""
    plain = _SPDX.fullmatch(text) and not re.fullmatch(r"(?i)true|false|yes|no|on|off|null|[+-]?[\d.].*", text)
    return text if plain else json.dumps(text, ensure_ascii=True)
