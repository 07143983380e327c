"""The starter toolkit's side of tests/it/toolkit.rs, run in its own environment (toolkit.txt).

    load FILE           what the toolkit reads, as JSON
    rewrite FILE        the file as the toolkit writes it after reading it
    configure ARGS...   the toolkit's own `configure`, with an STS that knows one account
"""

import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

IDENTITY = b"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/test</Arn><UserId>test</UserId>
<Account>123456789012</Account></GetCallerIdentityResult>
<ResponseMetadata><RequestId>test</RequestId></ResponseMetadata></GetCallerIdentityResponse>"""


class Sts(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(IDENTITY)))
        self.end_headers()
        self.wfile.write(IDENTITY)

    def log_message(self, *values):
        pass


def config():
    from bedrock_agentcore_starter_toolkit.utils.runtime import config as module

    return module


def load(file):
    loaded = config().load_config(Path(file), autofill_missing_aws=False)
    agents = {name: agent.validate(for_local=True) for name, agent in loaded.agents.items()}
    print(json.dumps({"file": loaded.model_dump(), "problems": agents}))


def rewrite(file):
    path = Path(file)
    config().save_config(config().load_config(path, autofill_missing_aws=False), path)


def configure(*arguments):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sts)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = dict(
        os.environ, AWS_ENDPOINT_URL=f"http://127.0.0.1:{server.server_port}", AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test", AWS_REGION="us-west-2", AWS_DEFAULT_REGION="us-west-2",
        AWS_EC2_METADATA_DISABLED="true", AGENTCORE_SUPPRESS_RECOMMENDATION="1",
    )
    program = Path(sys.executable).with_name("agentcore")
    return subprocess.run([program, "configure", *arguments], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit({"load": load, "rewrite": rewrite, "configure": configure}[sys.argv[1]](*sys.argv[2:]))
