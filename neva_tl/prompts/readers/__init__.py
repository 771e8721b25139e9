"""One file per public format; each has a `read(path) -> ContrastSet` and is listed in `prompts.registry`."""
