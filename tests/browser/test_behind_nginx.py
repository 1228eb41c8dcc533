"""The pages as people see them behind the documented nginx: HTTPS, another port, below a prefix."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, expect

from tests.browser.chromium import TIMEOUT_MS, password_of
from tests.browser.site import Site, running_site
from tests.ports import free_port
from tests.processes import documented_nginx, needs_nginx

pytestmark = [pytest.mark.packaging, needs_nginx]

PREFIX = "/vroom"


@pytest.fixture(scope="module")
def url() -> str:
    return f"https://127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def proxied(
    browser: Browser, mlflow_server: str, url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    variables = {
        "VROOM_WEB_PROXIES": 1,
        "VROOM_WEB_TLS": "yes",
        "VROOM_WEB_EVENTS_URL": f"{url}{PREFIX}/events",
    }
    home, port = tmp_path_factory.mktemp("proxied"), int(url.rpartition(":")[2])
    with running_site(home, mlflow_server, **variables) as site:
        site.promote_another()
        app, events = (f"127.0.0.1:{each}" for each in (site.port, site.settings.web_events_port))
        with documented_nginx(tmp_path_factory.mktemp("nginx"), port, app=app, events=events):
            yield site


@pytest.fixture
def context(browser: Browser, proxied: Site, url: str) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=url, ignore_https_errors=True)
    context.set_default_timeout(TIMEOUT_MS)
    yield context
    context.close()


def test_a_walk_through_all_pages_stays_below_the_prefix(
    context: BrowserContext, proxied: Site, url: str
) -> None:
    asked: list[str] = []
    failed: list[str] = []
    context.on("request", lambda request: asked.append(request.url.removeprefix(url)))
    context.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
    page = context.new_page()
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(f"{PREFIX}/sign-in?next=/fleet")
    page.get_by_label("Password").fill(password_of(proxied))
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{url}{PREFIX}/fleet")
    with page.expect_response(re.compile("/events$")) as stream:
        page.goto(f"{PREFIX}/")
    assert stream.value.status == 200
    with page.expect_response(re.compile(f"{PREFIX}/details$")):
        page.get_by_label("Your price").fill("61")
    page.get_by_role("button", name=re.compile("^Save")).click()
    page.wait_for_url(re.compile(f"{url}{PREFIX}/my-cars"))
    seen: set[str] = set()
    waiting = [f"{PREFIX}/"]
    while waiting:
        path = waiting.pop()
        page.goto(path)
        if page.locator("html").get_attribute("lang"):  # a page of ours, and no JSON
            expect(page.locator("html")).to_have_attribute("data-scripts", "running")
        hrefs = page.eval_on_selector_all("a[href]", "links => links.map(link => link.href)")
        paths = {href.removeprefix(url).partition("#")[0] for href in hrefs}
        shown = {path for path in paths if path.startswith("/") and ".csv" not in path}
        new = {kind_of(path): path for path in sorted(shown)}
        waiting += [path for kind, path in new.items() if kind not in set(map(kind_of, seen))]
        seen |= shown
    assert {f"{PREFIX}{path}" for path in ("/fleet", "/docs", "/openapi.json", "/health", "/system")} <= seen
    assert [path for path in (*asked, *seen) if not path.startswith(f"{PREFIX}/")] == []
    assert failed == []


def kind_of(path: str) -> str:
    """Return what pages of one kind share: a car's page stands for those of all cars."""
    return re.sub(r"\d+", "N", path.partition("?")[0])
