# Python with the packages of requirements.txt, installed by pip.
ARG BASE_IMAGE=public.ecr.aws/docker/library/python:{{python}}-slim
FROM ${BASE_IMAGE}
WORKDIR /app
ENV PYTHONUNBUFFERED=1
# The packages first: a change of the code alone builds on.
COPY requirements.txt .
RUN python -m pip install --no-cache-dir -r requirements.txt
COPY . .
# Commands in a session run as root all the same; the agent itself does not have to.
USER 1000
ENV HOME=/tmp
EXPOSE {{port}}
CMD {{command}}
