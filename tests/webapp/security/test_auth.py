"""Who is the operator: the password, the sign-in link, tokens, cookies, and what they cannot be used for."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from pydantic import SecretStr, ValidationError

from tests.webapp.conftest import OPERATOR, PASSWORD, Visitor, copy_cookie, running_app
from vroom_features.settings import Settings
from webapp.security.sign_in import LINK_MAX_AGE_S, SecretFileError, secret_in

ELSEWHERE = ("https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:x", " //evil.example")
HEADERS = {
    "Permissions-Policy": "browsing-topics=()",
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}
POLICY = [
    "default-src 'none'",
    "script-src 'self'",
    "img-src 'self' data:",
    "font-src 'self'",
    "manifest-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
]
HIDDEN = ("/\t/evil.example/x", "/\n/evil.example", "/\r\\evil.example")


def test_the_password_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "home" / "operator-password"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(secret_in, [path] * 8))
    assert len({secret.value for secret in made}) == 1
    assert [secret.is_new for secret in made].count(True) == 1
    assert len(made[0].value) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in path.parent.iterdir()] == ["operator-password"]


@pytest.mark.parametrize("content", ["", " \n", "pässword"])
def test_a_secret_file_without_a_secret_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "operator-password"
    path.write_text(content)
    with pytest.raises(SecretFileError, match=f"{path}.*delete it"):
        secret_in(path)


@pytest.mark.parametrize("password", ["pässword", " padded", "padded ", "two\nlines", " "])
def test_a_password_that_no_header_can_carry_is_refused_and_not_shown(password: str) -> None:
    with pytest.raises(ValidationError, match="printable ASCII") as refused:
        Settings(_env_file=None, operator_password=password)
    assert repr(password) not in str(refused.value)


def test_a_sign_in_link_is_good_within_a_day(client: Visitor, settings: Settings) -> None:
    settings.sign_in_token.write_text("")
    assert client.get("/sign-in?token=").status_code == 401
    settings.sign_in_token.unlink()
    token = secret_in(settings.sign_in_token).value
    made_at = settings.sign_in_token.stat().st_mtime
    os.utime(settings.sign_in_token, (made_at, made_at - LINK_MAX_AGE_S))
    link = {"query_string": {"token": token}}
    assert client.get("/sign-in", **link).status_code == 401
    os.utime(settings.sign_in_token, (made_at, made_at))
    assert client.get("/sign-in", query_string={"token": PASSWORD}).status_code == 401  # logs keep addresses
    assert client.head("/sign-in", **link).status_code == 200  # a check of the link does not use it up
    assert client.get("/audit").status_code == 401
    assert client.get("/sign-in", **link).status_code == 302
    assert client.get("/audit").status_code == 200


def test_a_new_password_ends_the_session_and_may_look_like_parameters(
    settings: Settings, client: Visitor
) -> None:
    client.sign_in()
    token, password = client.token(), 'a="b", c=d'
    with running_app(settings, operator_password=SecretStr(password)) as changed:
        other = copy_cookie(client, changed.application)
        assert other.post("/reload", headers={"X-CSRFToken": token}).status_code == 401
        headers = {"Authorization": f"Bearer {password}"}
        assert changed.post("/reload", headers=headers).status_code == 200


def test_a_copied_cookie_ends_at_the_sign_out_and_other_sessions_live(app: Flask) -> None:
    owner, elsewhere = app.test_client(), app.test_client()
    assert [owner.sign_in(), elsewhere.sign_in()] == [302, 302]
    thief = copy_cookie(owner, app)
    assert thief.get("/audit").status_code == 200
    headers = {"X-CSRFToken": owner.token()}
    assert owner.send("/sign-out").status_code == 302
    assert owner.post("/reload", headers=headers).status_code == 401
    assert thief.get("/audit").status_code == 401
    assert elsewhere.get("/audit").status_code == 200


@pytest.mark.parametrize("tls", [True, False])
def test_cookies_and_headers_protect_and_a_browser_stays_with_https_where_it_is_used(
    settings: Settings, tls: bool
) -> None:
    behind_a_proxy = {"headers": {"X-Forwarded-Proto": "https"}}
    with running_app(settings, web_tls=tls) as client:
        requests: list[dict[str, Any]] = [{}, behind_a_proxy, {"base_url": "https://localhost"}]
        answers = [client.application.test_client().get("/sign-in", **request) for request in requests]
    told = [answer.headers.get("Strict-Transport-Security") for answer in answers]
    assert told == [None, *["max-age=31556926; includeSubDomains" if tls else None] * 2]
    cookie = {part.strip() for part in answers[-1].headers["Set-Cookie"].split(";")}
    assert cookie >= {"HttpOnly", "SameSite=Lax"} | ({"Secure"} if tls else set())
    assert HEADERS.items() <= dict(answers[-1].headers).items()
    policy = answers[-1].headers["Content-Security-Policy"].split("; ")
    assert [source for source in policy if not source.startswith(("style-src", "connect-src"))] == POLICY


@pytest.mark.parametrize(
    ("wanted", "location"),
    [
        ("/fleet?q=a%20b&name=ü#top", "/fleet?q=a%20b&name=%C3%BC#top"),
        *((address, "/") for address in ELSEWHERE + HIDDEN),
    ],
)
def test_sign_in_leads_back_and_to_this_site_only(client: Visitor, wanted: str, location: str) -> None:
    assert client.send("/sign-in", password=PASSWORD, next=wanted).headers["Location"] == location


@pytest.mark.parametrize("way", ["link", "form", "token"])
def test_guessing_a_password_is_slowed_down(client: Visitor, way: str) -> None:
    def guess() -> int:
        if way == "link":
            return client.get("/sign-in?token=guess").status_code
        if way == "form":
            return client.sign_in("guess")
        return client.post("/reload", headers={"Authorization": "Bearer guess"}).status_code

    codes = [guess() for _ in range(11)]
    assert codes == [401] * 10 + [429]
    # The right password gets the same refusal, which would otherwise answer the guess.
    assert client.sign_in() == 429
    assert client.post("/reload", headers=OPERATOR).status_code == 429


def test_the_right_password_is_no_guess(client: Visitor) -> None:
    codes = [client.get("/audit", headers=OPERATOR).status_code for _ in range(12)]
    assert codes == [200] * 12
    assert [client.sign_in() for _ in range(12)] == [302] * 12


def test_a_session_begins_with_the_sign_in_and_ends_in_time(client: Visitor, settings: Settings) -> None:
    token = client.token()
    visitor = copy_cookie(client, client.application)
    assert client.sign_in() == 302
    assert client.post("/reload", headers={"X-CSRFToken": token}).status_code == 403
    assert visitor.get("/audit").status_code == 401
    with running_app(settings, web_session_hours=1e-9) as client:
        assert client.sign_in() == 302
        assert client.get("/audit").status_code == 401
