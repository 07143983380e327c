# The agent's packages: requirements.txt with the files that it names, else the dependencies in pyproject.toml.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
COPY packages/ /tmp/packages/
RUN cd /tmp/packages && export PIP_ROOT_USER_ACTION=ignore PIP_BREAK_SYSTEM_PACKAGES=1 \
    && if [ ! -f requirements.txt ]; then \
        { python3 -c 'import tomllib' 2>/dev/null && toml=tomllib || toml=pip._vendor.tomli; } \
        && python3 -c 'import importlib, sys; tomllib = importlib.import_module(sys.argv[1]); print(*tomllib.load(open("pyproject.toml", "rb")).get("project", {}).get("dependencies", []), sep="\n")' "$toml" >requirements.txt; \
    fi \
    && python3 -m pip install --no-cache-dir --disable-pip-version-check --requirement requirements.txt \
    && rm -rf /tmp/packages
