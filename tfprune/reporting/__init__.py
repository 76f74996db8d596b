"""One page about a run, as HTML and as Markdown: what was pruned, and what came of it."""

from tfprune.reporting.reporter import Report, report

__all__ = ["Report", "report"]
