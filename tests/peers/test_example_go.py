"""docs/examples/go: stubs from proto/, and what the program prints."""
import os, re, shutil, subprocess

import pytest
from field import Server, pathlib

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "docs/examples"
pytestmark = pytest.mark.skipif(not shutil.which("go") or not shutil.which("protoc"),
                                reason="Go or protoc is not installed")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Built in a copy, so that nothing is left in the tree."""
    root = tmp_path_factory.mktemp("go")
    shutil.copytree(EXAMPLES.parents[1] / "proto", root / "proto")
    shutil.copytree(EXAMPLES / "go", root / "docs/examples/go")
    env = {**os.environ, "GOBIN": str(root / "bin"), "GOTOOLCHAIN": "local"}
    for command in (["./generate.sh"], ["go", "vet", "./..."], ["go", "build", "-o", root / "example", "."]):
        done = subprocess.run(command, cwd=root / "docs/examples/go", env=env, capture_output=True, text=True)
        if "requires go >=" in done.stderr:
            pytest.skip(f"this Go is too old: {done.stderr.strip()[-200:]}")
        assert done.returncode == 0, done.stdout + done.stderr
    return root / "example"


def test_output(program):
    promised = re.findall(r"(?:^    .*\n)+", (EXAMPLES / "go/README.md").read_text(), re.MULTILINE)[-1]
    server = Server(EXAMPLES / "models")
    try:
        done = subprocess.run([program, f"127.0.0.1:{server.grpc_port}"], capture_output=True, text=True, timeout=60)
    finally:
        assert server.stop() == 0, server.log()
    assert done.stdout.splitlines() == [line[4:] for line in promised.splitlines()], done.stderr
