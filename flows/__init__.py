"""The flows: how the steps of `tasks` follow each other, in one service, one environment, and from dev to prod (architecture.md §3)."""
