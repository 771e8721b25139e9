"""Conditions: texts and scores of a model under edits."""
