"""``lmgraft completion``: the line that switches completion on."""

from __future__ import annotations

import click

__all__ = ["completion"]


@click.command(
    epilog="""\b
Examples:
  lmgraft completion bash >> ~/.bashrc
  lmgraft completion zsh  >> ~/.zshrc
  lmgraft completion fish > ~/.config/fish/completions/lmgraft.fish"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Prints the completion script of SHELL: commands, recipes, parts and keys."""
    from click.shell_completion import get_completion_class

    from lmgraft.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None
    # `source()` of bash starts bash to check its version; the script itself needs none of that.
    print(kind.source_template % kind(cli, {}, "lmgraft", "_LMGRAFT_COMPLETE").source_vars())
