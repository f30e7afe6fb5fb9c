"""The training loop and its evaluation: pure torch, the same under Ray, in a test and in a benchmark."""
