# Node with the packages of package.json.
ARG BASE_IMAGE=public.ecr.aws/docker/library/node:{{node}}-slim
FROM ${BASE_IMAGE}
WORKDIR /app
{{install}}ENV NODE_ENV=production
# Commands in a session run as root all the same; the agent itself does not have to.
USER 1000
ENV HOME=/tmp
EXPOSE {{port}}
CMD {{command}}
