"""An agent for Amazon Bedrock AgentCore Runtime on the official `bedrock-agentcore` package.

It keeps its notes in the session's storage: they are there again when the session was stopped
and is resumed.
"""

import os

from bedrock_agentcore.runtime import BedrockAgentCoreApp

WORKSPACE = os.environ.get("WORKSPACE", "/mnt/workspace")

app = BedrockAgentCoreApp()


def remember(prompt):
    """Appends the prompt to the notes and returns all of them, oldest first."""
    # The storage appears with the first call, so nothing is opened when the program starts.
    with open(os.path.join(WORKSPACE, "notes.txt"), "a+", encoding="utf-8") as notes:
        notes.write(prompt.replace("\n", " ") + "\n")
        notes.seek(0)
        return notes.read().splitlines()


async def one_by_one(notes):
    for number, note in enumerate(notes, 1):
        yield f"note {number}: {note}"


@app.entrypoint
async def invoke(payload, context):
    prompt = str(payload.get("prompt", ""))
    notes = remember(prompt)
    if payload.get("stream"):
        return one_by_one(notes)
    return {"result": f"noted: {prompt}", "session": context.session_id, "notes": notes}


if __name__ == "__main__":
    app.run()
