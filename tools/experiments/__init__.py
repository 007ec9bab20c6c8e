"""Running DVC experiments side by side, comparing them, and searching for good params.

What belongs here: where experiments run (backend.py, and local.py and ray.py beside it), how they
are watched (runner.py, display.py), which have to be run (up_to_date.py), what they came to
(results.py), and the commands on top: `python -m tools.experiments` and `tools.experiments.sweep`.
The gate and the report build on this; nothing here knows of them.
"""
