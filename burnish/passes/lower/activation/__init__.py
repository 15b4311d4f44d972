"""Forms of activations, with the bias before them."""
