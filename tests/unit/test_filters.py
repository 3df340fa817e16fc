"""A wrong filter is refused with the place of its fault, and without repeating what is in it."""

from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError
from qdrant_client import models

from pipeline.messages import SearchQuery
from pipeline.messages.filters import MAX_DEPTH, MAX_OBJECTS, MAX_VALUES, Filter, json_path

UUID_TEXT = "7d0f6f6e-4a8e-5c51-9f4b-0d6a6b1f9a55"
POINT = {"lon": 13.4, "lat": 52.5}
OPEN = [POINT, {"lon": 13.5, "lat": 52.5}, {"lon": 13.5, "lat": 52.6}, {"lon": 13.4, "lat": 52.6}]
RING = {"points": [*OPEN, POINT]}
EVERYTHING: dict[str, Any] = {
    "must": [
        {"key": "dx", "match": {"value": "mel"}},
        {"key": "held", "match": {"value": True}},
        {"key": "dx", "match": {"any": ["mel", "nv"]}},
        {"key": "grade", "match": {"except": [1, 2]}},
        {"key": "report", "match": {"text": "left arm"}},
        {"key": "report", "match": {"text_any": "left right"}},
        {"key": "report", "match": {"phrase": "left arm"}},
        {"key": "dx", "match": {"prefix": "m"}},
        {"key": "dx", "match": {"substring": "e"}},
        {"key": "age", "range": {"gte": 40.0, "lt": 60.5}},
        {"key": "taken", "range": {"gt": "2024-05-01T12:00:00+00:00"}},
        {"key": "tags", "values_count": {"gte": 2}},
        {"key": "site", "geo_radius": {"center": POINT, "radius": 1000.0}},
        {"key": "site", "geo_bounding_box": {"top_left": POINT, "bottom_right": POINT}},
        {"key": "site", "geo_polygon": {"exterior": RING, "interiors": [RING]}},
        {"key": "age", "is_empty": False},
        {"key": "age", "is_null": True},
        {"is_empty": {"key": "age"}},
        {"is_null": {"key": 'source."body part"[0].x[]'}},
        {"has_id": [7, UUID_TEXT]},
        {"nested": {"key": "lesions", "filter": {"must_not": [{"is_null": {"key": "size"}}]}}},
        {"should": [{"must": []}]},
    ],
    "should": [{"is_empty": {"key": "age"}}],
    "must_not": [],
    "min_should": {"conditions": [{"has_id": []}], "min_count": 0},
}


def faults(wanted: Any) -> list[tuple[tuple[str | int, ...], str]]:
    """Where a search with this filter is at fault, below its field `filter`, and how."""
    with pytest.raises(ValidationError) as caught:
        SearchQuery.model_validate({"filter": wanted})
    errors = caught.value.errors(include_input=False)
    assert all(error["loc"][0] == "filter" for error in errors)
    return [(error["loc"][1:], error["msg"]) for error in errors]


def test_everything_qdrant_takes_passes_unchanged_and_qdrant_takes_it():
    parsed = Filter.model_validate(EVERYTHING)
    assert parsed.to_qdrant() == EVERYTHING
    theirs = models.Filter.model_validate(parsed.to_qdrant())
    assert theirs.model_dump(mode="json", by_alias=True, exclude_none=True) == {
        **EVERYTHING,
        "must": [
            # pydantic's other spelling of the same moment
            {"key": "taken", "range": {"gt": "2024-05-01T12:00:00Z"}}
            if condition.get("key") == "taken"
            else condition
            for condition in EVERYTHING["must"]
        ],
    }


def test_a_filter_survives_the_blob_it_travels_in():
    query = SearchQuery.model_validate({"filter": EVERYTHING})
    assert SearchQuery.model_validate_json(query.model_dump_json()) == query


def test_what_is_null_or_missing_does_not_filter():
    assert Filter.model_validate({"must": None, "min_should": None}).to_qdrant() == {}


def test_a_single_condition_stands_for_a_list_of_one():
    condition = {"key": "dx", "match": {"value": "mel"}}
    assert Filter.model_validate({"must": condition}).to_qdrant() == {"must": [condition]}
    assert faults({"must": {"key": "age", "range": {"gte": []}}})[0][0] == ("must", "range", "gte")


def test_ids_and_times_get_one_spelling():
    ids = Filter.model_validate({"must": {"has_id": [UUID_TEXT.replace("-", "").upper(), 3]}})
    assert ids.to_qdrant() == {"must": [{"has_id": [UUID_TEXT, 3]}]}
    assert Filter.model_validate({"must": {"has_id": [UUID(UUID_TEXT), 3]}}) == ids
    bounds = {"gte": "2024-05-01", "gt": "2024-05-01T12:00", "lt": "2024-05-02T01:00:00+02:00"}
    times = Filter.model_validate({"must": {"key": "taken", "range": bounds}})
    assert times.to_qdrant()["must"][0]["range"] == {
        "gte": "2024-05-01T00:00:00+00:00",
        "gt": "2024-05-01T12:00:00+00:00",
        "lt": "2024-05-01T23:00:00+00:00",
    }


WRONG: list[tuple[Any, tuple[str | int, ...]]] = [
    ({"key": "age", "range": {"gte": "forty"}}, ("range", "gte")),
    ({"key": "age", "range": {"gte": True}}, ("range", "gte")),
    ({"key": "age", "range": {"gte": float("nan")}}, ("range", "gte")),
    ({"key": "age", "range": {"gte": 10**400}}, ("range", "gte")),
    ({"key": "age", "range": {"gte": 1, "less": 2}}, ("range", "less")),
    ({"key": "age", "range": {"gte": 1, "lt": "2024-05-01"}}, ("range",)),
    ({"key": "age", "range": {}}, ("range",)),
    ({"key": "age", "range": {"gte": 60, "lt": 40}}, ("range",)),
    ({"key": "age", "range": {"gt": 40, "lte": 40}}, ("range",)),
    ({"key": "age", "range": {"gt": "2024-05-02", "lt": "2024-05-01T23:00:00Z"}}, ("range",)),
    ({"key": "age", "values_count": {"gte": 3, "lte": 2}}, ("values_count",)),
    ({"key": "age", "range": {"gte": None}}, ("range",)),
    ({"key": "age", "values_count": {}}, ("values_count",)),
    ({"key": "age", "values_count": {"gt": -1}}, ("values_count", "gt")),
    ({"key": "age", "values_count": {"gt": 1.5}}, ("values_count", "gt")),
    ({"key": "age"}, ()),
    ({"key": "age", "range": {"gt": 1}, "is_null": True}, ()),
    ({"key": "age", "is_null": "yes"}, ("is_null",)),
    ({"key": "body part", "match": {"value": 1}}, ("key",)),
    ({"key": "", "match": {"value": 1}}, ("key",)),
    ({"key": "a..b", "match": {"value": 1}}, ("key",)),
    ({"key": "a[x]", "match": {"value": 1}}, ("key",)),
    ({"key": "dx", "match": {}}, ("match",)),
    ({"key": "dx", "match": {"value": None}}, ("match",)),
    ({"key": "dx", "match": {"value": 1, "any": [2]}}, ("match",)),
    ({"key": "dx", "match": {"value": 1.5}}, ("match", "value")),
    ({"key": "dx", "match": {"value": 2**63}}, ("match", "value")),
    ({"key": "dx", "match": {"value": ["mel"]}}, ("match", "value")),
    ({"key": "dx", "match": {"any": ["mel", None]}}, ("match", "any", 1)),
    ({"key": "dx", "match": {"any": [1, True]}}, ("match", "any", 1)),
    ({"key": "dx", "match": {"any": "mel"}}, ("match", "any")),
    ({"key": "dx", "match": {"except": ["mel", 1]}}, ("match",)),
    ({"key": "dx", "match": {"text": 5}}, ("match", "text")),
    ({"key": "dx", "matches": {"value": 1}}, ("matches",)),
    ({"key": "s", "geo_radius": {"center": POINT, "radius": -1}}, ("geo_radius", "radius")),
    (
        {"key": "s", "geo_radius": {"center": {"lon": 181, "lat": 0}, "radius": 1}},
        ("geo_radius", "center", "lon"),
    ),
    (
        {"key": "s", "geo_polygon": {"exterior": {"points": [POINT] * 3}}},
        ("geo_polygon", "exterior", "points"),
    ),
    ({"key": "s", "geo_polygon": {"exterior": {"points": OPEN}}}, ("geo_polygon", "exterior")),
    ({"is_empty": {"key": "a b"}}, ("is_empty", "key")),
    ({"is_empty": {}}, ("is_empty", "key")),
    ({"is_null": {"key": "age"}, "dx": 1}, ("dx",)),
    ({"has_id": ["ISIC_0027419"]}, ("has_id", 0)),
    ({"has_id": [3, -1]}, ("has_id", 1)),
    ({"has_id": [2**64]}, ("has_id", 0)),
    ({"has_id": [True]}, ("has_id", 0)),
    (
        {"nested": {"key": "a", "filter": {"must": [{"key": "b"}]}}},
        ("nested", "filter", "must", 0),
    ),
    ({"nested": {"key": "a"}}, ("nested", "filter")),
    (
        {"min_should": {"conditions": [{"has_id": []}], "min_count": -1}},
        ("min_should", "min_count"),
    ),
    ({"should": [{"must_not": [{"key": "dx"}]}]}, ("should", 0, "must_not", 0)),
    ({}, ()),
    ({"dx": "mel"}, ()),
    ("mel", ()),
    (None, ()),
]


@pytest.mark.parametrize(("condition", "place"), WRONG, ids=[str(i) for i in range(len(WRONG))])
def test_a_wrong_condition_is_named_by_its_one_place(condition: Any, place: tuple[str | int, ...]):
    assert [found for found, _ in faults({"must": [condition]})] == [("must", 0, *place)]


def test_every_fault_is_named_at_once():
    found = faults({"must": [{"key": "a b", "match": {"value": 1.5}}, 5], "should": 3, "shall": []})
    assert [place for place, _ in found] == [
        ("must", 0, "key"), ("must", 0, "match", "value"), ("must", 1), ("should",), ("shall",),
    ]  # fmt: skip


def test_faults_repeat_no_value():
    secret = "Müller-Lüdenscheidt"
    wrong = [
        {"key": secret + " ", "match": {"value": secret}},
        {"key": "name", "match": {"any": [secret, 1]}},
        {"key": "name", "range": {"gte": secret}},
        {"has_id": [secret]},
        secret,
    ]
    with pytest.raises(ValidationError) as caught:
        Filter.model_validate({"must": wrong})
    assert len(caught.value.errors()) == len(wrong)
    assert secret not in str(caught.value)
    assert secret not in str(caught.value.errors(include_input=False))


def nested(depth: int) -> dict[str, Any]:
    wanted: dict[str, Any] = {"must": []}
    for _ in range(depth - 1):
        wanted = {"must": [wanted]}
    return wanted


def test_a_hostile_filter_is_refused_before_it_is_walked():
    assert Filter.model_validate(nested(MAX_DEPTH)).must
    for wanted in (nested(MAX_DEPTH + 1), nested(10_000)):
        assert [place for place, _ in faults(wanted)] == [()]
    condition = {"is_null": {"key": "dx"}}
    assert [place for place, _ in faults({"must": [condition] * MAX_OBJECTS})] == [()]
    assert [place for place, _ in faults({"must": {"has_id": [1] * (MAX_VALUES + 1)}})] == [()]


def test_field_names_become_paths():
    assert json_path("source.job") == "source.job"
    assert json_path("body part") == '"body part"'


def test_what_must_not_excludes_all_that_must_asks_for_is_refused():
    mel, either = ({"key": "dx", "match": m} for m in ({"value": "mel"}, {"any": ["mel", "nv"]}))
    assert faults({"must": [mel], "must_not": [either]})[0][0] == ()
    assert faults({"should": [{"must": either, "must_not": either}]})[0][0] == ("should", 0)
    other_type = {"must": [{"key": "x", "match": {"value": 1}}]}
    other_type["must_not"] = [{"key": "x", "match": {"value": True}}]
    for possible in ({"must": [either], "must_not": [mel]}, other_type, {"must_not": [mel]}):
        Filter.model_validate(possible)


def test_a_range_of_one_value_is_possible():
    Filter.model_validate({"must": {"key": "age", "range": {"gte": 40, "lte": 40}}})


def test_every_field_is_named_with_its_place():
    match = {"match": {"value": 1}}
    parsed = Filter.model_validate(
        {
            "must": [{"key": '"body part"[].side', **match}, {"is_null": {"key": "a.b"}}],
            "should": [{"must_not": [{"key": "c[0]", **match}]}, {"has_id": [1]}],
            "must_not": [{"nested": {"key": "d", "filter": {"must": {"key": "inner", **match}}}}],
            "min_should": {"conditions": [{"is_empty": {"key": "e"}}], "min_count": 1},
        }
    )
    assert dict(parsed.fields()) == {
        ("must", 0, "key"): "body part",
        ("must", 1, "is_null", "key"): "a",
        ("should", 0, "must_not", 0, "key"): "c",
        ("must_not", 0, "nested", "key"): "d",
        ("min_should", "conditions", 0, "is_empty", "key"): "e",
    }
