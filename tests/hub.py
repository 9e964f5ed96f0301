"""Both hubs on this machine: what their clients ask, answered from a dictionary."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

TOKEN = "may-write"


class Hub(ThreadingHTTPServer):
    """Repositories by name, each a dictionary of files."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answers)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.repositories, self.private, self.blobs = {}, {}, {}
        # A status that every request is answered with, and files that break off.
        self.fails, self.broken = None, set()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def commit(self, name):
        content = repr(sorted(self.repositories[name].items())).encode()
        return hashlib.sha1(content).hexdigest()


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer()

    do_HEAD = do_POST = do_PUT = do_GET

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        if self.server.fails:
            return self.send(self.server.fails, {"error": "as asked"})
        if path.startswith("/v1/"):
            return self.kaggle(path.rpartition("/")[2], json.loads(body))
        if path.startswith("/blob/"):
            self.server.blobs[path.rpartition("/")[2]] = body
            return self.send(200, {})
        for pattern, method in (
            (r"/api/(repos/create|validate-yaml)", self.hf_post),
            (r"/api/models/([^/]+/[^/]+)/(preupload|commit)/[^/]+", self.hf_write),
            (r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", self.hf_read),
            (r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", self.hf_file),
        ):
            if found := re.fullmatch(pattern, path):
                return method(body, *found.groups())
        return self.send(404, {"error": f"no {self.command} {path} here"})

    @property
    def may_write(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def hf_post(self, body, verb):
        if verb == "validate-yaml":
            return self.send(200, {})
        if not self.may_write:
            return self.send(401, {"error": "Invalid username or password."})
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        self.server.repositories.setdefault(name, {})
        self.server.private[name] = asked.get("visibility") == "private" or asked.get(
            "private", False
        )
        return self.send(200, {"url": f"{self.server.address}/{name}"})

    def hf_write(self, body, name, verb):
        if not self.may_write:
            return self.send(403, {"error": "not yours"})
        if verb == "preupload":
            modes = {"uploadMode": "regular", "shouldIgnore": False}
            files = [{"path": f["path"], **modes} for f in json.loads(body)["files"]]
            return self.send(200, {"files": files})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                content = base64.b64decode(line["value"]["content"])
                self.server.repositories[name][line["value"]["path"]] = content
        commit = self.server.commit(name)
        url = f"{self.server.address}/{name}/commit/{commit}"
        return self.send(200, {"commitOid": commit, "commitUrl": url, "success": True})

    def hf_read(self, _, name, verb, revision):
        if not self.may_read(name):
            return self.send(401, {"error": "Repository not found"}, "RepoNotFound")
        if verb == "revision" and revision not in ("main", self.server.commit(name)):
            return self.send(404, {"error": "no revision"}, "RevisionNotFound")
        files = self.server.repositories[name]
        if verb == "tree":
            tree = [
                {
                    "type": "file",
                    "path": path,
                    "size": len(content),
                    "oid": _oid(content),
                }
                for path, content in files.items()
            ]
            return self.send(200, tree)
        return self.send(200, {"id": name, "sha": self.server.commit(name)})

    def hf_file(self, _, name, path):
        content = self.server.repositories.get(name, {}).get(path)
        if content is None:
            return self.send(404, {"error": "no file"}, "EntryNotFound")
        headers = {"ETag": f'"{_oid(content)}"'}
        headers["X-Repo-Commit"] = self.server.commit(name)
        return self.send_bytes(200, content, headers, path in self.server.broken)

    def may_read(self, name):
        there = name in self.server.repositories
        return there and (self.may_write or not self.server.private.get(name))

    def kaggle(self, verb, asked):
        body = asked.get("body", {})
        slug = asked.get("instanceSlug") or body.get("instanceSlug")
        model = f"{asked.get('ownerSlug')}/{asked.get('modelSlug')}"
        name = f"{model}/{slug}"
        if verb == "GetModel":
            return self.send(404, {"error": "no model"})
        if verb == "GetModelInstance":
            there = name in self.server.repositories
            return self.send(200 if there else 404, {"versionNumber": 1})
        if verb == "DownloadModelInstanceVersion":
            content = self.server.repositories.get(name, {}).get(asked["path"])
            if content is None:
                return self.send(404, {"error": "no file"})
            return self.send_bytes(
                200, content, {}, asked["path"] in self.server.broken
            )
        if not self.may_write:
            return self.send(403, {"error": "not yours"})
        if verb == "StartBlobUpload":
            url = f"{self.server.address}/blob/{asked['name']}"
            return self.send(200, {"token": asked["name"], "createUrl": url})
        if verb == "CreateModelInstance":
            files = [file["token"] for file in body["files"]]
            self.server.repositories[name] = {f: self.server.blobs[f] for f in files}
        return self.send(200, {})

    def send(self, status, content, code=None):
        headers = {"Content-Type": "application/json"}
        if code is not None:
            headers["X-Error-Code"] = code
        self.send_bytes(status, json.dumps(content).encode(), headers)

    def send_bytes(self, status, content, headers, broken=False):
        self.send_response(status)
        for key, value in {**headers, "Content-Length": len(content)}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if broken else content)
        self.close_connection = broken


def _oid(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
