"""Judge results: is a change worse than its baseline, and does a commit rebuild to its own bytes?

Commands: check.py compares a candidate with a baseline, noise.py measures how much metrics vary,
verify.py rebuilds a commit. Behind check.py: baseline.py (what to compare with), score.py (score a
model with the baseline's code), judge.py (rebuild, score and compare), sequential.py (statistics),
config.py (gate.yaml), review.py (edits of the gate), report.py (the text).
"""
