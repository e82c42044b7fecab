"""Reading pictures and words: sources, decoding, batching, tokenizers, evaluation sets."""
