"""A smaller vocabulary: what reads ids and what gives logits, and how both are cut."""
