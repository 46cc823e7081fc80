"""The folder as transformers loads it, and the card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from lmgraft import chat
from lmgraft.artifacts import checkpoint
from lmgraft.artifacts import tokenizer as saved
from lmgraft.errors import UserError
from lmgraft.seams.exporter import Known, KnownSource, KnownStage
from lmgraft.testing.inputs import texts
from lmgraft.testing.models import write_gpt2, write_llama
from lmgraft_hf.exporter import HuggingFace
from lmgraft_hf.plugin import Dtype, HuggingFaceConfig

TALK = [{"role": "user", "content": "What is  2 + 2?"}, {"role": "assistant", "content": "4"},
        {"role": "user", "content": "caf\u00e9"}]  # fmt: skip


@pytest.fixture
def model(tmp_path) -> Path:
    write_llama(tmp_path / "model", layers=2, hidden=16)
    saved.set_chat_template(tmp_path / "model", chat.TEMPLATES["solar"])
    return tmp_path / "model"


def exported(model: Path, known: Known | None = None, **settings) -> Path:
    out = model.parent / f"out{len(list(model.parent.iterdir()))}"
    HuggingFace(HuggingFaceConfig(**settings)).export_informed(model, out, known or Known())
    return out


def header(folder: Path) -> dict:
    return yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---\n")[1])


def test_transformers_loads_it_and_computes_the_same(model):
    transformers = pytest.importorskip("transformers")
    from lmgraft import loading
    from lmgraft.seams.parallelism import Sampling

    out = exported(model)
    theirs, said = transformers.AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not said["missing_keys"]
    assert not said["unexpected_keys"]
    ours = loading.load(model, precision="float32")
    ids = [256, 10, 20, 30, 40]
    with torch.no_grad():
        wanted = theirs(torch.tensor([ids])).logits[0].log_softmax(-1)
    scored = ours.score([(ids[:1], ids[1:])])[0]
    for place, (token, value) in enumerate(zip(ids[1:], scored.logprobs, strict=True)):
        assert wanted[place, token].item() == pytest.approx(value, abs=1e-4)
    greedy = theirs.generate(torch.tensor([ids]), max_new_tokens=12, do_sample=False)[0, len(ids) :].tolist()
    found = list(ours.generate(ids, Sampling(max_new_tokens=12, temperature=0, stop_ids=(256,))))
    assert greedy[: len(found)] == found[: len(greedy)]


def test_its_tokenizer_gives_the_same_ids_and_the_same_chats(model):
    transformers = pytest.importorskip("transformers")
    theirs, ours = transformers.AutoTokenizer.from_pretrained(exported(model)), saved.load(model)
    for text in texts(40):
        if "<|endoftext|>" not in text:  # transformers takes it for the token, lmgraft for text
            assert theirs.encode(text, add_special_tokens=False) == ours.encode_batch([text])[0]
    assert ours.chat_template is not None
    rendered = chat.render(TALK, ours.chat_template, add_generation_prompt=True)
    rendered = rendered.replace(chat.MARK, "<|endoftext|>").replace(chat.BEGIN, "<|endoftext|>")
    assert theirs.apply_chat_template(TALK, tokenize=False, add_generation_prompt=True) == rendered
    ids = theirs.apply_chat_template(TALK, add_generation_prompt=True, return_dict=False)
    assert ids == chat.encode_prompt(TALK, ours, ours.chat_template)
    assert theirs.pad_token_id == ours.pad_id
    assert theirs.eos_token_id == ours.end_id


@pytest.mark.parametrize("dtype", list(Dtype))
def test_weights_are_rounded_as_torch_rounds_them(model, dtype):
    out = exported(model, dtype=dtype)
    before, after = checkpoint.tensors(model), checkpoint.tensors(out)
    assert all(torch.equal(after[name], before[name].to(getattr(torch, dtype.value))) for name in before)
    assert checkpoint.read_config(out)["dtype"] == checkpoint.read_config(out)["torch_dtype"] == dtype.value


def test_as_they_are_they_are_copied_bit_for_bit_and_in_shards(model):
    state = {name: tensor.to(torch.bfloat16) for name, tensor in checkpoint.tensors(model).items()}
    state["model.embed_tokens.weight"] = torch.randn(40_000, 16)
    checkpoint.write(model, state, checkpoint.read_config(model) | {"vocab_size": 40_000})
    out = exported(model, shard_mb=1)
    assert (out / "model.safetensors.index.json").is_file()
    found = checkpoint.tensors(out)
    assert all(torch.equal(found[name], state[name]) and found[name].dtype == state[name].dtype for name in state)
    assert checkpoint.read_config(out) == checkpoint.read_config(model)


def test_a_number_that_float16_does_not_hold(model):
    state = dict(checkpoint.tensors(model))
    state["lm_head.weight"] = state["lm_head.weight"] + 1e6
    checkpoint.write(model, state, checkpoint.read_config(model))
    with pytest.raises(UserError, match=r"lm_head\.weight does not fit float16") as caught:
        exported(model, dtype=Dtype.float16)
    assert "bfloat16" in str(caught.value)
    exported(model, dtype=Dtype.bfloat16)


def test_every_id_that_ends_an_answer_is_told(model):
    """A template that closes answers by a token of its own, in a folder that tells no such id."""
    from tokenizers import AddedToken, Tokenizer

    file = model / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.add_special_tokens([AddedToken("<|im_end|>", special=True)])
    tokenizer.save(str(file))
    closing = "{% for m in messages %}{{ m['role'] + ':' + m['content'] + '<|im_end|>' }}{% endfor %}"
    saved.set_chat_template(model, closing + "{% if add_generation_prompt %}assistant:{% endif %}")
    out = exported(model)
    told = checkpoint.read_generation_config(out)
    assert told["eos_token_id"] == [256, 258]
    assert (told["bos_token_id"], told["pad_token_id"]) == (256, 257)
    assert checkpoint.read_generation_config(exported(out)) == told


def test_the_template_lies_where_both_generations_look(model):
    out = exported(model)
    assert (out / "chat_template.jinja").read_text() == chat.TEMPLATES["solar"]
    assert json.loads((out / "tokenizer_config.json").read_text())["chat_template"] == chat.TEMPLATES["solar"]
    # One that has it in a file of its own only, as transformers 5 writes it.
    config = json.loads((model / "tokenizer_config.json").read_text())
    del config["chat_template"]
    (model / "tokenizer_config.json").write_text(json.dumps(config))
    (model / "chat_template.jinja").write_text("{{ bos_token }}hello")
    out = exported(model)
    assert saved.load(out).chat_template == (out / "chat_template.jinja").read_text() == "{{ bos_token }}hello"


def test_only_the_models_own_files_leave(model):
    (model / "optimizer.pt").write_bytes(b"x")
    (model / "notes.txt").write_text("secret")
    assert sorted(path.name for path in exported(model).iterdir()) == [
        "README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
        "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert not (exported(model, card=False) / "README.md").exists()


# --- the card -----------------------------------------------------------------------------------------------------

SCORE = {
    "stage": "pretrain", "evaluator": "perplexity", "name": "bits_per_byte", "value": 1.8649607, "unit": "bits/byte",
    "reference": False, "higher_is_better": False, "detail": {"split": "validation"},
}  # fmt: skip
KNOWN = Known(
    name="my model",
    license="Apache-2.0",
    languages=("en", "no"),
    recipe="quickstart",
    stages=(
        KnownStage(name="corpus", kind="corpus", parts={"sources.web": {"name": "hub", "split": "train"}}),
        KnownStage(name="pretrain", kind="train", settings={"steps": 500}, parts={"optimizer": {"name": "adamw"}}),
    ),
    sources=(
        KnownSource(name="web", part="hub", dataset="org/texts", license="CC-BY-4.0"),
        KnownSource(name="own", part="files"),
    ),
    scores=(SCORE, SCORE | {"name": "xz_bits_per_byte", "value": 1.99, "reference": True}),
    versions={"torch": "2.9"},
)


def test_all_that_is_known_is_told(model):
    out = exported(model, KNOWN)
    assert header(out) == {
        "license": "apache-2.0", "language": ["en", "no"], "datasets": ["org/texts"], "library_name": "transformers",
        "pipeline_tag": "text-generation", "tags": ["lmgraft"],
    }  # fmt: skip
    text = (out / "README.md").read_text(encoding="utf-8")
    for line in (
        "# my model",
        "by the recipe `quickstart`",
        "| web | org/texts | CC-BY-4.0 |",
        "| own | files | not known |",
        "| bits\\_per\\_byte | 1.865 bits/byte | perplexity | validation |",
        "| xz\\_bits\\_per\\_byte (for comparison) | 1.99 bits/byte |",
        "| pretrain | train | adamw |",
        '"steps": 500',
        "torch 2.9",
        "The licence of the data of own is not known.",
        "apply_chat_template",
    ):
        assert line in text, line


def test_a_licence_that_nobody_told_is_not_known(model):
    out = exported(model)
    assert "license" not in header(out)
    assert "The licence of this model is not known" in (out / "README.md").read_text()
    assert header(exported(model, Known(license="My own terms, v2")))["license"] == "other"
    assert header(exported(model, Known(license="My own terms, v2")))["license_name"] == "My own terms, v2"


@pytest.mark.parametrize("name", ["0x10", "0b1", "0o7", "012", "1e3", "2024-01-01", "no", "0BSD"])
def test_names_stay_text_for_a_reader_of_yaml(model, name):
    known = Known(languages=(name,), license=name, sources=(KnownSource(name="a", part="hub", dataset=name),))
    read = header(exported(model, known))
    assert (read["language"], read["datasets"], read["license"]) == ([name], [name], name.lower())


def test_names_cannot_break_the_card(model):
    nasty = "a | b\n---\nlicense: mit\n<script>x</script> `c` # d \x1b[31m"
    known = Known(
        name=nasty,
        recipe=nasty,
        license="x: y\n---",
        languages=("no", "a: b"),
        sources=(KnownSource(name=nasty, part=nasty, license=nasty),),
        stages=(KnownStage(name=nasty, kind=nasty, settings={"text": "``` \n# x"}),),
        scores=(SCORE | {"name": nasty, "unit": nasty, "evaluator": nasty, "detail": {"split": nasty}},),
    )
    text = (exported(model, known) / "README.md").read_text(encoding="utf-8")
    read = header(model.parent / sorted(path.name for path in model.parent.glob("out*"))[-1])
    assert read["license_name"] == "x: y ---" or read["license_name"] == "x: y\n---"
    assert read["language"] == ["no", "a: b"]
    before, _, rest = text.partition("````json\n")  # four: the settings hold three
    settings, _, after = rest.partition("\n````\n")
    assert json.loads(settings)
    assert "<script>" not in before + after
    assert "\x1b" not in text
    assert text.count("\n---\n") == 1
    assert all(line.count(" | ") <= 4 for line in text.splitlines() if line.startswith("| a "))


def test_a_model_that_transformers_lacks_is_not_said_to_be_its(model):
    config = checkpoint.read_config(model)
    (model / "config.json").write_text(json.dumps(config | {"lmgraft_norm": "none"}))
    out = exported(model)
    assert "library_name" not in header(out)
    assert "lmgraft generate" in (out / "README.md").read_text()


def test_a_folder_without_a_tokenizer(tmp_path):
    write_gpt2(tmp_path / "model", layers=2)
    out = exported(tmp_path / "model")
    assert not (out / "tokenizer.json").exists()
    assert "gpt2" in (out / "README.md").read_text()


@pytest.mark.parametrize("chats", [True, False])
def test_the_use_that_the_card_shows_works(model, chats, capsys):
    pytest.importorskip("transformers")
    if not chats:
        config = json.loads((model / "tokenizer_config.json").read_text())
        config.pop("chat_template")
        (model / "tokenizer_config.json").write_text(json.dumps(config))
    out = exported(model)
    code = (out / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    assert ("apply_chat_template" in code) is chats
    few = code.replace("max_new_tokens=100", "max_new_tokens=5").replace("FOLDER", str(out))
    exec(compile(few, "card", "exec"), {})
    assert capsys.readouterr().out
