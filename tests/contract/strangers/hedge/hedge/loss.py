from lmgraft.seams.objective import Example, Loss


class Hedge:
    def __init__(self, cfg):
        self.eps, self.calm = cfg.eps, cfg.calm
        # what costs nothing is not asked for
        self.asks = frozenset(
            {"logprob"} | ({"vocab_mean"} if self.eps else set()) | ({"entropy"} if self.calm else set())
        )

    def columns(self):
        return frozenset({"text"})

    def encode(self, doc, tok):
        if not doc.text:
            return []
        ids = [tok.end_id, *tok.encode_batch([doc.text])[0], tok.end_id]
        return [Example(ids, [0.0] + [1.0] * (len(ids) - 1))]

    def normalizers(self, b):
        return {"lm": float(w(b).sum())}

    def loss(self, out, b, shared):
        k = w(b)
        x = -out.logprob
        if self.eps:
            x = (1 - self.eps) * x - self.eps * out.vocab_mean
        if self.calm:
            x = x - self.calm * out.entropy
        n = float(k.sum())
        m = {"nll": (-float((k * out.logprob.detach()).sum()), n)}
        if self.calm:
            m["entropy"] = float((k * out.entropy.detach()).sum()), n
        return Loss({"lm": (k * x).sum()}, m)


def w(b):
    return b.weights * (b.targets >= 0)
