"""A Hugging Face Hub on loopback, so that pushing, downloading and broken uploads are tested with the real clients.

It speaks the part of the Hub's HTTP protocol that huggingface_hub, transformers, datasets and `hf` use, and keeps what
it is given in a folder. A test file that wants the `hub` fixture says `pytest_plugins = ["hub_server"]`; by hand:

    python tests/hub_server.py --root DIR --port 8123
    HF_ENDPOINT=http://127.0.0.1:8123 HF_TOKEN=hf_test HF_HUB_DISABLE_XET=1 hf upload ...

Xet has to be switched off: a client that has hf_xet does not ask the server whether it speaks it.
(PYTEST_DONT_REWRITE: some files import the helpers before pytest sees the fixture.)
"""

import argparse
import base64
import contextlib
import fnmatch
import hashlib
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import traceback
import urllib.parse
from pathlib import Path
from typing import NamedTuple

import pytest

try:
    import yaml  # only to look into cards; every client brings it
except ImportError:
    yaml = None

TOKEN = "hf_test"
# the names under which the owner of a token may write; the first is his own
TOKENS = {TOKEN: ["tester", "lslm"], "hf_other": ["other"]}
LFS_NAMES = [f"*.{suffix}" for suffix in "arrow bin gguf gif glb gz jpg mp4 npy npz parquet png pt safetensors".split()]
LICENSES = ["apache-2.0", "mit", "cc-by-4.0", "cc-by-nc-4.0", "llama3.2", "other"]  # of many more
LARGEST_REGULAR = 10 * 2**20
CHUNK = 2**16


class Request(NamedTuple):
    """What was asked and answered. `status` is 0 if the connection was cut; `received` are the bytes of the body."""

    method: str
    path: str
    status: int
    received: int


class HubError(Exception):
    """An answer that is no success; by `code` clients know which exception to raise."""

    def __init__(self, status: int, message: str, code: str | None = None, headers: dict | None = None):
        super().__init__(message)
        self.status = status
        line = " ".join(message.encode("ascii", "replace").decode().split())  # all that fits into a header
        self.headers = {"X-Error-Message": line, **({"X-Error-Code": code} if code else {}), **(headers or {})}


# --- repositories: dicts of branches, tags and commits; a commit names all its files ---------------------------------


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


def git_sha1(data: bytes) -> str:
    """The name git gives to this content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def add_commit(repo: dict, branch: str, title: str, message: str, files: dict) -> str:
    """Put a commit on the branch and return its id, of 40 hexadecimal digits: transformers takes no others."""
    commit = {"parent": repo["branches"].get(branch), "title": title, "message": message, "date": now(), "files": files}
    oid = hashlib.sha1(json.dumps([commit, time.time_ns()]).encode()).hexdigest()
    repo["commits"][oid] = commit
    repo["branches"][branch] = oid
    return oid


def find_commit(repo: dict, revision: str) -> str:
    """The id of the commit that a branch, a tag, a commit id or HEAD means."""
    known = {oid: oid for oid in repo["commits"]} | repo["tags"] | {"HEAD": repo["branches"]["main"]} | repo["branches"]
    if revision not in known:
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return known[revision]


def below(files: dict, path: str) -> dict:
    """The file at `path`, or the files in that folder; all files for ""."""
    return {name: file for name, file in files.items() if not path or name == path or name.startswith(path + "/")}


def describe(repo: dict, oid: str, path: str, expand: bool) -> dict | None:
    """A file or folder as the Hub lists it, None if there is none; `expand` adds the commit that changed it last."""
    commits = repo["commits"]
    part = below(commits[oid]["files"], path)
    if not part:
        return None
    if path in part:
        file = part[path]
        entry = {"type": "file", "path": path, "oid": file["oid"], "size": file["size"]}
        if file["lfs"]:
            entry["lfs"] = {"oid": file["sha256"], "sha256": file["sha256"], "size": file["size"], "pointerSize": 134}
    else:
        folder_id = hashlib.sha1(json.dumps(part, sort_keys=True).encode()).hexdigest()
        entry = {"type": "directory", "path": path, "oid": folder_id, "size": 0}
    if expand:
        while (parent := commits[oid]["parent"]) and below(commits[parent]["files"], path) == part:
            oid = parent
        entry["lastCommit"] = {"id": oid, "title": commits[oid]["title"], "date": commits[oid]["date"]}
    return entry


def read_card(text: str) -> dict:
    """The metadata on top of a README.md; HubError if it is no YAML mapping."""
    match = re.match(r"---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    try:
        metadata = yaml.safe_load(match[1]) or {} if match and yaml else {}
        return json.loads(json.dumps(dict(metadata), default=str))
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise HubError(400, f"Invalid metadata in README.md: {error}") from None


# --- the server -------------------------------------------------------------------------------------------------------


class HubServer:
    """A Hub whose repositories and objects are files under `root`; a later server can go on with the folder.

    `requests` lists what was asked. Two ways to break uploads of large files: `drop_puts = n` cuts the next n in the
    middle and then lets them through, as a bad network; `fail_after` is for a client that dies.
    """

    def __init__(self, root: str | Path, port: int = 0):
        self.root, self.port = Path(root), port  # port 0: any that is free, kept over stop() and start()
        (self.root / "objects").mkdir(parents=True, exist_ok=True)
        self.lock = threading.RLock()
        self.requests: list[Request] = []
        self.drop_puts = 0
        self.allowed: int | None = None

    @property
    def url(self) -> str:
        """The endpoint, for HF_ENDPOINT; with port 0 known once the server was started."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "HubServer":
        self.listener = Listener(self)
        self.port = self.listener.server_address[1]
        threading.Thread(target=self.listener.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Take no more requests, and break the connections that are open."""
        self.listener.shutdown()
        self.listener.server_close()
        for connection in list(self.listener.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> "HubServer":
        return self.start()

    def __exit__(self, *exception) -> None:
        self.stop()

    def fail_after(self, size: int | None) -> None:
        """Cut the connection after `size` more bytes of large files, and refuse uploads from then on with an error that
        clients give up at (403, as for an address that expired). None: all is well again."""
        self.allowed = size

    def breaking(self, chunks, size: int):
        """The chunks of an upload of `size` bytes, until it is to break."""
        with self.lock:
            room = size // 2 if self.drop_puts > 0 else size
            self.drop_puts = max(0, self.drop_puts - 1)
        for chunk in chunks:
            with self.lock:
                room -= len(chunk)
                if self.allowed is not None:
                    self.allowed -= len(chunk)
                if room < 0 or (self.allowed or 0) < 0:
                    raise ConnectionAbortedError
            yield chunk

    # what it keeps
    def object_path(self, sha256: str) -> Path:
        return self.root / "objects" / sha256

    def store(self, chunks) -> str:
        """Keep this content and return its SHA-256. Nothing is kept of an upload that breaks."""
        digest = hashlib.sha256()
        with tempfile.TemporaryDirectory(dir=self.root) as folder:
            with open(f"{folder}/part", "wb") as file:
                for chunk in chunks:
                    digest.update(chunk)
                    file.write(chunk)
            os.replace(file.name, self.object_path(digest.hexdigest()))
        return digest.hexdigest()

    def regular_file(self, data: bytes) -> dict:
        return {"oid": git_sha1(data), "sha256": self.store([data]), "size": len(data), "lfs": False}

    def repo_file(self, path: str) -> Path:
        """Where a repository is kept; its path is models/OWNER/NAME, datasets/... or spaces/..."""
        return self.root / "repos" / f"{path}.json"

    def load(self, path: str) -> dict | None:
        file = self.repo_file(path)
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None

    def save(self, repo: dict) -> None:
        file = self.repo_file(repo["path"])
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_suffix(".new")
        new.write_text(json.dumps(repo), encoding="utf-8")
        os.replace(new, file)  # somebody may be reading


class Listener(http.server.ThreadingHTTPServer):
    """Takes connections, and knows which are open."""

    request_queue_size = 64

    def __init__(self, hub: HubServer):
        self.hub, self.connections = hub, set()
        super().__init__(("127.0.0.1", hub.port), Handler)

    def process_request(self, request, client_address) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # clients go whenever they like
            super().handle_error(request, client_address)


ROUTES = []


def route(methods: str, path: str):
    """Have a method of Handler serve this path. In it, REPO and API are the two ways to name a repository: the method
    gets one that is there, that the user may see and, if it is to be changed, that is his."""
    path = path.replace("REPO", r"/(?P<repo>((datasets|spaces)/)?[\w.-]+/[\w.-]+?)")
    path = path.replace("API", r"/api/(?P<repo>(models|datasets|spaces)/[\w.-]+/[\w.-]+)")
    path = path.replace("REV", "(?P<revision>[^/]+)")

    def register(function):
        ROUTES.append((methods.split(), re.compile(path), function))
        return function

    return register


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every answer takes 40 ms

    def log_message(self, *arguments) -> None:
        pass

    def answer(self) -> None:
        self.hub: HubServer = self.server.hub
        self.received, self.answered = 0, False
        path, _, query = self.path.partition("?")
        self.query = dict(urllib.parse.parse_qsl(query))
        try:
            # uploads come in pieces and side by side, changes of repositories one after another
            self.body = b"" if self.command == "PUT" else b"".join(self.chunks())
            with self.hub.lock if self.command in ("POST", "DELETE") else contextlib.nullcontext():
                try:
                    self.dispatch(path)
                except HubError as error:
                    for _ in self.chunks() if self.command == "PUT" and not self.received else ():
                        pass  # a client that still sends would not read the answer
                    self.reply({"error": str(error)}, error.status, error.headers)
        except ConnectionError:
            self.close_connection = True
            if not self.answered:
                self.note(0)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def dispatch(self, path: str) -> None:
        for methods, pattern, function in ROUTES:
            if self.command in methods and (match := pattern.fullmatch(path)):
                values = {name: value and urllib.parse.unquote(value) for name, value in match.groupdict().items()}
                if "repo" in values:
                    changes = self.command in ("POST", "DELETE") and function is not Handler.paths_info
                    values["repo"] = self.find_repo(values["repo"], changes)
                return function(self, **values)
        raise HubError(404, f"this Hub has no {self.command} {path}")

    def chunks(self):
        """The body of the request, piece by piece."""
        left = int(self.headers.get("Content-Length", 0))
        while left:
            data = self.rfile.read(min(left, CHUNK))
            if not data:
                raise ConnectionAbortedError
            left -= len(data)
            self.received += len(data)
            yield data

    def reply(self, value=None, status: int = 200, headers: dict | None = None) -> None:
        data = b"" if value is None else json.dumps(value).encode()
        self.begin(status, {"Content-Type": "application/json", "Content-Length": len(data), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(data)

    def note(self, status: int) -> None:
        self.answered = True
        self.hub.requests.append(Request(self.command, self.path, status, self.received))

    def begin(self, status: int, headers: dict) -> None:
        self.note(status)  # first, so that it is there when the client ends
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    # who may do what
    def names(self) -> list[str]:
        """The names under which the user may write: none without a token."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ").strip()
        if token and token not in TOKENS:
            raise HubError(401, "Invalid credentials in Authorization header")
        return TOKENS.get(token, [])

    def check_owner(self, owner: str) -> None:
        if not self.names():
            raise HubError(401, "Invalid username or password.")
        if owner not in self.names():
            raise HubError(403, f"You may not write under the name {owner}")

    def find_repo(self, path: str, changes: bool) -> dict:
        path = path if path.count("/") == 2 else f"models/{path}"
        owner, names = path.split("/")[1], self.names()
        repo = self.hub.load(path)
        if repo is None or (repo["private"] and owner not in names):
            # who may not see a repository is told the same as if there were none
            message = "Repository not found" if names else "Invalid username or password."
            raise HubError(404 if names else 401, message, "RepoNotFound")
        if changes:
            self.check_owner(owner)
        return repo

    def web_url(self, repo: dict) -> str:
        return f"{self.hub.url}/{repo['path'].removeprefix('models/')}"

    # account and repositories
    @route("GET", "/api/whoami-v2")
    def whoami(self) -> None:
        if not self.names():
            raise HubError(401, "Invalid username or password.")
        name, *others = self.names()
        organizations = [{"type": "org", "name": other, "roleInOrg": "admin"} for other in others]
        access = {"type": "access_token", "accessToken": {"displayName": "test", "role": "write"}}
        self.reply({"type": "user", "name": name, "fullname": name, "orgs": organizations, "auth": access})

    def named_in_body(self) -> str:
        """The path of the repository that a request does not name in its own path."""
        asked = json.loads(self.body)
        owner = asked.get("organization") or next(iter(self.names()), "")
        return f"{asked.get('type') or 'model'}s/{owner}/{asked['name']}"

    @route("POST", "/api/repos/create")
    def create_repo(self) -> None:
        path, asked = self.named_in_body(), json.loads(self.body)
        self.check_owner(path.split("/")[1])
        if not re.fullmatch(r"\w+/[\w-]+/\w[\w.-]*", path):
            raise HubError(400, f"Invalid repository name {path}")
        repo = self.hub.load(path)
        if repo is not None:
            return self.reply({"error": f"{path} is there already", "url": self.web_url(repo)}, 409)
        private = bool(asked.get("private")) or asked.get("visibility") == "private"
        repo = {"path": path, "private": private, "sdk": asked.get("sdk"), "created": now()}
        repo |= {"branches": {}, "tags": {}, "commits": {}}
        attributes = "".join(f"{name} filter=lfs diff=lfs merge=lfs -text\n" for name in LFS_NAMES)
        add_commit(repo, "main", "initial commit", "", {".gitattributes": self.hub.regular_file(attributes.encode())})
        self.hub.save(repo)
        self.reply({"url": self.web_url(repo)})

    @route("DELETE", "/api/repos/delete")
    def delete_repo(self) -> None:
        repo = self.find_repo(self.named_in_body(), changes=True)
        self.hub.repo_file(repo["path"]).unlink()
        self.reply({})

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self) -> None:
        try:
            card = read_card(json.loads(self.body)["content"])
        except HubError as error:
            return self.reply({"errors": [{"message": str(error)}], "warnings": []}, 400)
        if card.get("license", "mit") not in LICENSES:
            message = f'"license" must be one of [{", ".join(LICENSES)}]'
            return self.reply({"errors": [{"message": message}], "warnings": []}, 400)
        warnings = [] if card else [{"message": "empty or missing yaml metadata in repo card"}]
        self.reply({"errors": [], "warnings": warnings})

    # uploading
    @route("POST", "API/preupload/REV")
    def preupload(self, repo: dict, revision: str) -> None:
        """Say of each file whether it goes through LFS and what is there under its name, so that it may be left out."""
        there = repo["commits"][find_commit(repo, revision)]["files"]
        answers = []
        for file in json.loads(self.body)["files"]:
            lfs = file["size"] > LARGEST_REGULAR or b"\0" in base64.b64decode(file.get("sample", ""))
            lfs = lfs or any(fnmatch.fnmatch(file["path"], name) for name in LFS_NAMES)
            old = there.get(file["path"])
            answer = {"path": file["path"], "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False}
            answers.append(answer | {"oid": old and old["sha256" if old["lfs"] else "oid"]})
        self.reply({"files": answers})

    @route("POST", r"REPO\.git/info/lfs/objects/batch")
    def lfs_batch(self, repo: dict) -> None:
        """Say where to send each large file; one without "actions" is there already."""
        objects = [{"oid": asked["oid"], "size": asked["size"]} for asked in json.loads(self.body)["objects"]]
        for wanted in objects:
            if not self.hub.object_path(wanted["oid"]).exists():
                ends = {"upload": wanted["oid"], "verify": "verify"}.items()
                wanted["actions"] = {name: {"href": f"{self.hub.url}/lfs/{end}", "header": {}} for name, end in ends}
        self.reply({"transfer": "basic", "objects": objects}, headers={"Content-Type": "application/vnd.git-lfs+json"})

    @route("PUT", "/lfs/(?P<sha256>[0-9a-f]{64})")
    def lfs_upload(self, sha256: str) -> None:
        if (self.hub.allowed or 0) < 0:
            raise HubError(403, "Request has expired")
        if self.hub.store(self.hub.breaking(self.chunks(), int(self.headers["Content-Length"]))) != sha256:
            raise HubError(400, f"the content is not that of {sha256}")
        self.reply()

    @route("POST", "/lfs/verify")
    def lfs_verify(self) -> None:
        asked = json.loads(self.body)
        path = self.hub.object_path(asked["oid"])
        if not path.exists() or path.stat().st_size != asked["size"]:
            raise HubError(404, f"there is no object {asked['oid']} of {asked['size']} bytes")
        self.reply({})

    @route("POST", "API/commit/REV")
    def commit(self, repo: dict, revision: str) -> None:
        """A line of JSON is the header or what to do to a file."""
        head = repo["branches"].get(revision)
        if head is None or "create_pr" in self.query:
            raise HubError(404, f"there is no branch {revision}, or no pull requests", "RevisionNotFound")
        lines = [json.loads(line) for line in self.body.splitlines()]
        (_, header), *operations = [(line["key"], line["value"]) for line in lines]
        if header.get("parentCommit") not in (None, head):
            raise HubError(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repo["commits"][head]["files"])
        for key, value in operations:
            path = value["path"]
            if key == "file":
                content = value["content"].encode()
                content = base64.b64decode(content) if value.get("encoding") == "base64" else content
                files[path] = self.hub.regular_file(content)
            elif key == "lfsFile":
                sha256 = value["oid"]
                if not self.hub.object_path(sha256).exists():
                    raise HubError(400, f"{path} was not uploaded")
                size = self.hub.object_path(sha256).stat().st_size
                pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n"
                files[path] = {"oid": git_sha1(pointer.encode()), "sha256": sha256, "size": size, "lfs": True}
            else:
                gone = below(files, path.rstrip("/")) if key == "deletedFolder" else {path} & set(files)
                if not gone:
                    raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
                files = {name: file for name, file in files.items() if name not in gone}
        oid = add_commit(repo, revision, header["summary"], header.get("description", ""), files)
        self.hub.save(repo)
        self.reply({"success": True, "commitOid": oid, "commitUrl": f"{self.web_url(repo)}/commit/{oid}"})

    # branches and tags
    @route("POST DELETE", "API/(?P<what>branch|tag)/REV")
    def change_reference(self, repo: dict, what: str, revision: str) -> None:
        asked = json.loads(self.body or b"{}")
        references = repo["branches" if what == "branch" else "tags"]
        name = asked.get("tag", revision)
        if self.command == "POST":
            if name in references:
                raise HubError(409, f"Reference already exists: {name}")
            references[name] = find_commit(repo, revision if what == "tag" else asked.get("startingPoint", "main"))
        elif references.pop(name, None) is None:
            raise HubError(404, f"there is no {what} {name}", "RevisionNotFound")
        self.hub.save(repo)
        self.reply({})

    @route("GET", "API/refs")
    def references(self, repo: dict) -> None:
        answer = {"converts": [], "pullRequests": []}
        for kind, prefix in (("branches", "refs/heads/"), ("tags", "refs/tags/")):
            named = repo[kind].items()
            answer[kind] = [{"name": name, "ref": prefix + name, "targetCommit": oid} for name, oid in named]
        self.reply(answer)

    @route("GET", "API/commits/REV")
    def commits(self, repo: dict, revision: str) -> None:
        oid, answers = find_commit(repo, revision), []
        while oid:
            commit = repo["commits"][oid]
            about = {name: commit[name] for name in ("title", "message", "date")}
            answers.append({"id": oid, "authors": [{"user": "tester"}], **about})
            oid = commit["parent"]
        self.reply(answers)

    # reading
    @route("GET", "API(/revision/REV)?")
    def info(self, repo: dict, revision: str | None) -> None:
        oid = find_commit(repo, revision or "main")
        commit = repo["commits"][oid]
        siblings = [{"rfilename": path} for path in sorted(commit["files"])]
        for sibling in siblings if "blobs" in self.query else ():
            entry = describe(repo, oid, sibling["rfilename"], expand=False)
            sibling |= {"size": entry["size"], "blobId": entry["oid"], "lfs": entry.get("lfs")}
        readme = commit["files"].get("README.md")
        card = read_card(self.hub.object_path(readme["sha256"]).read_text(encoding="utf-8")) if readme else {}
        answer = {"_id": oid[:24], "id": repo["path"].split("/", 1)[1], "author": repo["path"].split("/")[1]}
        answer |= {"private": repo["private"], "sdk": repo["sdk"], "createdAt": repo["created"], "cardData": card}
        answer |= {"sha": oid, "lastModified": commit["date"], "siblings": siblings, "tags": card.get("tags") or []}
        answer |= {"pipeline_tag": card.get("pipeline_tag"), "library_name": card.get("library_name")}
        self.reply(answer | {"gated": False, "disabled": False, "downloads": 0, "likes": 0})

    @route("GET", "API/tree/REV(/(?P<path>.*))?")
    def tree(self, repo: dict, revision: str, path: str | None) -> None:
        oid = find_commit(repo, revision)
        recursive, expand = (self.query.get(name, "").lower() in ("1", "true") for name in ("recursive", "expand"))
        folder = path.strip("/") + "/" if path else ""
        inside = [name[len(folder) :].split("/") for name in repo["commits"][oid]["files"] if name.startswith(folder)]
        if folder and not inside:
            raise HubError(404, f"{folder} is no folder of {revision}", "EntryNotFound")
        names = {"/".join(parts[:end]) for parts in inside for end in range(1, len(parts) + 1 if recursive else 2)}
        self.reply([describe(repo, oid, folder + name, expand) for name in sorted(names)])

    @route("POST", "API/paths-info/REV")
    def paths_info(self, repo: dict, revision: str) -> None:
        oid = find_commit(repo, revision)
        asked = json.loads(self.body) if self.body[:1] == b"{" else urllib.parse.parse_qs(self.body.decode())
        expand = "true" in str(asked.get("expand")).lower()  # True in JSON, ["true"] in a form
        entries = [describe(repo, oid, path.strip("/"), expand) for path in asked.get("paths", [])]
        self.reply([entry for entry in entries if entry is not None])

    @route("GET HEAD", "REPO/resolve/REV/(?P<path>.+)")
    def resolve(self, repo: dict, revision: str, path: str) -> None:
        oid = find_commit(repo, revision)
        file = repo["commits"][oid]["files"].get(path)
        if file is None:
            raise HubError(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": oid})
        headers = {"X-Repo-Commit": oid, "ETag": f'"{file["oid"]}"'}
        if not file["lfs"]:
            return self.send_object(file["sha256"], headers)
        # Large files come from another host name, as on the Hub. Clients follow a redirection to the same host before
        # they look at the headers, and would miss these.
        headers |= {"X-Linked-Etag": f'"{file["sha256"]}"', "X-Linked-Size": file["size"]}
        self.reply(None, 302, headers | {"Location": f"http://localhost:{self.hub.port}/lfs/{file['sha256']}"})

    @route("GET HEAD", "/lfs/(?P<sha256>[0-9a-f]{64})")
    def send_object(self, sha256: str, given: dict | None = None) -> None:
        """All of an object or the range of bytes that was asked for."""
        path = self.hub.object_path(sha256)
        if not path.exists():
            raise HubError(404, f"there is no object {sha256}")
        size = path.stat().st_size
        start, end, status = 0, size, 200
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", "ETag": f'"{sha256}"'}
        headers |= given or {}
        if match := re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")):
            first, last = match.groups()
            start = int(first) if first else max(0, size - int(last))
            end = min(size, int(last) + 1) if first and last else size
            if start >= end:
                raise HubError(416, "the range is outside of the file", headers={"Content-Range": f"bytes */{size}"})
            status, headers["Content-Range"] = 206, f"bytes {start}-{end - 1}/{size}"
        self.begin(status, headers | {"Content-Length": end - start})
        with path.open("rb") as file:
            file.seek(start)
            while self.command != "HEAD" and start < end:
                data = file.read(min(CHUNK, end - start))
                self.wfile.write(data)
                start += len(data)


# --- for tests --------------------------------------------------------------------------------------------------------


def client_env(hub: HubServer, **env: str | None) -> dict[str, str]:
    """The environment of a process whose Hub is `hub`: nothing inherited that steers clients (tests are offline), an
    empty HF_HOME of its own, then `env`, where None takes a variable out (HF_TOKEN=None: anonymous)."""
    steers = re.compile(r"(HF_|HUGGING|TRANSFORMERS_|DATASETS_).*|.*_proxy", re.IGNORECASE)
    clean = {name: value for name, value in os.environ.items() if not steers.fullmatch(name)}
    clean |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": tempfile.mkdtemp(prefix="client-", dir=hub.root)}
    for unwanted in ("XET", "TELEMETRY", "UPDATE_CHECK", "PROGRESS_BARS"):
        clean[f"HF_HUB_DISABLE_{unwanted}"] = "1"
    clean["PATH"] = os.pathsep.join([os.path.dirname(sys.executable), clean.get("PATH", "")])
    return {name: value for name, value in (clean | env).items() if value is not None}


def run_client(hub: HubServer, code_or_argv: str | list, check: bool = True, **env: str | None):
    """Run Python code or a command (["hf", "download", ...]) in a fresh process whose Hub is `hub`, and return the
    CompletedProcess. The cache is empty unless you pass HF_HOME.

    With `check`, a process that ends with an error fails the test, and what it printed and asked is shown.
    """
    argv = [sys.executable, "-c", textwrap.dedent(code_or_argv)] if isinstance(code_or_argv, str) else code_or_argv
    argv = [os.fspath(part) for part in argv]
    done = subprocess.run(argv, env=client_env(hub, **env), capture_output=True, text=True, timeout=300)
    return _checked(done, hub) if check else done


def _checked(done: subprocess.CompletedProcess, hub: HubServer) -> subprocess.CompletedProcess:
    if done.returncode != 0:
        shown = f"ended with {done.returncode}: {' '.join(done.args)[:2000]}"
        printed = f"--- stdout\n{done.stdout[-2000:]}\n--- stderr\n{done.stderr[-4000:]}"
        asked = "\n".join(" ".join(map(str, request)) for request in hub.requests[-8:])
        pytest.fail(f"{shown}\n{printed}\n--- last requests\n{asked}", pytrace=False)
    return done


class Forks:
    """Does what `run_client` does in processes that are forked from one that has imported our package, and has run
    nothing: an import takes longer than most of what is tested. Not for those who shall lack our package."""

    def __init__(self, hub: HubServer):
        self.hub = hub
        argv, pipe = [sys.executable, __file__, "--forks"], subprocess.PIPE
        self.server = subprocess.Popen(argv, env=client_env(hub), stdin=pipe, stdout=pipe, text=True)

    def run(self, code_or_argv: str | list, check: bool = True, **env: str | None):
        """Python code, or the arguments of `lslm`."""
        code = code_or_argv
        if not isinstance(code, str):
            argv = [os.fspath(part) for part in code_or_argv]
            code = f"import sys, lslm_cli\nsys.exit(lslm_cli.main({argv!r}))"
        with tempfile.TemporaryDirectory(dir=self.hub.root) as folder:
            print(json.dumps([code, client_env(self.hub, **env), folder]), file=self.server.stdin, flush=True)
            returncode = int(self.server.stdout.readline())
            printed = [Path(folder, name).read_text() for name in ("1", "2")]
        done = subprocess.CompletedProcess([code], returncode, *printed)
        return _checked(done, self.hub) if check else done

    def __enter__(self) -> "Forks":
        return self

    def __exit__(self, *exception) -> None:
        self.server.stdin.close()
        self.server.wait()


def serve_forks() -> None:
    """The other end of `Forks`."""
    import huggingface_hub.constants as constants
    import lslm_cli  # noqa: F401
    import peft  # noqa: F401

    import lslm.hub_cards.renew
    import lslm.training.stages.align
    import lslm.training.stages.tokenizer  # noqa: F401

    for line in sys.stdin:
        code, environment, folder = json.loads(line)
        child = os.fork()
        if child:
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            continue
        signal.alarm(300)
        for number in (1, 2):
            os.dup2(os.open(f"{folder}/{number}", os.O_WRONLY | os.O_CREAT), number)
        os.environ.clear()
        os.environ.update(environment)
        constants.HF_HOME = environment["HF_HOME"]
        constants.HF_HUB_CACHE = f"{constants.HF_HOME}/hub"
        sys.argv = ["-c"]
        returncode = 1
        try:
            exec(compile(code, "<client>", "exec"), {"__name__": "__main__"})
            returncode = 0
        except SystemExit as error:
            returncode = error.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(returncode)


@pytest.fixture
def hub(tmp_path):
    """A running Hub with nothing on it."""
    with HubServer(tmp_path / "hub") as server:
        yield server


if __name__ == "__main__":
    if sys.argv[1:] == ["--forks"]:
        serve_forks()
        sys.exit()
    parser = argparse.ArgumentParser(description="A Hub on loopback. Tokens: " + ", ".join(TOKENS))
    parser.add_argument("--root", required=True, help="folder of what is on the Hub")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    with HubServer(arguments.root, arguments.port) as server:
        print(f"HF_ENDPOINT={server.url} HF_TOKEN={TOKEN} HF_HUB_DISABLE_XET=1", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
