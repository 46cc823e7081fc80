"""The command line. Each command lives in a module of its own, imported when it is called."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from lmgraft.errors import EXIT_FAULT, EXIT_USER, LmgraftError

__all__ = ["cli", "main"]

#: command -> (module, attribute, help line). The help lines stand here so that ``--help`` imports none of the modules.
COMMANDS = {
    "run": ("lmgraft.cli.run", "run", "Compose, check and run a recipe."),
    "explain": ("lmgraft.cli.explain", "explain", "Where a value comes from and which plugin owns it."),
    "recipes": ("lmgraft.cli.recipes", "recipes", "The installed recipes."),
    "plugins": ("lmgraft.cli.plugins", "plugins", "The installed parts: list, show, why, check."),
    "new": ("lmgraft.cli.new", "new", "Scaffold a plugin or a recipe."),
    "generate": ("lmgraft.cli.generate", "generate", "Text from a model folder or a run."),
    "chat": ("lmgraft.cli.chat", "chat", "A conversation with a model."),
    "serve": ("lmgraft.cli.serve", "serve", "A model behind an OpenAI-compatible endpoint, and a chat page."),
    "tokens": ("lmgraft.cli.tokens", "tokens", "A text cut into coloured tokens, by one tokenizer or two."),
    "merge": ("lmgraft.cli.merge", "merge", "One model of one or several model folders."),
    "export": ("lmgraft.cli.export", "export", "A model in another format: hf, gguf."),
    "runs": ("lmgraft.cli.runs", "runs", "List, resume and delete runs."),
    "report": ("lmgraft.cli.report", "report", "Write a run's page."),
    "rerun": ("lmgraft.cli.rerun", "rerun", "Repeat a run from its manifest."),
    "store": ("lmgraft.cli.store", "store", "The artifacts: ls, verify, gc."),
    "completion": ("lmgraft.cli.completion", "completion", "Shell completion for bash, zsh and fish."),
}


class _Lazy(click.Group):
    """A group that knows its commands' names and help lines, and imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[name]
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from lmgraft.table import close

            hint = close(args[0], COMMANDS)
            raise click.UsageError(f"{error.message} {hint or 'lmgraft --help lists the commands.'}", ctx) from error


@click.command(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  lmgraft run quickstart
  lmgraft run quickstart data.path=my_texts/ pretrain.steps=500
  lmgraft run quickstart --multirun pretrain.optimizer.lr=1e-3,2e-3,4e-3
  lmgraft explain quickstart pretrain.optimizer.lr
  lmgraft merge dus mistral-7b/ solar-10b/ --drop 8""",
)
@click.version_option(package_name="lmgraft")
def cli() -> None:
    """Builds language models from parts: recipes compose plugins behind seven seams."""


def main(arguments: list[str] | None = None) -> None:
    """The console script: runs a command and turns errors into messages and exit codes."""
    # Worker processes start as `python -c`, whose import path begins with the working directory: maybe a stranger's.
    os.environ.setdefault("PYTHONSAFEPATH", "1")
    try:
        result: Any = cli.main(args=arguments, standalone_mode=False)
        sys.exit(result if isinstance(result, int) else 0)
    except click.exceptions.Abort:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except LmgraftError as error:
        print(str(error), file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader (head, less) has seen enough; python would complain once more while it closes stdout.
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        from lmgraft.cli._os_errors import as_problem

        problem = as_problem(error) if isinstance(error, OSError) else None
        if problem is not None:
            print(str(problem), file=sys.stderr)
            sys.exit(EXIT_USER)
        import traceback

        traceback.print_exc()
        print(
            "\nThis is a fault of lmgraft or of one of its parts, not of your input. Please report it.", file=sys.stderr
        )
        sys.exit(EXIT_FAULT)
