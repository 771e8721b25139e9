"""Report of a run folder, one self-contained page."""

from neva_tl.study.report.write import write_report

__all__ = ["write_report"]
