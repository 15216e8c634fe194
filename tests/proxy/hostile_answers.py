"""Answers as a hostile or sloppy vendor sends them: a usage of any shape, at any place, twice, absurd or missing; tiers
that nobody asked for; ends of any kind."""

from hypothesis import strategies as st

from tests.proxy.whole_requests import Said

__all__ = ["answers"]

_figure = st.sampled_from([0, 1, 5, 10, 11, 90, 5_000, 900_000_000, 10**12]) | st.integers(-5, 10**6)
_any_figure = _figure | st.none() | st.floats() | st.sampled_from([10.0, "10", "many", True, [], {}])
_details = st.dictionaries(
    st.sampled_from(["cached_tokens", "reasoning_tokens", "audio_tokens", "image_tokens", "cache_write_tokens"]),
    _any_figure,
)
_usage = st.dictionaries(
    st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "cache_creation_input_tokens"]), _any_figure
).flatmap(
    lambda figures: st.fixed_dictionaries(
        {name: st.just(figure) for name, figure in figures.items()},
        optional={"prompt_tokens_details": _details | _any_figure, "completion_tokens_details": _details},
    )
)
_sound_usage = st.fixed_dictionaries({"prompt_tokens": _figure, "completion_tokens": _figure})
_any_usage = _usage | _sound_usage | _any_figure
_piece = st.builds(
    lambda text, times: text * times,
    st.sampled_from([" word", " extraordinarily", "1\n", "你好", "🎈", ""]),
    st.integers(1, 12) | st.just(400),
)
_tier = st.sampled_from(["priority", "flex", "default", "auto", "", 7, None])
answers = st.builds(
    Said,
    pieces=st.lists(_piece, max_size=12),
    usages=st.dictionaries(st.integers(0, 13), _any_usage, max_size=3),
    tiers=st.dictionaries(st.integers(0, 13), _tier, max_size=2),
    finish=st.sampled_from(["stop", "length", None]),
    ending=st.sampled_from(["done", "end", "close"]),
    in_one_piece=st.booleans(),
)
