"""Step 3 as a Kubernetes Job: its manifest, the one Job per plan, what became of it, and its pods' logs."""
