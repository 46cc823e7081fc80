"""A model of somebody else's whose tokenizer puts ``<s>`` before a text reads it everywhere, as in transformers.

A small LLaMA as others publish them: what it is trained on, scored on, asked with and exported with begins alike.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from lmgraft import chat, loading
from lmgraft.api import Run, run
from lmgraft.artifacts import checkpoint, tokens
from lmgraft.artifacts import tokenizer as tokenizers
from lmgraft.generation.prompts import prompts
from lmgraft.registry import build, registry
from lmgraft.seams.data_source import Document
from lmgraft.seams.tokenizer import first_id
from lmgraft.testing.inputs import texts
from lmgraft.training.loader import PackedDataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

BEGIN, END = 1, 2
TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{{ eos_token }}{% endfor %}"
PROMPT = "The only way is to find water"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    made = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            num_hidden_layers=2, hidden_size=32, intermediate_size=48, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=256, vocab_size=320, bos_token_id=BEGIN, eos_token_id=END,
        )
    )  # fmt: skip
    with torch.no_grad():  # what a text begins with is to be seen in what is predicted
        made.model.embed_tokens.weight.mul_(20)
    made.save_pretrained(folder)
    write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path) -> None:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    with tokenizers.library_threads():
        made.train_from_iterator(texts(200), trainer)
    assert made.get_vocab_size() == 320
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", BEGIN)]
    )
    made.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": TEMPLATE}), encoding="utf-8")


def part(seam: str, name: str, **settings: Any) -> Any:
    component = registry().get(seam, name).component
    config = component.config()
    config.part = name
    for key, value in settings.items():
        setattr(config, key, value)
    return build(component, config)


@pytest.fixture(scope="module")
def made(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two steps of training from it, on packed text."""
    place = tmp_path_factory.mktemp("run")
    (place / "texts").mkdir()
    for number in range(8):
        (place / "texts" / f"{number}.txt").write_text("\n".join(texts(40)[number:]), encoding="utf-8")
    given = [
        f"run.dir={place / 'run'}", f"store.dir={place / 'store'}", "device=cpu", "precision=float32",
        f"data.path={place / 'texts'}", "corpus.filters.length.min_chars=10", "corpus.validation_bytes=2000",
        "corpus.workers=1", "pretrain.steps=2", "pretrain.batch=2", "pretrain.seq_len=32", "evaluate.limit=2",
        "tokenizer@tokenizer.tokenizer=pretrained", f"tokenizer.tokenizer.path={model}",
        "architecture@pretrain.architecture=pretrained", f"pretrain.architecture.path={model}",
        "pretrain.optimizer.lr=1e-9",
    ]  # fmt: skip
    return run("quickstart", given, quiet=True)


def test_what_it_is_trained_on(made: Run) -> None:
    folder = made.artifacts["tokens"]
    told = tokens.info(folder)
    assert (told.first_id, told.end_id) == (BEGIN, END)
    assert tokens.verify(folder) == []
    dataset = PackedDataset(folder, "train", 32)
    rows = dataset.rows(torch.arange(len(dataset)).numpy())
    assert (rows.tokens == BEGIN).sum() == len(dataset.file) > 1
    assert not (rows.tokens == END).any()
    assert (rows.targets == END).sum() == len(dataset.file)
    assert not (rows.targets == BEGIN).any()


def test_what_it_becomes_says_so(made: Run) -> None:
    trained = made.artifacts["pretrain"]
    for read in (checkpoint.read_config, checkpoint.read_generation_config):
        told = read(trained)
        assert (told["bos_token_id"], told["eos_token_id"]) == (BEGIN, END)
    saved = tokenizers.load(trained)
    assert (first_id(saved), saved.chat_template) == (BEGIN, TEMPLATE)


def test_rows_of_examples(model: Path) -> None:
    saved = loading.load_tokenizer(model)
    (example,) = part("objective", "causal_lm").encode(Document(id="a", text=PROMPT), saved)
    theirs = transformers.AutoTokenizer.from_pretrained(model)
    assert example.tokens == [*theirs(PROMPT).input_ids, END]
    assert example.weights == [0.0] + [1.0] * (len(example.tokens) - 1)


class Held:
    """Documents that are short enough for one window each."""

    texts = tuple(" ".join(texts(30)[number : number + 2])[:200] for number in range(0, 12, 2))

    def documents(self, split: str, columns: frozenset[str] = frozenset({"text"})) -> Any:
        yield from (Document(id=str(number), text=text) for number, text in enumerate(self.texts))


def test_perplexity_is_that_of_transformers(model: Path) -> None:
    """Its own loss, over its own ids of the text."""
    read = transformers.AutoTokenizer.from_pretrained(model)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    nats, count = 0.0, 0
    for text in Held.texts:
        ids = torch.tensor([read(text).input_ids])
        assert ids[0, 0] == BEGIN
        with torch.no_grad():
            nats += float(theirs(ids, labels=ids).loss) * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    handle = loading.load(model, device="cpu", precision="float32")
    scores = part("evaluator", "perplexity").run(handle, loading.load_tokenizer(model), data=Held(), limit=None)
    found = {score.name: score.value for score in scores}
    assert found["perplexity"] == pytest.approx(math.exp(nats / count), rel=1e-5)


def test_prompts_are_those_of_transformers(model: Path, made: Run) -> None:
    from lmgraft.stages.asking import prompt_ids

    theirs = transformers.AutoTokenizer.from_pretrained(model)(PROMPT).input_ids
    for folder in (model, made.artifacts["pretrain"]):
        assert prompts(folder).text(PROMPT) == theirs
        assert prompt_ids(loading.load_tokenizer(folder), PROMPT) == theirs


def test_a_chat_begins_once(model: Path) -> None:
    """As its template says, and nothing is put before that."""
    talk = [{"role": "user", "content": f"{PROMPT} <s>"}, {"role": "assistant", "content": "yes"}]
    asked, theirs = prompts(model), transformers.AutoTokenizer.from_pretrained(model)
    plain = [{**message, "content": message["content"].replace("<s>", "")} for message in talk]
    expected = theirs.apply_chat_template(plain, tokenize=True, return_dict=False)
    assert chat.encode_chat(plain, asked.tokenizer, TEMPLATE)[0] == expected
    for ids in (asked.chat(talk[:1]), chat.encode_chat(talk, asked.tokenizer, TEMPLATE)[0]):
        assert ids[0] == BEGIN
        assert ids.count(BEGIN) == 1  # text that spells it stays text


@pytest.mark.parametrize("told", [None, True, False])
def test_there_and_back_through_an_export(model: Path, tmp_path: Path, told: bool | None) -> None:
    """What the setting says is what transformers reads from the folder that is written, too."""
    source = tmp_path / "source"
    source.mkdir()
    for file in model.iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    config = json.loads((model / "tokenizer_config.json").read_text()) | {"pad_token": "<unk>"}
    config |= {} if told is None else {"add_bos_token": told}
    del config["chat_template"]
    (source / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    if told:  # the setting alone says it
        content = json.loads((model / "tokenizer.json").read_text(encoding="utf-8")) | {"post_processor": None}
        (source / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    wanted = END if told is False else BEGIN
    taken = part("tokenizer", "pretrained", path=str(source))
    taken.train(iter(()))
    taken.save(source)
    part("exporter", "hf").export(source, tmp_path / "out")
    again = loading.load_tokenizer(tmp_path / "out")
    assert first_id(again) == first_id(tokenizers.load(source)) == wanted
    ids = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")(PROMPT).input_ids
    assert ids == ([] if told is False else [BEGIN]) + again.encode_batch([PROMPT])[0]
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert ('tokenizer("Once upon a time"' in card, "tokenizer.bos_token" in card) == (wanted == BEGIN, wanted == END)
