"""A run that is killed many times must end as if nothing had happened: `python -m tests.soak --kills 50`."""
