"""Serves a handler as huggingface-inference-toolkit does, with nothing but the standard library.

    python toolkit.py MODEL_FOLDER

prints the port. What matters here is copied from its `utils.py`, `serialization/` and
`webservice_starlette.py`: how the module is loaded, what becomes of a body and of the parameters in
an address, and that every exception is answered with status 400 and its text as JSON.
"""

import importlib.util
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit


def load_handler(folder: str):
    """Return the `EndpointHandler` of a folder, made."""
    name = "handler.EndpointHandler"
    spec = importlib.util.spec_from_file_location(name, Path(folder) / "handler.py")
    sys.path.insert(0, folder)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module.EndpointHandler(folder)


def convert(value: str) -> object:
    return {"true": True, "false": False}.get(value, int(value) if value.isnumeric() else value)


def deserialize(content_type: str, body: bytes) -> dict:
    from PIL import Image

    if content_type == "application/json":
        return json.loads(body)
    if content_type.startswith("image/"):
        return {"inputs": Image.open(BytesIO(body)).convert("RGB")}
    raise ValueError(f'Content type "{content_type}" not supported.')


class Service(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            data = deserialize(self.headers["Content-Type"], body)
            if "inputs" not in data:
                raise ValueError("Body needs to provide a inputs key")
            query = dict(parse_qsl(urlsplit(self.path).query))
            if query and "parameters" not in data:
                data["parameters"] = {key: convert(value) for key, value in query.items()}
            status, answer = 200, handler(data)
        except Exception as error:
            status, answer = 400, {"error": str(error)}
        content = json.dumps(answer, allow_nan=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    handler = load_handler(sys.argv[1])
    server = HTTPServer(("127.0.0.1", 0), Service)
    print(server.server_port, flush=True)
    server.serve_forever()
