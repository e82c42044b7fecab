"""How good a model is: protocols give per-example outcomes, metrics make numbers of them, records and the report keep them."""
