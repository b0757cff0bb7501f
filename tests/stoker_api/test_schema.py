"""From pydantic's JSON schema to what a CRD may contain."""

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, Field

from stoker_api.schema import structural_schema, with_spoken_defaults, without_defaults


class Heat(StrEnum):
    """How hot."""

    LOW = "Low"
    HIGH = "High"


class Lid(BaseModel):
    """A lid of any kettle."""

    tight: bool = True
    note: str | None = None


class Handle(BaseModel):
    """Nothing here has a default that says something."""

    material: str | None = None
    marks: list[str] = Field(default=[])


class Kettle(BaseModel):
    """A kettle,
    in two lines."""

    size: int = Field(ge=1, le=9)
    heat: Heat = Heat.LOW
    lid: Lid = Lid()
    spare: Lid | None = Field(default=None, description="Another lid.")
    handle: Handle = Handle()
    water: int | str | None = None
    labels: dict[str, Lid] = Field(default={}, max_length=3)
    lids: list[Lid] = Field(default=[], max_length=2)
    title: str = ""


SCHEMA = structural_schema(Kettle)
PARTS: dict[str, dict[str, Any]] = SCHEMA["properties"]


def test_references_are_inlined_and_definitions_gone() -> None:
    assert "$ref" not in str(SCHEMA)
    assert "$defs" not in SCHEMA
    assert PARTS["lids"]["items"]["properties"]["tight"] == {"type": "boolean", "default": True}
    assert PARTS["labels"]["additionalProperties"]["type"] == "object"


def test_words_at_the_field_win_over_those_at_the_class() -> None:
    assert PARTS["lid"]["description"] == "A lid of any kettle."
    assert PARTS["spare"]["description"] == "Another lid."


def test_descriptions_are_one_line() -> None:
    assert SCHEMA["description"] == "A kettle, in two lines."


def test_null_is_gone() -> None:
    assert PARTS["spare"]["type"] == "object"
    assert "null" not in str(SCHEMA)
    assert "None" not in str(SCHEMA)


def test_enums_are_plain_text() -> None:
    assert PARTS["heat"] == {
        "description": "How hot.",
        "type": "string",
        "enum": ["Low", "High"],
        "default": "Low",
    }


def test_number_or_text_is_what_kubernetes_calls_it() -> None:
    assert PARTS["water"] == {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        "x-kubernetes-int-or-string": True,
    }


def test_limits_stay() -> None:
    assert PARTS["size"] == {"type": "integer", "minimum": 1, "maximum": 9}
    assert PARTS["lids"]["maxItems"] == 2
    assert PARTS["labels"]["maxProperties"] == 3
    assert SCHEMA["required"] == ["size"]


def test_an_object_defaults_to_empty_when_its_parts_have_defaults() -> None:
    assert PARTS["lid"]["default"] == {}


def test_defaults_that_say_nothing_are_left_out() -> None:
    for name in ("spare", "handle", "water", "labels", "lids", "title"):
        assert "default" not in PARTS[name]


def test_a_property_named_title_stays_while_generated_titles_go() -> None:
    assert PARTS["title"] == {"type": "string"}
    assert "title" not in SCHEMA


def test_a_status_has_no_defaults_at_any_depth() -> None:
    bare = without_defaults(SCHEMA)
    assert "'default':" not in str(bare)
    assert bare["properties"].keys() == PARTS.keys()


def test_a_default_is_said_where_a_reader_of_explain_sees_it() -> None:
    spoken = with_spoken_defaults(
        {
            "type": "object",
            "default": {},
            "properties": {
                "heat": {"description": "How hot.", "default": "Low"},
                "tight": {"description": "Shut.", "default": True},
                "size": {"description": "In cups."},
            },
            "items": {"description": "How many.", "default": 0},
        }
    )
    heat, tight, size = spoken["properties"].values()
    assert heat["description"] == "How hot. Default: Low."
    assert tight["description"] == "Shut. Default: true."
    assert size["description"] == "In cups."
    assert spoken["items"]["description"] == "How many. Default: 0."
