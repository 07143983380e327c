"""What the suite's modules share: clients for the running emulator, projects, raw HTTP.

The emulator is started by tests/it/boto3.rs, which sets AGENTCORE_BIN, AGENTCORE_HOME and AGENTCORE_ENDPOINT.
On the docker engine AGENTCORE_TEST_IMAGES names the image of each agent (tests/it/docker/suite.rs).
By hand: start `agentcore local up`, set the three, and run `python -m unittest test_lifecycle` here.
"""

import functools
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.parse
import uuid

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

BIN = os.environ["AGENTCORE_BIN"]
HOME = os.environ["AGENTCORE_HOME"]
ENDPOINT = os.environ["AGENTCORE_ENDPOINT"]
# Agents that are images here; an agent that is none is code.
IMAGES = json.loads(os.environ.get("AGENTCORE_TEST_IMAGES", "{}"))
AGENTS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "agents")
ROLE = "arn:aws:iam::123456789012:role/agent"
STORAGE = [{"sessionStorage": {"mountPath": "/mnt/workspace"}}]
# Longer than anything here may take; a hang is a failure, not a wait for ever.
LIMIT = 120


def client(service, **config):
    settings = {"retries": {"max_attempts": 3, "mode": "standard"}, "read_timeout": LIMIT,
                "max_pool_connections": 64} | config
    return boto3.Session(
        aws_access_key_id="test", aws_secret_access_key="test", region_name=region(),
    ).client(service, endpoint_url=ENDPOINT, config=Config(**settings))


def data(**config):
    return client("bedrock-agentcore", **config)


def control(**config):
    return client("bedrock-agentcore-control", **config)


@functools.cache
def region():
    """The emulator's region, as `local env` tells every SDK."""
    for line in cli("local", "env").stdout.splitlines():
        name, _, value = line.removeprefix("export ").partition("=")
        if name == "AWS_REGION":
            return value.strip("'\"")
    raise AssertionError("`local env` prints no AWS_REGION")


def cli(*arguments, cwd=None, check=True, text=True, **options):
    """Runs the program against the emulator of this suite."""
    done = subprocess.run([BIN, *arguments], cwd=cwd or tempfile.gettempdir(), capture_output=True, text=text,
                          timeout=LIMIT, stdin=subprocess.DEVNULL, **options)
    if check and done.returncode != 0:
        raise AssertionError(f"{arguments} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def until(what, found, limit=30.0):
    """Polls `found` until it gives something true."""
    end = time.monotonic() + limit
    while True:
        value = found()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit} s: {what}")
        time.sleep(0.02)


def state_of(session):
    """What `local session ls` shows for the session; None for one that it does not know."""
    sessions = json.loads(cli("local", "session", "ls", "--output", "json").stdout)
    return next((s["state"] for s in sessions if s["sessionId"] == session), None)


def new_session():
    return f"session-{uuid.uuid4()}"


def new_name(start="t"):
    return f"{start}_{uuid.uuid4().hex[:12]}"


class Runtime:
    """A deployed runtime and the calls that tests make of it."""

    def __init__(self, runtime_id):
        self.id = runtime_id
        self.control = control()
        self.data = data()
        self.arn = self.get()["agentRuntimeArn"]

    def get(self, **query):
        return self.control.get_agent_runtime(agentRuntimeId=self.id, **query)

    def wait_ready(self):
        return until(f"{self.id} READY", lambda: (r := self.get())["status"] == "READY" and r)

    def invoke(self, payload, session=None, client=None, **more):
        """The agent's JSON answer."""
        answer = self.invoke_raw(payload, session, client, **more)
        return json.loads(answer["response"].read())

    def invoke_raw(self, payload, session=None, client=None, **more):
        if session:
            more["runtimeSessionId"] = session
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return (client or self.data).invoke_agent_runtime(agentRuntimeArn=self.arn, payload=body, **more)

    def command(self, text, session=None, client=None, timeout=None, **more):
        """Every event of a command, as a `Command`."""
        return Command.of(self.command_raw(text, session, client, timeout, **more))

    def command_raw(self, text, session=None, client=None, timeout=None, **more):
        body = {"command": text}
        if timeout is not None:
            body["timeout"] = timeout
        if session:
            more["runtimeSessionId"] = session
        return (client or self.data).invoke_agent_runtime_command(agentRuntimeArn=self.arn, body=body, **more)

    def stop(self, session, client=None, **more):
        return (client or self.data).stop_runtime_session(
            agentRuntimeArn=self.arn, runtimeSessionId=session, **more)

    def update(self, **changes):
        """Read, modify, write, as people do it: artifact, role and network from the answer of Get."""
        now = self.get()
        keep = {k: now[k] for k in ("agentRuntimeArtifact", "roleArn", "networkConfiguration",
                                    "filesystemConfigurations", "environmentVariables",
                                    "lifecycleConfiguration") if k in now}
        answer = self.control.update_agent_runtime(agentRuntimeId=self.id, **(keep | changes))
        self.wait_ready()
        return answer

    def delete(self):
        def accepted():
            # What was changed a moment ago may still be changing.
            try:
                return self.control.delete_agent_runtime(agentRuntimeId=self.id)
            except self.control.exceptions.ConflictException:
                return None
        until(f"{self.id} deletable", accepted)
        until(f"{self.id} gone", self.gone)

    def gone(self):
        try:
            self.get()
        except self.control.exceptions.ResourceNotFoundException:
            return True
        return False


class Command:
    """What a command's stream said."""

    def __init__(self, answer, events):
        self.answer = answer
        self.events = events
        deltas = [e["contentDelta"] for e in events if "contentDelta" in e]
        self.stdout = "".join(d.get("stdout", "") for d in deltas)
        self.stderr = "".join(d.get("stderr", "") for d in deltas)
        stop = events[-1].get("contentStop", {}) if events else {}
        self.exit_code = stop.get("exitCode")
        self.status = stop.get("status")

    @classmethod
    def of(cls, answer):
        return cls(answer, [event["chunk"] for event in answer["stream"]])


@functools.cache
def artifact(agent="lab"):
    """An agent of tests/agents: its image, or its code bundle, put into the emulator's store by `local deploy`."""
    if agent in IMAGES:
        return {"containerConfiguration": {"containerUri": IMAGES[agent]}}
    runtime = deploy(agent)
    return runtime.get()["agentRuntimeArtifact"]


def deploy(agent="lab", **keys):
    """Deploys a copy of an agent's directory under a new name; `keys` go into the project file."""
    name = new_name(agent)
    with tempfile.TemporaryDirectory() as directory:
        project = os.path.join(directory, name)
        shutil.copytree(os.path.join(AGENTS, agent), project)
        write_project(project, name, **keys)
        cli("local", "deploy", cwd=project)
    return find(name)


def write_project(directory, name, **keys):
    # JSON is YAML.
    entry = {"name": name, "entrypoint": "main.py"} | keys
    with open(os.path.join(directory, ".bedrock_agentcore.yaml"), "w", encoding="utf-8") as file:
        json.dump({"default_agent": name, "agents": {name: entry}}, file, indent=2)


def find(name):
    for page in control().get_paginator("list_agent_runtimes").paginate():
        for runtime in page["agentRuntimes"]:
            if runtime["agentRuntimeName"] == name:
                found = Runtime(runtime["agentRuntimeId"])
                found.wait_ready()
                return found
    raise AssertionError(f"no runtime `{name}`")


def create(agent="lab", wait=True, **more):
    """CreateAgentRuntime by boto3, of a bundle that is in the store already."""
    settings = {"agentRuntimeName": new_name(agent), "agentRuntimeArtifact": artifact(agent), "roleArn": ROLE,
                "networkConfiguration": {"networkMode": "PUBLIC"}} | more
    runtime = Runtime(control().create_agent_runtime(**settings)["agentRuntimeId"])
    if wait:
        runtime.wait_ready()
    return runtime


class Raw:
    """One HTTP exchange without an SDK."""

    def __init__(self, method, path, body=b"", headers=None):
        url = urllib.parse.urlsplit(ENDPOINT)
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=LIMIT)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            self.status = answer.status
            self.headers = {k.lower(): v for k, v in answer.getheaders()}
            self.body = answer.read()
        finally:
            connection.close()

    def json(self):
        return json.loads(self.body)


class Daemon(http.client.HTTPConnection):
    """The docker daemon, asked over its socket as nobody of ours asks it."""

    def __init__(self):
        super().__init__("localhost", timeout=LIMIT)
        self.path = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)

    def volumes(self, label):
        """Names of the volumes that have a label."""
        self.request("GET", "/volumes?" + urllib.parse.urlencode({"filters": json.dumps({"label": [label]})}))
        return [volume["Name"] for volume in json.loads(self.getresponse().read())["Volumes"] or []]


def path_of(arn, operation, **query):
    tail = "?" + urllib.parse.urlencode(query) if query else ""
    return f"/runtimes/{urllib.parse.quote(arn, safe='')}/{operation}{tail}"


class Suite(unittest.TestCase):
    """A test case with one runtime for the whole class where `SETTINGS` is set."""

    AGENT = "lab"
    SETTINGS = None
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        if cls.SETTINGS is not None:
            cls.runtime = create(cls.AGENT, **cls.SETTINGS)

    @classmethod
    def tearDownClass(cls):
        if cls.SETTINGS is not None:
            cls.runtime.delete()

    def error(self, name, call, *arguments, **more):
        """Asserts that a call raises this error of the service by its boto3 class; gives its answer."""
        with self.assertRaises(ClientError) as caught:
            call(*arguments, **more)
        # Each client makes the classes of its service's errors anew; one that is not modelled has none.
        found = type(caught.exception)
        self.assertEqual((found.__module__, found.__name__), ("botocore.errorfactory", name), caught.exception)
        return caught.exception.response
