"""Hostile and damaged input without end: whatever the bytes, a result or an `OrchestratorError`, and nothing else.

`python -m tests.fuzz --cases 200000` runs long; `tests/checkpoint/test_fuzz.py` runs the same kinds shortly.
"""
