"""The recorder of docs/images/demo.svg: it types three commands in a terminal, and what they print becomes a film.

`make recording` runs it. It needs the installed program, and npx for the renderer. Nothing is staged: the commands run
in a pseudoterminal of 100 × 28 in an empty folder, whose name is replaced by `~`. Waiting is cut to 0.2 seconds a
frame, and the film stops at each full screen so that it can be read.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "docs/images/demo.svg"
RENDERER = "svg-term-cli@2.1.1"
COLUMNS, ROWS = 100, 28
COMMANDS = (
    ("oci-audit demo", 1.5),
    ("oci-audit summary oci-audit-demo/audit.json", 2.5),
    ("oci-audit report oci-audit-demo/audit.json -o incident.html", 2.5),
)
"""What is typed, and the seconds to read each screenful of what it prints."""
PROMPT = "\x1b[1;32m$\x1b[0m "
CLEAR = "\x1b[2J\x1b[H"
SECONDS_PER_KEY = 0.025
LONGEST_WAIT_SECONDS = 0.2
FRAME_SECONDS = 0.4  # what is printed within this time appears at once, so that the picture stays small
TITLE = "oci-audit in a terminal: demo, summary, report"
DESCRIPTION = (
    "Three commands are run. oci-audit demo exports about 14,000 audit events of a synthetic tenancy and lists which "
    "compartments and regions are complete and which one is a gap. oci-audit summary shows a guessed password, a new "
    "API key and a policy that grants everything. oci-audit report writes an HTML page."
)

Output = Iterator[tuple[float, bytes]]


def run_in_terminal(command: str, folder: Path) -> Output:
    """Run a command in a pseudoterminal, and yield what it prints with the seconds since its start."""
    environment = {
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TERM": "xterm-256color",
    }
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    started = time.monotonic()
    with subprocess.Popen(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    ) as process:
        os.close(terminal)
        while True:
            ready, _, _ = select.select([controller], [], [], 0.1)
            if not ready and process.poll() is not None:
                break
            try:
                data = os.read(controller, 1 << 16) if ready else b""
            except OSError:  # Linux says so when the last process that had the terminal is gone
                break
            if data:
                yield time.monotonic() - started, data
    os.close(controller)


def gather_frames(output: Output) -> Output:
    """Join what is printed within the time of a frame."""
    gathered, shown_at = b"", 0.0
    for seconds, data in output:
        if gathered and seconds - shown_at >= FRAME_SECONDS:
            yield shown_at, gathered
            gathered = b""
        if not gathered:
            shown_at = seconds
        gathered += data
    if gathered:
        yield shown_at, gathered


def split_screenfuls(text: str) -> Iterator[str]:
    """Yield text in pieces that fit below the line of the command."""
    lines = text.splitlines(keepends=True)
    for first in range(0, len(lines), ROWS - 2):
        yield "".join(lines[first : first + ROWS - 2])


def record(folder: Path) -> Iterator[tuple[float, str]]:
    """Type the commands in a folder, and yield the seconds of the film and what appears then."""
    now = 0.0
    yield now, PROMPT
    for command, reading_seconds in COMMANDS:
        now += 0.4
        if command != COMMANDS[0][0]:
            yield now, CLEAR + PROMPT
        for key in command:
            now += SECONDS_PER_KEY
            yield now, key
        now += 0.4
        yield now, "\r\n"
        before = 0.0
        for seconds, data in gather_frames(run_in_terminal(command, folder)):
            now += min(seconds - before, LONGEST_WAIT_SECONDS)
            before = seconds
            shown = data.decode(errors="replace").replace(str(folder.resolve()), "~")
            for number, screenful in enumerate(split_screenfuls(shown)):
                now += reading_seconds * (number > 0)
                yield now, screenful
        now += LONGEST_WAIT_SECONDS
        yield now, PROMPT
        now += reading_seconds
    yield now, " "


def write_cast(folder: Path) -> str:
    """Return the recording as an asciicast, version 2: a header, then one line per frame."""
    header = {"version": 2, "width": COLUMNS, "height": ROWS, "title": TITLE}
    lines = [json.dumps(header)]
    lines += (json.dumps([round(seconds, 3), "o", text]) for seconds, text in record(folder))
    return "\n".join(lines) + "\n"


def render(cast: str) -> str:
    """Return a recording as an animated SVG, with a title and a description for those who do not see it."""
    command = ["npx", "--yes", RENDERER, "--window", "--no-cursor"]
    drawn = subprocess.run(command, input=cast, capture_output=True, text=True, check=True).stdout
    first = re.match(r"<svg [^>]*>", drawn)
    if first is None:
        raise SystemExit("error: the renderer did not write an SVG")
    opening = first[0].replace("<svg ", '<svg role="img" aria-labelledby="title desc" ', 1)
    described = f'<title id="title">{TITLE}</title><desc id="desc">{DESCRIPTION}</desc>'
    return opening + described + drawn[first.end() :].rstrip("\n") + "\n"


def main() -> None:
    """Record and render."""
    with tempfile.TemporaryDirectory() as folder:
        cast = write_cast(Path(folder))
    picture = render(cast)
    OUTPUT.write_text(picture, "utf-8")
    seconds = json.loads(cast.splitlines()[-1])[0]
    print(f"{OUTPUT.relative_to(ROOT)}: {seconds:.0f} seconds, {len(picture.encode()):,} bytes")


if __name__ == "__main__":
    main()
