"""For schemathesis: pictures of every format in the document, and the requests that it must not generate."""

import base64
import json
import pathlib

import schemathesis
from hypothesis import strategies

FOLDER = pathlib.Path(__file__).parents[2] / "server/tests/data/pictures"


def pictures(ending):
    paths = sorted(FOLDER.glob(f"*.{ending}"))
    return [path.read_bytes() for path in paths if path.suffix != ".py"]


for media_type, ending in (("jpeg", "jpg"), ("png", "png"), ("webp", "webp"), ("bmp", "bmp"), ("gif", "gif")):
    schemathesis.openapi.media_type(f"image/{media_type}", strategies.sampled_from(pictures(ending)))
schemathesis.openapi.format("binary", strategies.sampled_from(pictures("*")))
encoded = [base64.b64encode(picture).decode() for picture in pictures("*")]
schemathesis.openapi.format("byte", strategies.sampled_from(encoded))
# A body of the Open Inference Protocol may have this type with and without raw bytes.
inputs = [{"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [data]}]} for data in encoded]
bodies = [json.dumps(each).encode() for each in inputs]
schemathesis.openapi.media_type("application/octet-stream", strategies.sampled_from(bodies))


@schemathesis.hook
def filter_query(_context, query):
    """A list is sent as its members, and None is not sent: an invalid value could become a valid one."""
    lists = (list, tuple, dict)
    query = query or {}
    return not any(value is None or (isinstance(value, lists) and name != "classes") for name, value in query.items())


@schemathesis.hook
def filter_case(_context, case):
    """Leaves out what is wrong in a way that OpenAPI cannot say."""
    # The header tells how many bytes of the body are JSON. How many an object will have is not known here.
    length = str((case.headers or {}).get("Inference-Header-Content-Length", ""))
    if length.isdigit() and not (isinstance(case.body, bytes) and int(length) == len(case.body)):
        return False
    # In a name in quotation marks, some read a backslash before the last one as an escape (RFC 2183), some do not.
    if isinstance(case.body, dict) and any(name.endswith("\\") for name in case.body):
        return False
    # A criterion is in the query or in the form, not in both.
    if not (case.query and isinstance(case.body, dict)):
        return True
    fields = {"threshold" if name == "min_confidence" else name for name in case.body}
    return not case.query.keys() & fields
