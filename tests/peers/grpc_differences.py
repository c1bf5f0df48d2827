"""Where modeld answers gRPC calls otherwise than the field's server, on purpose.

docs/protocols.md has the same rows. GRPC_DIFFERENCES: (pattern of the whole name of a call, code of
modeld, reason). Streams end with OK where the errors stand in the messages.
"""
import re

# What random damage to a message comes to: sentences of modeld where the field answers, and the other way round.
STRICTER = re.compile(r"no valid protobuf message|invalid value for '(priority|timeout)'|already exists in request|"
                      r"not valid UTF-8|batch size does not match")
LAXER = re.compile(r"invalid value type for '.*' parameter, expected int64_param, bool_param, or string_param")

GRPC_DIFFERENCES = [
    # newer releases of the field do the same
    (r"ModelReady: (no such (version|model.*)|empty name|version zero|several versions, none|"
     r"name (with a slash|of umlauts|of the wrong wire type))", "NOT_FOUND",
     "an unknown model is NOT_FOUND"),
    (r"ServerMetadata: (plain|unknown fields)", "OK", "extensions: those that are offered"),
    # bad input is refused rather than guessed at
    (r"ModelInfer: U?INT(8|16) typed, out of range", "INVALID_ARGUMENT",
     "an integer out of the type's range is no other integer"),
    (r"ModelInfer: outputs, twice", "INVALID_ARGUMENT", "an output may be asked for once"),
    (r"ModelInfer: only the optional", "INVALID_ARGUMENT", "a required input is required"),
    (r"ModelInfer: raw of one too many", "INVALID_ARGUMENT", "data that no input takes is a mistake"),
    (r"LogSettings: unknown", "INVALID_ARGUMENT", "an unknown setting changes nothing"),
    (r"Model(Ready|Metadata|Config|Statistics): version (a fraction|with a blank)|"
     r"ModelInfer: of version (a fraction|with a blank)", "INVALID_ARGUMENT", "a version is a number"),
    (r"ModelInfer: parameter (priority huge|timeout negative)", "INVALID_ARGUMENT",
     "a number out of its range is no other number"),
    (r"ModelInfer: input, region with a negative size.*", "INVALID_ARGUMENT", "a size is a natural number"),
    (r"SystemSharedMemoryRegister: no name", "INVALID_ARGUMENT", "a region without a name cannot be used"),
    (r"ModelInfer: a group", "INTERNAL", "groups are older than the protocol"),
    # newer releases of the field end a stream so if its client asks for it
    (r"ModelStreamInfer: (wrong|wrong between good|slow and wrong|mixed contents|version a word), status",
     "INVALID_ARGUMENT", "the stream ends with the status of the first error"),
    (r"ModelStreamInfer: (no such model|no such model between good|empty message), status", "NOT_FOUND",
     "the stream ends with the status of the first error"),
    (r"ModelStreamInfer: (good, then )?no protobuf, status", "INTERNAL",
     "the stream ends with the status of the first error"),
    # more is told or understood
    (r"ModelStreamInfer: (wrong|wrong between good|slow and wrong|mixed contents|version a word|no such model|"
     r"no such model between good|empty message)(, no status)?", "OK", "an error is a final response, too"),
    (r"ModelStreamInfer: (good, then )?no protobuf(, no status)?", "OK",
     "the stream does not end without a word"),
    (r"ModelInfer: parameter (a|binary_data_output|headers) unsigned|ModelInfer: parameter without a value", "OK",
     "a parameter that means nothing to the server does no harm"),
    (r"ModelInfer: id 'a.x00b'", "OK", "an id may hold a zero byte"),
    # not offered yet
    (r"RepositoryModel(Load|Unload): .*", "UNIMPLEMENTED", "models are loaded at start"),
    # the same refusal in other words
    (r"LogSettings: (verbose a word|info a (word|number)|format (unknown|a number))", "INVALID_ARGUMENT",
     "as over HTTP"),
    (r"ModelInfer: inputs, one more|ModelInfer: one more", "INVALID_ARGUMENT",
     "names stand in the request's order"),
    (r"CudaSharedMemoryRegister: no handle", "INVALID_ARGUMENT", "there is no device: nothing else is looked at"),
    (r"ModelInfer: batches differ", "INVALID_ARGUMENT", "another input is named"),
    (r"ModelInfer: BYTES raw, (a byte (short|long)|length beyond)", "INVALID_ARGUMENT", "the request is named"),
    (r"ModelInfer: (batch of 0|raw without inputs)", "INVALID_ARGUMENT",
     "another fault of the request is named first"),
    (r"ModelInfer: (unknown|lower case|empty) type", "INVALID_ARGUMENT", "as over HTTP"),
    (r"ModelInfer: (shape, negative|(wild )?shape, wildcard)", "INVALID_ARGUMENT", "as over HTTP"),
    (r"ModelInfer: (in|out)put, region a number.*", "INVALID_ARGUMENT", "as over HTTP"),
    (r"ModelInfer: parameter (a|binary_data_output|headers) huge", "INVALID_ARGUMENT", "the value is named"),
    (r"ModelInfer: message, (no protobuf|cut|field 0|wire type 7|length beyond|varint of 11 bytes|"
     r"group without an end|(name|version|id|input|output|value) not UTF-8)", "INTERNAL",
     "what is wrong is named"),
    (r"ModelInfer: message, (datatype|parameter) not UTF-8", "INVALID_ARGUMENT", "it is no known one"),
]
