"""The page of `pybuild view`, in a real browser: it draws, is searched, fits, and trusts nothing that it
shows.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.lookup import StoredImage
from builder.view.document import document
from builder.view.facts import Facts, Line
from builder.view.page import page
from builder.view.scan import Item
from builder.view.stack import Stack, totals
from cache.layers import Layer
from cache.oci.digest import ChainID, DiffID, Digest
from cache.oci.spec import ImageConfig
from tests.command_fixtures.pybuild import Pybuild
from tests.view_fixtures.browser import Browser, Page

pytestmark = pytest.mark.peer("chromium")

RUN = "window.hacked=1"
HOSTILE = (
    f"<img src=x onerror={RUN}>".replace("/", ""),
    f"<script>{RUN}<\\script>",
    f"\"'><svg onload={RUN}>",
    f"--><!-- {RUN}",
    f"javascript:{RUN}",
    '<a href="javascript:window.hacked=1">x<b>',
    "%{label} ${x} $\\alpha$ &lt;b&gt; &#60;i&#62;",
    "@STYLE@ @PROGRAM@",
    "abc\u202egnp.exe",
    "zero\u200bwidth\ufeff",
    "new\nline\ttab\x07bell\x1b[31mred",
    "__proto__",
    "constructor",
    "שלום",
)
"""Names of files, all of which are allowed."""

RECIPE = """\
FROM box
LABEL "evil<script>window.hacked</script>"="</script><script>window.hacked=1</script>"
ENV EVIL="</script><img src=x onerror=window.hacked=1>"
COPY names /names
RUN rm /names/__proto__ && chmod 600 /names/constructor && echo '</script><script>window.hacked=1' > /said
RUN rm -rf /names && mkdir /names && head -c 70000 /dev/zero > /names/again
COPY names /kept
EXPOSE 8080
"""


@pytest.fixture(scope="module")
def made(box_store: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A store with images of hostile names, and their pages."""
    directory = tmp_path_factory.mktemp("view")
    subprocess.run(["cp", "-a", f"{box_store}/store", str(directory / "store")], check=True)
    context = directory / "context"
    (context / "names" / "deep" / "er").mkdir(parents=True)
    for number, name in enumerate(HOSTILE):
        (context / "names" / name).write_bytes(b"x" * (1000 * number + 500))
    (context / "names" / "deep" / "er" / "file").write_bytes(b"y" * 123456)
    with open(os.fsencode(context) + b"/names/\xff\xfe", "wb") as file:
        file.write(b"z" * 4000)
    pybuild = Pybuild(str(directory / "store"), str(context))
    pybuild.build(RECIPE, "-t", "evil")
    changed = RECIPE.replace("EXPOSE 8080", "RUN rm /said && head -c 500 /dev/zero > /kept/new\nEXPOSE 9090")
    pybuild.build(changed, "-t", "other")
    pages = {}
    for name, images in (("one", ["evil"]), ("two", ["evil", "other"])):
        pages[name] = str(directory / f"{name}.html")
        pybuild("view", *images, "-o", pages[name])
    diff = pybuild("diff", "evil", "other", "--json")
    return {**pages, "diff": diff, "root": pybuild.root, "context": pybuild.cwd}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as running:
        yield running


@pytest.fixture
def one(browser: Browser, made: dict[str, str]) -> Iterator[Page]:
    """The page of one image. It must have had nothing to complain of when the test is through."""
    opened = browser.open("file://" + made["one"])
    yield opened
    assert opened.complaints() == []
    opened.close()


@pytest.fixture
def two(browser: Browser, made: dict[str, str]) -> Iterator[Page]:
    opened = browser.open("file://" + made["two"])
    yield opened
    assert opened.complaints() == []
    opened.close()


def texts(page: Page, selector: str) -> list[str]:
    found: list[str] = page.run(
        f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.textContent)"
    )
    return found


OPEN_ALL = """
document.querySelectorAll('details').forEach((each) => { each.open = true; });
new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))
"""
MORE = "document.querySelectorAll('.more:not([hidden])').forEach((each) => each.click())"
HOVER = """
document.querySelectorAll('.found .name').forEach((each) =>
  each.dispatchEvent(new MouseEvent('mouseover', { bubbles: true })))
"""
HARMLESS = """
window.hacked === undefined
  && document.querySelectorAll('#app img, #app script, #app a[href^=java]').length === 0
"""
STEPS = """
[...document.querySelectorAll('#steps .step')].map((step) => step.querySelector('summary') &&
  [...step.querySelectorAll('tbody tr')].map((row) =>
    [...row.cells].map((cell) => cell.textContent).join('|')))
"""
DIFFERENCES = """
[...document.querySelector('#differences .table').querySelectorAll('tbody tr')].map((row) => [
  row.cells[0].textContent.slice(0, 1), row.cells[1].firstChild.textContent,
  (row.querySelector('.note') || {}).textContent || ''])
"""
CORNER = """
(() => {
  const texts = [...document.querySelectorAll('.slicetext')];
  const text = texts.find((each) => each.textContent.startsWith('kept'));
  const box = text.closest('.slice').getBoundingClientRect();
  return [box.x + 12, box.y + 9];
})()
"""
FITTED = """
[...document.querySelectorAll('.tiles')].every((each) =>
  Math.abs(each.clientWidth - each.querySelector('.main-svg').clientWidth) < 2)
"""
INTRUDE = """
const script = document.createElement('script');
script.textContent = 'window.hacked=1';
document.body.append(script);
document.body.insertAdjacentHTML('beforeend', '<img src=x onerror="window.hacked=1">');
new Promise((done) => setTimeout(done, 200))
"""
PRINTED = """
['.contents', '.searching', 'header .chooser'].map((each) =>
  getComputedStyle(document.querySelector(each)).display)
"""


def press(page: Page, selector: str, text: str) -> None:
    """Press the element that says `text`."""
    page.run(
        f"[...document.querySelectorAll({json.dumps(selector)})]"
        f".find((each) => each.textContent === {json.dumps(text)}).click()"
    )


def test_it_shows_what_the_image_holds_and_asks_for_nothing(one: Page, made: dict[str, str]) -> None:
    assert one.run("document.querySelectorAll('.tiles .slice').length") > 5
    pybuild = Pybuild(made["root"], made["context"])
    facts = pybuild.json("layers", "--tree", "--json", "evil")
    cards = texts(one, ".card")
    assert any(f"in {len(facts['Layers'])} layers" in card for card in cards)
    assert len(texts(one, ".layers .layer")) == len(facts["Layers"])
    assert "wasted" in cards[2] and f"{100 * facts['Efficiency']:.0f}" in cards[2]
    one.run(OPEN_ALL)
    one.run(MORE)
    shown = texts(one, "#waste tbody tr")
    assert len(shown) == len(facts["WastedPaths"])
    assert "EXPOSE 8080" in " ".join(texts(one, "#steps .line"))
    assert [text for text in texts(one, "#build tbody tr") if "RUN" in text]
    assert "8080/tcp" in texts(one, "#config dd")
    assert [url for url in one.requests() if not url.startswith(("file:///", "data:"))] == []
    assert len([url for url in one.requests() if url.startswith("file:")]) == 1


def test_each_line_tells_what_it_added_changed_deleted_and_hid(one: Page) -> None:
    one.run(OPEN_ALL)
    one.run(MORE)
    rows: list[list[str]] = one.run(STEPS)
    rm, again = [step for step in rows if step][-3:-1]
    assert [row for row in rm if "/names/__proto__" in row and row.startswith("\u2212deleted|")]
    assert [row for row in rm if "/names/constructor" in row and "mode or owner" in row]
    assert [row for row in again if row.startswith("\u2212deleted|/names/deep/") and "123\u00a0kB" in row]
    assert [row for row in again if row.startswith("+added|/names/again|70.0\u00a0kB")]


def test_hostile_names_are_shown_and_nothing_of_them_runs(one: Page) -> None:
    one.run(OPEN_ALL)
    one.run(MORE)
    one.type("#search", "kept")
    one.run(HOVER)
    paths = texts(one, ".found .name")
    for name in HOSTILE:
        if name.isprintable():
            assert f"/kept/{name}" in paths
    odd = (
        "abc\\u202egnp.exe",
        "zero\\u200bwidth\\ufeff",
        "new\\nline\\ttab\\x07bell\\x1b[31mred",
        "\\xff\\xfe",
    )
    for name in odd:
        assert f"/kept/{name}" in paths
    press(one, ".found .name", "/kept")
    one.wait("document.querySelector('.crumbs [aria-current]').textContent === 'kept'")
    labels = texts(one, ".tiles .slicetext")
    assert any("<svg onload=" in label for label in labels) and any("\\u202e" in label for label in labels)
    assert one.run(HARMLESS)
    everything = one.run("document.documentElement.textContent")
    assert not re.search("[\u202e\u200b\ufeff\x07\x1b\udc80-\udcff]", everything)
    assert "<b>" not in one.run("document.title")


def test_search_finds_paths_and_goes_there(one: Page) -> None:
    one.press("/")
    assert one.run("document.activeElement.id") == "search"
    one.send("Input.insertText", text="DEEP file")
    assert texts(one, ".found .name") == ["/kept/deep/er/file", "/names/deep/er/file"]
    assert "hidden" in texts(one, ".found tbody tr")[1]
    one.run("document.querySelector('.found .name').focus()")
    one.press("Enter")
    assert "/kept/deep/er/file" in texts(one, ".details")[0]
    assert texts(one, ".crumbs button") == ["/", "kept", "deep", "er"]
    one.type("#search", "x")
    one.press("Escape")
    assert one.run("document.querySelector('#search').value") == ""
    one.type("#search", "no such thing")
    assert "No path" in texts(one, ".found")[0]


def test_directories_are_entered_by_key_and_by_click(one: Page) -> None:
    one.run(
        "[...document.querySelectorAll('#files .name')].find((each) => each.textContent === 'bin/').focus()"
    )
    one.press("Enter")
    assert texts(one, ".crumbs button") == ["/", "bin"]
    one.run("document.querySelector('.crumbs button').click()")
    assert texts(one, ".crumbs button") == ["/"]
    one.run("document.querySelector('#files').scrollIntoView({ behavior: 'instant' })")
    x, y = one.run(CORNER)
    one.click(x, y)
    one.wait("document.querySelectorAll('.crumbs button').length === 2")
    assert texts(one, ".crumbs button") == ["/", "kept"]


def test_a_layer_by_itself_and_what_is_wasted_can_be_looked_at(one: Page) -> None:
    def listed(button: str) -> list[str]:
        one.run(f"document.querySelectorAll({json.dumps(button)})[0].click()")
        return texts(one, "#files .table .name")

    assert "kept/" in listed(".pair .layer:first-child")
    wasted = listed(".pair .layer:last-child")
    assert "names/" in wasted and "kept/" not in wasted
    assert listed(".layers li:last-child .layer") == ["kept/"]
    assert listed(".layers li:last-child .layer") != ["kept/"]  # pressed again, it is let go


def test_tables_are_sorted_and_filtered(one: Page) -> None:
    def column(number: int) -> list[str]:
        return texts(one, f"#waste tbody td:nth-child({number})")

    one.run(MORE)
    before = column(1)
    one.run("document.querySelector('#waste th button').click()")
    one.run(MORE)
    plain = [path for path in column(1) if "\\" not in path]
    assert plain == sorted(path for path in before if "\\" not in path) and column(1) != before
    assert one.run("document.querySelector('#waste th').getAttribute('aria-sort')") == "ascending"
    one.type("#waste input", "DEEP")
    assert column(1) == ["/names/deep/er/file"]


def test_dark_is_dark_and_can_be_chosen(browser: Browser, made: dict[str, str]) -> None:
    opened = browser.open("file://" + made["one"], dark=True)
    background = "getComputedStyle(document.body).backgroundColor"
    tile = "getComputedStyle(document.querySelector('.tiles .surface')).fill"

    def brightness() -> int:
        return sum(map(int, re.findall(r"\d+", opened.run(background))))

    dark = (brightness(), opened.run(tile))
    press(opened, "header .chooser button", "light")
    light = (brightness(), opened.run(tile))
    assert dark[0] < 150 and light[0] > 600 and dark[1] != light[1]
    press(opened, "header .chooser button", "auto")
    assert brightness() == dark[0]
    opened.colours("light")
    opened.wait(f"{tile} !== {json.dumps(dark[1])}")
    assert (brightness(), opened.run(tile)) == light
    assert opened.complaints() == []
    opened.close()


@pytest.mark.parametrize("width", [320, 390, 768])
@pytest.mark.parametrize("name", ["one", "two"])
def test_nothing_is_wider_than_a_phone(browser: Browser, made: dict[str, str], name: str, width: int) -> None:
    opened = browser.open("file://" + made[name], width=width, height=800)
    opened.run(OPEN_ALL)
    opened.type("#search", "k")
    wide = opened.run("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide == [width, width]
    tiles = opened.run("[...document.querySelectorAll('.tiles')].map((each) => each.clientWidth)")
    assert all(200 < each <= width for each in tiles)
    if width == 320:  # turned
        opened.resize(800, 320)
        opened.wait(FITTED)
    assert opened.complaints() == []
    opened.close()


def test_everything_has_a_name_for_who_cannot_see_it(two: Page) -> None:
    two.run(OPEN_ALL)
    nodes = two.send("Accessibility.getFullAXTree")["nodes"]
    for node in nodes:
        role = node.get("role", {}).get("value")
        if (
            role in ("button", "link", "searchbox", "table", "region", "heading", "image", "figure")
            and not node["ignored"]
        ):
            assert node.get("name", {}).get("value", "").strip(), node
    assert {"main", "navigation", "heading", "table", "searchbox"} <= {
        n.get("role", {}).get("value") for n in nodes
    }
    assert two.run("document.documentElement.lang") == "en"


def test_two_images_differ_as_diff_says(two: Page, made: dict[str, str]) -> None:
    two.run(MORE)
    rows = two.run(DIFFERENCES)
    letters = {"+": "A", "\u2212": "D", "~": "C"}
    found = sorted((letters[sign], path.rstrip("/"), how) for sign, path, how in rows)
    expected = [(one["kind"], one["path"], one["how"]) for one in json.loads(made["diff"])]
    assert found == sorted(expected) and expected
    assert len(texts(two, "#differences .tiles .plot")) == 2
    config = [text for text in texts(two, "#differences .configs tr") if text.startswith("ports")]
    assert config == ["ports8080/tcp9090/tcp"]
    assert "They share 8 of 8 and 9 layers" in texts(two, "#differences .about")[1]


def test_each_of_two_images_can_be_looked_at_by_itself(two: Page) -> None:
    assert "8080/tcp" in texts(two, "#config dd")
    two.run("[...document.querySelectorAll('.which-image button')][1].click()")
    assert "9090/tcp" in texts(two, "#config dd") and len(texts(two, ".layers .layer")) == 9


def test_its_policy_lets_nothing_else_run(one: Page) -> None:
    one.run(INTRUDE)
    assert one.run("window.hacked === undefined")
    refused = one.run("fetch('https://example.org/').then(() => 'answered', () => 'refused')")
    assert refused == "refused"
    refusals = one.complaints()
    assert len(refusals) >= 3 and all("Content Security Policy" in each for each in refusals)
    one.complaints = list  # type: ignore[method-assign]


def test_a_hundred_thousand_files_fit(browser: Browser, tmp_path: Path) -> None:
    html = page(document([many(100_000)], None), "many")
    assert len(html) < 10_000_000
    path = tmp_path / "many.html"
    path.write_bytes(html)
    opened = browser.open(f"file://{path}")
    assert "100,000" in texts(opened, ".card")[1]
    assert 5 < opened.run("document.querySelectorAll('.tiles .slice').length") < 1000
    opened.type("#search", "d7/file-99")
    assert re.match(r"\d+ paths", texts(opened, ".found strong")[0])
    opened.run(OPEN_ALL)
    assert opened.run("document.querySelectorAll('tr').length") < 2000
    assert opened.complaints() == []
    opened.close()


def many(count: int) -> Facts:
    """An image of so many files in two layers, the upper one of which changes every tenth."""
    directories = [Item(f"d{n}".encode(), "d", 0, 0o755) for n in range(100)]
    names = sorted(f"d{n % 100}/file-{n:06}.so.{n % 7}".encode() for n in range(count))
    files = [Item(name, "f", 1000 + 37 * (n % 999), 0o644) for n, name in enumerate(names)]
    stack = Stack([[*directories, *files], [*directories, *files[::10]]])
    layers: list[Layer] = []
    for letter in "ab":
        diff_id = DiffID("sha256:" + 64 * letter)
        parent = layers[-1].chain_id if layers else None
        layers.append(Layer(ChainID.extend(parent, diff_id), parent, diff_id, 64 * letter, 10**9))
    config = ImageConfig("amd64", "linux", diff_ids=tuple(layer.diff_id for layer in layers))
    image = StoredImage(Digest.of(config.to_json()), config, layers[-1].chain_id, ("many:latest",))
    lines = (Line("COPY a /", None, "", 0), Line("RUN b", None, "", 1))
    return Facts(image, tuple(layers), ("", ""), stack, totals(stack), lines, (None, None), None, {}, None)


def test_the_names_in_the_page_are_none_of_its_markup(made: dict[str, str]) -> None:
    html = Path(made["one"]).read_text("utf-8")
    assert "hacked" not in html and html.count("<script") == 3 and html.isascii() is False
    (data,) = re.findall(r'id="document">([^<]*)</script>', html)
    assert base64.b64decode(data, validate=True)


def test_it_prints_in_light_colours_without_what_is_clicked(browser: Browser, made: dict[str, str]) -> None:
    opened = browser.open("file://" + made["one"])
    opened.send("Emulation.setEmulatedMedia", media="print")
    hidden: Any = opened.run(PRINTED)
    assert hidden == ["none"] * 3
    assert len(base64.b64decode(opened.send("Page.printToPDF")["data"])) > 10_000
    opened.close()
