"""The vocabulary and the memory of Evenkeel: records, ledger, weights on disk, settings, errors.

Knows SQLite and the file system. Knows nothing of Slack, of models or of statistics.
"""
