"""Half precision: which nodes compute in float16, and how the others are reached."""
