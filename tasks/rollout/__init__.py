"""Step 5: checks that this release's code runs and no older code does. It is `kubectl rollout status`, plus the checks that kubectl leaves out.

kubectl calls the previous release's finished rollout a success, and does not count old pods that are still terminating (kubernetes.md §2). So
first the workload must carry this release's image (or a newer pod template than before the run), then kubectl's rules decide, then no pod of an
older revision may be left, then the app's own init container `greylag wait` must have passed. A pure function over the API's own JSON
decides; `looking` reads one cluster once, `watching` reads again until the rollout has ended.

The step makes these calls to the cluster, so its Role needs these rules in the workload's namespace (`resourceNames` may name the workload where the
verb is get):

    apps             deployments          get     for a Deployment, and for a Rollout with `workloadRef`
    apps             statefulsets         get     for a StatefulSet
    apps             daemonsets           get     for a DaemonSet
    argoproj.io      rollouts             get     for an Argo Rollout
    apps             replicasets          list    for a Deployment
    apps             controllerrevisions  list    for a DaemonSet
    (core)           pods                 list
    (core)           pods/log             get     for the last words of a container that fails; without it the failure is still reported

It never watches, and writes nothing.
"""

from tasks.rollout.releases import Before, snapshot
from tasks.rollout.watching import await_health, observe

__all__ = ["Before", "await_health", "observe", "snapshot"]
