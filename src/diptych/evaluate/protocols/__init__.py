"""One file a protocol: features and a set in, per-example outcomes out."""
