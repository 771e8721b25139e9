"""report.html of a run folder: one self-contained page from tables, results and manifest; knows no model."""

from neva_tl.study.report.write import write_report

__all__ = ["write_report"]
