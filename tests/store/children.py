"""Real processes for the store's tests, each with a deadline."""

import contextlib
import subprocess
import sys

DEADLINE_S = 60


def run(script, *arguments):
    """Run Python text in a child to its end; return the finished process."""
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


@contextlib.contextmanager
def started(script, *arguments):
    """Run Python text in a child whose standard output can be read line by line; it is killed at the end."""
    child = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait(DEADLINE_S)
        child.stdin.close()
        child.stdout.close()


def run_together(script, *arguments, processes=8):
    """Run Python text in several children that start their work at one moment; return their outputs.

    The text calls `go()` where the race begins.
    """
    prelude = "import sys\ndef go():\n    print('ready', flush=True)\n    sys.stdin.readline()\n"
    with contextlib.ExitStack() as stack:
        children = [stack.enter_context(started(prelude + script, *arguments)) for _ in range(processes)]
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for child in children:
            child.stdin.write("\n")
            child.stdin.flush()
        outputs = [child.stdout.read() for child in children]
        assert [child.wait(DEADLINE_S) for child in children] == [0] * processes
    return outputs
