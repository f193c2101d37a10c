"""Options: read strictly, refused in sentences."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_collab.errors import UserError
from jupyterhub_collab.models import Gate, Profile, TeamSpec
from jupyterhub_collab.policy import spawning

SPEC = TeamSpec.model_validate(
    {
        "team": "ocean",
        "contest": "sea",
        "tierName": "small",
        "tier": {
            "cpu": 8,
            "memory": "16Gi",
            "storage": "10Gi",
            "ephemeralStorage": "10Gi",
            "pods": 5,
            "serversPerMember": 2,
        },
        "images": {
            "basic": {"title": "Basic", "image": "r.example.org/basic:1"},
            "gpu": {"title": "GPU", "image": "r.example.org/gpu:1"},
        },
        "profiles": {
            "small": {"title": "Small", "cpu": 1, "memory": "1Gi"},
            "graphics": {
                "title": "Graphics", "cpu": 4, "memory": "8Gi", "images": ["gpu"],
            },
            "huge": {"title": "Huge", "cpu": 16, "memory": "8Gi"},
        },
        "volumes": {},
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("options", "image", "profile"),
    [
        ({}, "basic", "small"),
        ({"image": "gpu"}, "gpu", "small"),
        ({"profile": "graphics"}, "gpu", "graphics"),
        ({"image": "gpu", "profile": "graphics"}, "gpu", "graphics"),
    ],
)
def test_what_is_left_out_is_the_first_that_fits(options, image, profile):
    found = spawning.choose_server(SPEC, options)
    assert (found.team, found.image_id, found.profile_id) == ("ocean", image, profile)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"image": "nothere"},
            'Team ocean has no image "nothere". It has basic and gpu.',
        ),
        (
            {"profile": "small-and-more"},
            'Team ocean has no profile "small-and-more". It has small, graphics and huge.',
        ),
        (
            {"image": "basic", "profile": "graphics"},
            "The profile graphics cannot be combined with the image basic. It goes with gpu.",
        ),
        (
            {"profile": "huge"},
            "The profile Huge needs 16 CPUs, and team ocean may use 8 in all."
            " Choose a smaller one or ask for a larger tier.",
        ),
    ],
)
def test_refusals_say_what_would_be_right(options, sentence):
    with pytest.raises(UserError) as refused:
        spawning.choose_server(SPEC, options)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("cpu", "gpu", "words"),
    [
        ("1", 0, "needs 1 CPU, and team ocean may use 0.5 in all"),
        ("2", 0, "needs 2 CPUs, and team ocean may use 0.5 in all"),
        ("250m", 1, "needs 1 GPU, and team ocean may use 0 in all"),
        ("250m", 2, "needs 2 GPUs, and team ocean may use 0 in all"),
    ],
)
def test_one_of_a_thing_and_several(cpu, gpu, words):
    size = {"title": "It", "cpu": cpu, "gpu": gpu, "memory": "1Mi"}
    tier = SPEC.tier.model_copy(update={"cpu_millicores": 500, "gpu_count": 0})
    profile = Profile.model_validate(size)
    spec = SPEC.model_copy(update={"tier": tier})
    assert words in (spawning.profile_refusal(spec, profile) or "")


def test_closed_team_starts_nothing():
    closed = SPEC.model_copy(update={"gate": Gate.CLOSED})
    with pytest.raises(UserError, match="Team ocean is closed"):
        spawning.choose_server(closed, {})


@pytest.mark.parametrize(
    ("teams", "options", "found"),
    [(["ocean"], {}, "ocean"), (["ocean", "reef"], {"team": "reef"}, "reef")],
)
def test_the_only_team_or_the_chosen_one(teams, options, found):
    assert spawning.choose_team(options, teams) == found


@pytest.mark.parametrize(
    ("teams", "options", "sentence"),
    [
        ([], {}, "You are not in a team yet. Ask the host of your contest to add you."),
        (["reef", "ocean"], {}, "You are in several teams: choose ocean or reef."),
        (["ocean"], {"team": "reef"}, 'You are not a member of a team "reef".'),
        ([], {"team": "reef"}, 'You are not a member of a team "reef".'),
    ],
)
def test_team_refusals(teams, options, sentence):
    with pytest.raises(UserError) as refused:
        spawning.choose_team(options, teams)
    assert str(refused.value) == sentence


def test_options_are_refused_by_name():
    with pytest.raises(UserError) as refused:
        spawning.to_options({"kubespawner_override": {"privileged": True}})
    assert str(refused.value) == (
        'There is no option "kubespawner_override". The options are team, image and profile.'
    )


def test_nothing_chosen_is_nothing():
    assert spawning.to_options(None) == {}
    assert spawning.to_options({"team": "", "image": None}) == {}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    json_values
    | st.dictionaries(st.sampled_from(["team", "image", "profile", "x"]), json_values, max_size=4)
    | st.dictionaries(st.sampled_from(["image", "profile"]), st.text(), max_size=2)
    | st.dictionaries(
        st.sampled_from(["image", "profile"]),
        st.from_regex(r"(small|basic|gpu)(\n|\x00| |x|/)?", fullmatch=True),
        max_size=2,
    )
)
def test_whatever_comes_is_a_choice_of_the_spec_or_one_short_sentence(raw):
    refusal = ""
    try:
        found = spawning.choose_server(SPEC, spawning.to_options(raw))
    except UserError as e:
        refusal = str(e)
    if refusal:
        assert len(refusal) < 500
        assert "\n" not in refusal
        return
    assert found.image_id in SPEC.images
    assert found.profile_id in SPEC.profiles
    for key, value in (raw or {}).items():
        assert value in (None, "", found.image_id, found.profile_id), key


@pytest.mark.parametrize("value", ["basic\n", " basic", "basic ", "BASIC", "basic\0", "basicx"])
def test_only_the_whole_id_matches(value):
    with pytest.raises(UserError):
        spawning.choose_server(SPEC, spawning.to_options({"image": value}))


@pytest.mark.parametrize("size", [1_000, 1_000_000])
def test_a_long_value_makes_no_long_sentence(size):
    for raw in ({"image": "x" * size}, {"x" * size: 1}, {"image": ["x" * size]}):
        with pytest.raises(UserError) as refused:
            spawning.to_options(raw)
        assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("limit", "running", "sentence"),
    [
        (2, ["a"], None),
        (1, [], None),
        (
            1,
            [""],
            "Members of team ocean may run one server at a time, and your default server runs"
            " already. Stop one first.",
        ),
        (
            2,
            ["b", "a"],
            'Members of team ocean may run 2 servers at a time, and "a" and "b" of yours run'
            " already. Stop one first.",
        ),
        (0, [], "Members of team ocean may not start servers."),
    ],
)
def test_servers_a_member(limit, running, sentence):
    spec = SPEC.model_copy(
        update={"tier": SPEC.tier.model_copy(update={"servers_per_member": limit})}
    )
    assert spawning.server_limit_refusal(spec, running) == sentence
