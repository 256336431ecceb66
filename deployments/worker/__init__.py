"""The worker of type `greylag`: starts greylag's own flows by name and takes nothing else from the Prefect server than names and parameters."""
