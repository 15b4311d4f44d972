"""Plots as inline SVG; colours come from the page's style, so that one drawing is light and dark.

Horizontal places are percentages of the width that a plot gets, vertical ones pixels: bars stretch
with the screen while text keeps its size.
"""
