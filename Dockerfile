# One image for every worker: `nvp worker NAME`. Built in two stages, run as nobody in particular.
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY nvp_agentkit nvp_agentkit
COPY workers workers
COPY schemas schemas
RUN python -m venv /opt/nvp \
 && /opt/nvp/bin/pip install --no-cache-dir -c constraints.txt '.[model,graph,observability]'

FROM python:3.12-slim-bookworm
RUN useradd --uid 10001 --create-home nvp \
 && install -d -o nvp -g nvp /var/lib/nvp /var/lib/nvp/keys /var/lib/nvp/artifacts
COPY --from=build /opt/nvp /opt/nvp
ENV PATH=/opt/nvp/bin:$PATH PYTHONUNBUFFERED=1 NVP_DATA_DIR=/var/lib/nvp
USER nvp
WORKDIR /var/lib/nvp
ENTRYPOINT ["nvp"]
CMD ["--help"]
