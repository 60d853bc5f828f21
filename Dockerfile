# A CPU image by default. For GPUs: --build-arg TORCH_BACKEND=cu130 (the names are uv's; the machine
# needs the driver and NVIDIA's container toolkit). BASE needs Python >= 3.11 with venv and nothing
# else; BASE=python@sha256:... pins it to the byte.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
# Empty: torch comes from whatever index pip or uv is configured for.
ARG TORCH_BACKEND=cpu
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 DS_BUILD_OPS=0
RUN python3 -m venv /opt/uv \
    && /opt/uv/bin/pip install --no-cache-dir uv==0.13.9 \
    && python3 -m venv --without-pip /opt/venv
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN /opt/uv/bin/uv pip install --python /opt/venv -c constraints.txt \
        ${TORCH_BACKEND:+--torch-backend=$TORCH_BACKEND} -r pyproject.toml \
        $(case "$TORCH_BACKEND" in (cu*) echo --extra gpu;; esac) \
    # torch's own tests: a tenth of the image.
    && cd /opt/venv/lib/python3*/site-packages/torch && rm -rf test bin/test_* bin/*Test
COPY README.md LICENSE ./
COPY tsjt_ds tsjt_ds
RUN /opt/uv/bin/uv pip install --python /opt/venv --no-deps .

FROM ${BASE}
# Any uid can run it: what is written goes to places that are open to all, and libraries that ask for
# the user's name find one. One thread a rank; a lone process may have them all (-e OMP_NUM_THREADS=).
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp USER=tsjt OMP_NUM_THREADS=1
COPY --from=build /opt/venv /opt/venv
WORKDIR /workspace
COPY launchers launchers
COPY recipes recipes
COPY ds_configs ds_configs
COPY clusters clusters
RUN useradd --uid 1000 --home-dir /tmp --no-create-home tsjt \
    && install -d -m 1777 /workspace corpora prepared runs
USER 1000
HEALTHCHECK --interval=10m --timeout=3m CMD ["tsjt", "doctor"]
CMD ["tsjt", "doctor"]
