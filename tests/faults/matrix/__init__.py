"""The kill matrix: runs that are killed, cut and starved at random places, and what the next run then says and does (docs/faults.md).

`make faults PART=engine` runs all of it and writes the table; `tests/faults/test_kill_matrix.py` runs a short form. `mix` says what is applied,
`interruptions` what goes wrong, `lanes` does it on real servers, `verdicts` judges, `report` writes the page.
"""
