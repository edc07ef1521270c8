"""Benchmarks: each prints a table of what it measured, with ratios; `make bench` runs them all."""
