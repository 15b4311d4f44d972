"""What came of a request."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from burnish import report
from burnish.optimizer.errors import UsageError


@dataclass
class Result:
    """What came of a request.

    Attributes:
        report: JSON schema 1.
        path: the artifact; None after a dry run.
    """

    report: dict[str, Any]
    path: Path | None

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Copy the artifact (and its data files) to `path`; returns that."""
        if self.path is None:
            raise UsageError("a dry run has no artifact to save")
        target = Path(path)
        pairs = [
            (self.path.parent / name, target.parent / name)
            for name in self.report["output"]["files"][1:]
        ]
        for source, copy in (*pairs, (self.path, target)):
            if not (copy.exists() and source.samefile(copy)):
                shutil.copy2(source, copy)
        return target

    def _repr_html_(self) -> str | None:
        """The report for a notebook; None, for its plain form, without the extra `report`."""
        return report.fragment(self.report)
