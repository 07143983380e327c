#!/usr/bin/env python3
"""Runs the README's tour on a pseudo-terminal and writes what it showed as docs/tour.svg.

    scripts/terminal_picture.py path/to/agentcore

Nothing is made up: the commands run in a directory and an emulator home of their own, and the lines are theirs.
"""

import html
import os
import pty
import re
import select
import subprocess
import sys
import tempfile
import time

COMMANDS = [
    "agentcore create coder && cd coder",
    "agentcore local invoke --session ticket-8421 'remember the milk'",
    "agentcore local exec --session ticket-8421 -- ls -l /mnt/workspace",
    "agentcore local stop --session ticket-8421",
    "agentcore local invoke --session ticket-8421 'and the bread'",
    "agentcore local clock advance 16m",
    "agentcore local session ls",
]
COLUMNS, LINE, CHAR, MARGIN = 108, 18, 7.8, 16
COLOURS = {"31": "#ff7b72", "32": "#7ee787", "33": "#e3b341", "34": "#79c0ff", "35": "#d2a8ff", "36": "#76e3ea"}


def run(command, directory, environment):
    """The lines that one command showed, and the directory it left the shell in."""
    master, slave = pty.openpty()
    script = f"stty cols {COLUMNS} -onlcr; {command}; pwd > {environment['WHERE']}"
    shell = subprocess.Popen(["sh", "-c", script], stdin=slave, stdout=slave, stderr=slave, cwd=directory,
                             env=environment, start_new_session=True)
    os.close(slave)
    shown, ended = b"", None
    while ended is None or time.monotonic() < ended + 0.2:
        if select.select([master], [], [], 0.05)[0]:
            try:
                shown += os.read(master, 65536)
            except OSError:
                break
        if ended is None and shell.poll() is not None:
            ended = time.monotonic()
    with open(environment["WHERE"], encoding="utf-8") as file:
        return lines_of(shown.decode()), file.read().strip()


def lines_of(text):
    """What stands on the screen in the end: a carriage return or an erased line begins a line anew."""
    text = re.sub(r"\x1b\[\?25[lh]|\x1b\[\d*[ABCD]|\x1b\]8;[^\x07\x1b]*(?:\x07|\x1b\\)", "", text)
    lines = []
    for line in text.split("\n"):
        line = re.split(r"\r(?!$)|\x1b\[2?K", line)[-1].rstrip("\r")
        if line.strip():
            lines.append(line)
    return lines


def spans(line):
    """A line as SVG spans, one for each colour."""
    out, style = [], ""
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        code = re.fullmatch(r"\x1b\[([0-9;]*)m", part)
        if code:
            style = "".join(
                f' fill="{COLOURS[c]}"' if c in COLOURS else ' font-weight="bold"' if c == "1" else ""
                for c in code[1].split(";"))
        elif part:
            out.append(f"<tspan{style}>{html.escape(part)}</tspan>")
    return "".join(out)


def main():
    binary = os.path.abspath(sys.argv[1])
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        environment = {
            "PATH": os.path.dirname(binary) + ":" + os.environ["PATH"], "HOME": scratch, "TERM": "xterm-256color",
            "AGENTCORE_HOME": os.path.join(scratch, "home"), "WHERE": os.path.join(scratch, "where"),
            "LANG": "C.UTF-8",
        }
        directory = scratch
        for command in COMMANDS:
            rows.append(f"\x1b[32m$\x1b[0m \x1b[1m{command}\x1b[0m")
            lines, directory = run(command, directory, environment)
            rows.extend(lines)
        subprocess.run(["agentcore", "local", "down"], env=environment, cwd=directory, check=True,
                       capture_output=True)
    width, height = int(COLUMNS * CHAR + 2 * MARGIN), len(rows) * LINE + 2 * MARGIN
    text = "\n".join(
        f'<text x="{MARGIN}" y="{MARGIN + (n + 1) * LINE - 5}">{spans(row)}</text>' for n, row in enumerate(rows))
    target = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "docs", "tour.svg")
    with open(target, "w", encoding="utf-8") as file:
        file.write(f'''<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">
<rect width="100%" height="100%" rx="8" fill="#0d1117"/>
<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="13" fill="#e6edf3" xml:space="preserve">
{text}
</g>
</svg>
''')


if __name__ == "__main__":
    main()
