"""fleet.yaml: the services, the environments, and what a step needs to know about each of them.

`models.py` holds the file's content and what is derived from it (`Target`), `job_section.py` and `argocd_section.py` two of its sections;
`reading.py` reads the file, and reports faults with file, line and remedy.
"""

from tasks.credentials.source import Keys
from tasks.fleet.argocd_section import ArgoCD
from tasks.fleet.job_section import Job
from tasks.fleet.models import AfterMigrate, Engine, Environment, Fleet, Service, Target, Workload, WorkloadKind
from tasks.fleet.reading import DEFAULT_PATH, ENVIRONMENT_VARIABLE, chosen_path, environment_names, load, parse, service_names

__all__ = [
    "DEFAULT_PATH",
    "ENVIRONMENT_VARIABLE",
    "AfterMigrate",
    "ArgoCD",
    "Engine",
    "Environment",
    "Fleet",
    "Job",
    "Keys",
    "Service",
    "Target",
    "Workload",
    "WorkloadKind",
    "chosen_path",
    "environment_names",
    "load",
    "parse",
    "service_names",
]
