"""Where modeld answers gRPC calls otherwise than the field's server, on purpose.

docs/protocols.md has the same rows. GRPC_DIFFERENCES: (pattern of the whole name of a call, code of
modeld, reason). Streams end with OK where the errors stand in the messages.
"""

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
    (r"Model(Ready|Metadata|Config|Statistics): version (a fraction|with a blank)", "INVALID_ARGUMENT",
     "a version is a number"),
    # not offered yet
    (r"RepositoryModel(Load|Unload): .*", "UNIMPLEMENTED", "models are loaded at start"),
    # the same refusal in other words
    (r"LogSettings: (verbose a word|info a (word|number)|format (unknown|a number))", "INVALID_ARGUMENT",
     "as over HTTP"),
    (r"ModelInfer: inputs, one more|ModelInfer: one more", "INVALID_ARGUMENT",
     "names stand in the request's order"),
    (r"ModelInfer: batches differ", "INVALID_ARGUMENT", "another input is named"),
]
