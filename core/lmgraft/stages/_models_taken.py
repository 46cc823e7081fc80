"""How many models a merge takes, told before any work from its settings alone."""

from __future__ import annotations

__all__ = ["miscounted"]


def miscounted(name: str, config: object, count: int) -> tuple[str, str] | None:
    """(fact, cause) where a merge of these settings, or of this class of them, does not take so many models."""
    least, most = getattr(config, "takes_models", (0, None))
    if count >= least and (most is None or count <= most):
        return None
    number = f"{least}" if most == least else f"{least} or more" if most is None else f"{least} to {most}"
    return f"{name} takes {number} {'model' if number == '1' else 'models'}", f"it is given {count}"
