"""Programs with a verdict: ``python -m benchmarks --list``."""
