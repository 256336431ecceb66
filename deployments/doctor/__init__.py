"""The doctor: walks the whole chain from a line of fleet.yaml to the running workload, and stops at the first broken link.

`findings` is what a link says and how the chain is walked (pure), `troubles` the table that the doctor, docs/troubleshooting.md and the hints share.
`database` looks at the links up to the history, `surroundings` at the chart, the cluster and Argo CD. It reads only.
"""
