"""Where tokens stand in a graph: layouts, what hides padded ones, and what they can reach."""
