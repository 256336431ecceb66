"""What a statement is and does, read from its text: once, when its file is parsed, and kept with its step.

`readings` is the door: `readings.of(step)`. `lock_classes` says whom a statement locks out, `grammar` is PostgreSQL's own.
"""
