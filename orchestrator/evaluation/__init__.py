"""What is asked of a finished checkpoint and of a corpus: figures, offsets, an audit, controls, reports. Pure.

Promises: neither Ray nor MLflow is known here; the same checkpoint and clips give the same answer, however the clips
are shared among processes; every figure has its definition, its interval and what chance would give.
"""
