"""A coding agent for Amazon Bedrock AgentCore Runtime, with Strands Agents.

It works in the session's storage: the working copy, what it has installed and the conversation are
there again when the session was stopped and is resumed. Its commands run beside those that
`agentcore exec` runs in the same session.
"""

import os
import subprocess
from pathlib import Path

from bedrock_agentcore.runtime import BedrockAgentCoreApp
from strands import Agent, tool
from strands.models import BedrockModel
from strands.session.file_session_manager import FileSessionManager

WORKSPACE = Path(os.environ.get("WORKSPACE", "/mnt/workspace"))
MODEL_ID = os.environ.get("MODEL_ID", "us.anthropic.claude-sonnet-4-5-20250929-v1:0")
# The end of a long output says more than its beginning.
LONGEST_OUTPUT = 20_000

SYSTEM_PROMPT = f"""You are a coding agent. Your working directory is {WORKSPACE}: everything below it
outlives this conversation, and nothing else does, so install packages below it (npm into the
project, pip into a virtual environment). Run the tests after every change, and say what you did."""

app = BedrockAgentCoreApp()


def inside(path):
    """The path below the workspace, whatever was meant to be above it."""
    full = (WORKSPACE / path).resolve()
    if not full.is_relative_to(WORKSPACE.resolve()):
        raise ValueError(f"{path} is outside of {WORKSPACE}")
    return full


@tool
def run(command: str, timeout: int = 300) -> str:
    """Run a shell command in the workspace and return its exit code and output.

    Args:
        command: The command, for bash.
        timeout: Seconds until it is ended.
    """
    try:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=WORKSPACE, timeout=timeout, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
    except subprocess.TimeoutExpired:
        return f"ended after {timeout} s"
    return f"exit code {done.returncode}\n{done.stdout[-LONGEST_OUTPUT:]}"


@tool
def read_file(path: str) -> str:
    """Read a text file of the workspace.

    Args:
        path: Its path from the workspace.
    """
    return inside(path).read_text(encoding="utf-8")


@tool
def write_file(path: str, text: str) -> str:
    """Write a text file of the workspace, and the directories above it.

    Args:
        path: Its path from the workspace.
        text: The whole new content.
    """
    file = inside(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return f"wrote {len(text)} characters"


def model():
    """The model; tests put another one here."""
    return BedrockModel(model_id=MODEL_ID)


def agent_for(session_id):
    """An agent that knows what was said in the session before."""
    # The storage appears with the first call, so nothing is opened when the program starts.
    memory = FileSessionManager(session_id=session_id, storage_dir=str(WORKSPACE / ".sessions"))
    return Agent(
        model=model(), tools=[run, read_file, write_file], system_prompt=SYSTEM_PROMPT,
        session_manager=memory, callback_handler=None,
    )


async def pieces(agent, prompt):
    """The answer as it comes."""
    async for event in agent.stream_async(prompt):
        if event.get("data"):
            yield event["data"]


@app.entrypoint
async def invoke(payload, context):
    agent = agent_for(context.session_id or "default")
    prompt = str(payload.get("prompt", ""))
    if payload.get("stream"):
        return pieces(agent, prompt)
    result = await agent.invoke_async(prompt)
    return {"result": str(result).strip(), "session": context.session_id}


if __name__ == "__main__":
    app.run()
