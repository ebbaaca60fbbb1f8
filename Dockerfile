# The image of cni-floatip: floatipctl (agent, installer, doctor) and the node bundle.
#
#   docker buildx build --platform linux/amd64,linux/arm64 -t REGISTRY/cni-floatip:VERSION --push .
#
# SOURCE, REVISION and CREATED (--build-arg) go into labels: where the sources are, their commit, the time (RFC 3339).
# BASE is any Debian from bookworm (12) on, by digest where a build must be repeatable. Python packages are those of
# install/requirements.txt, by hash, and nothing else. A build behind a proxy or a mirror hands its own configuration
# in as secrets, none of which stays in the image: `--secret id=pip.conf,src=...`, `apt.conf`, `ca-certificates`.
ARG BASE=debian:bookworm-slim

# What is built is run by the same Python that builds it.
FROM ${BASE} AS python
RUN --mount=type=secret,id=apt.conf,target=/run/apt.conf \
    if [ -s /run/apt.conf ]; then export APT_CONFIG=/run/apt.conf; fi; export DEBIAN_FRONTEND=noninteractive \
 && apt-get update -q && apt-get install -q -y --no-install-recommends python3 \
 && apt-get clean && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/debconf/*-old /var/cache/ldconfig/aux-cache

FROM python AS build
RUN --mount=type=secret,id=apt.conf,target=/run/apt.conf \
    if [ -s /run/apt.conf ]; then export APT_CONFIG=/run/apt.conf; fi; export DEBIAN_FRONTEND=noninteractive \
 && apt-get update -q \
 && apt-get install -q -y --no-install-recommends gcc libc6-dev libpython3-dev python3-venv

COPY install/bundle /src/install/bundle
RUN /src/install/bundle/build.sh /usr/libexec/floatip

# pip stays outside of what it fills.
COPY install/requirements.txt /src/install/
RUN --mount=type=secret,id=pip.conf,target=/run/pip.conf \
    --mount=type=secret,id=ca-certificates,target=/run/ca-certificates.crt \
    export PIP_CONFIG_FILE=/run/pip.conf PIP_DISABLE_PIP_VERSION_CHECK=1 \
 && if [ -s /run/ca-certificates.crt ]; then export PIP_CERT=/run/ca-certificates.crt; fi \
 && python3 -m venv /pip && python3 -m venv --without-pip /opt/floatip \
 && /pip/bin/pip --python /opt/floatip/bin/python install --no-compile --no-deps \
      --only-binary :all: --require-hashes -r /src/install/requirements.txt \
 && /pip/bin/pip --python /opt/floatip/bin/python check

COPY cni_floatip /src/cni_floatip
COPY install/image /src/install/image
ARG VERSION=0.3.0
RUN /src/install/image/finish.sh "$VERSION"

FROM python
COPY --from=build /usr/libexec/floatip /usr/libexec/floatip
COPY --from=build /opt/floatip /opt/floatip
COPY --from=build /usr/share/doc/cni-floatip /usr/share/doc/cni-floatip
COPY LICENSE install/bundle/NOTICE /usr/share/doc/cni-floatip/
ENV PATH=/opt/floatip/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENTRYPOINT ["floatipctl"]
CMD ["agent"]

ARG VERSION=0.3.0
ARG SOURCE=
ARG REVISION=
ARG CREATED=
LABEL org.opencontainers.image.title="cni-floatip" \
      org.opencontainers.image.description="Floating IPs for pods on Amazon EKS: node agent and installer of the CNI plugin" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.version="${VERSION}"
