"""Step 5: is this release's code running, and no older code any more? `kubectl rollout status`, with what it leaves out.

kubectl calls the previous release's finished rollout a success, and does not count old pods that are still terminating (kubernetes.md §2). So
first the workload must carry this release's image (or a newer pod template than before the run), then kubectl's rules decide, then no pod of an
older revision may be left, then the app's own init container `greylag wait` must have passed. What decides is a pure function over the API's own
JSON; `looking` asks one cluster once, `watching` asks again until it is over.

What the step asks of the cluster, and so all that its Role needs, in the workload's namespace (`resourceNames` may name the workload where the
verb is get):

    apps             deployments          get     for a Deployment, and for a Rollout with `workloadRef`
    apps             statefulsets         get     for a StatefulSet
    apps             daemonsets           get     for a DaemonSet
    argoproj.io      rollouts             get     for an Argo Rollout
    apps             replicasets          list    for a Deployment
    apps             controllerrevisions  list    for a DaemonSet
    (core)           pods                 list
    (core)           pods/log             get     for the last words of a container that fails; without it the failure is reported all the same

It never watches, and writes nothing.
"""

from tasks.rollout.releases import Before, snapshot
from tasks.rollout.watching import await_health, observe

__all__ = ["Before", "await_health", "observe", "snapshot"]
