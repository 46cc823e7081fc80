"""A text as its tokens, to be looked at: shared by ``lmgraft tokens``, the stage ``tokenizer`` and the report."""
