"""The command line `neva-tl`: one file per command, thin over the API."""
