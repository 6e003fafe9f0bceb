# One image for all services; the arguments choose the service and its role:
#   docker run steelyard:0.1.0 services.ingest --role accept
#   docker run steelyard:0.1.0 services.ingest migrate
# Pin BASE by digest where builds have to be repeatable.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS builder
COPY requirements/runtime.txt /tmp/runtime.txt
# The virtualenv has no pip of its own: nothing in the final image can install anything.
RUN python3 -m venv /opt/pip \
    && python3 -m venv --without-pip /opt/venv \
    && /opt/pip/bin/pip --python /opt/venv/bin/python install --disable-pip-version-check --no-cache-dir \
        --only-binary :all: --require-hashes -r /tmp/runtime.txt
COPY libs /opt/steelyard/libs
COPY services /opt/steelyard/services
# The root file system is read-only where this runs, so bytecode has to be there beforehand.
RUN /opt/venv/bin/python -m compileall -q /opt/steelyard

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="steelyard" \
      org.opencontainers.image.description="Usage-based billing: ingest, rating, billing and payments" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/steelyard:/opt/steelyard/libs/sdk \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /opt/steelyard /opt/steelyard
WORKDIR /opt/steelyard
USER 65532:65532
ENTRYPOINT ["python", "-m"]
