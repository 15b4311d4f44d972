"""Facts about a graph. An analysis reads; only a pass writes."""
