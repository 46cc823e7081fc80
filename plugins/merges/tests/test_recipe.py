"""Merges of several models in recipes: checked before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from lmgraft import compose, recipe
from lmgraft.errors import UserError

RECIPE = """\
defaults:
  - base
  - stage@corpus: corpus
  - data_source@corpus.sources: [files]
  - stage@tokenizer: tokenizer
  - tokenizer@tokenizer.tokenizer: byte_bpe
  - stage@tokens: tokens
  - stage@base: train
  - architecture@base.architecture: llama
  - objective@base.objective: causal_lm
  - optimizer@base.optimizer: adamw
  - schedule@base.schedule: cosine
  - initializer@base.initializer: normal
  - stage@tuned: train
  - architecture@tuned.architecture: llama
  - objective@tuned.objective: causal_lm
  - optimizer@tuned.optimizer: adamw
  - schedule@tuned.schedule: cosine
  - stage@both: merge
  - merge@both.merge: {part}
  - _self_
stages: [corpus, tokenizer, tokens, base, tuned, both]
corpus: {{sources: {{files: {{path: texts}}}}}}
base: {{steps: 1}}
tuned: {{steps: 1, model: base}}
both: {{models: [base, tuned]{more}}}
"""


def read(folder: Path, part: str, overrides: list[str], more: str = "") -> recipe.Recipe:
    (folder / "texts.txt").write_text("One text.")
    text = RECIPE.format(part=part, more=more).replace("path: texts", f"path: {folder / 'texts.txt'}")
    (folder / "r.yaml").write_text(text)
    found = compose.resolve(str(folder / "r.yaml"))
    return recipe.read(compose.compose(found, overrides), found.name)


SLICES = ", merge: {slices: ['0:2', '1@2:4']}"


@pytest.mark.parametrize(
    ("part", "override", "lines"),
    [
        ("linear", "both.merge.weights=[0.5,0.5]", []),
        ("linear", "both.merge.weights=[0.5]", ["both.merge.weights 0.5 does not match", "one is given for 2 models"]),
        ("linear", "both.models=[base]", ["both.models=[base]: linear takes 2 or more models", "it is given 1"]),
        ("slerp", "+both.merge.gradients.self_attn=[0,1]", []),
        ("slerp", "both.merge.t=1.5", ["both.merge.t", "t 1.5: t lies between 0, the first model, and 1, the second"]),
        ("slerp", "+both.merge.gradients.mlp=[0,-1]", ["both.merge.gradients", "mlp 0,-1: t lies between 0"]),
        ("slerp", "both.models=[base,tuned,base]", ["both.models=[base,tuned,base]: slerp takes 2 models", "given 3"]),
        ("ties", "both.merge.weights=[0.5]", []),
        ("ties", "both.merge.densities=[0.5,0.2]", ["both.merge.densities 0.5,0.2", "2 are given for 1 model beside"]),
        ("ties", "both.merge.base=2", ["both.merge.base=2 is no model", "both.models names 2"]),
        ("passthrough", "both.merge.slices=['0:2','1@2:4']", []),
        ("passthrough", "both.merge.slices=['0:2']", ["both.merge.slices: nothing is taken of model 1", "no slice"]),
        ("block_expansion", "both.models=[base]", []),
        ("block_expansion", "both.merge.every=2", ["both.models=", "it is given 2"]),
    ],
)
def test_settings_beside_the_models(tmp_path: Path, part: str, override: str, lines: list[str]) -> None:
    more = SLICES if part == "passthrough" else ""
    if not lines:
        assert read(tmp_path, part, [override], more).stage("both").inputs["models"]
        return
    with pytest.raises(UserError) as caught:
        read(tmp_path, part, [override], more)
    said = [line.strip() for line in str(caught.value).splitlines()]
    assert len(said) == 3, said
    assert all(word in line for word, line in zip(lines, said, strict=False)), said
