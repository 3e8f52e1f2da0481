"""CPU time of the server's first process per image of an upload: base64 in JSON against a multipart form.

python benchmarks/upload.py --model runs/demo/model [--side 2000] [--requests 20]

The first process reads, checks and forwards requests; decoding and the model run in the worker, the same for both.
"""

import argparse
import base64
import io
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image

BOUNDARY = "boundary"


def main() -> None:
    """Print a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--side", type=int, default=2000, help="width and height of the images")
    parser.add_argument("--requests", type=int, default=20)
    args = parser.parse_args()
    pixels = np.random.default_rng(0).integers(0, 256, (args.side, args.side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    command = [sys.executable, "-m", "zebra", "serve", "--model", args.model, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            url = re.search(r"http://\S+", server.stderr.readline())[0]
            wait_until_ready(url)
            milliseconds = {"json": [], "form": []}
            for number in range(args.requests):
                image = buffer.getvalue() + number.to_bytes(4)  # another image each time, which no cache has
                for kind, body in (("json", json_body(image)), ("form", form_body(image))):
                    before = cpu_seconds(server.pid)
                    send(url, *body)
                    milliseconds[kind].append(1000 * (cpu_seconds(server.pid) - before))
        finally:
            server.terminate()
    result = {kind: round(float(np.mean(values)), 1) for kind, values in milliseconds.items()}
    print(json.dumps({"bytes": len(buffer.getvalue()), "requests": args.requests, "cpu_milliseconds": result}))


def json_body(image: bytes) -> tuple[bytes, str]:
    """Return a request with the image in base64."""
    return json.dumps({"images": [{"data": base64.b64encode(image).decode()}]}).encode(), "application/json"


def form_body(image: bytes) -> tuple[bytes, str]:
    """Return a request with the image as a file."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'.encode()
    return head + image + f"\r\n--{BOUNDARY}--\r\n".encode(), f"multipart/form-data; boundary={BOUNDARY}"


def send(url: str, body: bytes, content_type: str) -> None:
    """Embed the image of a request."""
    request = urllib.request.Request(f"{url}/v1/embed", body, {"Content-Type": content_type})
    with urllib.request.urlopen(request) as response:
        response.read()


def wait_until_ready(url: str) -> None:
    """Wait until the model is loaded."""
    is_ready = False
    while not is_ready:
        try:
            urllib.request.urlopen(f"{url}/readyz").close()
            is_ready = True
        except urllib.error.HTTPError:
            time.sleep(0.1)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, in steps of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
