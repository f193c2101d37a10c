"""What is weak in the authenticator that one would use instead (oauthenticator 17.4), by name.

Each has a test that shows it absent here. This holds the list, and that each test is there.
"""

from __future__ import annotations

from types import ModuleType

import pytest

from tests.auth import test_oidc_certified as certified
from tests.auth import test_oidc_login as login
from tests.auth import test_oidc_refresh as refresh
from tests.auth import test_oidc_settings as settings

NOT_THIS = "test_a_token_that_is_not_this_logins_word_lets_nobody_in"
ABSENT: dict[str, tuple[ModuleType, str]] = {
    "ID tokens are read without their signature": (login, NOT_THIS),
    "the issuer is not compared": (login, NOT_THIS),
    "there is no nonce": (login, NOT_THIS),
    "userinfo may be of another person": (login, NOT_THIS),
    "no keys by discovery, no rotation": (login, "test_a_key_that_is_new_counts_at_once"),
    "addresses are configured, not discovered": (
        settings,
        "test_what_would_weaken_a_login_is_refused",
    ),
    "PKCE and certificates can be turned off": (
        settings,
        "test_what_would_weaken_a_login_is_refused",
    ),
    "a token may travel in an address": (settings, "test_what_would_weaken_a_login_is_refused"),
    "another provider's answer is taken (mix-up)": (
        login,
        "test_the_answer_of_another_provider_is_not_taken_for_this_ones",
    ),
    "one login at a time in a browser": (login, "test_two_tabs_at_once_and_one_answer_once"),
    "the provider's error text is shown": (
        login,
        "test_an_error_of_the_provider_is_told_in_words_of_ours",
    ),
    "raw tokens and answers in the log": (login, "test_no_secret_is_in_the_log"),
    "an expired ID token ends in a 500": (
        refresh,
        "test_an_id_token_that_expired_meanwhile_is_no_obstacle",
    ),
    "a text for groups becomes a set of characters": (
        login,
        "test_one_group_as_a_text_is_one_group",
    ),
    "an overage is read as no groups": (
        login,
        "test_more_groups_than_a_token_holds_is_told_by_name",
    ),
    "the groups of an overage cannot be had": (
        refresh,
        "test_groups_past_what_a_token_holds_are_asked_for",
    ),
    "nobody is asked while they are not at the door": (
        refresh,
        "test_groups_follow_while_nobody_is_at_the_door",
    ),
    "who is refused keeps tokens and groups": (
        refresh,
        "test_who_is_refused_loses_all_by_cookie_and_token",
    ),
    "an outage at a refresh logs people out": (
        refresh,
        "test_a_provider_that_is_down_takes_nothing",
    ),
    "one refresh token is used twice": (refresh, "test_no_refresh_token_is_used_twice"),
    "no back-channel log-out": (
        certified,
        "test_log_out_at_the_provider_ends_the_session_here",
    ),
    "no log-out at the provider": (
        certified,
        "test_log_out_here_ends_the_session_at_the_provider",
    ),
    "a name is taken for a person": (login, "test_who_comes_under_anothers_name_is_refused"),
}


@pytest.mark.parametrize("weakness", ABSENT)
def test_it_is_shown_to_be_absent(weakness: str) -> None:
    module, name = ABSENT[weakness]
    assert callable(getattr(module, name))
