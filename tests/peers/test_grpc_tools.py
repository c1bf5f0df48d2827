"""grpcurl, ghz, the health probe and the gRPC project's interoperability client, as people use them.

Of the interoperability cases, two apply. empty_unary, large_unary, client_streaming, server_streaming,
ping_pong, empty_stream, custom_metadata, status_code_and_message, special_status_message,
timeout_on_sleeping_server and the cancel_* ones call grpc.testing.TestService, and need its answers;
pick_first_unary is about a list of servers; orca_* need that service's load reports; the others need
credentials of one cloud's.
"""
import base64, json, re, struct

import pytest
from field import ours, secure  # noqa: F401 (fixtures)
from tools import needs, run

SERVICE = "inference.GRPCInferenceService"
TYPED = {"model_name": "id_FP32", "id": "7", "inputs": [
    {"name": "INPUT0", "datatype": "FP32", "shape": [2], "contents": {"fp32_contents": [1.5, -2]}}]}
RAW = {"model_name": "id_FP32", "inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [2]}],
       "raw_input_contents": [base64.b64encode(struct.pack("<2f", 1.5, -2)).decode()]}
RPCS = ["ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer",
        "ModelStreamInfer", "ModelConfig", "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad",
        "RepositoryModelUnload", "SystemSharedMemoryStatus", "SystemSharedMemoryRegister",
        "SystemSharedMemoryUnregister", "CudaSharedMemoryStatus", "CudaSharedMemoryRegister",
        "CudaSharedMemoryUnregister", "TraceSetting", "LogSettings"]


def grpcurl(server, *arguments, port="grpc_port", **keywords):
    done = run("grpcurl", "-plaintext", *arguments[:-1], f"127.0.0.1:{getattr(server, port)}", *arguments[-1],
               **keywords)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def in_snake_case(document):
    """Descriptors with JSON names make grpcurl print those, others the names of fields."""
    return {re.sub("([A-Z])", lambda match: "_" + match[1].lower(), key): value for key, value in document.items()}


def invoke(server, method, *messages, flags=()):
    """The messages of the answer, read as grpcurl prints them."""
    decoder = json.JSONDecoder(object_hook=in_snake_case)
    text = grpcurl(server, *flags, "-d", "@", [f"{SERVICE}/{method}"],
                   input="\n".join(json.dumps(message) for message in messages))
    answers, at = [], 0
    while at < len(text.rstrip()):
        answer, at = decoder.raw_decode(text, at)
        answers.append(answer)
        at += len(text[at:]) - len(text[at:].lstrip())
    return answers


# --- grpcurl, all by reflection

@needs("grpcurl")
@pytest.mark.parametrize("port", ["grpc_port", "port"])
def test_list_of_services(ours, port):
    assert {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection"} <= set(grpcurl(ours, ["list"], port=port).split())


@needs("grpcurl")
def test_list_of_methods(ours):
    assert sorted(grpcurl(ours, ["list", SERVICE]).split()) == sorted(f"{SERVICE}.{rpc}" for rpc in RPCS)


@needs("grpcurl")
@pytest.mark.parametrize("symbol", [
    SERVICE, "grpc.health.v1.Health", *(f"{SERVICE}.{rpc}" for rpc in RPCS), "inference.ModelInferRequest",
    "inference.ModelInferRequest.InferInputTensor", "inference.InferParameter", "inference.ModelConfig",
    "inference.DataType", "grpc.health.v1.HealthCheckResponse.ServingStatus"])
def test_describe(ours, symbol):
    assert f"{symbol} is a" in grpcurl(ours, ["describe", symbol])


@needs("grpcurl")
def test_describe_nothing_known(ours):
    done = run("grpcurl", "-plaintext", f"127.0.0.1:{ours.grpc_port}", "describe", "inference.Nope")
    assert done.returncode != 0 and "not found" in (done.stdout + done.stderr).lower()


@needs("grpcurl")
@pytest.mark.parametrize("request_", [TYPED, RAW], ids=["typed", "raw"])
def test_infer(ours, request_):
    (answer,) = invoke(ours, "ModelInfer", request_)
    assert answer["model_name"] == "id_FP32" and answer.get("id") == request_.get("id")
    assert [(o["name"], o["datatype"], o["shape"]) for o in answer["outputs"]] == [("OUTPUT0", "FP32", ["2"])]
    assert base64.b64decode(answer["raw_output_contents"][0]) == struct.pack("<2f", 1.5, -2)


@needs("grpcurl")
def test_stream(ours):
    answers = invoke(ours, "ModelStreamInfer", TYPED, {**TYPED, "model_name": "nope", "id": "8"}, RAW)
    assert ["error_message" in answer for answer in answers] == [False, True, False]
    assert [answer["infer_response"].get("id") for answer in answers] == ["7", "8", None]


@needs("grpcurl")
def test_what_the_server_has(ours):
    (metadata,) = invoke(ours, "ServerMetadata", {})
    assert metadata["name"] and metadata["version"]
    (config,) = invoke(ours, "ModelConfig", {"name": "labelled"})
    assert config["config"]["max_batch_size"] == 4
    (stats,) = invoke(ours, "ModelStatistics", {"name": "pair"})
    assert stats["model_stats"][0]["name"] == "pair"
    (index,) = invoke(ours, "RepositoryIndex", {"ready": True})
    assert "pair" in [model["name"] for model in index["models"]]


@needs("grpcurl")
def test_error(ours):
    done = run("grpcurl", "-plaintext", "-d", json.dumps({**TYPED, "model_name": "häuser"}),
               f"127.0.0.1:{ours.grpc_port}", f"{SERVICE}/ModelInfer")
    assert done.returncode == 64 + 5, done
    assert "Code: NotFound" in done.stderr and "'häuser'" in done.stderr


# --- ghz

def ghz(server, method, data, *arguments, requests=2000):
    done = run("ghz", "--insecure", "--call", method, "-d", json.dumps(data), "-n", requests, "-c", "16",
               "--connections", "4", "-O", "json", *arguments, f"127.0.0.1:{server.grpc_port}", timeout=120)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["statusCodeDistribution"] == {"OK": requests}, report
    assert report["count"] == requests and not report.get("errorDistribution")
    return report


@needs("ghz")
@pytest.mark.parametrize("method", [f"{SERVICE}.ModelInfer", f"{SERVICE}/ModelInfer"])
@pytest.mark.parametrize("compressed", [(), ("-e",)], ids=["plain", "gzip"])
def test_load(ours, method, compressed):
    ghz(ours, method, TYPED, *compressed)


@needs("ghz")
def test_load_of_streams(ours):
    ghz(ours, f"{SERVICE}.ModelStreamInfer", [TYPED] * 5, requests=400)


@needs("ghz")
def test_load_of_health_checks(ours):
    ghz(ours, "grpc.health.v1.Health.Check", {"service": "pair"})


# --- the health probe, which looks at the exit status

def probe(server, *arguments):
    return run("grpc-health-probe", "-addr", f"127.0.0.1:{server.grpc_port}", *arguments).returncode


@needs("grpc-health-probe")
@pytest.mark.parametrize("service,status", [("", 0), ("pair", 0), (SERVICE, 0), ("broken", 4), ("nope", 3)])
def test_probe(ours, service, status):
    assert probe(ours, "-service", service) == status


@needs("grpc-health-probe")
def test_probe_compressed(ours):
    assert probe(ours, "-gzip", "-service", "pair") == 0


@needs("grpc-health-probe")
def test_probe_with_tls(secure):
    ca = ("-tls", "-tls-ca-cert", secure.certificate)
    assert probe(secure, *ca) == 0
    assert probe(secure, *ca, "-service", "id_FP32") == 0
    assert probe(secure) == 2  # plain text to a port with TLS
    assert probe(secure, "-tls") == 2  # nobody vouches for the certificate


# --- the interoperability client

@needs("grpc-interop")
@pytest.mark.parametrize("case", ["unimplemented_method", "unimplemented_service"])
@pytest.mark.parametrize("port", ["grpc_port", "port"])
def test_interop(ours, case, port):
    done = run("grpc-interop", "-server_host", "127.0.0.1", "-server_port", getattr(ours, port), "-test_case", case)
    assert done.returncode == 0, done.stderr
