"""Running DVC experiments side by side, comparing them, and searching for good params.

What belongs here: where experiments run (backend.py, local.py, ray.py), running several at a time
(runner.py), which are up to date (up_to_date.py), their results (results.py, compare.py), and the
commands on top: `python -m tools.experiments` and `python -m tools.experiments.sweep`.
The gate and the report build on this; nothing here knows of them.
"""
