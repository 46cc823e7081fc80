"""Models of a folder: a tiny one is made here and saved as transformers saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from lmgraft.errors import UserError
from lmgraft.seams.data_source import Document
from lmgraft.stages._corpus_rows import rows
from lmgraft_classifiers.plugin import Features, Method, QualityConfig, ToxicityConfig
from lmgraft_classifiers.pretrained import embedder, toxic_scorer
from lmgraft_classifiers.quality import Quality
from lmgraft_classifiers.toxicity import Toxicity

transformers = pytest.importorskip("transformers")
import torch  # noqa: E402

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "of", "and", "to", "blorg", "zonk", "is", "it", "that"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 8 dimensions with two labels that do not exclude one another."""
    folder = tmp_path_factory.mktemp("model")
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"))
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        initializer_range=0.5,  # a model that tells words apart without training
        problem_type="multi_label_classification",
        id2label={0: "toxic", 1: "insult"},
        label2id={"toxic": 0, "insult": 1},
    )
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config).eval()
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def probability(folder: Path, text: str, label: int) -> float:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        return float(torch.sigmoid(model(**tokenizer(text, return_tensors="pt")).logits)[0, label])


def test_scores_are_the_models(folder: Path) -> None:
    texts = ["the blorg is it", "that is it", ""]
    for label, name in enumerate(("toxic", "insult")):
        config = ToxicityConfig(method=Method.detoxify, checkpoint=str(folder), toxic=[name.upper(), "other"])
        wanted = [probability(folder, text, label) for text in texts]
        assert toxic_scorer(config)(texts) == pytest.approx(wanted, abs=1e-5)
    both = toxic_scorer(ToxicityConfig(method=Method.detoxify, checkpoint=str(folder), toxic=["toxic", "insult"]))
    assert both(texts[:1])[0] == pytest.approx(max(probability(folder, texts[0], label) for label in (0, 1)), abs=1e-5)


def test_long_texts_are_seen_in_pieces(folder: Path) -> None:
    score = toxic_scorer(ToxicityConfig(method=Method.detoxify, checkpoint=str(folder)))
    pieces = ["the of and to is it that " * 2, "blorg blorg " * 7]  # 14 tokens and two around them fill the model
    worst = max(score(pieces))
    assert score(["".join(pieces)]) == [worst]
    assert score([pieces[0]])[0] < worst or score([pieces[1]])[0] < worst


def test_it_drops_above_the_threshold(folder: Path) -> None:
    texts = ["the blorg is it", "that is it"]
    low, high = sorted(probability(folder, text, 0) for text in texts)
    threshold = (low + high) / 2
    part = Toxicity(ToxicityConfig(method=Method.detoxify, checkpoint=str(folder), threshold=threshold))
    assert part.inputs() == {"checkpoint": str(folder)}
    part.fit({}, folder)
    batch = [Document(text, text=text) for text in texts]
    kept = [verdict.keep for verdict in part.judge(batch)]
    assert kept == [probability(folder, text, 0) < threshold for text in texts]
    assert [part.judge([document])[0].keep for document in batch] == kept
    assert [verdict.reason for verdict in part.judge(batch) if not verdict.keep] == ["toxic"]


def test_embeddings_are_means_of_the_last_states(folder: Path) -> None:
    config = QualityConfig(features=Features.embedding, embedding=str(folder))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        wanted = model(**tokenizer("the of zonk", return_tensors="pt")).last_hidden_state[0].mean(dim=0)
    rows = embedder(config)(["the of zonk", "of " * 500])
    assert rows.shape == (2, 8)
    assert rows[0] == pytest.approx(wanted.numpy(), abs=1e-4)


@pytest.mark.parametrize("classifier", ["logistic", "forest"])
def test_quality_learns_from_embeddings(folder: Path, tmp_path: Path, classifier: str) -> None:
    labelled = tmp_path / "rows.jsonl"
    said = ("it is that of the", "it is blorg zonk", "to the and that", "blorg and zonk")
    made: list[dict[str, Any]] = [{"text": f"{said[n % 4]} {WORDS[4 + n % 4]}", "label": n % 2} for n in range(80)]
    labelled.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    config = QualityConfig(
        labelled=str(labelled), good=["0"], features=Features.embedding, embedding=str(folder), trees=9
    )
    config.classifier = type(config.classifier)(classifier)
    part = Quality(config)
    assert part.inputs() == {"labelled": str(labelled), "embedding": str(folder)}
    for _ in range(2):  # fitted, then loaded
        part = Quality(config)
        part.fit({"labelled": rows(labelled), "embedding": iter(())}, tmp_path)
    (good, bad) = part.judge([Document("g", text=made[0]["text"]), Document("b", text=made[1]["text"])])
    assert (good.keep, bad.keep) == (True, False)


def made(folder: Path, name: str, content: bytes = b"{}") -> Path:
    (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("pytorch_model.bin", "a pickle, which may run anything"),
        ("config.json", "no file"),
        ("model.safetensors", "opened"),
    ],
)
def test_what_is_no_model_stops_in_three_lines(tmp_path: Path, name: str, told: str) -> None:
    config: Any = ToxicityConfig(method=Method.detoxify, checkpoint=str(made(tmp_path, name)))
    with pytest.raises(UserError, match=told) as caught:
        toxic_scorer(config)
    assert len(str(caught.value).splitlines()) == 3


def test_a_label_that_the_model_lacks_is_said(folder: Path) -> None:
    config = ToxicityConfig(method=Method.detoxify, checkpoint=str(folder), toxic=["spam"])
    with pytest.raises(UserError, match=r"(?s)none of spam.*labels are toxic, insult"):
        toxic_scorer(config)
