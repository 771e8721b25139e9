"""What a paper takes from a run folder: tables, captions, a paragraph on methods and references, in LaTeX."""

from neva_tl.study.paper.write import write_paper

__all__ = ["write_paper"]
