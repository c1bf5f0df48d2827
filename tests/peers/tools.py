"""Programs of others that judge HTTP/2 and gRPC, as tools/fetch_grpc_tools.sh leaves them."""
import os, pathlib, shutil, subprocess

import pytest

TOOLS = pathlib.Path(os.environ.get("MODELD_GRPC_TOOLS", "/nonexistent"))


def tool(name):
    """Its path, or None: what could not be fetched is named in the log of that step."""
    return next(iter(sorted(TOOLS.glob(f"{name}-v*/{name}"))), None) or shutil.which(name)


def needs(name):
    return pytest.mark.skipif(tool(name) is None, reason=f"{name} could not be fetched")


def run(name, *arguments, timeout=60, **keywords):
    return subprocess.run([str(tool(name)), *map(str, arguments)], capture_output=True, text=True,
                          timeout=timeout, **keywords)
