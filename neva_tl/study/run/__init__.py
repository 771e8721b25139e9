"""Studies: from a configuration to a run folder."""
