"""Queries: templates that may be replaced, and names that get into no query."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashfm.controller.queries import KUBE
from flashfm.errors import BackendError, ControlError

WEB = {"namespace": "prod", "name": "web", "container": "app"}


@pytest.mark.parametrize(
    "name", ['x"', 'a"} or up or {a="', "a\\", "a\nb", "", "-a", "a.", "$namespace", "a" * 254, "ä", "a|b", ".*"]
)
@pytest.mark.parametrize("key", ["namespace", "name", "container"])
def test_a_name_that_is_none_never_gets_into_a_query(key: str, name: str) -> None:
    with pytest.raises(BackendError, match=f"{key} .* is no Kubernetes name") as told:
        KUBE.promql({**WEB, key: name}, 30.0)
    assert "\n" not in str(told.value)


@given(st.text(max_size=20))
def test_whatever_a_name_is_it_ends_no_string(name: str) -> None:
    try:
        asked = KUBE.promql({**WEB, "name": name}, 30.0)
    except BackendError:
        return
    plain = KUBE.promql({**WEB, "name": "x"}, 30.0)
    for figure, text in asked.items():
        assert text.count('"') == plain[figure].count('"')
        assert "\\" not in text


def test_templates_are_checked_and_replaced_by_figure() -> None:
    assert KUBE.replaced({"p99_s": 'max(slow{n="$name"}[$window])'}).promql(WEB, 90.0)["p99_s"] == (
        'max(slow{n="web"}[90000ms])'
    )
    with pytest.raises(ControlError, match="no figure 'p98_s'; there are time_s, "):
        KUBE.replaced({"p98_s": "x"})
    with pytest.raises(ControlError, match=r"p99_s: no placeholder \$pod; there are \$container"):
        KUBE.replaced({"p99_s": "x{$pod}"})
    with pytest.raises(ControlError, match="p99_s: a '\\$' that begins no placeholder"):
        KUBE.replaced({"p99_s": 'x{a=~"b$"}'})
    with pytest.raises(ControlError, match="p99_s: expected a text of at most"):
        KUBE.replaced({"p99_s": "x" * 5000})
    with pytest.raises(BackendError, match=r"ask for \$container, which is not known here"):
        KUBE.promql({"namespace": "prod", "name": "web"}, 30.0)
