"""Reports as text: tables for a terminal, Markdown and JUnit XML for CI."""
