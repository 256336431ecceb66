# An environment's Prefect worker: the flows with everything that they import. From the root of the checkout:
#   docker build --file deployments/images/worker.Dockerfile --build-arg BASE=docker.io/library/python:3.12-slim@sha256:... .
# Runs with a read-only root and a writable /tmp: docker run --read-only --tmpfs /tmp IMAGE --pool greylag-dev
ARG BASE

FROM ${BASE} AS build
ARG BASE
SHELL ["/bin/sh", "-eu", "-c"]
# A tag may move: what was reviewed is what is built.
RUN python3 -c 'import re, sys; re.fullmatch(r"[^@]+@sha256:[0-9a-f]{64}", sys.argv[1]) or sys.exit(sys.argv[2])' "${BASE}" \
      "BASE is ${BASE}: name the base image by its digest, python:3.12-slim@sha256:..."
WORKDIR /opt/greylag
COPY pyproject.toml constraints.txt README.md LICENSE prefect.yaml ./
COPY migrator ./migrator
COPY tasks ./tasks
COPY flows ./flows
COPY deployments ./deployments
COPY services ./services
RUN python3 -m venv /opt/venv \
 && /opt/venv/bin/python -m pip install --no-cache-dir --no-compile --disable-pip-version-check \
      --constraint constraints.txt --editable '.[flows]'
# Bytecode that is never compared with its source: the root is read-only, and COPY may change times.
RUN /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib migrator tasks flows deployments \
 && /opt/venv/bin/greylag --version

FROM ${BASE}
# ssh-keygen checks the signatures of approvals. The digest of BASE fixes Debian's release, whose mirrors keep one version of a package.
# hadolint ignore=DL3008
RUN command -v ssh-keygen >/dev/null || { apt-get update && apt-get install --yes --no-install-recommends openssh-client && rm -rf /var/lib/apt/lists/*; }
# ssh-keygen ends at once for a uid without a name.
RUN grep -q ':65532:' /etc/passwd || echo 'greylag:x:65532:65532:greylag:/tmp:/usr/sbin/nologin' >> /etc/passwd
COPY --from=build /opt/venv /opt/venv
COPY --from=build /opt/greylag /opt/greylag
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    GREYLAG_HOME=/opt/greylag \
    PREFECT_HOME=/tmp/prefect \
    PYTHONDONTWRITEBYTECODE=1 \
    DO_NOT_TRACK=1
WORKDIR /opt/greylag
USER 65532:65532
# The worker's own answer: has it polled its pool of late?
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["/opt/venv/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/health', timeout=4)"]
# Always with its type: Prefect would take the type from the server's pool, and what `process` starts is a command that the server names.
ENTRYPOINT ["/opt/venv/bin/prefect", "worker", "start", "--type", "greylag", "--install-policy", "never", "--with-healthcheck"]
CMD ["--help"]
