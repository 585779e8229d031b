"""The Hub for tests: the real clients accept it, and its errors are theirs."""

from hub_server import run_client

pytest_plugins = ["hub_server"]


def test_files_go_up_and_come_down(hub, tmp_path):
    """Small and large files, folders, tags, branches; what is there already is not sent again."""
    (tmp_path / "code").mkdir()
    (tmp_path / "README.md").write_text("---\nlicense: mit\ntags: [sign]\n---\n# Model\n")
    (tmp_path / "code" / "a.py").touch()
    (tmp_path / "model.safetensors").write_bytes(bytes(range(256)) * 4096)
    run_client(
        hub,
        f"""
        from pathlib import Path
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, snapshot_download

        api = HfApi()
        me = api.whoami()
        assert me["name"] == "tester" and [org["name"] for org in me["orgs"]] == ["lslm"]
        api.create_repo("lslm/toy", private=True)
        assert api.create_repo("lslm/toy", exist_ok=True).repo_id == "lslm/toy"
        done = api.upload_folder(repo_id="lslm/toy", folder_path={str(tmp_path)!r}, ignore_patterns="hub*")
        again = api.upload_folder(repo_id="lslm/toy", folder_path={str(tmp_path)!r}, ignore_patterns="hub*")
        assert again.oid == done.oid, "nothing to do, but a commit"
        api.create_tag("lslm/toy", tag="v1")
        api.create_branch("lslm/toy", branch="dev")
        changes = [CommitOperationAdd("late.npz", b"late"), CommitOperationDelete("code/a.py")]
        api.create_commit("lslm/toy", changes, commit_message="more", revision="dev")

        info = api.model_info("lslm/toy", revision="v1")
        assert info.private and info.sha == done.oid and info.card_data.license == "mit" and info.tags == ["sign"]
        files = {{".gitattributes", "README.md", "code/a.py", "model.safetensors"}}
        assert set(api.list_repo_files("lslm/toy")) == files
        assert set(api.list_repo_files("lslm/toy", revision="dev")) == files - {{"code/a.py"}} | {{"late.npz"}}
        assert [commit.title for commit in api.list_repo_commits("lslm/toy", revision="dev")][0] == "more"
        folder = Path(snapshot_download("lslm/toy", revision="v1"))
        for name in files - {{".gitattributes"}}:
            assert (folder / name).read_bytes() == Path({str(tmp_path)!r}, name).read_bytes()
        """,
    )
    assert [request.status for request in hub.requests if request.method == "PUT"] == [200, 200]


def test_errors_are_those_of_the_hub(hub):
    run_client(
        hub,
        """
        import pytest
        from huggingface_hub import CommitOperationAdd, HfApi, errors, file_exists

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
        status(errors.RepositoryNotFoundError, 401, nobody.hf_hub_download, "lslm/closed", ".gitattributes")
        nobody.hf_hub_download("tester/open", ".gitattributes")
        status(errors.RevisionNotFoundError, 404, api.model_info, "tester/open", revision="none")
        status(errors.RemoteEntryNotFoundError, 404, api.hf_hub_download, "tester/open", "none.txt")
        assert not file_exists("tester/open", "none.txt")
        status(errors.HfHubHTTPError, 401, HfApi(token="hf_bad").whoami)
        status(errors.HfHubHTTPError, 401, nobody.create_commit, "tester/open", add(), commit_message="a")
        status(errors.HfHubHTTPError, 403, stranger.create_commit, "tester/open", add(), commit_message="a")
        api.create_commit("tester/open", add(), commit_message="a", parent_commit=oid)
        change = [CommitOperationAdd("a.txt", b"b")]
        late = {"commit_message": "b", "parent_commit": oid}
        status(errors.HfHubHTTPError, 412, api.create_commit, "tester/open", change, **late)
        """,
    )
