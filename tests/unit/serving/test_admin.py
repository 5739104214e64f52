"""The admin API over a real loopback socket: who may ask, what is answered, and what is refused with which status."""

import json
import os
import stat
import urllib.request

import httpx
import pytest

from controller.cli import main
from controller.errors import ClusterError, UsageError, mismatch
from controller.loop import DecisionLoop
from controller.policies.policy_file import save_policy_file
from controller.policies.registry import make_policy
from controller.trust.desk import ControlDesk, warm_loop
from controller.trust.mode import Mode
from controller.trust.store import MOST_BYTES, PolicyStore
from controller.trust.supervisor import Supervisor
from serving.admin import AdminApi, AdminServer, token_digest
from serving.admin_access import ACCESS_FILE, TOKEN_VARIABLE, AdminClient, find_client, run_token, write_access
from tests.networks import make_content
from tests.tiny import tiny_setting

TOKEN = "a-token-of-some-length"


class Offered:
    """A running API and what lies behind it."""

    def __init__(self, folder, **hooks):
        setting, store = tiny_setting(), PolicyStore(folder)
        entry = store.entry("mpc")
        loop = DecisionLoop(setting, make_policy("mpc", setting))
        self.supervisor = Supervisor(loop, "mpc", warm_loop(setting, store, entry), entry)
        self.desk = ControlDesk(setting, self.supervisor, store)
        self.server = AdminServer(AdminApi(self.desk, self.status, **hooks), "127.0.0.1", 0, token_digest(TOKEN))
        self.url = f"http://127.0.0.1:{self.server.port}"

    def status(self):
        return {**self.supervisor.status(), "serving": {"small@od": 2}, "day_spend_usd": {"compute": 1.5}}

    def call(self, method, path, token=TOKEN, **more):
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.request(method, self.url + path, headers=headers, timeout=60, trust_env=False, **more)


@pytest.fixture
def offered(tmp_path):
    made = []

    def offer(**hooks):
        made.append(Offered(tmp_path / "run", **hooks))
        return made[0]

    yield offer
    for one in made:
        one.server.close()


@pytest.mark.parametrize("token", [None, "another", TOKEN[:-1], TOKEN + "x", "ümlaut".encode().decode("latin-1")])
def test_nothing_is_told_without_the_token(offered, token):
    api = offered()
    headers = [] if token is None else [("Authorization", f"Bearer {token}".encode("latin-1"))]
    for method, path in (("GET", "/v1/status"), ("PUT", "/v1/mode"), ("POST", "/v1/policy"), ("GET", "/nowhere")):
        answer = httpx.request(method, api.url + path, headers=headers, trust_env=False)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.json()["error"].startswith("Authorization: expected")
        assert TOKEN not in answer.text


def test_token_under_another_scheme_is_refused(offered):
    api = offered()
    answer = httpx.get(f"{api.url}/v1/status", headers={"Authorization": f"Basic {TOKEN}"}, trust_env=False)
    assert answer.status_code == 401


def test_mode_is_told_and_changed(offered):
    api = offered()
    assert api.call("GET", "/v1/mode").json()["mode"] == "active"
    assert api.call("PUT", "/v1/mode", json={"mode": "shadow"}).json()["mode"] == "shadow"
    assert api.supervisor.mode is Mode.SHADOW
    assert api.call("GET", "/v1/status").json()["mode"] == "shadow"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"mode": "on"}', "mode: expected one of replay, shadow, canary, active, got 'on'"),
        (b'{"mode": 3}', "mode: expected one of"),
        (b"{}", "body: expected an object with 'mode' alone, got []"),
        (b"[]", "body: expected a JSON object, got []"),
        (b"{", "body: expected JSON"),
        (b"\xff", "body: expected JSON"),
    ],
)
def test_wrong_content_is_named(offered, body, words):
    api = offered()
    answer = api.call("PUT", "/v1/mode", content=body)
    assert answer.status_code == 422
    assert words in answer.json()["error"]
    assert api.supervisor.mode is Mode.ACTIVE


def test_policy_is_pushed_as_bytes_and_rolled_back(offered, tmp_path):
    api, path = offered(), tmp_path / "learned.provisor"
    save_policy_file(path, make_content(tiny_setting()))
    assert api.call("POST", "/v1/policy/rollback", json={}).status_code == 409
    answer = api.call("POST", "/v1/policy?name=learned.provisor", content=path.read_bytes())
    assert (answer.status_code, answer.json()["current"]["name"]) == (200, "learned")
    assert api.call("GET", "/v1/policy").json() == answer.json()
    assert api.call("POST", "/v1/policy/rollback", json={}).json()["current"]["name"] == "mpc"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("learned.provisor", b"PK", "truncated or damaged"),
        ("", b"PK", "name: expected a name that ends in one of"),
        ("learned.provisor", b"", "body: expected the bytes of a policy file"),
    ],
)
def test_file_that_cannot_decide_is_refused(offered, name, content, words):
    answer = offered().call("POST", f"/v1/policy?name={name}", content=content)
    assert answer.status_code == 422
    assert words in answer.json()["error"]


def test_body_is_not_read_where_it_is_too_large_or_of_unknown_length(offered):
    api = offered()
    headers = {"Content-Length": str(MOST_BYTES + 1), "Authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(f"{api.url}/v1/policy", headers=headers, method="POST")
    with pytest.raises(urllib.error.HTTPError) as caught:
        # A length alone: the server answers before anything is sent.
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=20)
    with caught.value as error:
        assert error.code == 413
    assert api.call("PUT", "/v1/mode", content=iter([b"{}"])).status_code == 411


def test_unknown_paths_and_methods_say_what_there_is(offered):
    api = offered()
    assert api.call("GET", "/v2").status_code == 404
    assert "/v1/policy/rollback" in api.call("GET", "/v2").json()["error"]
    answer = api.call("POST", "/v1/mode", json={})
    assert (answer.status_code, answer.json()["error"]) == (405, "/v1/mode: expected one of GET, PUT, got POST")


def test_hooks_answer_and_what_is_not_hooked_is_not_offered(offered):
    def prefer(fields):
        if fields.get("attainment") == 2:
            raise UsageError(mismatch("attainment", "a share", 2))
        return fields

    api = offered(preferences=lambda: {"attainment": 0.9}, set_preferences=prefer)
    assert api.call("GET", "/v1/preferences").json() == {"attainment": 0.9}
    assert api.call("PUT", "/v1/preferences", json={"attainment": 0.8}).json() == {"attainment": 0.8}
    refused = api.call("PUT", "/v1/preferences", json={"attainment": 2})
    assert (refused.status_code, refused.json()) == (422, {"error": "attainment: expected a share, got 2"})
    assert api.call("POST", "/v1/notices", json={}).status_code == 501


def test_defect_of_one_answer_does_not_end_the_server(offered):
    api = offered(preferences=lambda: {"x": 1 / 0})
    assert api.call("GET", "/v1/preferences").status_code == 500
    assert api.call("GET", "/v1/mode").status_code == 200


def test_token_is_made_once_for_its_owner_alone(tmp_path):
    token, path = run_token(tmp_path / "run")
    assert run_token(tmp_path / "run") == (token, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(token) >= 32


def test_token_comes_from_the_file_then_the_environment_and_is_not_shown(tmp_path, monkeypatch):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    monkeypatch.setenv(TOKEN_VARIABLE, "b-token-of-some-length")
    assert run_token(tmp_path, file) == (TOKEN, file)
    assert run_token(tmp_path) == ("b-token-of-some-length", None)
    file.write_text("secret")
    with pytest.raises(UsageError, match="expected a token of at least 16 characters, got 6"):
        run_token(tmp_path, file)


def test_run_is_found_by_what_it_left_in_its_folder(tmp_path):
    token, path = run_token(tmp_path)
    write_access(tmp_path, "http://127.0.0.1:1", path)
    assert find_client(tmp_path, None, None) == AdminClient("http://127.0.0.1:1", token)
    assert find_client(tmp_path, "http://other:2", None).url == "http://other:2"
    assert token not in (tmp_path / ACCESS_FILE).read_text()
    with pytest.raises(UsageError, match="expected what `provisor serve"):
        find_client(tmp_path / "none", None, None)
    with pytest.raises(UsageError, match="--admin: expected http://HOST:PORT"):
        find_client(tmp_path, "file:///etc/passwd", None)


def test_nobody_there_is_a_failure_of_the_run_and_not_of_the_input(tmp_path):
    with pytest.raises(ClusterError, match="expected an answer of the admin API"):
        AdminClient("http://127.0.0.1:9", TOKEN).get("/v1/status")


def test_verbs_do_what_the_api_offers(offered, tmp_path, monkeypatch, capsys):
    api, path = offered(), tmp_path / "learned.provisor"
    save_policy_file(path, make_content(tiny_setting()))
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    write_access(tmp_path, api.url, token_file)
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    run = ["--run", str(tmp_path)]

    def shown(*words, code=0):
        assert main([*words, *run]) == code
        out = capsys.readouterr()
        assert TOKEN not in out.out + out.err
        return out.err if code else out.out

    assert shown("mode") == "mode active; the policy drives\n"
    assert shown("mode", "canary").startswith("mode canary")
    assert "serving small@od 2\n1.5000 USD" in shown("status")
    assert json.loads(shown("status", "--json"))["mode"] == "canary"
    assert shown("policy", "push", str(path)).startswith("in charge: learned (sha256 ")
    assert shown("policy", "rollback") == "in charge: mpc\n"
    assert shown("policy", "show") == "in charge: mpc\n"
    assert "mode: expected one of" in shown("mode", "on", code=2)
    assert "nothing was pushed" in shown("policy", "rollback", code=2)
    assert "expected a readable policy file" in shown("policy", "push", os.devnull + "/x", code=2)
    api.server.close()
    assert "expected an answer of the admin API" in shown("status", code=1)
