"""Pages: self-contained, escaped, readable without pictures."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashfm.errors import DataError
from flashfm.reporting import Section, Table, error_cdf, write_page

HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=y>{{ 7*7 }}"
VOID = {"meta", "img", "link", "br"}


class Seen(HTMLParser):
    """Tags, attributes and text of a page; every tag that opens has to close."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return error_cdf({"a": np.array([0.1, 0.2])}, tmp_path_factory.mktemp("page") / "a.png")


def test_words_tables_and_pictures(tmp_path: Path, picture: Path) -> None:
    svg = error_cdf({"a": np.array([0.1, 0.2])}, tmp_path / "a.svg")
    table = Table(("application", "size"), (("booking", "512 MB"), ("images", "1024 MB")))
    sections = [
        Section("First", "One.\n\nTwo\nlines.", table, picture, "the share of predictions below each error"),
        Section("Second", picture=svg.read_bytes(), alt="the same"),
    ]
    path = write_page(tmp_path / "page.html", "A title", "Hello.", sections)
    seen = Seen(path.read_text(encoding="utf-8"))
    assert all(
        words in seen.text for words in ("A title", "Hello.", "First", "One.", "Two lines.", "1024 MB", "Second")
    )
    assert seen.tags.count("p") == 3
    assert seen.tags.count("tr") == 3
    images = [value for name, value in seen.attributes if name == "src" and value]
    assert images[0] == f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
    assert base64.b64decode(images[1].removeprefix("data:image/svg+xml;base64,")) == svg.read_bytes()
    assert ("alt", "the share of predictions below each error") in seen.attributes
    assert write_page(tmp_path / "again.html", "A title", "Hello.", sections).read_bytes() == path.read_bytes()


def test_nothing_is_loaded_from_elsewhere(tmp_path: Path, picture: Path) -> None:
    page = write_page(tmp_path / "a.html", "T", sections=[Section("S", picture=picture, alt="a")]).read_text()
    seen = Seen(page)
    assert not {"script", "link", "iframe", "object"} & set(seen.tags)
    assert all((value or "").startswith("data:") for name, value in seen.attributes if name in ("src", "href"))
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
    assert "url(" not in page
    assert "@import" not in page


@pytest.mark.parametrize("place", ["title", "intro", "heading", "text", "alt", "header", "cell"])
def test_names_are_escaped_everywhere(place: str, tmp_path: Path, picture: Path) -> None:
    def word(here: str) -> str:
        return HOSTILE if here == place else "word"

    table = Table((word("header"),), ((word("cell"),),))
    section = Section(word("heading"), word("text"), table, picture, word("alt"))
    page = write_page(tmp_path / "a.html", word("title"), word("intro"), [section]).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "{{ 7*7 }}" in page, "names are no templates"
    seen = Seen(page)
    assert seen.tags.count("img") == 1
    assert not any(name.startswith("on") for name, _ in seen.attributes)


@given(st.text(max_size=60))
def test_any_text_gives_a_well_formed_page(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        section = Section(text, text, Table((text,), ((text,),)))
        page = write_page(Path(folder) / "a.html", text, text, [section]).read_text(encoding="utf-8")
    assert set(Seen(page).tags) <= {
        *("html", "head", "meta", "title", "style", "body", "main", "h1", "p", "section", "h2", "div", "table"),
        *("thead", "tbody", "tr", "th", "td"),
    }


def test_columns_of_figures_are_set_as_such(tmp_path: Path) -> None:
    table = Table(("name", "ms", "saving", "empty"), (("a", "12.5", "-3 %", ""), ("b", "", "± 4", "")))
    assert [numeric for _, numeric in Section("S", table=table).columns] == [False, True, True, False]
    page = write_page(tmp_path / "a.html", "T", sections=[Section("S", table=table)]).read_text()
    assert '<td class="number">12.5</td>' in page
    assert '<th scope="col">name</th>' in page


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 1 of a table has 1 cells, expected 2"):
        Table(("a", "b"), (("x",),))
    with pytest.raises(DataError, match="expected a text in alt"):
        Section("S", picture=b"x")
    for picture, said in [(b"GIF89a", "expected a PNG or SVG"), (tmp_path / "no.png", "cannot be read")]:
        with pytest.raises(DataError, match=said):
            write_page(tmp_path / "a.html", "T", sections=[Section("S", picture=picture, alt="a")])
    with pytest.raises(DataError, match="cannot be written"):
        write_page(tmp_path / "no" / "a.html", "T")
    assert list(tmp_path.iterdir()) == []
