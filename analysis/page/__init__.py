"""The page of a report: words, tables, figures."""
