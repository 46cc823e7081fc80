"""Sources mixed by weight: shares exact to one document whatever the workers, repeats, what is held out."""

from __future__ import annotations

import itertools
import math
import random
import sys
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

from corpus_context import Context, ready, stage  # noqa: E402
from corpus_parts import LinesConfig, NamedConfig, ShortConfig  # noqa: E402
from lmgraft.artifacts import Artifact, corpus  # noqa: E402
from lmgraft.errors import Stopped, UserError  # noqa: E402
from lmgraft.stages import _corpus_jobs, _corpus_units  # noqa: E402
from lmgraft.stages import corpus as corpus_stage  # noqa: E402
from lmgraft.stages._corpus_mixture import apportion, beside, targets  # noqa: E402
from lmgraft.stages.mixing import Mixture, PrintedTable  # noqa: E402

GPT3 = {"common_crawl": 60.0, "webtext2": 22.0, "books1": 8.0, "books2": 8.0, "wikipedia": 3.0}
"""Brown et al. 2020, arXiv 2005.14165, table 2.2: weights in per cent, sizes and total in billions of tokens."""
GPT3_TABLE = PrintedTable(
    total=300.0,
    sizes={"common_crawl": 410.0, "webtext2": 19.0, "books1": 12.0, "books2": 55.0, "wikipedia": 3.0},
    epochs={"common_crawl": 0.44, "webtext2": 2.9, "books1": 1.9, "books2": 0.43, "wikipedia": 3.4},
)


@pytest.fixture
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_corpus_units, "TASK_BYTES", 3000)
    monkeypatch.setattr(_corpus_jobs, "BATCH_DOCUMENTS", 16)
    monkeypatch.setattr(corpus_stage, "SMALL_BYTES", 0)


def text(root: Path, name: str, files: int, size: int, seed: int = 0) -> LinesConfig:
    """A source of about ``size`` bytes of lines of 1 to 60 characters, no two the same."""
    chance = random.Random(f"{name} {seed}")
    folder = root / name
    folder.mkdir(parents=True)
    number = 0
    for file in range(files):
        lines: list[str] = []
        while sum(len(line.encode()) for line in lines) < size // files:
            number += 1
            lines.append(f"{name} {number} ".ljust(chance.randrange(1, 45), "ä"))
        (folder / f"{file:02}.txt").write_text("\n".join(lines))
    return LinesConfig(part="lines", path=str(folder))


def three(root: Path) -> dict[str, LinesConfig]:
    amounts = {"web": (9, 9000), "books": (3, 2500), "wiki": (2, 900)}
    return {name: text(root, name, *amount) for name, amount in amounts.items()}


def mixed(root: Path, sources: dict[str, Any], mixture: Mixture, **settings: Any) -> tuple[Path, Context]:
    one, context = ready(root, stage(sources, mixture=mixture, **settings))
    one.identity(context)
    one.run(context)
    assert list(corpus.verify(context.out)) == []
    return context.out, context


def size(document: Any) -> int:
    return len((document.text or "").encode())


def by_source(out: Path, split: str = "train") -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for document in corpus.documents(out, split):
        found.setdefault(document.id.partition("/")[0], []).append(document)
    return found


def plain(name: str) -> str:
    return name.partition("~")[0]


# --- what comes out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "total"),
    [
        ({"web": 60, "books": 25, "wiki": 15}, 6000),
        ({"web": 1, "books": 1, "wiki": 1}, 20_000),
        ({"web": 0.2, "books": 0.3, "wiki": 0.5}, 777),
        ({"web": 0, "books": 7, "wiki": 94}, 12_345),
        ({"web": 60, "books": 25, "wiki": 15}, None),
    ],
)
def test_shares_are_exact_to_one_document(
    tmp_path: Path, small_tasks: None, weights: dict[str, float], total: int | None
) -> None:
    out, _ = mixed(tmp_path / "a", three(tmp_path / "text"), Mixture(weights=weights, bytes=total), shard_bytes=1024)
    row = corpus.funnel(out)["mixture"]
    found = by_source(out)
    whole, _ = mixed(tmp_path / "b", three(tmp_path / "again"), Mixture(), shard_bytes=1024)
    had = {name: sum(map(size, own)) for name, own in by_source(whole).items()}
    if total is None:
        scarce = min(had[name] / weight for name, weight in weights.items())
        exact = {name: scarce * weight for name, weight in weights.items()}
    else:
        exact = {name: total * weight / sum(weights.values()) for name, weight in weights.items()}
    for name, wanted in exact.items():
        own = found.get(name, [])
        largest = max(map(size, by_source(whole)[name]))
        given = sum(map(size, own))
        assert abs(given - wanted) < largest + 1, name
        assert row["sources"][name]["bytes"] == given
        assert row["sources"][name]["documents"] == len(own)
        assert row["sources"][name]["epochs"] == pytest.approx(given / had[name], abs=1e-4)
        # The next document of the order would have carried it above its target.
        assert row["sources"][name]["wanted"] - given < largest
    if total is None:
        assert all(row["sources"][name]["epochs"] <= 1 for name in weights)
        assert max(row["sources"][name]["epochs"] for name in weights) == 1


def test_documents_are_shared_out_by_the_largest_remainder(tmp_path: Path, small_tasks: None) -> None:
    weights = {"web": 60.0, "books": 25.0, "wiki": 16.0}
    out, _ = mixed(tmp_path / "a", three(tmp_path / "text"), Mixture(weights=weights, documents=301))
    assert {name: len(own) for name, own in by_source(out).items()} == {"web": 179, "books": 74, "wiki": 48}
    assert corpus.funnel(out)["documents"] == {"train": 301, "validation": 0}


def test_whole_epochs_and_a_part_of_the_next(tmp_path: Path, small_tasks: None) -> None:
    sources = three(tmp_path / "text")
    out, _ = mixed(tmp_path / "a", sources, Mixture(weights={"web": 1, "books": 1, "wiki": 2}, documents=400))
    found = by_source(out)
    for name in sources:
        copies = Counter(plain(document.id) for document in found[name])
        assert max(copies.values()) - min(copies.values()) <= 1
        for document in found[name]:
            again, _, number = document.id.partition("~")
            assert not number or 2 <= int(number) <= copies[again]
    wiki = Counter(plain(document.id) for document in found["wiki"])
    whole, rest = divmod(200, len(wiki))
    assert whole > 1
    assert Counter(wiki.values()) == Counter({whole + 1: rest, whole: len(wiki) - rest} if rest else {whole: len(wiki)})
    texts = {document.id: (document.text, document.group) for document in found["wiki"]}
    assert all(texts[name] == texts[plain(name)] for name in texts)


def test_copies_never_stand_side_by_side(tmp_path: Path, small_tasks: None) -> None:
    out, _ = mixed(tmp_path / "a", three(tmp_path / "t"), Mixture({"web": 1, "books": 5, "wiki": 5}, bytes=30_000))
    names = [plain(document.id) for document in corpus.documents(out)]
    assert max(Counter(names).values()) > 4
    assert all(a != b for a, b in itertools.pairwise(names))


def test_more_of_a_source_adds_to_what_less_of_it_takes(tmp_path: Path, small_tasks: None) -> None:
    taken = []
    for number, documents in enumerate((40, 70)):
        mixture = Mixture(weights={"web": 1, "books": 0, "wiki": 0}, documents=documents)
        out, _ = mixed(tmp_path / str(number), three(tmp_path / f"t{number}"), mixture)
        taken.append({document.id for document in corpus.documents(out)})
    assert taken[0] < taken[1]
    assert len(taken[0]) == 40


def test_workers_and_kills_change_no_byte(tmp_path: Path, small_tasks: None) -> None:
    sources = three(tmp_path / "text")
    mixture = Mixture(weights={"web": 3, "books": 4, "wiki": 4}, bytes=11_000)
    results = []
    for workers in (1, 2):
        settings: dict[str, Any] = {"shard_bytes": 1024, "validation_bytes": 500, "workers": workers}
        out, _ = mixed(tmp_path / str(workers), sources, mixture, **settings)
        results.append({path.name: path.read_bytes() for path in sorted(out.iterdir())})
    assert results[0] == results[1]
    assert len(results[0]) > 8

    config = stage(sources, mixture=mixture, shard_bytes=1024, validation_bytes=500)
    chance = random.Random(0)
    for stops in range(300):
        one, context = ready(tmp_path / "stopped", config)
        calls = iter(range(chance.randrange(2, 60) * (1 + stops)))

        def stop(calls: Any = calls) -> None:
            if next(calls, None) is None:
                raise Stopped

        context.stop = stop
        try:
            one.run(context)
            break
        except Stopped:
            continue
    assert stops > 1
    assert {path.name: path.read_bytes() for path in sorted(context.out.iterdir())} == results[0]


def test_shards_change_no_document(tmp_path: Path, small_tasks: None) -> None:
    sources = three(tmp_path / "text")
    mixture = Mixture(weights={"web": 3, "books": 4, "wiki": 4}, bytes=11_000)
    found = []
    for size in (1024, 1 << 20):
        out, _ = mixed(tmp_path / str(size), sources, mixture, shard_bytes=size)
        found.append([(document.id, document.text) for document in corpus.documents(out)])
    assert found[0] == found[1]


def test_the_fallback_alone_is_read_as_it_is(tmp_path: Path, small_tasks: None) -> None:
    sources = {"mine": LinesConfig(part="lines"), "web": text(tmp_path, "web", 2, 900)}
    out, _ = mixed(tmp_path / "a", sources, Mixture({"mine": 1}, bytes=100), fallback=["web"])
    told = corpus.funnel(out)
    assert "mixture" not in told
    assert told["documents"]["train"] == told["sources"]["web"]["read"]["documents"]


def test_another_seed_takes_others(tmp_path: Path, small_tasks: None) -> None:
    config = stage(three(tmp_path / "text"), mixture=Mixture({"web": 1, "books": 0, "wiki": 0}, documents=30))
    found = []
    for seed in (1, 2):
        one, context = ready(tmp_path / str(seed), config, seed)
        one.run(context)
        found.append({document.id for document in corpus.documents(context.out)})
    assert found[0] != found[1]


def test_what_is_held_out_is_never_repeated(tmp_path: Path, small_tasks: None) -> None:
    sources = three(tmp_path / "text")
    plainly, _ = mixed(tmp_path / "plain", sources, Mixture(), validation_bytes=800)
    mixture = Mixture({"web": 1, "books": 9, "wiki": 9}, bytes=40_000)
    out, _ = mixed(tmp_path / "a", sources, mixture, validation_bytes=800)
    held = [document.id for document in corpus.documents(out, "validation")]
    assert held == [document.id for document in corpus.documents(plainly, "validation")]
    assert len(set(held)) == len(held) > 5
    assert not {plain(document.id) for document in corpus.documents(out)} & set(held)


# --- what is said -----------------------------------------------------------------------------------------------------


def test_weights_that_add_up_to_101_are_told_of(tmp_path: Path, small_tasks: None) -> None:
    scale = 300  # bytes for a billion tokens
    sources = {name: text(tmp_path / "t", name, 2, int(scale * size)) for name, size in GPT3_TABLE.sizes.items()}
    mixture = Mixture(weights=GPT3, bytes=300 * scale, printed=GPT3_TABLE)
    out, context = mixed(tmp_path / "a", sources, mixture)
    assert [note for note in context.notes if "mixture" in note] == [
        "corpus: mixture.weights add up to 101, not to 100; each counts as its share of 101"
    ]
    told = corpus.funnel(out)["mixture"]
    epochs = {name: row["epochs"] for name, row in told["sources"].items()}
    exact = {"common_crawl": 0.435, "webtext2": 3.44, "books1": 1.98, "books2": 0.432, "wikipedia": 2.97}
    assert epochs == pytest.approx(exact, rel=0.04)
    assert told["weights"] == 101
    rows = dict(corpus_stage.Corpus(stage(sources)).summary(Artifact("corpus", out, "")))
    wikipedia = rows["from wikipedia (weight 3 of 101)"]
    assert wikipedia.startswith("2.9")
    assert "; 3.4 printed: 3 and 3 as printed give 3; rounded, they stand for 2.14 to 4.2, so rounding" in wikipedia


def test_shares_of_one_hundred_are_not_told_of(tmp_path: Path, small_tasks: None) -> None:
    for number, weights in enumerate(({"web": 60, "books": 25, "wiki": 15}, {"web": 0.7, "books": 0.2, "wiki": 0.1})):
        _, context = mixed(tmp_path / str(number), three(tmp_path / f"t{number}"), Mixture(weights=weights))
        assert context.notes == []


def test_many_repeats_are_told_of(tmp_path: Path, small_tasks: None) -> None:
    _, context = mixed(
        tmp_path / "a", three(tmp_path / "t"), Mixture({"web": 50, "books": 0, "wiki": 50}, bytes=12_000)
    )
    assert any("wiki is taken 6." in note for note in context.notes)


def test_a_source_whose_document_is_above_its_share_is_told_of(tmp_path: Path, small_tasks: None) -> None:
    sources = three(tmp_path / "text")
    for path in (tmp_path / "text" / "wiki").iterdir():
        path.unlink()
    (tmp_path / "text" / "wiki" / "00.txt").write_text("w" * 5_000)
    out, context = mixed(tmp_path / "a", sources, Mixture({"web": 50, "books": 25, "wiki": 25}, bytes=4_000))
    assert corpus.funnel(out)["mixture"]["sources"]["wiki"]["documents"] == 0
    assert [note for note in context.notes if "gives nothing" in note] == [
        "corpus: warning: wiki (weight 25) gives nothing: the next of its 1 documents is above its share, 1,000 bytes; "
        "take a larger total, or cut its documents"
    ]


def test_a_source_with_nothing_left_stops_in_three_lines(tmp_path: Path, small_tasks: None) -> None:
    sources = three(tmp_path / "text")
    (tmp_path / "text" / "wiki" / "00.txt").write_text("a\nb")
    (tmp_path / "text" / "wiki" / "01.txt").write_text("c")
    with pytest.raises(UserError) as caught:
        mixed(
            tmp_path / "a",
            sources,
            Mixture({"web": 1, "books": 1, "wiki": 1}),
            filters={"short": ShortConfig(part="short")},
        )
    assert "wiki has the weight 1" in str(caught.value)
    assert "corpus.mixture.weights.wiki=0" in str(caught.value)


def test_a_total_below_every_document_stops_in_three_lines(tmp_path: Path, small_tasks: None) -> None:
    with pytest.raises(UserError, match="takes no document"):
        mixed(tmp_path / "a", three(tmp_path / "text"), Mixture({"web": 1, "books": 1, "wiki": 1}, bytes=3))


@pytest.mark.parametrize(
    ("mixture", "said"),
    [
        (Mixture({"web": 1, "boks": 1}), "mixture.weights names 'boks', which is not among the sources (web, books)"),
        (Mixture({"web": 1}), "mixture.weights has no weight for the source books; 0 leaves it out"),
        (Mixture({"web": 1, "books": -1}), "mixture.weights: books is -1; a weight is a number, 0 or more"),
        (Mixture({"web": math.nan, "books": 1}), "mixture.weights: web is nan; a weight is a number, 0 or more"),
        (Mixture({"web": 0, "books": 0}), "mixture.weights are all 0; one source at least gives something"),
        (Mixture(bytes=5), "mixture.bytes is 5, and mixture.weights is empty: give each source one"),
        (Mixture({"web": 1, "books": 1}, bytes=0), "mixture.bytes is 0; it must be at least 1, or null"),
        (
            Mixture({"web": 1, "books": 1}, bytes=5, documents=5),
            "mixture.documents is set beside mixture.bytes; the total is counted in one of the two",
        ),
        (
            Mixture({"web": 1, "books": 1}, printed=PrintedTable(epochs={"wiki": 1})),
            "mixture.printed.epochs names 'wiki', which has no weight (web, books)",
        ),
    ],
)
def test_settings_that_mean_nothing(mixture: Mixture, said: str) -> None:
    names = {"web": LinesConfig(), "books": LinesConfig()}
    assert said in list(stage(names, mixture=mixture).check())
    assert list(stage(names, mixture=Mixture({"web": 1, "books": 2}, bytes=3)).check()) == []


# --- the arithmetic ---------------------------------------------------------------------------------------------------

WEIGHTS = st.lists(st.floats(0, 1000, allow_subnormal=False), min_size=1, max_size=8).filter(any)


@given(st.integers(0, 10**15), WEIGHTS)
def test_apportioning_is_hamiltons(total: int, weights: list[float]) -> None:
    parts = apportion(total, weights)
    exact = [Fraction(repr(weight)) for weight in weights]
    shares = [total * weight / sum(exact) for weight in exact]
    assert sum(parts) == total
    assert all(abs(part - share) < 1 for part, share in zip(parts, shares, strict=True))
    assert all(part == 0 for part, weight in zip(parts, weights, strict=True) if weight == 0)
    up = [share - math.floor(share) for part, share in zip(parts, shares, strict=True) if part > share]
    down = [share - math.floor(share) for part, share in zip(parts, shares, strict=True) if part < share]
    assert not up or not down or min(up) >= max(down)


@given(WEIGHTS, st.integers(1, 10**12))
def test_without_a_total_the_scarcest_gives_all_and_no_other_more(weights: list[float], size: int) -> None:
    named = {str(place): weight for place, weight in enumerate(weights)}
    sizes = {name: size * (place + 1) for place, name in enumerate(named)}
    found = targets(Mixture(weights=named), named, sizes)
    assert all(found[name] <= sizes[name] for name in named)
    assert any(found[name] == sizes[name] for name in named)


def test_the_table_of_gpt3_says_which_of_its_epochs_it_can_give() -> None:
    """Rounding of 60, 22, 8, 8, 3 and 410, 19, 12, 55, 3 explains all but WebText2's 2.9."""
    mixture = Mixture(weights=GPT3, printed=GPT3_TABLE)
    exact = {name: weight / 101 * 300 / GPT3_TABLE.sizes[name] for name, weight in GPT3.items()}
    assert {name: round(value, 3) for name, value in exact.items()} == {
        "common_crawl": 0.435, "webtext2": 3.439, "books1": 1.98, "books2": 0.432, "wikipedia": 2.97,
    }  # fmt: skip
    rows = {name: beside(name, mixture, exact[name]) for name in GPT3}
    assert {name: round(row["table_epochs"], 3) for name, row in rows.items()} == {
        "common_crawl": 0.439, "webtext2": 3.474, "books1": 2.0, "books2": 0.436, "wikipedia": 3.0,
    }  # fmt: skip
    summed = "the weights add up to 101, so ours count for 0.99 of what they say"
    assert rows["common_crawl"]["why"] == summed
    told = "22 and 19 as printed give 3.47; rounded, they stand for 3.31 to 3.65, so its rounded table cannot give it"
    assert rows["webtext2"]["why"] == f"{told}; {summed}"
    assert rows["books1"]["why"].startswith("8 and 12 as printed give 2; rounded, they stand for 1.8 to 2.22, so round")
    assert rows["books2"]["why"].startswith("8 and 55 as printed give 0.436; rounded, they stand for 0.405 to 0.468")
    assert rows["wikipedia"]["why"].startswith("3 and 3 as printed give 3; rounded, they stand for 2.14 to 4.2, so r")


def test_another_corpus_than_the_papers_is_said_to_be_one() -> None:
    mixture = Mixture({"a": 0.5, "b": 0.5}, printed=PrintedTable(total=100, sizes={"a": 50}, epochs={"a": 1, "b": 2}))
    assert beside("a", mixture, 1.0)["why"] == ""
    assert beside("a", mixture, 0.3)["why"] == "with its sizes and total ours would be 1: this corpus has others"
    assert beside("b", mixture, 0.3) == {"printed_epochs": 2, "why": "the table's sizes or total are not given"}
    assert beside("a", Mixture({"a": 1}), 0.3) == {}


def test_copies_have_ids_that_no_document_has(tmp_path: Path, small_tasks: None) -> None:
    root = tmp_path / "text"
    root.mkdir()
    for name in ("x", "x~2", "x~~3", "y~"):
        (root / f"{name}.txt").write_text(name)
    source = NamedConfig(part="named", path=str(root))
    out, _ = mixed(tmp_path / "a", {"own": source}, Mixture({"own": 1}, documents=12))
    names = [document.id for document in corpus.documents(out)]
    assert len(set(names)) == 12
