"""``lmgraft generate``: text from a model folder or a run directory, token by token."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pathlib import Path

    from lmgraft.seams.tokenizer import TextTokenizer

__all__ = ["generate"]


@click.command(
    epilog="""\b
Examples:
  lmgraft generate runs/quickstart/2026-01-31_12-00-00 "The module "
  lmgraft generate out/stages/pretrain "def " --max-new-tokens 200 --temperature 0
  lmgraft generate runs/solar/2026-01-31_12-00-00 "What does len return?" --system "Be brief."
  lmgraft generate runs/solar/2026-01-31_12-00-00 "Once upon a time" --no-chat"""
)
@click.argument("checkpoint", type=click.Path())
@click.argument("prompt")
@click.option(
    "--chat/--no-chat",
    default=None,
    help="Ask PROMPT as a question, or continue it as text.  [default: ask where the model has a chat template]",
)
@click.option("--system", metavar="TEXT", help="What stands before the question, for a model that chats.")
@click.option("--max-new-tokens", default=128, show_default=True, help="Tokens at most.")
@click.option("--temperature", default=0.8, show_default=True, help="0 is greedy.")
@click.option("--top-k", default=0, show_default=True, help="Only the k likeliest tokens; 0 is off.")
@click.option("--top-p", default=0.95, show_default=True, help="Only the likeliest tokens of this total probability.")
@click.option("--seed", default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or mps.")
def generate(
    checkpoint: str,
    prompt: str,
    chat: bool | None,
    system: str | None,
    max_new_tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
    device: str,
) -> int:
    """Lets the model in CHECKPOINT (a model folder or a run directory) answer PROMPT, where it was tuned on chats, or
    continue it."""
    from pathlib import Path

    from lmgraft import loading
    from lmgraft.chat import stop_ids
    from lmgraft.errors import Problem, UserError
    from lmgraft.printable import printable
    from lmgraft.seams.parallelism import Sampling

    bad = _bad(max_new_tokens, temperature, top_k, top_p, device)
    if bad:
        raise UserError(bad)
    folder = loading.model_folder(Path(checkpoint))
    tokenizer = loading.load_tokenizer(folder)
    asks = tokenizer.chat_template is not None if chat is None else chat
    ids = _question(tokenizer, prompt, system, folder) if asks else _text(tokenizer, prompt, system)
    handle = loading.load(folder, device=device, precision="float32")
    if len(ids) >= handle.context:
        cause = f"it is {len(ids)} tokens and the model's context is {handle.context}"
        raise UserError(Problem("the prompt is too long", cause, "shorten it"))
    sampling = Sampling(
        max_new_tokens=max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
        stop_ids=stop_ids(tokenizer, tokenizer.chat_template if asks else None),
    )
    sys.stdout.write("" if asks else prompt)
    # A pipe gets what the model says; a terminal would obey some of it.
    shown: Callable[[str], str] = printable if sys.stdout.isatty() else str
    said = ""
    made: list[int] = []
    for token in handle.generate(ids, sampling):
        if token in sampling.stop_ids:
            break
        made.append(token)
        text = tokenizer.decode(made)
        # A character may span several tokens: its first bytes decode to U+FFFD until the rest has come.
        if not text.endswith("�"):
            sys.stdout.write(shown(text[len(said) :]))
            sys.stdout.flush()
            said = text
    sys.stdout.write(shown(tokenizer.decode(made)[len(said) :]) + "\n")
    return 0


def _text(tokenizer: TextTokenizer, prompt: str, system: str | None) -> list[int]:
    """A document starts after the end token, as it did in training."""
    from lmgraft.errors import Problem, UserError

    if system is not None:
        cause = "the prompt is continued as text: the model has no chat template, or --no-chat was given"
        raise UserError(Problem("--system has nowhere to stand", cause, "write it at the start of the prompt"))
    return [tokenizer.end_id, *tokenizer.encode_batch([prompt])[0]]


def _question(tokenizer: TextTokenizer, prompt: str, system: str | None, folder: Path) -> list[int]:
    from lmgraft.chat import encode_prompt
    from lmgraft.errors import Problem, UserError

    if tokenizer.chat_template is None:
        cause = "its tokenizer_config.json holds no chat_template: it was not tuned on chats"
        remedy = "leave --chat out, or name the model of an sft or dpo stage"
        raise UserError(Problem(f"--chat: the model in {folder} has no chat template", cause, remedy))
    before = [{"role": "system", "content": system}] if system is not None else []
    return encode_prompt([*before, {"role": "user", "content": prompt}], tokenizer, tokenizer.chat_template)


def _bad(max_new_tokens: int, temperature: float, top_k: int, top_p: float, device: str) -> list:  # type: ignore[type-arg]
    from lmgraft.errors import Problem

    rules = [
        (max_new_tokens >= 1, f"--max-new-tokens {max_new_tokens}", "it must be at least 1", "--max-new-tokens 128"),
        (temperature >= 0, f"--temperature {temperature}", "it must be at least 0", "--temperature 0.8; 0 is greedy"),
        (top_k >= 0, f"--top-k {top_k}", "it must be at least 0", "--top-k 50; 0 is off"),
        (0 < top_p <= 1, f"--top-p {top_p}", "it must be above 0 and at most 1", "--top-p 0.95; 1 is off"),
        (
            device in ("auto", "cpu", "cuda", "mps"),
            f"--device {device}",
            "it is auto, cpu, cuda or mps",
            "--device auto",
        ),
    ]
    return [Problem(fact, cause, remedy) for fine, fact, cause, remedy in rules if not fine]
