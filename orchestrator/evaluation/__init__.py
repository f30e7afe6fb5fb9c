"""What is asked of a finished checkpoint and of a corpus: figures, offsets, audit, controls, reports."""
