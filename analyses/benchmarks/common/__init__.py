"""What the benchmark scripts share: workloads, peers, and methods that run in turn, each in its own process."""
