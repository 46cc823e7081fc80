"""Rill: a gated linear recurrence as a language model."""
