import math
import re
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from itertools import accumulate, islice

from lmgraft.component import Component, ComponentConfig, execution
from lmgraft.hookspecs import hookimpl


@dataclass
class NextWordConfig(ComponentConfig):
    split: str = "validation"
    "train or validation"
    batch: int = execution(32)
    "requests a call"

    def needs(self):
        return frozenset({"columns:text"})

    def check(self):
        if self.split not in ("train", "validation"):
            yield f"split is {self.split!r}; take train or validation"
        if self.batch < 1:
            yield f"batch is {self.batch}; take 1 or more"


@hookimpl
def lmgraft_evaluator():
    c = NextWordConfig
    return [Component(name="nextword", target="nextword:NextWord", config=c, summary="Words guessed whole")]


class NextWord:
    def __init__(self, c):
        self.c = c

    def run(self, handle, tokenizer, *, data, limit):
        docs = [d.text for d in islice(data.documents(self.c.split), limit) if d.text and d.text.split()]
        if not docs:
            from lmgraft.errors import Problem, UserError

            raise UserError(Problem(f"no words in {self.c.split}", "nextword found none", "hold documents out"))
        sizes = tokenizer.token_bytes()
        hits = n = 0
        nats = 0.0
        seen = Counter()
        for text, scored in zip(docs, self.scored(handle, tokenizer, docs), strict=True):
            ids, lps, ok = scored
            ends = list(accumulate(sizes[i] for i in ids))
            nats -= sum(lps)
            for m in re.finditer(r"\S+", text):
                a, b = len(text[: m.start()].encode()), len(text[: m.end()].encode())
                # tokens that touch bytes a..b
                hits += all(ok[bisect_right(ends, a) : bisect_right(ends, b - 1) + 1])
                n += 1
                seen[m.group()] += 1
        d = {"items": len(docs), "words": n, "split": self.c.split}
        return [
            _score("next_word_accuracy", 100 * hits / n, "%", True, detail=d),
            _score("bits_per_word", nats / math.log(2) / n, "bits/word", False, detail=d),
            _score("commonest_word", 100 * max(seen.values()) / n, "%", True, reference=True, detail=d),
        ]

    def scored(self, handle, tokenizer, docs):
        k = handle.context
        reqs, owner, out = [], [], []
        for j, ids in enumerate(tokenizer.encode_batch(docs)):
            ids = list(ids)
            whole = [tokenizer.end_id, *ids]
            out.append((ids, [], []))
            step = max(1, k // 2)
            for s in range(1, len(whole), step):
                e = min(s + step, len(whole))
                reqs.append((whole[max(0, e - k - 1) : s], whole[s:e]))
                owner.append(j)
        for i in range(0, len(reqs), self.c.batch):
            for j, r in zip(owner[i : i + self.c.batch], handle.score(reqs[i : i + self.c.batch]), strict=True):
                out[j][1].extend(r.logprobs)
                out[j][2].extend(r.greedy)
        return out


def _score(*a, **k):
    from lmgraft.seams.evaluator import Score

    return Score(*a, **k)
