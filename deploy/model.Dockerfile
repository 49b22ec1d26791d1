# The batching worker with torch; it uses CUDA where the container is given a device, else the CPU.
FROM python:3.13-slim-bookworm AS build
ENV UV_LINK_MODE=copy
WORKDIR /source
COPY requirements requirements
RUN python -m pip install --no-cache-dir --require-hashes -r requirements/uv.txt \
 && uv venv /opt/kairos \
 && uv pip install --no-cache --python /opt/kairos/bin/python --require-hashes -r requirements/model.txt
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY streams streams
COPY model_server model_server
COPY deploy deploy
RUN uv build --wheel --no-cache --build-constraints requirements/all.txt --out-dir /wheels \
 && uv pip install --no-cache --python /opt/kairos/bin/python --no-deps /wheels/*.whl

FROM python:3.13-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /var/lib/kairos --create-home kairos \
 && install --directory --owner kairos /var/lib/kairos/models
COPY --from=build /opt/kairos /opt/kairos
ENV PATH=/opt/kairos/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    KAIROS_HTTP=0.0.0.0:6067 \
    KAIROS_LOG=json \
    KAIROS_MODEL_DIR=/var/lib/kairos/models
USER 10001
WORKDIR /var/lib/kairos
EXPOSE 6067
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s --retries=3 \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:6067/live', timeout=2)"]
ENTRYPOINT ["kairos"]
CMD ["model"]
