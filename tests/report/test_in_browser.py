"""The report in headless Chromium, driven through its debugging pipe; skipped where none is installed."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from msdet.data.description import Description, Quantity
from msdet.plots.theme import LIGHT
from msdet.report.description_page import description_page
from msdet.report.page import Report
from msdet.report.recording_page import overview, recording_page

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--mute-audio",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-dev-shm-usage", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE_S = 30.0


class Page:
    """A page in a browser, by the Chrome DevTools protocol: messages in two pipes, parted by null bytes."""

    def __init__(self, profile: Path) -> None:
        assert CHROMIUM is not None
        read, self._write = os.pipe()
        self._read, write = os.pipe()
        options = (*OPTIONS, f"--user-data-dir={profile}", "about:blank")
        # the browser reads from descriptor 3 and writes to 4
        shell = ("bash", "-c", f'exec "$@" 3<&{read} 4>&{write}', "browser", CHROMIUM, *options)
        null = subprocess.DEVNULL
        self._process = subprocess.Popen(shell, pass_fds=(read, write), stdout=null, stderr=null)
        os.close(read)
        os.close(write)
        self._numbers, self._buffer, self._session = itertools.count(1), b"", None
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method and wait for its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == number:
                assert "error" not in found, found
                return dict(found["result"])
            self.events.append(found)

    def open(self, path: Path) -> None:
        """Show a file and wait until it has loaded."""
        self.events.clear()
        self.send("Page.navigate", url=path.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def do(self, code: str) -> Any:
        """The value of an expression, as if the reader had caused it; waits for a promise."""
        found = self.send("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True, userGesture=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press a key and release it."""
        text = {"Enter": "\r"}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, text=text, windowsVirtualKeyCode=code)

    def close(self) -> None:
        """End the browser."""
        with contextlib.suppress(OSError):
            os.close(self._write)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE_S
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self._read, 1 << 20)
            assert part, "the browser has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(message))


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A browser, started once."""
    started = Page(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture
def shown(browser: Page, page: Path) -> Page:
    """The report in the browser, freshly loaded, wide and light."""
    browser.send("Emulation.clearDeviceMetricsOverride")
    browser.send("Emulation.setEmulatedMedia", media="", features=[])
    browser.open(page)
    return browser


SCENES = "document.querySelector('#scene-table table')"
IDS = f"[...{SCENES}.tBodies[0].rows].map(row => row.cells[0].textContent)"
SCORES = "document.querySelector('table.sortable')"
SYSTEMS = f"[...{SCORES}.tBodies[0].rows].map(row => row.cells[0].textContent)"
HOSTILE = """a<img src=x onerror=hacked=1>&"c"'$x${{ 7*7 }}"""
QUOTE = '"'
ANYTHING = f"{HOSTILE}</title></script><script>hacked=1</script>"  # where slashes are allowed


def button(table: str, head: str) -> str:
    """The button of a column's head whose text begins like this."""
    return f"[...{table}.querySelectorAll('button.sort')].find(b => b.textContent.startsWith('{head}'))"


def assert_no_complaint(shown: Page, page: Path) -> None:
    """Nothing was thrown, logged or requested from elsewhere while a page loaded."""
    methods = [event.get("method") for event in shown.events]
    assert "Network.requestWillBeSent" in methods
    for event in shown.events:
        parameters = event.get("params", {})
        assert event.get("method") != "Runtime.exceptionThrown", parameters
        assert event.get("method") not in ("Log.entryAdded", "Runtime.consoleAPICalled"), parameters
        if event.get("method") == "Network.requestWillBeSent":
            url = parameters["request"]["url"]
            assert url == page.as_uri() or url.startswith("data:")


def test_it_loads_without_complaint_and_without_a_network(shown: Page, page: Path) -> None:
    assert_no_complaint(shown, page)


@pytest.mark.parametrize("kind", ["report", "recording", "description"])
def test_markup_in_names_is_text(
    browser: Page, evaluation: Path, data: Path, run: Path, tmp_path: Path, kind: str
) -> None:
    if kind == "report":
        for path in sorted(tmp_path.rglob("*"), reverse=True):
            if path.suffix in (".json", ".jsonl"):
                text = path.read_text()
                for name in ("scene0", "pair", "s0"):
                    text = text.replace(f'"{name}"', json.dumps(HOSTILE))
                path.write_text(text)
            if path.name in ("scene0", "srp_beam"):
                path.rename(path.with_name(HOSTILE))
        log = run / "logs" / "metrics.csv"
        log.write_text(log.read_text().replace("train/doa", f"train/{HOSTILE}".replace(QUOTE, "")))
        text = Report(evaluation, data.rename(tmp_path / HOSTILE), run).html
    elif kind == "recording":
        tone = overview([np.sin(np.arange(8000.0))], 8000, 8000)
        talker = {"file": f"{HOSTILE}.wav", "azimuth_deg": 10.0, "confidence": 0.5, "active_s": 1.0}
        array = {"name": HOSTILE, "positions_m": [[0.0, 0.0, 0.0], [0.1, 0.0, 0.0]]}
        described = {"talkers": [talker], "array": array, "warnings": [ANYTHING], "recording": ANYTHING}
        text = recording_page(ANYTHING, described | {"separated_by": ANYTHING}, tone, [tone])
    else:
        quantity = Quantity(ANYTHING, ANYTHING, np.arange(3.0))
        text = description_page(Description(ANYTHING, (ANYTHING, ANYTHING), (quantity,)), ANYTHING)
    out = tmp_path / "page.html"
    out.write_text(text, encoding="utf-8")
    browser.open(out)
    assert_no_complaint(browser, out)
    assert browser.do("typeof hacked") == "undefined"
    assert browser.do("document.querySelectorAll('img, iframe, object').length") == 0
    scripts = 2 if kind == "report" else 0  # its own, and the scores
    assert browser.do("document.scripts.length") == scripts
    handlers = "[...document.querySelectorAll('*')].filter(e => [...e.attributes].some(a => /^on/.test(a.name)))"
    assert browser.do(f"{handlers}.length") == 0
    assert browser.do("document.body.innerText").count(HOSTILE) >= 4


def test_columns_sort_by_mouse_and_by_keyboard(shown: Page) -> None:
    assert shown.do(SYSTEMS) == ["model", HOSTILE, "srp_beam", "unprocessed"]
    shown.do(f"{button(SCORES, 'STOI')}.focus()")
    shown.press("Enter", 13)
    assert shown.do(SYSTEMS)[0] == "model"  # the best first
    assert shown.do(f"{SCORES}.querySelector('[aria-sort]').textContent").startswith("STOI")
    assert shown.do(f"{SCORES}.querySelector('[aria-sort]').ariaSort") == "descending"
    shown.press("Enter", 13)
    assert shown.do(SYSTEMS)[-1] == "model"
    assert shown.do(f"{SCORES}.querySelectorAll('[aria-sort=ascending]').length") == 1
    shown.do(f"{button(SCORES, 'System')}.click()")
    assert shown.do(SYSTEMS) == [HOSTILE, "model", "srp_beam", "unprocessed"]
    directions = "document.querySelectorAll('table.sortable')[1]"
    for _ in range(2):  # what has no value is last either way
        shown.do(f"{button(directions, 'DoA MAE')}.click()")
        assert shown.do(f"{directions}.tBodies[0].rows[3].cells[0].textContent") == "unprocessed"


def test_scenes_are_filtered_and_show_any_metric(shown: Page) -> None:
    form = "document.getElementById('scene-filters').elements"
    count = "document.getElementById('scene-count').textContent"
    foot = f"{SCENES}.tFoot.rows[0].cells"
    scored = f"[...{SCENES}.tHead.rows[0].cells].findIndex(cell => 'score' in cell.dataset)"
    assert shown.do(count) == "4 of 4 scenes"
    mean = shown.do(f"{foot}[{scored}].textContent")
    change = "dispatchEvent(new Event('{0}', {{bubbles: true}}))"
    shown.do(f"{form}.text.value = 'SCENE2', {form}.text.{change.format('input')}")
    assert shown.do(IDS) == ["scene2"]
    assert shown.do(count) == "1 of 4 scenes"
    cell = f"{SCENES}.tBodies[0].rows[0].cells[{scored}].textContent"
    assert shown.do(f"{foot}[{scored}].textContent") == shown.do(cell) != mean
    shown.do(f"{form}.metric.value = 'doa_mae_deg', {form}.metric.{change.format('change')}")
    assert shown.do(cell) == "3.0"
    shown.do("document.querySelector('#scene-filters button').click()")
    shown.do("new Promise(done => setTimeout(done, 20))")
    assert shown.do(count) == "4 of 4 scenes"
    shown.do(f"{button(SCENES, 'model')}.click()")
    assert shown.do(IDS)[3] == "scene3"  # of DoA errors the smallest comes first
    gap = f"{form}.in_azimuth_gap"
    choose = f"[...{gap}.options].find(option => option.textContent === '< 15°').value"
    shown.do(f"{gap}.value = {choose}, {gap}.{change.format('input')}")
    assert shown.do(IDS) == ["scene2"]


def test_tables_are_copied(shown: Page) -> None:
    shown.do("navigator.clipboard.writeText = async text => { window.copied = text; }")
    copy = "[...document.querySelectorAll('.copy')][0].querySelectorAll('button')[{}].click()"
    shown.do(copy.format(0))
    head, rule, model, hostile, *_ = shown.do("copied").splitlines()
    assert head.startswith("| System | SI-SDR (dB) n = 4 | SI-SDRi (dB) n = 4 |")
    assert rule.startswith("| --- | ---: | ---: |")
    assert model.startswith("| model |")
    assert "significantly" not in hostile
    shown.do(copy.format(1))
    lines = shown.do("copied").splitlines()
    assert lines[1].startswith("\\begin{tabular}{lrr")
    assert lines[3].startswith("{}System & SI-SDR (dB) n = 4 & ") and lines[3].endswith("\\\\")
    assert '{}a$<$img src=x onerror=hacked=1$>$\\&"c"\'\\$x\\$\\{\\{ 7*7 \\}\\}' in lines[6]
    shown.do(copy.format(2))
    head, *rows = shown.do("copied").splitlines()
    assert head.startswith("System,SI-SDR (dB) n = 4,low,high,")
    assert rows[1].startswith(f'"{HOSTILE.replace(QUOTE, 2 * QUOTE)}",')
    value, low, high = map(float, rows[0].split(",")[1:4])
    assert low <= value <= high
    assert shown.do("document.querySelector('.copy [role=status]').textContent") == "copied"


def test_a_figure_is_saved_in_light_colors(shown: Page) -> None:
    shown.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    shown.do("HTMLAnchorElement.prototype.click = function () { window.saved = this; }")
    shown.do("URL.revokeObjectURL = () => {}")
    shown.do("document.querySelector('figure .copy button').click()")
    assert shown.do("saved.download") == "figure1.svg"
    text = shown.do(
        "new Promise(done => { const r = new FileReader(); r.onload = () => done(r.result);"
        " URL.createObjectURL = blob => { r.readAsText(blob); return 'blob:x'; };"
        " document.querySelector('figure .copy button').click(); })"
    )
    assert ElementTree.fromstring(text).tag.endswith("}svg")
    assert "var(" not in text and LIGHT["ink"] in text


def test_conditions_are_crossed_as_chosen(shown: Page) -> None:
    tables = "[...document.querySelectorAll('[data-crossing]')]"
    visible = f"{tables}.filter(table => !table.hidden).map(table => table.dataset.crossing)"
    form = "document.getElementById('crossing-choice').elements"
    assert len(shown.do(visible)) == 1
    metric, first, second = shown.do(visible)[0].split()
    assert metric == "si_sdr_improvement_db"
    assert first != second
    set_first = f"{form}.first.value = '{second}', {form}.first.dispatchEvent(new Event('change', {{bubbles: true}}))"
    shown.do(set_first)
    (crossing,) = shown.do(visible)
    assert crossing.split()[1] == second != crossing.split()[2]


def test_players_play_one_at_a_time(shown: Page) -> None:
    loaded = "new Promise(done => player.readyState >= 1 ? done() : player.onloadedmetadata = () => done())"
    each = f"async player => {{ await {loaded}; return player.duration; }}"
    durations = shown.do(f"Promise.all([...document.querySelectorAll('audio')].map({each}))")
    assert len(durations) == 3 * 9
    assert all(abs(duration - 1.5) < 0.2 for duration in durations)
    players = "document.querySelectorAll('audio')"
    reached = "new Promise(done => {{ const p = {0}[{1}]; p.ontimeupdate = () => p.currentTime > {2} && done(); }})"
    shown.do(f"{players}[0].play()")
    shown.do(reached.format(players, 0, 0.3))
    shown.do("document.querySelector('#player-choice input').click()")
    shown.do(f"{players}[1].play()")
    assert shown.do(f"{players}[0].paused")
    shown.do(reached.format(players, 1, 0.3))
    assert shown.do(f"{players}[1].currentTime") > 0.3
    assert shown.do(f"[...{players}].filter(player => !player.paused).length") == 1
    assert shown.do(f"[...{players}].every(player => player.error === null)")


def test_the_keyboard_reaches_what_can_be_used(shown: Page) -> None:
    shown.press("Tab", 9)
    assert shown.do("document.activeElement.className") == "skip"
    assert shown.do("document.activeElement.getBoundingClientRect().left") >= 0
    found = []
    for _ in range(24):
        shown.press("Tab", 9)
        found.append(shown.do("document.activeElement.tagName + ' ' + document.activeElement.className"))
        outline = shown.do("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", found
    assert {"A ", "DIV wide scores", "BUTTON sort", "BUTTON "} <= set(found)


def test_dark_narrow_and_printed(shown: Page) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    assert shown.do(background) == "rgb(255, 255, 255)"
    shown.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert shown.do(background) == "rgb(20, 23, 28)"
    for width in (390, 1280, 1920):
        shown.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        assert shown.do("document.documentElement.scrollWidth") <= width
    shown.send("Emulation.setEmulatedMedia", media="print")
    assert shown.do(background) == "rgb(255, 255, 255)"
    hidden = "[...document.querySelectorAll('audio, nav, form, .copy')].every(e => e.offsetParent === null)"
    assert shown.do(hidden)


def test_figures_fit_a_phone_panel_by_panel(shown: Page) -> None:
    box = "e => { const b = e.getBBox(); return [b.x, b.y, b.x + b.width, b.y + b.height]; }"
    drawn = shown.do(f"[...document.querySelectorAll('#f1-figure_1 > g[id^=f1-axes]')].map({box})")
    views = "[...document.querySelectorAll('figure')[0].querySelectorAll('.panels svg')]"
    assert shown.do(f"{views}.every(view => view.getBoundingClientRect().width === 0)")  # wide enough for all at once
    crops = [tuple(map(float, text.split())) for text in shown.do(f"{views}.map(v => v.getAttribute('viewBox'))")]
    assert len(crops) == len(drawn) + 1  # and the legend
    for (left, top, right, low), (x, y, width, height) in zip(drawn, crops[1:], strict=True):
        assert x <= left and y <= top and right <= x + width and low <= y + height
    shown.send("Emulation.setDeviceMetricsOverride", width=390, height=900, deviceScaleFactor=1, mobile=True)
    assert shown.do("document.querySelector('figure > .wide').getBoundingClientRect().width") == 0
    widths = shown.do("[...document.querySelectorAll('.panels svg')].map(e => e.getBoundingClientRect().width)")
    assert widths and all(0 < width <= 358 for width in widths)
    assert shown.do(f"{views}.map(v => v.getBoundingClientRect().width)")[1] > 300
    assert shown.do("document.documentElement.scrollWidth") <= 390
    assert all(0 < w <= 390 for w in shown.do("[...document.querySelectorAll('audio')].map(a => a.clientWidth)"))


def test_without_a_script_the_tables_and_scenes_are_there(browser: Page, page: Path) -> None:
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    browser.open(page)
    tree = browser.send("DOM.getDocument", depth=1)["root"]["nodeId"]
    try:
        for selector, count in (("#scene-table tbody tr", 4), ("audio", 27), ("[data-crossing]:not([hidden])", 1)):
            found = browser.send("DOM.querySelectorAll", nodeId=tree, selector=selector)
            assert len(found["nodeIds"]) == count
        assert not browser.send("DOM.querySelectorAll", nodeId=tree, selector="form:not([hidden])")["nodeIds"]
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)
