"""The kinds of stage that core brings: corpus, tokenizer, tokens, train, evaluate."""
