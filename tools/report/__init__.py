"""Show results to people: pages and tables, made from committed files and experiments.

This package holds the report page (`make report`: __main__.py, page.py, page.html, charts.py), the
model card and the data card (card.py), and the tables in README.md and docs/ (readme.py). Nothing
here runs or judges anything.
"""
