"""Who may enter a protected environment, with what, and by whose word.

`claims.py` is the release's manifest and the approval as a form gives it: a claim. `policy.py` reads the worker's own rules; `documents.py` is what gets
signed. `ssh.py`, `oidc.py` and `worker_keys.py` check signatures of people, of identity providers and of workers;
`images.py` pins an image to its digest, and `verifying.py` decides.
"""

from tasks.approval.claims import (
    CONFIRMATION,
    FLOW,
    MOST_APPROVALS,
    Approval,
    ReleaseManifest,
    check,
    from_run,
    manifest,
    read,
)

__all__ = ["CONFIRMATION", "FLOW", "MOST_APPROVALS", "Approval", "ReleaseManifest", "check", "from_run", "manifest", "read"]
