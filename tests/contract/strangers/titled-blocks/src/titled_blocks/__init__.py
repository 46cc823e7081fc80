"""Documents under ``Title:`` headers, as plain files."""

__version__ = "1.3.0"
