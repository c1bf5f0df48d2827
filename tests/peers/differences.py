"""Where modeld answers otherwise than the field's server, on purpose.

docs/protocols.md has the same rows.  DIFFERENCES: (pattern of the whole name of a case, status of modeld,
reason).  Beside them hold three rules: a malformed request is 400 here where the field says 500; errors are
always application/json; HEAD is answered like GET.
"""
import re

# Sentences of modeld where the field answers 200: what random damage to a request comes to.
STRICTER = re.compile(r"already exists in request|'parameters' must be an object|more than the 0 elements|"
                      r"not valid UTF-8|stands twice")

DIFFERENCES = [
    # offered later
    (r"(un)?load|POST .*/generate(_stream)?", 501,
     "offered later"),
    (r"POST cudasharedmemory/region/r/register", 400, "there is no device: nothing else is looked at"),
    (r"GET /v2(\?x=1)?", 200, "extensions: those that are offered"),
    # newer releases of the field do the same
    (r"GET (/v2/models/(nope|id_FP32/versions/9)|of unversioned/versions/1)/ready", 404,
     "an unknown model is 404"),
    (r"outputs, twice", 400, "an output may be asked for once"),
    (r"depth 200", 400, "nesting is bounded"),
    # bad input is refused rather than guessed at
    (r"U?INT(8|16|32) \[-?\d{3,}\]", 400, "an integer out of the type's range is no other integer"),
    (r"FP32 \[-?1e\+39\]", 400, "a number out of the type's range is not infinite"),
    (r"POST /v2/models/id_FP32(/versions/1)?/infer|inputs, empty", 400, "an empty body is no raw tensor"),
    (r"(index|logging|trace), array|inputs, inputs of numbers|(in|out)puts, parameters (an )?array", 400,
     "JSON of another type is no absent value"),
    (r"(logging|trace), unknown", 400, "an unknown setting changes nothing"),
    (r"trace, (level unknown|rate negative)", 400, "what is no value of a setting is not guessed at"),
    (r"logging, format unknown", 400, "the request is wrong, not the server"),
    (r"key twice|inputs twice", 400, "which of two values counts is a guess"),
    (r"elements beyond an empty shape", 400, "data that the shape has no place for is a mistake"),
    (r"only the optional", 400, "a required input is required"),
    (r"inputs, bad UTF-8", 400, "JSON is UTF-8"),
    (r"binary, length (a word|empty|with a sign|with words behind|beyond 32 bits)", 400,
     "a length is a natural number"),
    (r"gzip that is none|gzip cut", 400, "a damaged body is refused"),
    # more is understood
    (r"trace, (level a string|rate a number)", 200, "a value of a setting needs no list and no quotes"),
    (r"FP16 (\[1, 2\]|empty)", 200, "FP16 and BF16 as JSON"),
    (r"FP(32|64) token -0", 200, "-0 is negative zero"),
    (r"BYTES raw(, empty)?", 200, "one element of a dimension of any size"),
    (r"classes of BOOL", 200, "classes of every number"),
    (r"parameters null( and an id)?", 200, "null parameters are none, as for tensors"),
    (r"coding ''|gzip in capitals", 200, "names of codings have no case; an empty one is none"),
    (r"accepts '\*'", 200, "* accepts gzip"),
    (r"small, accepts '.*(gzip|gzip;q=2|deflate|gzip;q=0\.1)'", 200,
     "below 1 KiB compression makes answers larger"),
    (r"BYTES binary three, out False", 200, "JSON is UTF-8: other bytes become U+FFFD"),
    (r"id '\\x00'", 200, "an id may hold a zero byte"),
    # the same refusal in other words
    (r"BYTES binary (cut|length beyond).*", 400, "the request is named"),
    (r"BYTES as JSON, too (few|many)", 400, "as for every other type"),
    (r"shape, huge|(wild )?shape, rank 0 empty|batch of 0|inputs, twice and the other|"
     r"binary, length long by one", 400,
     "another fault of the request is named first"),
    (r"batch dimension lacks|batches differ|one lacks the batch dimension", 400, "another input is named"),
    (r"inputs, unknown one more", 400, "names stand in the request's order"),
    (r"raw, (not a whole number|fixed too short|two rows)", 400, "the input is called by its name"),
    (r"gzip of nothing", 400, "an empty body has no coding"),
]
