"""The Hub for tests: the real clients accept it, its errors are theirs, and broken uploads can be repeated."""

import hashlib
from pathlib import Path

import pytest
from hub_server import HubServer, run_client

pytest_plugins = ["hub_server"]


def uploads(hub) -> list[tuple[str, int]]:
    """Name (sha256) and status of every upload of a large file."""
    return [(request.path.split("/")[-1], request.status) for request in hub.requests if request.method == "PUT"]


def test_a_model_goes_up_and_comes_down(hub, tmp_path):
    """Small and large files, folders, an empty file, private, tag, branch, ranges; a second server on the folder."""
    source = tmp_path / "model"
    (source / "code").mkdir(parents=True)
    (source / "README.md").write_text("---\nlicense: mit\npipeline_tag: translation\ntags: [sign]\n---\n# Model\n")
    (source / "code" / "a.py").write_text("print(1)\n")
    (source / "empty.txt").touch()
    weights = bytes(range(256)) * 4096
    (source / "model.safetensors").write_bytes(weights)
    first = run_client(
        hub,
        f"""
        from huggingface_hub import HfApi, HfFileSystem, CommitOperationAdd, CommitOperationDelete

        api = HfApi()
        me = api.whoami()
        assert me["name"] == "tester" and [org["name"] for org in me["orgs"]] == ["lslm"]
        url = api.create_repo("lslm/toy", private=True)
        assert url.repo_id == "lslm/toy" and api.create_repo("lslm/toy", exist_ok=True).repo_id == "lslm/toy"
        done = api.upload_folder(repo_id="lslm/toy", folder_path={str(source)!r}, commit_message="all")
        again = api.upload_folder(repo_id="lslm/toy", folder_path={str(source)!r})
        assert again.oid == done.oid, "nothing to do, but a commit"
        api.create_tag("lslm/toy", tag="v1", exist_ok=True)
        api.create_tag("lslm/toy", tag="v1", exist_ok=True)
        api.create_branch("lslm/toy", branch="refs/dev", exist_ok=True)
        add = CommitOperationAdd("late.bin", b"late")
        api.create_commit("lslm/toy", [add, CommitOperationDelete("code/")], commit_message="more", revision="refs/dev")

        info = api.model_info("lslm/toy", files_metadata=True)
        sizes = {{file.rfilename: file.size for file in info.siblings}}
        assert info.private and info.sha == done.oid and info.card_data.license == "mit" and info.tags == ["sign"]
        assert sizes["model.safetensors"] == {len(weights)} and sizes["empty.txt"] == 0
        entries = {{entry.path: entry for entry in api.list_repo_tree("lslm/toy", recursive=True, expand=True)}}
        assert set(entries) == {{*sizes, "code"}} and entries["code/a.py"].last_commit.title == "all"
        assert entries[".gitattributes"].last_commit.title == "initial commit"
        assert entries["model.safetensors"].lfs.sha256 == {hashlib.sha256(weights).hexdigest()!r}
        assert {{entry.path for entry in api.list_repo_tree("lslm/toy", "code")}} == {{"code/a.py"}}
        found = api.get_paths_info("lslm/toy", ["code", "none", "empty.txt"], expand=True)
        assert [entry.path for entry in found] == ["code", "empty.txt"] and found[0].last_commit.oid == done.oid
        assert set(api.list_repo_files("lslm/toy", revision="refs/dev")) == {{*sizes, "late.bin"}} - {{"code/a.py"}}
        commits = api.list_repo_commits("lslm/toy", revision="refs/dev")
        assert [commit.title for commit in commits] == ["more", "all", "initial commit"]
        refs = api.list_repo_refs("lslm/toy")
        assert [ref.name for ref in refs.branches] == ["main", "refs/dev"] and refs.tags[0].target_commit == done.oid
        with HfFileSystem().open("lslm/toy/model.safetensors", "rb", block_size=1000) as file:
            file.seek(-300, 2)
            assert file.read(5) == bytes(range(212, 217))
        api.delete_tag("lslm/toy", tag="v1")
        api.create_tag("lslm/toy", tag="v2")
        api.delete_branch("lslm/toy", branch="refs/dev")
        print(done.oid)
        """,
    )
    assert uploads(hub) == [
        (hashlib.sha256(weights).hexdigest(), 200),
        (hashlib.sha256(b"late").hexdigest(), 200),
    ]
    hub.stop()
    with HubServer(hub.root, hub.port) as second:
        code = f"""
            from huggingface_hub import hf_hub_download, snapshot_download

            folder = snapshot_download("lslm/toy", revision="v2")
            assert folder.endswith({first.stdout.strip()!r})
            assert open(hf_hub_download("lslm/toy", "code/a.py")).read() == "print(1)\\n"
            print(folder)
        """
        folder = run_client(second, code).stdout.strip()
    for path in source.rglob("*.*"):
        assert (Path(folder) / path.relative_to(source)).read_bytes() == path.read_bytes()


def test_errors_are_those_of_the_hub(hub):
    run_client(
        hub,
        """
        import pytest
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, errors, file_exists

        api, stranger, nobody = HfApi(), HfApi(token="hf_other"), HfApi(token=False)
        oid = api.create_repo("open") and api.model_info("tester/open").sha
        api.create_repo("lslm/closed", private=True)
        add = lambda: [CommitOperationAdd("a.txt", b"a")]

        def status(error, code, call, *args, **kwargs):
            with pytest.raises(error) as caught:
                call(*args, **kwargs)
            assert caught.value.response.status_code == code, caught.value

        status(errors.HfHubHTTPError, 409, api.create_repo, "open")
        status(errors.RepositoryNotFoundError, 404, api.model_info, "tester/none")
        status(errors.RepositoryNotFoundError, 404, api.dataset_info, "tester/open")
        status(errors.RepositoryNotFoundError, 404, stranger.model_info, "lslm/closed")
        status(errors.RepositoryNotFoundError, 401, nobody.model_info, "lslm/closed")
        status(errors.RepositoryNotFoundError, 401, nobody.hf_hub_download, "lslm/closed", ".gitattributes")
        nobody.hf_hub_download("tester/open", ".gitattributes")
        status(errors.RevisionNotFoundError, 404, api.model_info, "tester/open", revision="none")
        status(errors.RemoteEntryNotFoundError, 404, api.hf_hub_download, "tester/open", "none.txt")
        assert not file_exists("tester/open", "none.txt")
        status(errors.RemoteEntryNotFoundError, 404, lambda: list(api.list_repo_tree("tester/open", "none")))
        status(errors.HfHubHTTPError, 401, HfApi(token="hf_bad").whoami)
        status(errors.HfHubHTTPError, 401, HfApi(token="hf_bad").model_info, "tester/open")
        status(errors.HfHubHTTPError, 401, nobody.create_repo, "tester/more")
        status(errors.HfHubHTTPError, 401, nobody.create_commit, "tester/open", add(), commit_message="a")
        status(errors.HfHubHTTPError, 403, stranger.create_commit, "tester/open", add(), commit_message="a")
        api.create_commit("tester/open", add(), commit_message="a", parent_commit=oid)
        change = [CommitOperationAdd("a.txt", b"b")]
        late = {"commit_message": "b", "parent_commit": oid}
        status(errors.HfHubHTTPError, 412, api.create_commit, "tester/open", change, **late)
        delete = [CommitOperationDelete("none.txt")]
        status(errors.RemoteEntryNotFoundError, 404, api.create_commit, "tester/open", delete, commit_message="d")
        with pytest.raises(ValueError, match="Invalid metadata"):
            api.upload_file(repo_id="tester/open", path_or_fileobj=b"---\\na: [\\n---\\n", path_in_repo="README.md")
        api.create_tag("tester/open", tag="v1")
        status(errors.HfHubHTTPError, 409, api.create_tag, "tester/open", tag="v1")
        api.delete_tag("tester/open", tag="v1")
        status(errors.RevisionNotFoundError, 404, api.delete_tag, "tester/open", tag="v1")
        api.delete_repo("tester/open")
        assert not api.repo_exists("tester/open") and api.repo_exists("lslm/closed")
        """,
    )


def test_the_command_line(hub, tmp_path):
    (tmp_path / "weights.bin").write_bytes(b"\0" * 1000)
    assert "tester" in run_client(hub, ["hf", "auth", "whoami"]).stdout
    run_client(hub, ["hf", "upload", "tester/cli", tmp_path / "weights.bin", "a/weights.bin"])
    run_client(hub, ["hf", "download", "tester/cli", "--local-dir", tmp_path / "down"], HF_TOKEN=None)
    assert (tmp_path / "down" / "a" / "weights.bin").read_bytes() == b"\0" * 1000
    assert run_client(hub, ["hf", "auth", "whoami"], check=False, HF_TOKEN="hf_bad").returncode != 0


UPLOAD = """
    from huggingface_hub import CommitOperationAdd, HfApi

    HfApi().create_repo("tester/large", exist_ok=True)
    operations = [CommitOperationAdd(f"{name}.bin", name.encode() * 400_000) for name in "abc"]
    HfApi().create_commit("tester/large", operations, commit_message="large", num_threads=1)
"""


def test_an_upload_killed_half_way_sends_only_the_rest_when_repeated(hub):
    hub.fail_after(600_000)
    broken = run_client(hub, UPLOAD, check=False)
    assert broken.returncode != 0 and "403" in broken.stderr
    assert [status for _, status in uploads(hub)][:2] == [200, 0]
    assert len(list((hub.root / "objects").iterdir())) == 2  # .gitattributes and the first file; no half a file

    hub.fail_after(None)
    hub.requests.clear()
    run_client(hub, UPLOAD)
    assert sum(request.received for request in hub.requests if request.method == "PUT") == 800_000
    hub.requests.clear()
    run_client(hub, UPLOAD)
    assert not uploads(hub)


def test_clients_try_again_what_a_bad_network_dropped(hub):
    hub.drop_puts = 1
    run_client(hub, UPLOAD)
    assert [status for _, status in uploads(hub)] == [0, 200, 200, 200]


def test_datasets_push_and_load(hub):
    run_client(
        hub,
        """
        from datasets import Dataset, DatasetDict, load_dataset

        rows = {"text": ["tea", "no"], "motion": [[1.0, 2.0], [3.0]]}
        DatasetDict({"train": Dataset.from_dict(rows), "test": Dataset.from_dict(rows)}).push_to_hub("lslm/signs")
        assert load_dataset("lslm/signs", split="train").to_dict() == rows
        assert [row["text"] for row in load_dataset("lslm/signs", split="test", streaming=True)] == rows["text"]
        """,
    )


def test_a_failing_client_is_shown(hub):
    with pytest.raises(pytest.fail.Exception, match="(?s)ended with 1.*in the client.*GET /api/whoami-v2 200 0"):
        run_client(hub, "import huggingface_hub as hub; hub.whoami(); raise ValueError('in the client')")
