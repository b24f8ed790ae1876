"""Prints the objects in a picture, one per line: label, score, and the box's x, y, width and height.

    SSD_URL=http://localhost:5000 SSD_USERNAME=ugain SSD_PASSWORD=ugain python3 client.py cat.jpg

Needs: pip install requests
"""

import os
import sys

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

url = os.environ["SSD_URL"]
session = requests.Session()
# The server requires UTF-8; given a str, the library requests would use Latin-1.
session.auth = (os.environ["SSD_USERNAME"].encode(), os.environ["SSD_PASSWORD"].encode())
# Up to four retries if the server is busy (429) or not ready (503), each after waiting as many seconds as
# the response's Retry-After says.
retries = Retry(total=4, allowed_methods=["POST"], raise_on_status=False)
session.mount(url, HTTPAdapter(max_retries=retries))

with open(sys.argv[1], "rb") as picture:
    response = session.post(f"{url}/predict", files={"image": picture}, timeout=60)
if response.headers.get("Content-Type") == "application/problem+json":
    problem = response.json()
    sys.exit(f"{problem['title']}: {problem['detail']}")
response.raise_for_status()
for found in response.json()["predictions"]:
    box = found["box"]
    print(found["label"], found["probability"], box["x"], box["y"], box["width"], box["height"], sep="\t")
