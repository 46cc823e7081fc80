"""Filter ``url``: drops documents by where they come from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lmgraft.seams.data_source import Document
from lmgraft.seams.filter import KEEP, Verdict

from lmgraft_web.places import entries
from lmgraft_web.plugin import UrlConfig
from lmgraft_web.url_lists import HashList, domains_in, host_key, url_key, urls_in, words_in

__all__ = ["Url"]

_SIGNS = re.compile(r"[\W_]+")
LONGEST = 253
"""Characters of a host's name, as DNS has it; what stands before them is no name of a host."""
_LISTS = ("domains", "urls", "allow")


class Url:
    """Row-wise, on ``meta.url``; documents without one are kept. The first rule that fires is the reason.

    1. ``domain``: its host, with or without ``www.``, is in ``domains``; ``subdomain``: its host lies below one.
    2. ``url``: it is in ``urls``, or lies below one of them (whole parts of the path).
    3. ``hard_word``: one of its words (what stands between signs, host and path and query) is in ``hard_words``.
    4. ``hard_substring``: its letters and digits, signs taken out, hold one of ``substrings``.
    5. ``soft_words``: ``soft_threshold`` different words of ``soft_words`` are among its words.

    Hosts in ``allow``, and those below them, are kept before all that.

    Source: RefinedWeb (Penedo et al. 2023, 3.1 and G.1): a blocklist of domains, and words that count hard or soft;
    FineWeb (Penedo et al. 2024, 3.1) begins with the same step. No list comes with it: RefinedWeb weighs words by
    scores which it does not publish. The registered domain is not looked up (public suffix list): a list that holds
    ``co.uk`` drops all below it.
    """

    def __init__(self, config: UrlConfig) -> None:
        self.config = config
        self._paths = {name: entries(getattr(config, name)) for name in (*_LISTS, *_WORDS)}
        self._words = {name: frozenset(words_in(self._paths[name], name)) for name in _WORDS}
        self._hosts: dict[str, HashList] | None = None
        found = sorted(self._words["substrings"])
        self._inside = re.compile("|".join(map(re.escape, found))) if found else None

    def inputs(self) -> Mapping[str, str]:
        """Every list, so that a changed one is another filter."""
        return {f"{name}.{number}": path for name, paths in self._paths.items() for number, path in enumerate(paths)}

    def fit(self, inputs: Mapping[str, Iterator[Mapping[str, Any]]], workdir: Path) -> None:
        """Sorts the lists into ``workdir``, or loads what is there. Reads the files itself: they are no tables."""
        if not all((workdir / f"{name}.npy").is_file() for name in _LISTS):
            for name, found in self._sorted().items():
                found.save(workdir / f"{name}.npy")
        self._hosts = {name: HashList.load(workdir / f"{name}.npy") for name in _LISTS}

    def judge(self, batch: Sequence[Document]) -> list[Verdict]:
        if self._hosts is None:
            self._hosts = self._sorted()
        return [self._judge(document.meta.get("url")) for document in batch]

    def _sorted(self) -> dict[str, HashList]:
        domains, below = domains_in(self._paths["domains"])
        urls = HashList.of(key for found in (below, urls_in(self._paths["urls"])) for key in found)
        return {
            "domains": HashList.of(domains),
            "urls": urls,
            "allow": HashList.of(domains_in(self._paths["allow"])[0]),
        }

    def _judge(self, url: Any) -> Verdict:
        if not isinstance(url, str) or not url.strip() or self._hosts is None:
            return KEEP
        hosts = _hosts_of(url)
        if self._hosts["allow"].first(hosts) >= 0:
            return KEEP
        place = self._hosts["domains"].first(hosts)
        if place >= 0:
            return Verdict.drop("subdomain" if place else "domain")
        if len(self._hosts["urls"]) and self._hosts["urls"].first(_above(url_key(url))) >= 0:
            return Verdict.drop("url")
        return self._by_words(url.lower())

    def _by_words(self, url: str) -> Verdict:
        words = set(_SIGNS.split(url))
        if not words.isdisjoint(self._words["hard_words"]):
            return Verdict.drop("hard_word")
        if self._inside is not None and self._inside.search(_SIGNS.sub("", url)):
            return Verdict.drop("hard_substring")
        soft = self._words["soft_words"]
        return Verdict.drop("soft_words") if soft and len(words & soft) >= self.config.soft_threshold else KEEP


_WORDS = ("hard_words", "soft_words", "substrings")


def _hosts_of(url: str) -> list[str]:
    """The host without ``www.``, then those above it."""
    try:
        host = urlsplit(url if "://" in url else f"//{url}").hostname or ""
    except ValueError:
        return []
    name = host_key(host[-LONGEST:]).removeprefix("www.")
    parts = name.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))] if name else []


def _above(key: str) -> list[str]:
    """The URL and those above it: without its query, then a part of the path less each time."""
    bare = key.partition("?")[0].rstrip("/")
    parts = bare.split("/")[:32]
    return [key, *("/".join(parts[:end]) for end in range(len(parts), 0, -1))]
