"""The kinds of fields: what each takes and refuses."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from stoker_api import fields


@pytest.mark.parametrize(
    ("kind", "good"),
    [
        (fields.DnsLabel, ["a", "7b", "a-b", "x" * 63]),
        (fields.Subdomain, ["a", "a.b-c.d", "x" * 253]),
        (fields.Quantity, [0, 4, "4", "0.5", "500m", "16Gi", "1.5G", "2E"]),
        (fields.ServedName, ["chat", "meta/llama-3:8b@q4", "A.b_c+d"]),
        (fields.ResourceName, ["nvidia.com/gpu", "cpu", "amd.com/gpu_0"]),
        (fields.Image, ["runtime", "host:5000/a/b:1.0-cpu", "a@sha256:ab"]),
        (fields.LabelValue, ["", "a", "A.b_c-9", "x" * 63]),
        (fields.LabelMap, [{}, {"gpu": "h100"}, {"a.org/b_c": ""}, {"stoker.dev/x": "1"}]),
        (fields.PodLabels, [{}, {"team": "a"}, {"app.kubernetes.io/part-of": "shop"}]),
        (fields.PodAnnotations, [{"a.org/b": "any text, with signs: {}"}]),
        (fields.IdleTimeout, ["1s", "168h", "1h30m", "1000ms"]),
        (fields.ColdStartTimeout, ["1s", "60m", "1h"]),
    ],
)
def test_takes_what_kubernetes_takes(kind: Any, good: list[Any]) -> None:
    adapter = TypeAdapter(kind)
    assert [adapter.validate_python(value) for value in good] == good


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        (fields.DnsLabel, ["", "A", "-a", "a-", "a.b", "a\n", "x" * 64]),
        (fields.Subdomain, ["", "A", ".a", "a/b", "x" * 254]),
        (fields.Quantity, ["", "-1", "1 Gi", "16GB", "1e3", "Gi", "½", -1, 1.5, None]),
        (fields.ServedName, ["", " a", "a b", "-a", 'a"', "x" * 129]),
        (fields.ResourceName, ["", "a/b/c", "/a", "a/", "A.org/x"]),
        (fields.Image, ["", "a b", "-a", "A:1\n"]),
        (fields.LabelValue, ["a b", "-a", "a-", "x" * 64]),
        (
            fields.LabelMap,
            [{"a b": "c"}, {"a": "b c"}, {"/a": ""}, {str(n): "" for n in range(33)}],
        ),
        (fields.PodLabels, [{"stoker.dev/x": ""}, {"app.kubernetes.io/managed-by": ""}]),
        (fields.PodAnnotations, [{"stoker.dev/address": "1"}, {"a": "x" * 4097}]),
        (fields.IdleTimeout, ["0s", "999ms", "169h", "5", "1s1s1s1s1s1s1s1s1s"]),
        (fields.ColdStartTimeout, ["61m", "2h", "0.5s"]),
    ],
)
def test_refuses_what_kubernetes_would_refuse_later(kind: Any, bad: list[Any]) -> None:
    adapter = TypeAdapter(kind)
    for value in bad:
        with pytest.raises(ValidationError):
            print("takes", repr(adapter.validate_python(value)))
