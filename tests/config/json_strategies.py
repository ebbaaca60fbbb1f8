"""Documents that are nearly what a JSON schema describes: the interesting ones for a judge of shapes."""

from typing import Any

from hypothesis import strategies as st

ODD_VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        1.0,
        1.5,
        -1,
        2**32,
        float("inf"),
        1500.0,
        "",
        "x",
        "auto",
        "a\n",
        "rtb-1",
        "rtb-1\n",
    ),
    *(
        [],
        [1],
        ["x"],
        [[]],
        {},
        {"x": 1},
        {"": ""},
        {"ids": ["rtb-1"], "all": True},
        {"cni.dev/x": 1},
        {"a": {}},
    ),
]
"""Where Python and JSON are easily taken for one another: true is not 1, 1.0 is a whole number."""

ODD = st.sampled_from(ODD_VALUES) | st.text(max_size=3) | st.integers()


@st.composite
def like(draw: st.DrawFn, schema: dict[str, Any], odd: int = 40) -> Any:
    """Draw a document like ``schema``'s; one node in about ``odd`` is anything at all."""
    if draw(st.integers(1, odd)) == odd:
        return draw(ODD)
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    examples = [st.sampled_from(schema["examples"])] if schema.get("examples") else []
    names = schema.get("type", "object" if "properties" in schema else "string")
    kinds = [names] if isinstance(names, str) else names
    return draw(st.one_of(*examples, *(_of_kind(kind, schema, odd, bool(examples)) for kind in kinds)))


def _of_kind(kind: str, schema: dict[str, Any], odd: int, exemplified: bool) -> st.SearchStrategy[Any]:
    low, high = schema.get("minimum", 0), schema.get("maximum", 10_000)
    match kind:
        case "object":
            return _object(schema, odd)
        case "array":
            return st.lists(like(schema.get("items", {}), odd), min_size=1, max_size=3)
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case "integer":
            return st.integers(low, high) | st.just(float(low))
        case "number":
            return st.floats(low, high)
        case _ if exemplified:
            return st.sampled_from(schema["examples"])
        case _:
            return st.sampled_from(["auto", "a/b", "/x", "10.0.0.0/8", "10.9.0.1/24", "::/0"])


@st.composite
def _object(draw: st.DrawFn, schema: dict[str, Any], odd: int) -> dict[str, Any]:
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    ours = [key for key, rule in known.items() if "$comment" not in rule]
    chosen = draw(st.sets(st.sampled_from(ours), max_size=5)) if ours else set()
    chosen |= set(schema.get("required", []))
    if isinstance(others, dict):
        chosen |= draw(st.sets(st.sampled_from(["111122223333", "x", "environment"]), min_size=1, max_size=2))
    if draw(st.integers(1, odd)) == odd:  # one too many
        chosen.add(draw(st.sampled_from([*known, "x", "", "cni.dev/x", "cni.devx"])))
    if chosen and draw(st.integers(1, odd)) == odd:  # one too few
        chosen.discard(draw(st.sampled_from(sorted(chosen))))
    rules = {key: known.get(key, others if isinstance(others, dict) else None) for key in sorted(chosen)}
    return {key: draw(ODD if rule is None else like(rule, odd)) for key, rule in rules.items()}
