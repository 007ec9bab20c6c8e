"""Judging results: are they the committed ones, and did metrics get worse than noise explains?

What belongs here: the rule and its configuration (rule.py, config.py), the noise that it is
calibrated on (noise.py), and the commands: check.py compares with a baseline, verify.py rebuilds.
"""
