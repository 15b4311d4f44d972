"""`Attention` becomes the form that is measured fastest."""
