"""The line that says how many wrong passes were planted and caught."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts = {
        outcome: sum(
            "test_is_rejected[" in report.nodeid
            for report in terminalreporter.getreports(outcome)
            if getattr(report, "when", "call") == "call"
        )
        for outcome in ("passed", "failed", "xfailed", "xpassed")
    }
    if total := sum(counts.values()):
        caught = counts["passed"] + counts["xpassed"]
        terminalreporter.write_line(f"planted wrong passes: {total}, caught {caught}")
