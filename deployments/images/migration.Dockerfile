# greylag alone, for migration Jobs and the init container that waits for them. From the root of the checkout:
#   docker build --file deployments/images/migration.Dockerfile --build-arg BASE=docker.io/library/python:3.12-slim@sha256:... .
# Debian or Alpine, as BASE is. /opt/greylag holds the interpreter, too, so that `COPY --from` brings it into a service's own image (README.md).
ARG BASE

FROM ${BASE} AS build
ARG BASE
SHELL ["/bin/sh", "-eu", "-c"]
# A tag may move: what was reviewed is what is built.
RUN python3 -c 'import re, sys; re.fullmatch(r"[^@]+@sha256:[0-9a-f]{64}", sys.argv[1]) or sys.exit(sys.argv[2])' "${BASE}" \
      "BASE is ${BASE}: name the base image by its digest, python:3.12-slim@sha256:..."
# Alpine: lz4 has no wheel for musl and is compiled here; the compiler stays in this stage.
# The digest of BASE fixes Alpine's release, whose mirrors keep one version of a package.
# hadolint ignore=DL3018
RUN if command -v apk >/dev/null; then apk add --no-cache gcc musl-dev python3-dev; fi
WORKDIR /build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY deployments/images/portable.py ./
COPY migrator ./migrator
RUN python3 portable.py /opt/greylag \
 && python3 -m pip install --no-cache-dir --no-compile --disable-pip-version-check --root-user-action=ignore \
      --constraint constraints.txt --target "$(echo /opt/greylag/lib/python3.*/site-packages)" .
# Bytecode that is never compared with its source: the root is read-only, and COPY may change times.
RUN LD_LIBRARY_PATH=/opt/greylag/lib /opt/greylag/bin/python3 -I -m compileall -q --invalidation-mode unchecked-hash /opt/greylag/lib \
 && /opt/greylag/bin/greylag --version

FROM ${BASE}
# `approval: required` has ssh-keygen check signatures. The digest of BASE fixes the release, whose mirrors keep one version of a package.
# hadolint ignore=DL3008,DL3018
RUN if command -v ssh-keygen >/dev/null; then exit 0; fi; if command -v apk >/dev/null; then apk add --no-cache openssh-keygen; else \
      apt-get update && apt-get install --yes --no-install-recommends openssh-client && rm -rf /var/lib/apt/lists/*; fi
# ssh-keygen ends at once for a uid without a name.
RUN grep -q ':65532:' /etc/passwd || echo 'greylag:x:65532:65532:greylag:/tmp:/usr/sbin/nologin' >> /etc/passwd
COPY --from=build /opt/greylag /opt/greylag
ENV PATH=/opt/greylag/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
WORKDIR /
USER 65532:65532
# A Job ends by itself, and an init container has no probes.
HEALTHCHECK NONE
ENTRYPOINT ["/opt/greylag/bin/greylag"]
CMD ["--help"]
