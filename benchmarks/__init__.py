"""Speed and memory, each beside the tool that one would use instead, in the same run.

``python -m benchmarks.NAME`` runs one alone: it prints one JSON line and exits 1 below its target.
``python -m benchmarks`` runs them all. Only ratios are judged, never absolute times.
"""
