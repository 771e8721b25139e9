"""Profiles of a model: value profiles, social value orientation, value graphs."""
