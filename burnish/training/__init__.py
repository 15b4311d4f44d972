"""Training of graphs in PyTorch; with `optimizer/frontend` the only place that imports torch."""
