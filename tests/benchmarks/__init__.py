"""Benchmarks: ratios against a named baseline, measured in the same run. See __main__.py."""
