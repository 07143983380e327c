"""Each error of the service in the emulator's own bytes, as botocore's service models and boto3 read it.

ENDPOINT is no emulator here: tests/it/boto3.rs answers `/KIND/...` with that error, whatever is asked, and
`/in-stream/KIND/...` with a command's stream that ends with it.
"""

import functools
import json

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError
from harness import ENDPOINT, Raw, Suite

SERVICES = {
    "bedrock-agentcore": ("InvokeAgentRuntime", "InvokeAgentRuntimeCommand", "StopRuntimeSession"),
    "bedrock-agentcore-control": (
        "CreateAgentRuntime", "GetAgentRuntime", "UpdateAgentRuntime", "ListAgentRuntimes", "DeleteAgentRuntime",
        "ListAgentRuntimeVersions", "CreateAgentRuntimeEndpoint", "GetAgentRuntimeEndpoint",
        "UpdateAgentRuntimeEndpoint", "ListAgentRuntimeEndpoints", "DeleteAgentRuntimeEndpoint",
        "TagResource", "UntagResource", "ListTagsForResource"),
}
ARN = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/coder-0123456789"
# What boto3 repeats by itself. The emulator gives the gateway's time-out the gateway's status.
REPEATED = {"ThrottlingException", "InternalServerException", "RetryableConflictException", "GatewayTimeoutException"}


# What the next calls are answered with: the first part of their path.
answer_with = []


@functools.cache
def client(service, attempts=1):
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-west-2")
    made = session.client(service, endpoint_url=ENDPOINT, config=Config(
        parameter_validation=False, retries={"total_max_attempts": attempts, "mode": "standard"}))
    made.meta.events.register("before-sign", lambda request, **_: setattr(
        request, "url", request.url.replace(ENDPOINT, ENDPOINT + answer_with[0])))
    return made


def kinds():
    """Name and status of every error that the emulator has a name for."""
    return json.loads(Raw("GET", "/kinds").body)


class Table(Suite):
    def at(self, service, path, attempts=1):
        answer_with[:] = [path]
        return client(service, attempts)

    def raised(self, made, operation):
        method = next(name for name, api in made.meta.method_to_api_mapping.items() if api == operation)
        # Whatever is needed to build the request; the answer does not depend on it.
        path_members = {"agentRuntimeArn": ARN, "agentRuntimeId": "coder-0123456789", "endpointName": "DEFAULT",
                        "resourceArn": ARN, "tagKeys": ["a"], "body": {"command": "true"},
                        "runtimeSessionId": "s" * 33}
        shape = made.meta.service_model.operation_model(operation).input_shape
        arguments = {name: value for name, value in path_members.items() if name in shape.members}
        with self.assertRaises(ClientError) as caught:
            getattr(made, method)(**arguments)
        return caught.exception

    def test_every_error_of_every_operation(self):
        ours, seen = kinds(), 0
        for service, operations in SERVICES.items():
            for operation in operations:
                model = client(service).meta.service_model.operation_model(operation)
                for shape in model.error_shapes:
                    with self.subTest(f"{operation} {shape.name}"):
                        status = shape.metadata["error"]["httpStatusCode"]
                        self.assertEqual(ours.get(shape.name), status)
                        error = self.raised(self.at(service, "/" + shape.name), operation)
                        found = type(error)
                        self.assertEqual((found.__module__, found.__name__),
                                         ("botocore.errorfactory", shape.name))
                        self.assertEqual(error.response["ResponseMetadata"]["HTTPStatusCode"], status)
                        self.assertEqual(error.response["Error"]["Message"], f"the text of {shape.name}")
                        # Members that the model requires of an error are there.
                        for member in shape.required_members:
                            self.assertTrue(error.response.get(member) or error.response["Error"].get(
                                member.capitalize()), f"{member} is missing in {error.response}")
                        seen += 1
        self.assertGreater(seen, 80)

    def test_names_without_a_class_keep_their_name(self):
        for name, status in kinds().items():
            error = self.raised(self.at("bedrock-agentcore", "/" + name), "InvokeAgentRuntime")
            self.assertEqual(error.response["Error"]["Code"], name)
            self.assertEqual(error.response["ResponseMetadata"]["HTTPStatusCode"], status)

    def test_what_boto3_repeats(self):
        for name in kinds():
            twice = self.at("bedrock-agentcore", "/" + name, attempts=2)
            error = self.raised(twice, "InvokeAgentRuntime")
            repetitions = error.response["ResponseMetadata"]["RetryAttempts"]
            self.assertEqual(repetitions, int(name in REPEATED), name)

    def test_errors_in_a_commands_stream(self):
        model = client("bedrock-agentcore").meta.service_model
        stream = model.operation_model("InvokeAgentRuntimeCommand").output_shape.members["stream"]
        members = {member: shape.name for member, shape in stream.members.items()
                   if shape.metadata.get("exception")}
        self.assertEqual(len(members), 7)
        for member, name in members.items():
            made = self.at("bedrock-agentcore", f"/in-stream/{name}")
            answer = made.invoke_agent_runtime_command(agentRuntimeArn=ARN, body={"command": "true"})
            events = iter(answer["stream"])
            self.assertIn("contentStart", next(events)["chunk"])
            with self.assertRaises(EventStreamError) as caught:
                next(events)
            self.assertEqual(caught.exception.response["Error"],
                             {"Code": member, "Message": f"the text of {name}"})
