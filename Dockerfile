# The bot orchestrator: `exporter` (the default command) and `remediator`. The target `sandbox` adds the cloud in a box.
#   docker build -t bot-orchestrator .
#   docker run --rm bot-orchestrator remediator --help
# compose.yaml has the health checks, because they depend on the command.

FROM python:3.13.14-slim-bookworm AS dependencies
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv --without-pip /venv
COPY requirements.lock ./
RUN pip --python /venv/bin/python install --require-hashes --only-binary :all: --requirement requirements.lock

FROM dependencies AS dependencies-sandbox
COPY requirements-sandbox.lock ./
RUN pip --python /venv/bin/python install --require-hashes --only-binary :all: --requirement requirements-sandbox.lock

FROM dependencies AS wheel
# The build backend, from the lock too, so that building the wheel fetches nothing.
COPY requirements-dev.lock ./
RUN sed -n '/^setuptools==/,/[^\\]$/p' requirements-dev.lock >backend.lock \
    && pip install --require-hashes --only-binary :all: --requirement backend.lock
COPY pyproject.toml README.md LICENSE ./
COPY botctl botctl
COPY exporter exporter
COPY remediator remediator
COPY templates templates
COPY dashboards dashboards
COPY sandbox sandbox
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheel .

FROM dependencies AS build
COPY --from=wheel /wheel /wheel
RUN pip --python /venv/bin/python install --no-deps --no-index /wheel/*.whl

FROM dependencies-sandbox AS build-sandbox
COPY --from=wheel /wheel /wheel
RUN pip --python /venv/bin/python install --no-deps --no-index /wheel/*.whl

FROM python:3.13.14-slim-bookworm AS runtime
# /data and /run/bot belong to the user, so that fresh volumes mounted there do too.
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /data bot \
    && install -d -o bot -g bot /data /run/bot
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["python", "-m"]
CMD ["exporter"]

FROM runtime AS sandbox
COPY --from=build-sandbox /venv /venv

# Last, so that it is what a build without --target makes.
FROM runtime
COPY --from=build /venv /venv
