"""The main job, as people do it: the part that is the same wherever the hub runs.

ada chooses a team, watches her server start, runs the starter notebook to its end, saves for the
team, stops. grace, of the same team, reads it. alan, of another, cannot.
"""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.walk.ground import Site
from tests.walk.people import Person, meet

NOTEBOOK = "seattle-weather.ipynb"


def work_and_save(ada: Person, run: Site) -> None:
    """From the login page to the result in the team's volume, and the stop."""
    ada.page.goto(run.url)
    ada.page.wait_for_url(re.compile("/hub/login"))
    ada.shoot("login")
    ada.sign_in()
    for page in ("home", "token", "spawn"):
        ada.page.goto(f"{run.url}/hub/{page}")
        assert not re.search(r"data-password|[a-z]{4}-[a-z]{4}-[a-z]{4}-\d\d", ada.page.content())
    ada.start("ocean")
    check_progress(ada)
    assert ada.list_folder("data") == ["seattle-weather"]
    assert ada.list_folder("team") == []
    ada.run_notebook(NOTEBOOK, last_words="Saved for the team: forecast-2015.csv")
    ada.shoot("notebook")
    assert ada.list_folder("team/results") == ["forecast-2015.csv", "seattle.png", "summary.txt"]
    ada.stop()
    ada.shoot("stopped")
    ada.page.context.close()


def check_progress(person: Person) -> None:
    """It was told while it happened: one after another, the first well before the last."""
    times = [seconds for seconds, _ in person.progress]
    texts = [text for _, text in person.progress]
    assert len(set(texts)) >= 4, texts
    assert times == sorted(times)
    assert times[-1] - times[0] > 1.0, person.progress
    assert any("ocean" in text for text in texts), texts


def share_and_refuse(browser: Browser, run: Site, shots: Path) -> tuple[Person, Person]:
    """A member reads the result; a member of another team gets at neither it nor the server."""
    grace = meet(browser, "grace", hub=run.url, shots=shots, password=run.password)
    grace.sign_in()
    grace.start()
    said = grace.read("team", "results", "summary.txt")
    assert re.search(r"climatology: mean absolute error \d\.\d\d °C in 2015", said)
    grace.shoot("teammate")

    alan = meet(browser, "alan", hub=run.url, shots=shots, password=run.password)
    alan.sign_in()
    alan.start()
    assert alan.list_folder("team") == []
    for url in (f"{grace.server}/lab", f"{grace.server}/api/contents/team/results"):
        answer = alan.page.goto(url)
        assert answer is not None
        assert answer.status in (403, 404), (url, answer.status)
        assert "climatology" not in alan.page.content()
        alan.shoot(f"refused-{url.rpartition('/')[2]}")
    alan.page.goto(f"{run.url}/hub/home")
    for path in ("users/grace", "users/grace/server", "groups/ocean", "groups"):
        status, text = alan.fetch(f"{run.url}/hub/api/{path}")
        assert status in (403, 404, 405), (path, status)
        assert "grace" not in text
    status, _ = alan.fetch(f"{run.url}/hub/api/users/grace/server", method="DELETE")
    assert status in (403, 404)
    see_provisioner(browser, run, shots, alan)
    alan.page.goto(f"{alan.server}/lab")
    assert grace.list_folder("team/results")  # still there, still running
    return grace, alan


def see_provisioner(browser: Browser, run: Site, shots: Path, alan: Person) -> None:
    """Its page is for the host; a member is refused."""
    page = run.url.replace("hub.localhost", "provisioner--service.hub.localhost")
    host = meet(browser, "host", hub=run.url, shots=shots, password=run.password)
    host.sign_in()
    answer = host.page.goto(f"{page}/services/provisioner/")
    assert answer is not None
    assert answer.status == 200
    expect(host.page.get_by_text("ocean", exact=True).first).to_be_visible()
    host.shoot("provisioner")
    host.page.context.close()
    answer = alan.page.goto(f"{page}/services/provisioner/")
    assert answer is not None
    assert answer.status == 403
    assert "ocean" not in alan.page.content()
