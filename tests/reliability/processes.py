"""Commands of ``tfm_jax.main`` as processes, without the seconds each would import.

They are forked from one process that has imported everything and started nothing.
"""

import json
import os
import subprocess
import sys

import jax

ZYGOTE = """
import json, os, sys
from tfm_jax import main
from tfm_jax.train import loop, modes
import grain, num2words, optax, tensorboardX

for line in sys.stdin:
    request = json.loads(line)
    if "wait" in request:
        answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
    else:
        answer = os.fork()
        if not answer:
            output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for number in (1, 2):
                os.dup2(output, number)
            os.close(0)
            sys.exit(main.main(request["argv"]))
    print(json.dumps(answer), flush=True)
"""


def environment(**changes):
    """Variables of a process on one CPU device, with this one's compiled programs."""
    cache = {
        "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
    }
    return os.environ | {"JAX_PLATFORMS": "cpu"} | cache | changes


class Commands:
    """Context that starts commands."""

    def __init__(self, **variables):
        self._zygote = subprocess.Popen(
            [sys.executable, "-c", ZYGOTE],
            **dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True),
            env=environment(**variables),
        )

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._zygote.kill()
        self._zygote.communicate()

    def start(self, argv, output) -> int:
        """Starts ``tfm_jax.main argv``, what it prints appended to a file; its pid."""
        return self._ask(argv=[str(word) for word in argv], output=str(output))

    def wait(self, pid) -> int:
        """The exit code; -9 if killed."""
        return self._ask(wait=pid)

    def _ask(self, **request):
        self._zygote.stdin.write(json.dumps(request) + "\n")
        self._zygote.stdin.flush()
        return json.loads(self._zygote.stdout.readline())
