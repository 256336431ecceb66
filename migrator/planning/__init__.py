"""Decides without a server what would run, and why it may not: history and journal, selection, refusals, plans, questions, events."""
