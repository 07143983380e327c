# Python with the packages of pyproject.toml, installed by uv.
ARG BASE_IMAGE=ghcr.io/astral-sh/uv:python{{python}}-bookworm-slim
FROM ${BASE_IMAGE}
WORKDIR /app
ENV PYTHONUNBUFFERED=1 UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never \
    PATH="/app/.venv/bin:$PATH"
# The packages first: a change of the code alone builds on.
COPY {{manifests}} ./
RUN uv sync {{locked}}--no-dev --no-install-project
COPY . .
RUN uv sync {{locked}}--no-dev
# Commands in a session run as root all the same; the agent itself does not have to.
USER 1000
ENV HOME=/tmp
EXPOSE {{port}}
CMD {{command}}
