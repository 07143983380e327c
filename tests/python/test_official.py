"""An agent on the official `bedrock-agentcore` package."""

import json
import os
import shutil
import sys
import tempfile
import time

from harness import AGENTS, IMAGES, STORAGE, Suite, cli, create, find, new_name, new_session, write_project


class Official(Suite):
    @classmethod
    def setUpClass(cls):
        if IMAGES:
            # The package is in the image, as `pip install` in its Dockerfile would have it.
            cls.runtime = create("official", filesystemConfigurations=STORAGE)
            return
        name = new_name("official")
        # The project has a virtual environment of its own, as a developer's has. It is a copy of the
        # one that runs this suite (hard links where they can be), so that nothing is downloaded.
        beside = os.path.dirname(sys.prefix)
        cls.directory = tempfile.TemporaryDirectory(dir=beside if os.access(beside, os.W_OK) else None)
        cls.addClassCleanup(cls.directory.cleanup)
        project = os.path.join(cls.directory.name, name)
        shutil.copytree(os.path.join(AGENTS, "official"), project)
        shutil.copytree(sys.prefix, os.path.join(project, ".venv"), symlinks=True, copy_function=link)
        write_project(project, name, filesystem_configurations=[{"session_storage": {"mount_path": "/mnt/workspace"}}])
        cli("local", "deploy", cwd=project)
        cls.runtime = find(name)

    def test_plain_answer(self):
        session = new_session()
        answer = self.runtime.invoke({"prompt": "hello"}, session)
        self.assertEqual(answer, {"said": "hello", "session": session})

    def test_stream(self):
        answer = self.runtime.invoke_raw({"wish": "stream", "count": 4}, new_session())
        self.assertTrue(answer["contentType"].startswith("text/event-stream"))
        lines = [line for line in answer["response"].iter_lines() if line]
        self.assertEqual([json.loads(line.removeprefix(b"data: ")) for line in lines],
                         [{"number": n} for n in range(4)])

    def test_the_packages_own_error(self):
        answer = self.error("RuntimeClientError", self.runtime.invoke, {"wish": "fail"}, new_session())
        self.assertIn("Received error (500) from runtime.", answer["Error"]["Message"])

    def test_background_work_keeps_the_session(self):
        session = new_session()
        self.addCleanup(cli, "local", "clock", "reset")
        self.runtime.invoke({"wish": "busy", "seconds": 60}, session)
        self.runtime.command("touch /tmp/same-compute", session)
        cli("local", "clock", "advance", "16m")
        time.sleep(1.5)
        self.assertEqual(self.runtime.command("ls /tmp/same-compute", session).exit_code, 0)


def link(source, target):
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
