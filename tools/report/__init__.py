"""Showing results to people: pages and tables, made of committed files and kept experiments.

What belongs here: the comparison page (`python -m tools.report`), the model card (card.py), and the
tables in README.md and docs/ (readme.py). Nothing here runs or judges anything.
"""
