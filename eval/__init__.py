"""Scores an answerer on target and general benchmarks; the gate; the report."""
