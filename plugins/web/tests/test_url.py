"""``url``: lists in every form, what each rule drops, and what it leaves."""

from __future__ import annotations

import gzip
import random
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from lmgraft.component import is_execution
from lmgraft.errors import UserError
from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, FittedFilter
from lmgraft_web.plugin import UrlConfig
from lmgraft_web.url import Url
from lmgraft_web.url_lists import HashList, host_key, url_key


def part(folder: Path, **lists: str) -> Url:
    settings: dict[str, Any] = {}
    for name, body in lists.items():
        if name == "soft_threshold":
            settings[name] = int(body)
            continue
        file = folder / f"{name}.txt"
        file.write_text(body, encoding="utf-8")
        settings[name] = str(file)
    return Url(UrlConfig(**settings))


def reasons(filter_: Url, *urls: Any) -> list[str]:
    verdicts = filter_.judge([Document(id=str(n), text="x", meta={"url": url}) for n, url in enumerate(urls)])
    assert all(verdict.keep is not bool(verdict.reason) for verdict in verdicts)
    return [verdict.reason for verdict in verdicts]


def test_domains(tmp_path: Path) -> None:
    bad = part(tmp_path, domains="bad.example\nWWW.Worse.example.\n*.star.example\n||ads.example^\nmünchen.example\n")
    assert reasons(
        bad,
        "http://bad.example/",
        "https://www.bad.example:8080/x",
        "http://user:pw@BAD.example./",
        "http://a.b.bad.example",
        "http://worse.example",
        "http://x.star.example",
        "http://ads.example/",
        "http://xn--mnchen-3ya.example/",
        "bad.example/without/scheme",
    ) == ["domain", "domain", "domain", "subdomain", "domain", "subdomain", "domain", "domain", "domain"]
    assert reasons(bad, "http://notbad.example", "http://example/bad.example", "http://bad.example.org") == [""] * 3


def test_hosts_files(tmp_path: Path) -> None:
    body = (
        "# comment\n127.0.0.1 localhost\n0.0.0.0 ads.example track.example # both\n::1 six.example\n! other comment\n"
    )
    bad = part(tmp_path, domains=body)
    urls = ("http://ads.example", "http://track.example", "http://six.example", "http://localhost/", "http://0.0.0.0/")
    assert reasons(bad, *urls) == ["domain"] * 3 + ["", ""]


def test_folders_of_ut1(tmp_path: Path) -> None:
    for category, name, body in (
        ("adult", "domains", b"bad.example\n10.1.2.3\n"),
        ("adult", "urls", b"mixed.example/adult\n"),
        ("adult", "usage", b"black\n"),
        ("adult", "expressions", b"(porn|xxx)\n"),
        ("games", "domains.gz", gzip.compress(b"game.example\n", mtime=0)),
    ):
        (tmp_path / category).mkdir(exist_ok=True)
        (tmp_path / category / name).write_bytes(body)
    bad = Url(UrlConfig(domains=str(tmp_path)))
    urls = ("http://bad.example", "http://10.1.2.3/x", "http://mixed.example/adult/1", "http://game.example")
    assert reasons(bad, *urls, "http://mixed.example/", "http://black/") == [
        "domain",
        "domain",
        "url",
        "domain",
        "",
        "",
    ]


def test_urls(tmp_path: Path) -> None:
    bad = part(tmp_path, urls="http://www.a.example/bad/\nb.example/page?id=7\nhttps://c.example\n")
    assert (
        reasons(
            bad,
            "https://a.example/bad",
            "http://a.example/bad/x?y",
            "http://a.example/bad#top",
            "http://A.example:80/bad",
        )
        == ["url"] * 4
    )
    assert reasons(bad, "http://a.example/badly", "http://a.example/", "http://sub.a.example/bad") == [""] * 3
    assert reasons(bad, "http://b.example/page?id=7", "http://b.example/page?id=8") == ["url", ""]
    assert reasons(bad, "http://c.example/any", "http://c.example") == ["url", "url"]


def test_words(tmp_path: Path) -> None:
    bad = part(tmp_path, hard_words="casino\n", soft_words="bet\nwin\nslots\n", substrings="freeporn\n")
    assert reasons(
        bad,
        "http://a.example/Casino-royale",
        "http://casino.example/",
        "http://a.example/free-p.o_r_n",
        "http://a.example/?q=bet&r=win",
    ) == ["hard_word", "hard_word", "hard_substring", "soft_words"]
    assert reasons(bad, "http://casinos.example", "http://a.example/bet", "http://a.example/bet/bet") == [""] * 3
    assert reasons(part(tmp_path, soft_words="bet\nwin\n", soft_threshold="1"), "http://win.example") == ["soft_words"]


def test_what_is_allowed_stays(tmp_path: Path) -> None:
    bad = part(tmp_path, domains="example\n", hard_words="sex\n", allow="good.example\n")
    assert reasons(bad, "http://good.example/sex", "http://sub.good.example", "http://evilgood.example") == [
        "",
        "",
        "subdomain",
    ]


def test_documents_without_a_url_stay(tmp_path: Path) -> None:
    bad = part(tmp_path, domains="bad.example\n")
    assert reasons(bad, None, "", "  ", 7, "http://[::1", "::::", "http://" + "a." * 5000 + "example") == [""] * 7
    assert bad.judge([Document(id="x", text="x")]) == [KEEP]


def test_what_was_learnt_is_loaded(tmp_path: Path) -> None:
    first = part(tmp_path, domains="bad.example\n", urls="a.example/x\n")
    assert isinstance(first, FittedFilter)
    assert list(first.inputs()) == ["domains.0", "urls.0"]
    workdir = tmp_path / "fit"
    workdir.mkdir()
    first.fit({}, workdir)
    second = Url(first.config)
    (tmp_path / "domains.txt").write_text("", encoding="utf-8")  # what is loaded is not read again
    second.fit({}, workdir)
    urls = ("http://bad.example", "http://a.example/x", "http://b.example")
    assert reasons(first, *urls) == reasons(second, *urls) == ["domain", "url", ""]


def test_many_domains() -> None:
    names = [f"site{number}.example" for number in range(50_000)]
    listed = HashList.of(iter(names + names))
    assert len(listed) == 50_000
    rng = random.Random(0)
    assert all(listed.first([f"no{n}.example", name]) == 1 for n, name in enumerate(rng.sample(names, 500)))
    assert all(listed.first([f"other{number}.example"]) == -1 for number in range(500))
    assert HashList.of(iter([])).first(["a"]) == -1


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        ({"domains": "two words\n"}, "domains.txt:1 cannot be used"),
        ({"domains": "a.example\n<html>\n"}, "domains.txt:2 cannot be used"),
        ({"urls": "a b\n"}, "urls.txt:1 cannot be used"),
        ({"hard_words": "two words\n"}, "hard_words.txt:1 cannot be used"),
    ],
)
def test_bad_lines_are_told(tmp_path: Path, lists: dict[str, str], said: str) -> None:
    with pytest.raises(UserError) as caught:
        part(tmp_path, **lists).judge([Document(id="x", text="x", meta={"url": "http://a.example"})])
    assert said in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"caf\xe9.example\n")
    cut = tmp_path / "cut.txt.gz"
    cut.write_bytes(gzip.compress(b"a.example\n" * 1000)[:-12])
    for file in (bad, cut):
        with pytest.raises(UserError, match="cannot be read"):
            Url(UrlConfig(domains=str(file))).judge([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no lists"):
        Url(UrlConfig(domains=str(tmp_path / "empty"))).judge([])


def test_settings_are_checked(tmp_path: Path) -> None:
    (problem,) = UrlConfig().check()
    assert "at least one list" in str(problem)
    assert not list(UrlConfig(required=False).check())
    assert reasons(Url(UrlConfig(required=False)), "http://a.example") == [""]
    (problem,) = UrlConfig(domains="/no/such/list").check()
    assert "url.domains: /no/such/list does not exist" in str(problem)
    (problem,) = UrlConfig(domains=str(tmp_path), soft_threshold=0).check()
    assert "soft_threshold is 0" in str(problem)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("HTTP://WWW.A.Example/Path/#x", "a.example/Path"),
        ("a.example", "a.example"),
        ("https://u:p@a.example:443/x?y=/", "a.example/x?y="),
    ],
)
def test_keys(url: str, key: str) -> None:
    assert url_key(url) == key
    assert host_key("Bücher.Example.") == "xn--bcher-kva.example"


def test_a_host_far_below_a_listed_one_is_dropped(tmp_path: Path) -> None:
    bad = part(tmp_path, domains="bad.example\n")
    assert reasons(bad, f"http://{'a.' * 60}bad.example/", f"http://{'a.' * 100_000}bad.example/") == ["subdomain"] * 2


def test_what_lists_hold_counts_and_not_where_they_lie(tmp_path: Path) -> None:
    lists = {f.name for f in fields(UrlConfig) if is_execution(f)}
    assert lists == {"domains", "urls", "hard_words", "soft_words", "substrings", "allow"}
    # What is left out of the key as a setting is in it by its content.
    named = UrlConfig(**{name: str(tmp_path / name) for name in lists})
    for name in lists:
        (tmp_path / name).write_text("word\n")
    assert set(Url(named).inputs()) == {f"{name}.0" for name in lists}
