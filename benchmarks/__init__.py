"""What Kindred's speed and fidelity are beside the notebook it started from, in one run.

    python -m benchmarks [--quick] [--rows N] [--out build/bench.json]

Every number is measured in that run. Rivals take turns, so that a machine whose speed drifts is as
slow for one as for the other, and what counts are the ratios.
"""
