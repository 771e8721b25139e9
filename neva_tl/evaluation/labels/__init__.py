"""Labelled texts and choices."""
