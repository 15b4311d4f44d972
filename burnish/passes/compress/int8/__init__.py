"""Int8: weights per output channel, activations per tensor at run time."""
