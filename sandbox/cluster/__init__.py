"""A real Kubernetes cluster on one machine without containers: one binary is its control plane, and its only node runs pods as processes.

It is not part of the wheel. It needs Linux, root and the binary that `sandbox.builds` makes (servers.md §3).
"""
