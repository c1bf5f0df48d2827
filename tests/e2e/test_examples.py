"""docs/examples/: each program prints what its page says."""
import re, subprocess, sys

import pytest
from conftest import ROOT, Server

EXAMPLES = ROOT / "docs/examples"


def promised(folder):
    """The block of the page that shows what comes out: its last."""
    text = (EXAMPLES / folder / "README.md").read_text()
    block = re.findall(r"(?:^    .*\n)+", text, re.MULTILINE)[-1]
    return [line[4:] for line in block.splitlines()]


def printed(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def server():
    s = Server(EXAMPLES / "models")
    yield s
    assert s.stop() == 0, s.log()


def test_curl(server):
    assert printed(EXAMPLES / "curl/infer.sh", f"127.0.0.1:{server.port}") == promised("curl")


@pytest.mark.parametrize("program,port", [("http_client", "port"), ("grpc_client", "grpc_port"),
                                          ("plain_grpc", "grpc_port")])
def test_python(server, program, port):
    address = f"127.0.0.1:{getattr(server, port)}"
    assert printed(sys.executable, EXAMPLES / f"python/{program}.py", address) == promised("python")
