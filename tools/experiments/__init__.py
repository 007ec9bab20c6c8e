"""Run DVC experiments side by side, compare them, and search for good params.

This package knows where experiments run (backend.py, local.py, ray.py), runs several at a time
(runner.py), decides which are up to date (up_to_date.py) and reads their results (results.py,
compare.py). `python -m tools.experiments` and `python -m tools.experiments.sweep` are its commands.
The gate and the report build on it, and it imports nothing from them.
"""
