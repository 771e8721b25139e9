"""Running a study: config in, run folder out."""
