"""Errors, value theories, files, caches, formatting, neuron sets and statistics. Knows no model."""
