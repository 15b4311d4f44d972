"""What a run costs: matrix products and attentions, from their shapes."""
