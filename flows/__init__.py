"""The flows: the order of the steps of `tasks`, for one service, for one environment, and from dev to prod (architecture.md §3)."""
