"""Pure measures on arrays of scores."""
