"""lmgraft builds language models from parts."""
