"""For schemathesis: pictures of every format in the document, and the requests that it must not generate."""

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


@schemathesis.hook
def filter_query(_context, query):
    """A list is sent as its members, and None is not sent: an invalid value could become a valid one."""
    return not query or not any(value is None or isinstance(value, (list, tuple, dict)) for value in query.values())


@schemathesis.hook
def filter_case(_context, case):
    """A criterion is in the query or in the form. OpenAPI cannot say that it is not in both."""
    return not (case.query and isinstance(case.body, dict) and case.query.keys() & case.body.keys())
