"""Judging results: did a change make the model worse, are the committed results the code's?

What belongs here: the rules (config.py reads gate.yaml, noise.py measures how much metrics vary,
rules.py takes both from the baseline), the evidence (baseline.py, declarations.py, evidence.py),
the decision (sequential.py, judge.py), its report (summary.py), and the commands: check.py compares
with a baseline, verify.py rebuilds.
"""
