"""What all benchmarks share: runs, medians, processes, databases, the report."""
