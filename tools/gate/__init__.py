"""Judge results: did a change make the model worse, are the committed results the code's?

Commands: check.py compares a candidate with a baseline, noise.py measures how much metrics vary,
verify.py rebuilds a commit. Behind them: baseline.py (what to compare with), candidate.py (rebuild
and score it), score.py (the baseline's code as the scorer), config.py (gate.yaml), sequential.py
(the statistics), judge.py (the decision), review.py (edits of the gate), report.py (the text).
"""
