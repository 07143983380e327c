# Python without packages.
ARG BASE_IMAGE=public.ecr.aws/docker/library/python:{{python}}-slim
FROM ${BASE_IMAGE}
WORKDIR /app
ENV PYTHONUNBUFFERED=1
COPY . .
# Commands in a session run as root all the same; the agent itself does not have to.
USER 1000
ENV HOME=/tmp
EXPOSE {{port}}
CMD {{command}}
