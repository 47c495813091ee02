"""Metrics as the benchmarks define them."""
