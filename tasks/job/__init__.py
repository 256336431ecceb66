"""Step 3 as a Kubernetes Job: its manifest, the one Job per plan, its end, and its pods' logs."""
