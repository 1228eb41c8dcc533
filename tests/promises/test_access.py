"""Promise 10: nobody changes anything without being allowed to."""

import re
import stat

import httpx
import pytest

from tests.promises.system import VEHICLE, System

CHANGES = [
    ("POST", "/train"),
    ("POST", "/materialize"),
    ("POST", "/rollback"),
    ("POST", "/reload"),
    ("DELETE", "/vehicles/1000000001"),
]


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize("token", [None, "guess"])
def test_operations_take_the_operators_token(
    system: System, method: str, path: str, token: str | None
) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    answer = httpx.request(method, f"{system.url}{path}", headers=headers, timeout=30)
    assert answer.status_code in {401, 429}
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("headers", [{"Host": "rebound.example"}, {"Origin": "https://evil.example"}])
def test_no_server_answers_a_page_of_another_site(system: System, headers: dict[str, str]) -> None:
    for url in (
        f"{system.prefect}/deployments/filter",
        f"{system.mlflow}/api/2.0/mlflow/runs/search",
        f"{system.url}/vehicles",
        f"{system.url}/predict",
    ):
        ours = httpx.post(url, json={}, timeout=30)
        assert ours.status_code in {200, 422}, url  # it is the name that is refused, not the call
        assert httpx.post(url, json={}, headers=headers, timeout=30).status_code in {400, 403}, url


def test_a_form_needs_the_token_of_its_page(system: System) -> None:
    before = system.sql("SELECT COUNT(*) FROM vehicles")
    with httpx.Client(base_url=system.url, timeout=30) as browser:
        assert browser.post("/", data=VEHICLE).status_code in {400, 401, 403, 404, 405}
        assert browser.post("/sign-in", data={"password": "x"}).status_code in {400, 403}
        page = browser.get("/sign-in")
        token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page.text)
        assert token is not None
        wrong = browser.post("/sign-in", data={"csrf_token": token[1], "password": "guess"})
        assert wrong.status_code in {401, 403, 429}
        assert browser.get("/audit").status_code == 401
    assert system.sql("SELECT COUNT(*) FROM vehicles") == before


def test_the_printed_link_signs_the_operator_in_once(system: System) -> None:
    link = re.findall(r"http://\S+/sign-in\?token=\S+", system.output)[-1]
    codes = []
    for _ in range(2):
        with httpx.Client(timeout=30) as browser:
            cookies = browser.get(link).headers.get_list("set-cookie")
            codes.append(browser.get(f"{system.url}/audit").status_code)
        assert all("HttpOnly" in cookie and "SameSite" in cookie for cookie in cookies)
    assert codes == [200, 401]


def test_the_operator_signs_in_with_the_password_of_the_home(system: System) -> None:
    with httpx.Client(base_url=system.url, timeout=30) as browser:
        found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', browser.get("/sign-in").text)
        assert found is not None
        password = (system.home / "operator-password").read_text().strip()
        assert len(password) >= 16
        browser.post("/sign-in", data={"csrf_token": found[1], "password": password})
        assert browser.get("/audit").status_code == 200


def test_what_is_written_is_for_its_owner_alone(system: System) -> None:
    written = {path: path.lstat() for path in system.home.rglob("*") if not path.is_symlink()}
    assert {"vroom.db", "secret-key", "operator-password", "mlflow.db"} <= {path.name for path in written}
    assert [str(path) for path, found in written.items() if stat.S_IMODE(found.st_mode) & 0o077] == []


def test_pages_run_no_script_but_their_own(system: System) -> None:
    answer = system.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src" in policy
    assert "unsafe" not in policy
    assert not re.findall(r"<script(?![^>]*\bsrc=)[^>]*>\s*\S", answer.text)


def test_an_operator_changes_what_others_may_not_and_it_is_written_down(system: System) -> None:
    vehicle_id = system.save()
    assert httpx.delete(f"{system.url}/vehicles/{vehicle_id}", timeout=30).status_code == 401
    assert system.get(f"/vehicles/{vehicle_id}/features").status_code == 200
    assert system.delete(f"/vehicles/{vehicle_id}").status_code == 204
    entries = system.get("/audit", headers=system.operator).json()["entries"]
    assert any(str(vehicle_id) in entry["subject"] for entry in entries)
