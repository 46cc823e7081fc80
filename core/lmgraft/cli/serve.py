"""``lmgraft serve``: a model behind an OpenAI-compatible endpoint, and a page to chat with it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmgraft.cli._asking import loading_options

if TYPE_CHECKING:
    from lmgraft.serving.guard import Rules

__all__ = ["serve"]

KEY = "LMGRAFT_API_KEY"


@click.command(
    epilog="""\b
Examples:
  lmgraft serve runs/solar/2026-01-31_12-00-00
  lmgraft serve out/stages/dpo --port 9000 --name mine --precision int8
  lmgraft serve mistral-7b/ --template chatml --at-once 4 --max-new-tokens 512
  lmgraft serve out/stages/dpo --host 0.0.0.0 --api-key-file key.txt
  curl http://127.0.0.1:8000/v1/chat/completions -H 'content-type: application/json' \\
    -d '{"model": "dpo", "messages": [{"role": "user", "content": "What is a list?"}]}'"""
)
@click.argument("checkpoint", type=click.Path())
@click.option("--host", default="127.0.0.1", show_default=True, help="Another than this machine's own needs a key.")
@click.option("--port", default=8000, show_default=True, help="0 takes a free one.")
@click.option("--name", help="What requests call the model.  [default: the folder's name]")
@click.option(
    "--api-key-file",
    metavar="FILE",
    help=f"Requests must carry the key in FILE (Authorization: Bearer KEY), or the one in {KEY}.",
)
@click.option("--max-new-tokens", type=int, help="Tokens of an answer at most.  [default: the model's context]")
@click.option("--at-once", default=16, show_default=True, help="Texts that are written together.")
@click.option("--queue", default=64, show_default=True, help="Texts that wait beside them; more are refused (429).")
@click.option("--timeout", default=300.0, show_default=True, help="Seconds of a request; then its text ends.")
@click.option("--max-body", default=1024, show_default=True, help="KiB of a request's body.")
@click.option("--drain", default=30.0, show_default=True, help="Seconds for what is under way when a signal ends it.")
@click.option("--log/--no-log", default=True, help="A line a request on standard error.  [default: log]")
@loading_options
def serve(checkpoint: str, **values: Any) -> int:
    """Serves the model in CHECKPOINT (a model folder or a run directory): /v1/models, /v1/completions and
    /v1/chat/completions as OpenAI's clients ask for them, a chat page at / and /health. Ctrl-C ends it."""
    from lmgraft.errors import UserError
    from lmgraft.generation.prompts import prompts

    bad = _bad(values)
    if bad:
        raise UserError(bad)
    _installed()
    from lmgraft.serving import running

    key = _key(values["api_key_file"])
    place = running.address(values["host"], values["port"])
    if not running.is_loopback(place) and key is None:
        raise UserError(_keyless(values["host"]))
    asked = prompts(Path(checkpoint), values["template"])
    # Before the model, which may take minutes to load.
    with running.listen(place) as bound:
        _serve(Path(checkpoint), asked, bound, _rules(key, values), values)
    return 0


def _serve(checkpoint: Path, asked: Any, bound: Any, rules: Rules, values: dict[str, Any]) -> None:
    from lmgraft import loading
    from lmgraft.serving import running
    from lmgraft.serving.app import Served, application
    from lmgraft.serving.asked import Limits
    from lmgraft.serving.worker import Worker

    handle = loading.load(asked.folder, device=values["device"], precision=values["precision"])
    worker = Worker(handle, at_once=values["at_once"], waiting=values["queue"])
    limits = Limits(
        # Not resolved: a run's stages are links to folders that are called by their contents.
        model=values["name"] or Path(os.path.abspath(checkpoint)).name or "model",
        context=handle.context,
        tokens=min(values["max_new_tokens"] or handle.context, handle.context),
        texts=worker.limit,
    )
    served = Served(asked, worker, limits, values["timeout"], 1024 * values["max_body"])
    _greet(limits, bound.getsockname(), asked.template is not None, rules)
    running.run(application(served, rules), worker, bound, drain=values["drain"])


def _greet(limits: Any, name: tuple[Any, ...], chats: bool, rules: Rules) -> None:
    from lmgraft.printable import printable

    host = f"[{name[0]}]" if ":" in str(name[0]) else name[0]
    print(f"{printable(limits.model)} at http://{host}:{name[1]}/v1, a chat page at http://{host}:{name[1]}/")
    if rules.key is not None:
        print("requests need the key")
    if not chats:
        print("note: the model has no chat template, so only completions are answered; --template solar gives it one")
    sys.stdout.flush()


def _rules(key: str | None, values: dict[str, Any]) -> Rules:
    from lmgraft.serving.guard import Rules

    host = values["host"].lower()
    own = f"[{host}]" if ":" in host else host
    return Rules(
        key=key, hosts=frozenset({"localhost", "127.0.0.1", "[::1]", own}), log=_log if values["log"] else None
    )


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _key(file: str | None) -> str | None:
    """The key of the file or the environment. :raises UserError: it is none."""
    from lmgraft.errors import Problem, UserError

    where, key = (f"--api-key-file {file}", "") if file is not None else (KEY, os.environ.get(KEY, ""))
    remedy = "python -c 'import secrets; print(secrets.token_urlsafe(32))' > key.txt"
    if file is not None:
        try:
            key = Path(file).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            cause = getattr(error, "strerror", None) or "it is no UTF-8 text"
            raise UserError(Problem(f"{where} cannot be read", cause, remedy)) from error
    elif KEY not in os.environ:
        return None
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        cause = "it holds no key" if not key else "a header cannot carry such a key: it is one word of ASCII characters"
        raise UserError(Problem(where, cause, remedy))
    return key


def _installed() -> None:
    """:raises UserError: the extra is not."""
    from importlib.util import find_spec

    from lmgraft.errors import Problem, UserError

    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        cause = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
        raise UserError(Problem("lmgraft serve needs its extra", cause, "pip install 'lmgraft[serve]'"))


def _keyless(host: str) -> Any:
    from lmgraft.errors import Problem

    cause = "others than this machine could ask the model, and there is no key"
    return Problem(f"--host {host}", cause, f"--api-key-file FILE or {KEY}=..., or --host 127.0.0.1")


def _bad(values: dict[str, Any]) -> list[Any]:
    from lmgraft.cli._asking import bad_place
    from lmgraft.errors import Problem

    most = values["max_new_tokens"]
    rules = [
        (0 <= values["port"] < 65536, "port", "it must be from 0 to 65535", "--port 8000"),
        (most is None or most >= 1, "max-new-tokens", "it must be at least 1", "--max-new-tokens 512"),
        (values["at_once"] >= 1, "at-once", "it must be at least 1", "--at-once 16"),
        (values["queue"] >= 0, "queue", "it must be at least 0", "--queue 64"),
        (0 < values["timeout"] < 1e9, "timeout", "it must be above 0", "--timeout 300"),
        (values["max_body"] >= 1, "max-body", "it must be at least 1", "--max-body 1024"),
        (0 <= values["drain"] < 1e9, "drain", "it must be at least 0", "--drain 30"),
    ]
    bad = [
        Problem(f"--{name} {values[name.replace('-', '_')]}", cause, remedy)
        for fine, name, cause, remedy in rules
        if not fine
    ]
    return bad + bad_place(values)
