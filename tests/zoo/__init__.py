"""The zoo: one small file of every kind that people hold, and of every kind that must be refused.

Each file is generated here by the library that writes it in the field, or by hand where there is none. Modules hold
groups of cases in a tuple `CASES`; `cases.py` collects them, `run.py` tries one, and `python -m tests.zoo` (also
`make zoo`) tries all and prints a table.
"""
