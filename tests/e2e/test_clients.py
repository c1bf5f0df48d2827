"""Programs and libraries that people use, two servers on one port, addresses of both kinds."""
import asyncio, gzip, http.client, json, shutil, socket, subprocess, zlib

import aiohttp
import pytest
from conftest import free_port, read_response, request

PATH = "/v2/models/identity_fp32/infer"
BODY = json.dumps({"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [2],
                               "data": [1.5, -2]}]}).encode()
LARGE = json.dumps({"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [50000],
                                "data": [0.5] * 50000}]}).encode()


def curl(url, *arguments, data=None):
    r = subprocess.run(["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code}", *arguments, url],
                       input=data, capture_output=True)
    assert r.returncode == 0, r.stderr
    body, _, status = r.stdout.rpartition(b"\n")
    return int(status), body


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
@pytest.mark.parametrize("arguments,pack", [
    ((), bytes), (("-H", "Transfer-Encoding: chunked"), bytes), (("-H", "Expect: 100-continue"), bytes),
                                            (("-0",), bytes), (("--compressed",), bytes),
                                            (("-H", "Content-Encoding: gzip"), gzip.compress),
                                            (("-H", "Connection: close"), bytes),
                                            (("-H", "Content-Encoding: deflate", "--compressed"),
                                             zlib.compress)],
                         ids=lambda value: "".join(value) if isinstance(value, tuple) else "")
@pytest.mark.parametrize("data", [BODY, LARGE], ids=["small", "large"])
def test_curl_posts(server, arguments, pack, data):
    data = pack(data)
    status, body = curl(f"http://127.0.0.1:{server.port}{PATH}", "--data-binary", "@-", *arguments, data=data)
    assert status == 200 and json.loads(body)["outputs"][0]["data"][0] in (1.5, 0.5)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_asks(server):
    url = f"http://127.0.0.1:{server.port}"
    assert curl(url + "/v2/health/ready") == (200, b'{"ready":true}')
    assert curl(url + "/v2/models/identity_fp32", "-I")[0] == 200
    assert curl(url + "/v2", "--next", "-sS", url + "/v2/health/live")[0] == 200  # one connection
    assert curl(url + "/v2", "-X", "OPTIONS")[0] == 405


def test_http_client_keeps_its_connection(server):
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    c.connect()
    socket_before = c.sock
    for body in (BODY, LARGE, iter([BODY[:10], BODY[10:]])):
        c.request("POST", PATH, body, encode_chunked=not isinstance(body, bytes))
        r = c.getresponse()
        assert r.status == 200 and json.loads(r.read())["outputs"][0]["datatype"] == "FP32"
    c.request("HEAD", "/v2")
    r = c.getresponse()
    assert r.status == 200 and int(r.headers["Content-Length"]) > 0 and r.read() == b""
    c.request("GET", "/v2/nope")
    assert c.getresponse().read() == b'{"error":"Not Found"}'
    assert c.sock is socket_before


def test_aiohttp(server):
    async def run():
        async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as session:
            async def infer(**arguments):
                async with session.post(PATH, **arguments) as r:
                    assert r.status == 200, await r.text()
                    return (await r.json())["outputs"][0]["shape"]

            async def pieces():
                for i in range(0, len(LARGE), 10000):
                    yield LARGE[i:i + 10000]

            assert await asyncio.gather(*(infer(data=BODY) for _ in range(20))) == [[2]] * 20
            assert await infer(data=pieces()) == [50000]
            assert await infer(data=LARGE, compress="gzip") == await infer(data=LARGE,
                compress="deflate") == [50000]
            assert await infer(json=json.loads(BODY), expect100=True) == [2]

    asyncio.run(run())


def test_two_servers_share_a_port(start, repository):
    port = free_port()
    servers = [start(repository, f"--http-port={port}", "--reuse-http-port=true", f"--id=server-{i}",
                     wait=False) for i in range(2)]
    for s in servers:
        s.port = port
        s.wait_ready()
    seen = set()
    for _ in range(200):
        seen.add(request(port, "GET", "/v2").json()["name"])
        if len(seen) == 2:
            break
    assert seen == {"server-0", "server-1"}
    assert servers[0].stop() == 0  # the other takes all
    assert all(request(port, "GET", "/v2").json()["name"] == "server-1" for _ in range(20))


def test_a_taken_port_is_named(start, repository):
    first = start(repository)
    second = start(repository, f"--http-port={first.port}", wait=False)
    assert second.process.wait(20) != 0 and str(first.port) in second.log()


def test_ipv6(start, repository):
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
    except OSError:
        pytest.skip("there is no IPv6 here")
    s = start(repository, "--http-address=::1", wait=False)
    for _ in range(500):
        try:
            c = socket.create_connection(("::1", s.port), 10)
            break
        except OSError:
            asyncio.run(asyncio.sleep(0.01))
    with c:
        c.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: [::1]\r\n\r\n")
        assert read_response(c.makefile("rb")).status == 200
