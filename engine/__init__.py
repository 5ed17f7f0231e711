"""What runs: launching, supervising and instrumenting training, and the built-in workloads."""
