"""Pictures and pages of circuits."""
