"""Warnings about what lock etiquette can't prevent: rewrites and scans that hold their lock while they work, and clients that a change of a table's
columns breaks. One rule, one file, one stable id; a rule never refuses.

PostgreSQL only, and by the shape of a statement alone: nobody is asked how large a table is. Tables that the same plan creates are left out.
`examination.examine` is the door.
"""
