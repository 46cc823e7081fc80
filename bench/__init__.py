"""Benchmarks: us and a named peer on the same work in one run. Nothing here is ever an assertion in a test."""
