"""An agent on the official package: plain answers, streams, background work that keeps the session busy."""

import asyncio
import threading
import time

from bedrock_agentcore.runtime import BedrockAgentCoreApp

app = BedrockAgentCoreApp()


def background(seconds):
    task = app.add_async_task("background")
    time.sleep(seconds)
    app.complete_async_task(task)


@app.entrypoint
async def invoke(payload, context):
    wish = payload.get("wish")
    if wish == "stream":
        return stream(payload["count"])
    if wish == "busy":
        threading.Thread(target=background, args=(payload["seconds"],), daemon=True).start()
        return {"busy": payload["seconds"]}
    if wish == "fail":
        raise RuntimeError("asked to fail")
    return {"said": payload.get("prompt"), "session": context.session_id}


async def stream(count):
    for number in range(count):
        yield {"number": number}
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    app.run()
