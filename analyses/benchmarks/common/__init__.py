"""Workloads, peers and options that the benchmark scripts share."""
