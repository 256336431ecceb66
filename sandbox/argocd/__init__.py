"""A real Argo CD on the sandbox's cluster: controller, repository server and API server as processes, a local git repository as source.

It is not part of the wheel. It needs what the cluster needs, and the binary that `sandbox.builds` makes of `pieces/`.
"""
