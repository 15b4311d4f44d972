"""Products with weights that have zeros in blocks, or other structure, cut to what counts."""
