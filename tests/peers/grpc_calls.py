"""Asks a server gRPC calls as bytes, and shows answers so that two servers can be compared."""
import collections, json

import grpc
from google.protobuf import json_format
from tritonclient.grpc import service_pb2 as pb

Answer = collections.namedtuple("Answer", "code details messages")
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
SERVICE = "/inference.GRPCInferenceService/"


def channel(server):
    return grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}", UNLIMITED)


def ask(channel, method, messages, metadata=(), service=SERVICE):
    """Bytes in, bytes out: what a server thinks of them is seen by nobody else."""
    answers = []
    try:
        if method == "ModelStreamInfer":
            call = channel.stream_stream(service + method)(iter(messages), metadata=metadata, timeout=30)
            answers.extend(call)
            return Answer(call.code().name, call.details(), answers)
        call = channel.unary_unary(service + method)
        return Answer("OK", "", [call(messages[0], metadata=metadata, timeout=30)])
    except grpc.RpcError as error:
        return Answer(error.code().name, error.details(), answers)


def response(method, data):
    name = "ModelStreamInfer" if method == "ModelStreamInfer" else method
    message = getattr(pb, f"{name}Response").FromString(data)
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def without_numbers(document):
    """Durations and counters differ from run to run; what the backend is called, too."""
    for stats in document.get("model_stats", []):
        for key in ("last_inference", "inference_count", "execution_count", "batch_stats", "memory_usage",
                    "response_stats"):
            stats.pop(key, None)
        stats["inference_stats"] = sorted(stats["inference_stats"])
    document.pop("platform", None)
    for key in ("platform", "backend", "instance_group", "default_model_filename", "optimization"):
        document.get("config", {}).pop(key, None)
    return document


def without_reasons(document):
    """Each has its own sentence on what failed; the field says nothing of a model without a version."""
    if "models" in document:
        document["models"] = [{**entry, "reason": bool(entry.get("reason"))} for entry in document["models"]
                              if entry["name"] != "unversioned"]
    return document


def view(method, answer):
    """What a client sees: code, sentence, messages."""
    shown = [without_reasons(without_numbers(response(method, data))) for data in answer.messages]
    return answer.code, answer.details, json.dumps(shown, sort_keys=True)
