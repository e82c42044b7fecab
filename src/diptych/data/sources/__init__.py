"""One file a kind of source: folders, tables, tar shards, saved Hugging Face datasets, embedded sets."""
