"""Texts that a model writes: several at once, as streams of text, ended by ids or by strings."""
