"""Measures Kindred's speed and fidelity beside the reference notebook, in one run.

    python -m benchmarks [--quick] [--rows N] [--out build/bench.json]

Every number comes from that run. Rivals take turns, so that a machine whose speed drifts is equally
slow for both, and the ratios count.
"""
