"""Search for circuits and measurement of their faithfulness."""
