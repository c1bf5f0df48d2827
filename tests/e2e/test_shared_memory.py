"""Tensors in shared memory of clients, and clients that take their memory away."""
import asyncio, json, os, pathlib, queue, subprocess, sys, threading, time

import pytest
from conftest import DTYPES, MODELS, Server

np = pytest.importorskip("numpy")
http = pytest.importorskip("tritonclient.http")
import tritonclient.http.aio as http_aio
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

TRUNCATED = "was truncated by its owner"


@pytest.fixture(scope="module")
def shared(repository):
    s = Server(repository, "--allow-client-shm=true")
    yield s
    assert s.process.poll() is None, f"the server died: {s.log()[-4000:]}"
    assert s.stop() == 0 and "fatal" not in s.log()


@pytest.fixture
def client(shared):
    with http.InferenceServerClient(f"127.0.0.1:{shared.port}", concurrency=4) as c:
        yield c
        c.unregister_system_shared_memory()


@pytest.fixture
def region(client, request):
    """Makes regions of the client's own library, registered, and takes them away again."""
    handles = []

    def make(name, size, register=True):
        key = f"/modeld-{os.getpid()}-{len(handles)}"
        handles.append(shm.create_shared_memory_region(name, key, size))
        if register:
            client.register_system_shared_memory(name, key, size)
        handles[-1].key_for_tests = key
        return handles[-1]

    yield make
    for handle in handles:
        shm.destroy_shared_memory_region(handle)


def placed(name, dtype, shape, region, size, offset=0):
    tensor = http.InferInput(name, shape, dtype)
    tensor.set_shared_memory(region, size, offset)
    return tensor


def wanted(name, region, size, offset=0):
    output = http.InferRequestedOutput(name)
    output.set_shared_memory(region, size, offset)
    return output


def truncate(key, size=0):
    os.truncate("/dev/shm" + key, size)


def test_server_says_that_it_can(client):
    assert {"system_shared_memory", "cuda_shared_memory"} <= set(client.get_server_metadata()["extensions"])


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d not in ("BYTES", "BF16")])
def test_every_type_both_ways(client, region, dtype):
    types = {"BOOL": np.bool_, "FP16": np.float16, "FP32": np.float32, "FP64": np.float64}
    numpy_type = types.get(dtype) or getattr(np, dtype.lower())
    x = (np.arange(100) % 2).astype(numpy_type)
    handle = region("r", 2 * x.nbytes)
    shm.set_shared_memory_region(handle, [x])
    r = client.infer(f"identity_{dtype.lower()}", [placed("INPUT0", dtype, [100], "r", x.nbytes)],
                     outputs=[wanted("OUTPUT0", "r", x.nbytes, x.nbytes)])
    assert r.get_output("OUTPUT0") == {"name": "OUTPUT0", "datatype": dtype, "shape": [100]}
    assert (shm.get_contents_as_numpy(handle, numpy_type, [100], x.nbytes) == x).all()


def test_strings_both_ways(client, region):
    x = np.array(["", "a", "\u00e4" * 1000], dtype=np.object_)
    text = serialize_byte_tensor(x)
    size = len(text.item())
    source, target = region("in", size), region("out", size + 100)
    shm.set_shared_memory_region(source, [text])
    client.infer("identity_bytes", [placed("INPUT0", "BYTES", [3], "in", size)], outputs=[wanted("OUTPUT0", "out", size + 100)])
    assert [s.decode() for s in shm.get_contents_as_numpy(target, np.object_, [3])] == list(x)


def test_some_tensors_in_a_region(client, region):
    """One input in the body, one in a region; one output in each form."""
    x, y = np.arange(1000, dtype=np.float32), np.arange(500, dtype=np.float32)
    handle = region("r", x.nbytes + y.nbytes)
    shm.set_shared_memory_region(handle, [x])
    inline = http.InferInput("INPUT1", [500], "FP32")
    inline.set_data_from_numpy(y)
    r = client.infer("two", [placed("INPUT0", "FP32", [1000], "r", x.nbytes), inline],
                     outputs=[http.InferRequestedOutput("OUTPUT0"), wanted("OUTPUT1", "r", y.nbytes, x.nbytes)])
    assert (r.as_numpy("OUTPUT0") == x).all()
    assert r.get_output("OUTPUT1") == {"name": "OUTPUT1", "datatype": "FP32", "shape": [500]}
    assert (shm.get_contents_as_numpy(handle, np.float32, [500], x.nbytes) == y).all()


def test_answers_in_every_form(client, region):
    x = np.array([3, 1, 2, 0], np.float32)
    shm.set_shared_memory_region(region("r", x.nbytes), [x])
    tensor = placed("INPUT0", "FP32", [4], "r", x.nbytes)
    assert (client.infer("labelled", [tensor]).as_numpy("OUTPUT0") == x).all()
    r = client.infer("labelled", [tensor], outputs=[http.InferRequestedOutput("OUTPUT0", False)])
    assert r.get_output("OUTPUT0")["data"] == [3, 1, 2, 0]
    r = client.infer("labelled", [tensor], outputs=[http.InferRequestedOutput("OUTPUT0", class_count=1)])
    assert r.as_numpy("OUTPUT0")[0] == b"3.000000:0:cat"
    r = client.infer("labelled", [tensor], response_compression_algorithm="gzip")
    assert (r.as_numpy("OUTPUT0") == x).all()


def test_asyncio(shared, region):
    x = np.arange(10, dtype=np.float32)
    handle = region("r", 2 * x.nbytes)
    shm.set_shared_memory_region(handle, [x])

    async def run():
        async with http_aio.InferenceServerClient(f"127.0.0.1:{shared.port}") as c:
            await c.infer("identity_fp32", [placed("INPUT0", "FP32", [10], "r", x.nbytes)],
                          outputs=[wanted("OUTPUT0", "r", x.nbytes, x.nbytes)])
            assert [r["name"] for r in await c.get_system_shared_memory_status()] == ["r"]
            assert await c.get_cuda_shared_memory_status() == []

    asyncio.run(run())
    assert (shm.get_contents_as_numpy(handle, np.float32, [10], x.nbytes) == x).all()


@pytest.mark.parametrize("call,message,status", [
    (lambda c: c.register_system_shared_memory("r", "/x", 1), "shared memory region 'r' already in manager", "400"),
    (lambda c: c.register_system_shared_memory("x", "/there-is-none", 1), "Unable to open shared memory region: '/there-is-none'", "500"),
    (lambda c: c.get_system_shared_memory_status("x"), "Unable to find system shared memory region: 'x'", "404"),
    (lambda c: c.register_cuda_shared_memory("x", b"x" * 64, 0, 8), "failed to register CUDA shared memory region: 'x', GPUs not supported", "400"),
    (lambda c: c.infer("identity_fp32", [placed("INPUT0", "FP32", [1], "x", 4)]), "Unable to find shared memory region: 'x'", "404"),
    (lambda c: c.infer("identity_fp32", [placed("INPUT0", "FP32", [1], "r", 4, 64)]), "Invalid offset for shared memory region: 'r'", "400"),
    (lambda c: c.infer("identity_fp32", [placed("INPUT0", "FP32", [1], "r", 4, 61)]), "Invalid offset + byte size for shared memory region: 'r'", "400"),
    (lambda c: c.infer("identity_fp32", [placed("INPUT0", "FP32", [2], "r", 8)], outputs=[wanted("OUTPUT0", "r", 4)]),
     "should be at least 8 bytes to hold the results", "500")])
def test_refusals(client, region, call, message, status):
    region("r", 64)
    with pytest.raises(InferenceServerException) as raised:
        call(client)
    assert message in raised.value.message() and raised.value.status() == status


def test_off_by_default(start, repository):
    s = start(repository)
    assert not {"system_shared_memory", "cuda_shared_memory"} & set(s.get("/v2").json()["extensions"])
    for path in ("/v2/systemsharedmemory/region/r/register", "/v2/systemsharedmemory/unregister",
                 "/v2/cudasharedmemory/region/r/register", "/v2/cudasharedmemory/unregister"):
        r = s.request("POST", path, {"key": "/k", "byte_size": 1})
        assert r.status == 501 and r.json() == {"error": "Client shared memory is disabled. Start the server with "
                                                         "'--allow-client-shm=true' to enable."}
    assert s.get("/v2/systemsharedmemory/status").json() == s.get("/v2/cudasharedmemory/status").json() == []


def test_names_of_any_language(shared, client, region):
    handle = region("r", 64)
    for name in ("\u00e4 \u2603", 'q"\\', "%41"):
        client.register_system_shared_memory(name, handle.key_for_tests, 64)
    assert {r["name"] for r in client.get_system_shared_memory_status()} == {"r", "\u00e4 \u2603", 'q"\\', "%41"}
    assert [r["name"] for r in client.get_system_shared_memory_status("%41")] == ["%41"]


def mappings(server, key):
    return sum(key in line for line in open(f"/proc/{server.process.pid}/maps"))


def test_unregistered_while_it_is_used(shared, client, region):
    x = np.array([5], np.float32)
    handle = region("r", 8)
    shm.set_shared_memory_region(handle, [x])
    answer = client.async_infer("slow", [placed("INPUT0", "FP32", [1], "r", 4)], outputs=[wanted("OUTPUT0", "r", 4, 4)])
    while mappings(shared, handle.key_for_tests) == 0:
        pass
    time.sleep(0.05)  # in flight
    client.unregister_system_shared_memory("r")
    assert client.get_system_shared_memory_status() == [] and mappings(shared, handle.key_for_tests) == 1
    answer.get_result()
    assert shm.get_contents_as_numpy(handle, np.float32, [1], 4)[0] == 5
    deadline = time.time() + 5
    while mappings(shared, handle.key_for_tests):
        assert time.time() < deadline


def test_nothing_stays_behind(shared, client, region):
    handle = region("r", 1 << 20, register=False)
    for _ in range(200):
        client.register_system_shared_memory("r", handle.key_for_tests, 1 << 20)
        client.infer("identity_fp32", [placed("INPUT0", "FP32", [1], "r", 4)], outputs=[wanted("OUTPUT0", "r", 4, 4)])
        client.unregister_system_shared_memory("r")
    deadline = time.time() + 5
    while mappings(shared, handle.key_for_tests):
        assert time.time() < deadline


# --- clients that take their memory away

SIZE = 1 << 20


def test_cut_in_the_middle_of_an_answer(shared, client, region):
    """The model hands on its input, and nobody reads the answer while its owner cuts the region."""
    handle = region("r", 64 << 20)
    shm.set_shared_memory_region(handle, [np.full(16 << 20, 7, np.float32)])
    body = json.dumps({"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [16 << 20], "parameters": {
        "shared_memory_region": "r", "shared_memory_byte_size": 64 << 20}}], "parameters": {"binary_data_output": True}})
    with shared.connect() as c:
        c.sendall(b"POST /v2/models/identity_fp32/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body.encode())
        first = c.recv(1000)
        assert first.startswith(b"HTTP/1.1 200")
        truncate(handle.key_for_tests)
        length = int(first.lower().split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0])
        chunks, left = [first], first.index(b"\r\n\r\n") + 4 + length - len(first)
        while left:
            chunks.append(c.recv(1 << 20))
            assert chunks[-1], "cut off"
            left -= len(chunks[-1])
        tail = b"".join(chunks)[-(64 << 20):]
        assert (np.frombuffer(tail, np.float32) == 7).all(), "the answer is what was computed"
    assert shared.get("/v2/health/live").status == 200


@pytest.mark.parametrize("model,binary,pause", [
    ("identity_fp32", True, 0.02), ("identity_fp32", False, 0.1), ("slow", True, 0.4)])
def test_cut_under_load(shared, client, region, model, binary, pause):
    """Some clients cut their regions all the time; others are served as ever."""
    x = np.arange(SIZE // 8, dtype=np.float32)  # half of a region
    stop, problems, counts = threading.Event(), [], {"cut": 0, "fine": 0}
    handles = [region(f"r{i}", SIZE) for i in range(2)]

    def call(i, fragile):
        handle = handles[i]
        with http.InferenceServerClient(f"127.0.0.1:{shared.port}") as c:
            source = placed("INPUT0", "FP32", [len(x)], f"r{i}", x.nbytes)
            outputs = {True: [wanted("OUTPUT0", f"r{i}", x.nbytes, x.nbytes)], False: [http.InferRequestedOutput("OUTPUT0", False)]}
            while not stop.is_set():
                try:
                    c.infer(model, [source], outputs=outputs[binary])
                    counts["fine"] += not fragile
                    if binary and not fragile and not (shm.get_contents_as_numpy(handle, np.float32, x.shape, x.nbytes) == x).all():
                        problems.append("wrong answer")
                except InferenceServerException as e:
                    counts["cut"] += fragile
                    if not fragile or not (TRUNCATED in e.message() or "Unable to find" in e.message()):
                        problems.append(e)

    shm.set_shared_memory_region(handles[1], [x])
    threads = [threading.Thread(target=call, args=args) for args in ((0, True), (0, True), (1, False))]
    for t in threads:
        t.start()
    try:
        deadline, rounds = time.time() + 30, 0
        while rounds < 5 or not counts["cut"] or not counts["fine"]:
            assert time.time() < deadline, counts
            rounds += 1
            time.sleep(pause)
            truncate(handles[0].key_for_tests)
            time.sleep(pause)
            truncate(handles[0].key_for_tests, SIZE)
            client.unregister_system_shared_memory("r0")
            client.register_system_shared_memory("r0", handles[0].key_for_tests, SIZE)
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not problems, problems[:3]
    assert shared.process.poll() is None


@pytest.mark.skipif(not MODELS.is_dir(), reason="no ONNX models")
def test_cut_under_an_engine(start, tmp_path):
    """The engine's own threads run into it."""
    s = start(MODELS / "identity_fp32", "--allow-client-shm=true")
    (spec,) = s.get("/v2/models/identity_fp32").json()["inputs"]
    key = f"/modeld-engine-{os.getpid()}"
    handle = shm.create_shared_memory_region("r", key, SIZE)
    try:
        with http.InferenceServerClient(f"127.0.0.1:{s.port}") as c:
            x = np.arange(SIZE // 4, dtype=np.float32)
            shm.set_shared_memory_region(handle, [x])
            c.register_system_shared_memory("r", key, SIZE)
            tensor = placed(spec["name"], "FP32", [len(x)], "r", SIZE)
            assert (c.infer("identity_fp32", [tensor]).as_numpy("y") == x).all()
            truncate(key)
            with pytest.raises(InferenceServerException, match=TRUNCATED):
                c.infer("identity_fp32", [tensor])
            assert c.is_server_live()
    finally:
        shm.destroy_shared_memory_region(handle)


CHILD = """
import sys, numpy as np, tritonclient.http as http, tritonclient.utils.shared_memory as shm
port, key = sys.argv[1:]
c = http.InferenceServerClient(f"127.0.0.1:{port}")
h = shm.create_shared_memory_region("child", key, 8000)
c.register_system_shared_memory("child", key, 8000)
i = http.InferInput("INPUT0", [1000], "FP32"); i.set_shared_memory("child", 4000)
o = http.InferRequestedOutput("OUTPUT0"); o.set_shared_memory("child", 4000, 4000)
print("ready", flush=True)
while True:
    c.infer("slow", [i], outputs=[o])
"""


def test_client_that_is_killed(shared, client):
    key = f"/modeld-child-{os.getpid()}"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(shared.port), key], stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"ready\n"
        time.sleep(0.1)
    finally:
        child.kill()
        child.wait()
    pathlib.Path("/dev/shm" + key).unlink(missing_ok=True)  # Python's own tracker may be faster
    assert [r["name"] for r in client.get_system_shared_memory_status()] == ["child"]
    client.unregister_system_shared_memory("child")
    deadline = time.time() + 5
    while mappings(shared, key):
        assert time.time() < deadline


# --- over gRPC


@pytest.fixture(scope="module")
def rpc(shared):
    grpc = pytest.importorskip("tritonclient.grpc")
    with grpc.InferenceServerClient(f"127.0.0.1:{shared.port}") as c:
        yield grpc, c


def rpc_tensors(grpc, count, size, offset_out, region="r"):
    tensor, output = grpc.InferInput("INPUT0", [count], "FP32"), grpc.InferRequestedOutput("OUTPUT0")
    tensor.set_shared_memory(region, size)
    output.set_shared_memory(region, size, offset_out)
    return [tensor], [output]


def test_grpc_registers(rpc, region):
    grpc, c = rpc
    handle = region("r", 64, register=False)
    c.register_system_shared_memory("r", handle.key_for_tests, 64)
    status = c.get_system_shared_memory_status(as_json=True)
    assert status["regions"]["r"] == {"name": "r", "key": handle.key_for_tests, "byte_size": "64"}
    assert c.get_cuda_shared_memory_status(as_json=True) == {}
    for call, code, words in (
            (lambda: c.register_system_shared_memory("r", handle.key_for_tests, 64), "ALREADY_EXISTS", "already in manager"),
            (lambda: c.register_system_shared_memory("x", "/none-of-these", 64), "INTERNAL", "Unable to open shared memory region"),
            (lambda: c.register_system_shared_memory("x", handle.key_for_tests, 65), "INVALID_ARGUMENT", "invalid args"),
            (lambda: c.get_system_shared_memory_status("x"), "NOT_FOUND", "Unable to find system shared memory region: 'x'"),
            (lambda: c.register_cuda_shared_memory("x", b"x" * 64, 0, 8), "INVALID_ARGUMENT", "GPUs not supported")):
        with pytest.raises(InferenceServerException, match=words) as raised:
            call()
        assert raised.value.status() == f"StatusCode.{code}"
    c.unregister_system_shared_memory("r")
    assert c.get_system_shared_memory_status(as_json=True) == {}


def test_grpc_tensors_both_ways(rpc, region):
    grpc, c = rpc
    x = np.arange(1000, dtype=np.float32)
    handle = region("r", 2 * x.nbytes)
    shm.set_shared_memory_region(handle, [x])
    inputs, outputs = rpc_tensors(grpc, 1000, x.nbytes, x.nbytes)
    r = c.infer("identity_fp32", inputs, outputs=outputs)
    assert list(r.get_output("OUTPUT0").shape) == [1000] and list(r.get_response().raw_output_contents) == [b""]
    assert (shm.get_contents_as_numpy(handle, np.float32, [1000], x.nbytes) == x).all()
    assert (c.infer("identity_fp32", inputs).as_numpy("OUTPUT0") == x).all()


def test_grpc_stream(rpc, region):
    grpc, c = rpc
    x = np.arange(1000, dtype=np.float32)
    handle, answers = region("r", 11 * x.nbytes), queue.Queue()
    shm.set_shared_memory_region(handle, [x])
    c.start_stream(lambda result, error: answers.put((result, error)))
    for i in range(10):
        inputs, outputs = rpc_tensors(grpc, 1000, x.nbytes, (i + 1) * x.nbytes)
        c.async_stream_infer("identity_fp32", inputs, outputs=outputs, request_id=str(i))
    got = [answers.get(timeout=10) for _ in range(10)]
    c.stop_stream()
    assert [r.get_response().id for r, error in got if not error] == [str(i) for i in range(10)], got
    for i in range(10):
        assert (shm.get_contents_as_numpy(handle, np.float32, [1000], (i + 1) * x.nbytes) == x).all()


def test_grpc_cut_under_load(shared, client, rpc, region):
    grpc, c = rpc
    x = np.zeros(SIZE // 8, np.float32)
    handle, stop, problems, cut = region("r", SIZE), threading.Event(), [], []
    inputs, outputs = rpc_tensors(grpc, len(x), x.nbytes, x.nbytes)

    def call(outputs):
        while not stop.is_set():
            try:
                c.infer("identity_fp32", inputs, outputs=outputs)
            except InferenceServerException as e:
                cut.append(e)
                if not (TRUNCATED in e.message() or "Unable to find" in e.message()):
                    problems.append(e)

    threads = [threading.Thread(target=call, args=[o]) for o in (outputs, outputs, None)]
    for t in threads:
        t.start()
    try:
        deadline, rounds = time.time() + 30, 0
        while rounds < 5 or not cut:
            assert time.time() < deadline
            rounds += 1
            time.sleep(0.02)
            truncate(handle.key_for_tests)
            time.sleep(0.02)
            truncate(handle.key_for_tests, SIZE)
            client.unregister_system_shared_memory("r")
            client.register_system_shared_memory("r", handle.key_for_tests, SIZE)
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not problems, problems[:3]
    assert shared.process.poll() is None
