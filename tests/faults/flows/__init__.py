"""`make faults PART=flows`: worker, engine, Prefect server and database killed at each of the five tasks."""
