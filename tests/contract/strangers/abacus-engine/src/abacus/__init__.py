"""An engine that counts carefully."""

__all__: list[str] = []
