"""Work pools and the settings that their runs start with: `templates`, and the base job templates that it fills in."""
