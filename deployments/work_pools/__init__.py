"""Work pools and what their runs are started with: `templates`, and the base job templates that it fills in."""
