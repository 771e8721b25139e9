"""Errors, value theories, files, caches, formatting, neuron sets and statistics. Imports no model code."""
