# One image for every worker: `nvp worker NAME`, on a read-only root, as whatever user the engine says.
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# A layer for what it depends on, kept until a version changes; then the product alone.
COPY pyproject.toml constraints.txt ./
COPY nvp_agentkit/__init__.py nvp_agentkit/
RUN touch README.md LICENSE \
 && python -m venv /opt/nvp \
 && /opt/nvp/bin/pip install -c constraints.txt '.[model,graph,observability]'
COPY README.md LICENSE ./
COPY nvp_agentkit nvp_agentkit
COPY workers workers
COPY schemas schemas
RUN /opt/nvp/bin/pip install --no-deps --force-reinstall . \
 && /opt/nvp/bin/pip uninstall -y pip

FROM python:3.12-slim-bookworm
# Named volumes take owner and mode from here, and the user may be anybody: compose runs it under the caller's uid.
RUN install -d -m 1777 /nvp /nvp/artifacts /nvp/keys
COPY --from=build /opt/nvp /opt/nvp
ENV PATH=/opt/nvp/bin:$PATH PYTHONUNBUFFERED=1 HOME=/tmp NVP_DATA_DIR=/nvp
USER 10001:10001
WORKDIR /nvp
ENTRYPOINT ["nvp"]
CMD ["--help"]
