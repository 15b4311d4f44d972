"""What kind of network a graph is, in one line, from what it computes and from no name in it."""

from burnish.optimizer.analysis.architecture.architecture import Architecture, architecture
from burnish.optimizer.analysis.architecture.headline import headline

__all__ = ["Architecture", "architecture", "headline"]
