# The stream worker and the commands around it (topics, inspect); no torch.
FROM python:3.13-slim-bookworm AS build
ENV UV_LINK_MODE=copy
WORKDIR /source
COPY requirements requirements
RUN python -m pip install --no-cache-dir --require-hashes -r requirements/uv.txt \
 && uv venv /opt/kairos \
 && uv pip install --no-cache --python /opt/kairos/bin/python --require-hashes -r requirements/stream.txt
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY streams streams
COPY model_server model_server
COPY deploy deploy
RUN uv build --wheel --no-cache --build-constraints requirements/all.txt --out-dir /wheels \
 && uv pip install --no-cache --python /opt/kairos/bin/python --no-deps /wheels/*.whl

FROM python:3.13-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/kairos --create-home kairos
COPY --from=build /opt/kairos /opt/kairos
ENV PATH=/opt/kairos/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    KAIROS_HTTP=0.0.0.0:6066 \
    KAIROS_LOG=json
USER 10001
WORKDIR /var/lib/kairos
EXPOSE 6066
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:6066/live', timeout=2)"]
ENTRYPOINT ["kairos"]
CMD ["worker"]
