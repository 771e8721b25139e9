"""Quality and agreement of judges."""
