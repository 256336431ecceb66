"""A real Kubernetes cluster on one machine without containers: its control plane is one binary, its only node runs pods as processes.

Nothing of it is in the wheel. It needs Linux, root and the binary that `sandbox.builds` makes (servers.md §3).
"""
