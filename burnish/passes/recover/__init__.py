"""Exporter debris becomes standard high-level ONNX operators."""
