"""Worker processes: each runs sessions for its parent, and ends with it.

`process` is the parent's side and `child` the other one; what a child does is a function that its
parent names (`sessions` runs models). Headers are JSON over a pair of sockets, and arrays lie in
memory without a name (`memory`), so that nothing is left behind whoever is killed. Nothing is
unpickled.
"""

from __future__ import annotations
