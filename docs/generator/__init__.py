"""Pages of the documentation site that are written from the code; `hooks.py` gives them to MkDocs."""
