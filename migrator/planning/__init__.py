"""What would run and why not, decided without a server: history and journal, selection, refusals, plans, questions, events."""
