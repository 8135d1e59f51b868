# The images of docker-compose.yml: `web`, which reconciler and migrate run too, and
# `worker`, which trains and reads datasets, on the CPU or (HARDWARE=gpu) on NVIDIA GPUs.
#
#   docker build --target web -t trainyard-web:local .
#   docker build --target worker -t trainyard-worker-cpu:local .
#   docker build --target worker --build-arg HARDWARE=gpu -t trainyard-worker-gpu:local .
#
# Where pip needs settings or a certificate authority of the house's own, both come as
# build secrets, which leave nothing in the image:
#
#   --secret id=pip_conf,src=pip.conf --secret id=ca_bundle,src=ca-certificates.crt
ARG BASE_IMAGE=python:3.12-slim-bookworm
ARG HARDWARE=cpu

FROM ${BASE_IMAGE} AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /opt/trainyard

# pip has an environment of its own, which no image gets.
FROM base AS installer
ENV PIP_NO_CACHE_DIR=1 \
    PIP_NO_INPUT=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_PROGRESS_BAR=off
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/venv
COPY requirements/ requirements/

FROM installer AS web-packages
# Left out is what no web process reads; it would be a third of the image.
RUN --mount=type=secret,id=ca_bundle \
    --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    if [ -s /run/secrets/ca_bundle ]; then export PIP_CERT=/run/secrets/ca_bundle; fi; \
    /opt/pip/bin/pip --python /opt/venv/bin/python install --no-compile \
       --require-hashes -r requirements/web.txt \
    && find /opt/venv -type d \( -name tests -o -name bootswatch \) -prune \
       -exec rm -r {} + \
    && find /opt/venv -type f \( -name '*.map' -o -name '*.pyi' \) -delete \
    && find /opt/venv -type f -path '*/bokeh/server/static/js/*' \
       ! -name bokeh.min.js -delete \
    && find /opt/venv -type f -path '*/pyarrow/*' \( -path '*/include/*' \
       -o -name 'libarrow_flight*' -o -name 'libarrow_s3*' -o -name '_flight*' \
       -o -name '_s3fs*' \) -delete

FROM installer AS worker-packages
ARG HARDWARE
RUN --mount=type=secret,id=ca_bundle \
    --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    if [ -s /run/secrets/ca_bundle ]; then export PIP_CERT=/run/secrets/ca_bundle; fi; \
    /opt/pip/bin/pip --python /opt/venv/bin/python install \
       --require-hashes -r "requirements/${HARDWARE}.txt"

FROM base AS runtime
ENV PYTHONPATH=/opt/trainyard \
    TRAINYARD_DATA_DIR=/var/lib/trainyard \
    TRAINYARD_LOG_JSON=true \
    TRAINYARD_PRODUCTION=true \
    TRAINYARD_STORAGE_DIR=/srv/trainyard
# Volumes take over the owner of the folder that they are mounted on.
RUN groupadd --gid 10001 trainyard \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin \
       --home-dir /var/lib/trainyard trainyard \
    && install --directory --owner trainyard --group trainyard \
       /var/cache/trainyard /var/lib/trainyard /srv/trainyard
COPY cli/ cli/
COPY shared/ shared/

FROM runtime AS web
COPY --from=web-packages /opt/venv /opt/venv
COPY web/ web/
# Bytecode of what is imported, not of everything: a start takes a second instead of
# three, for half of the space.
RUN PYTHONDONTWRITEBYTECODE='' TRAINYARD_PRODUCTION=false python -c \
    'import cli.app, cli.records, shared.migrations, shared.reconciler, web.app, \
web.jobs.charts, gunicorn.app.wsgiapp, gunicorn.workers.gthread'
USER 10001:10001
EXPOSE 8420
CMD ["python", "-m", "gunicorn", "web.wsgi:app", "--bind=0.0.0.0:8420", \
     "--worker-class=gthread", "--workers=2", "--threads=16", "--timeout=120", \
     "--keep-alive=75", "--no-control-socket"]

FROM runtime AS worker
COPY --from=worker-packages /opt/venv /opt/venv
COPY worker/ worker/
ENV KERAS_HOME=/var/cache/trainyard/keras
USER 10001:10001
CMD ["python", "-m", "cli", "worker"]
