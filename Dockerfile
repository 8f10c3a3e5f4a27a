# Two stages: compilers and caches stay in the first. The libraries are a layer of their own, so that a changed line of ours is built in seconds.
FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m venv /opt/leadline
COPY pyproject.toml README.md LICENSE ./
RUN for name in leadline streams detectors sinks; do mkdir $name && touch $name/__init__.py; done \
    && /opt/leadline/bin/pip install --no-cache-dir . \
    && rm -r leadline streams detectors sinks
COPY leadline leadline
COPY streams streams
COPY detectors detectors
COPY sinks sinks
RUN /opt/leadline/bin/pip install --no-cache-dir --no-deps --force-reinstall .

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /nonexistent --shell /usr/sbin/nologin leadline
COPY --from=build /opt/leadline /opt/leadline
ENV PATH=/opt/leadline/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
CMD ["leadline", "--help"]
