# One image for every process: web, worker, reconciler and migrate differ by command.
ARG BASE_IMAGE=python:3.12-slim-bookworm
FROM ${BASE_IMAGE}

# cpu or gpu: the pinned set of requirements/ that the processes need.
ARG REQUIREMENTS=cpu
WORKDIR /opt/trainyard
COPY requirements/ requirements/
RUN python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --require-hashes \
       -r "requirements/${REQUIREMENTS}.txt"
COPY cli/ cli/
COPY shared/ shared/
COPY web/ web/
COPY worker/ worker/

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/trainyard \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TRAINYARD_LOG_JSON=true \
    TRAINYARD_PRODUCTION=true \
    TRAINYARD_DATA_DIR=/var/lib/trainyard \
    TRAINYARD_STORAGE_DIR=/srv/trainyard
RUN useradd --system --uid 10001 trainyard \
    && mkdir -p /var/lib/trainyard /srv/trainyard \
    && chown trainyard /var/lib/trainyard /srv/trainyard
USER trainyard
VOLUME /srv/trainyard
