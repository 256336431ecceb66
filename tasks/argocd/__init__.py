"""Step 3 as a sync of Argo CD: starts one or follows one, and says what became of it (argocd.md §3).

Pure: what an application's JSON says (`states.py`), what that means for a run (`verdicts.py`). At the edge: Argo CD's API (`client.py`), what its
refusals mean (`refusals.py`), one operation followed (`following.py`), one run (`running.py`).
"""
