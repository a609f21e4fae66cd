# The server alone: no torch, no compiler, no root.
#   docker build -t routellm-core . && docker run --rm -p 127.0.0.1:6060:6060 -e OPENAI_API_KEY routellm-core

FROM python:3.12.12-slim-bookworm AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY routellm_core ./routellm_core
RUN python -m venv /opt/routellm \
 && /opt/routellm/bin/pip install --no-cache-dir --disable-pip-version-check '.[serve]'

FROM python:3.12.12-slim-bookworm
RUN useradd --system --uid 10001 --create-home routellm
COPY --from=build /opt/routellm /opt/routellm
ENV PATH=/opt/routellm/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ROUTELLM_SERVER_HOST=0.0.0.0 \
    ROUTELLM_SERVER_PORT=6060
USER 10001
WORKDIR /home/routellm
EXPOSE 6060
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f\"http://127.0.0.1:{os.environ['ROUTELLM_SERVER_PORT']}/health\", timeout=2)"]
ENTRYPOINT ["routellm"]
CMD ["serve", "--routers", "mf"]
