"""The 67 sentences of W&B's page on webhook automations that speak of pages, and what tries each of them here.

A sentence is known by its number, in the order of that page. Each is tried by tests of `browser/`, named as
`module::test`, with scripts and without; or there is a reason why no page answers it.
"""

from __future__ import annotations

from collections.abc import Mapping

NONE = "none: "
"""How the reason begins where a sentence has no page."""
_WEBHOOK = "test_seed::test_a_secret_and_a_webhook_are_made_tested_and_used"
_ROLES = "test_seed::test_members_may_automate_and_administrators_add_webhooks"
_REGISTRY = "test_seed::test_an_automation_of_a_registry_covers_collections_added_later"
_COLLECTION = "test_seed::test_an_automation_of_a_collection_is_made_from_its_menu_and_from_its_page"
_PROJECT = "test_seed::test_an_automation_of_a_project_is_made_changed_and_deleted"
_BELL = "test_seed::test_the_bell_of_a_line_plot_makes_an_automation_for_its_metric"
_TEST = "test_seed::test_a_webhook_is_tested_from_its_menu"
_HUB = "test_seed::test_the_hub_finds_automations_by_their_action"
_TEAM = "test_seed::test_a_webhook_of_another_team_is_chosen_by_its_team"
_ROUTED = "test_seed::test_one_event_is_routed_to_two_webhooks_by_two_automations"
_NO_WEBHOOK = "test_seed::test_an_entity_without_webhooks_says_where_to_configure_one"
_ADDRESS = "test_seed::test_the_address_that_scripts_print_leads_to_the_webhooks"
_PAYLOADS = "test_seed::test_payloads_are_made_of_variables_and_examples"
_SLACK = "test_seed::test_a_slack_integration_is_an_action_too"
_KEYS = "test_seed::test_a_key_for_programs_is_made_here"

SENTENCES: Mapping[int, tuple[str, ...]] = {
    1: (NONE + "there are no plans",),
    2: (_SLACK,),
    **dict.fromkeys((3, 4, 5), (_WEBHOOK,)),
    6: (_ROLES, _WEBHOOK),
    **dict.fromkeys(range(7, 12), (_WEBHOOK,)),
    12: (_TEST,),
    **dict.fromkeys(range(13, 18), (_WEBHOOK,)),
    18: (_TEST, _WEBHOOK),
    19: (_WEBHOOK,),
    20: (_REGISTRY, _PROJECT),
    21: (_REGISTRY, _ROLES),
    **dict.fromkeys((22, 23), (_REGISTRY,)),
    **dict.fromkeys((24, 25), (_COLLECTION,)),
    **dict.fromkeys((26, 28), (_REGISTRY, _COLLECTION)),
    27: (_TEAM, _REGISTRY),
    29: (_WEBHOOK, _REGISTRY),
    **dict.fromkeys((30, 31), (_REGISTRY, _COLLECTION)),
    32: (_PROJECT, _ROLES),
    33: (_PROJECT,),
    34: (_BELL,),
    35: (_PROJECT, _BELL),
    **dict.fromkeys((36, 37), (_PROJECT,)),
    **dict.fromkeys((38, 39), (_KEYS, _WEBHOOK)),
    40: (_ADDRESS,),
    **dict.fromkeys((41, 42), (_WEBHOOK,)),
    43: (_HUB,),
    44: (_PROJECT,),
    45: (_ROUTED,),
    46: (_NO_WEBHOOK,),
    47: (_REGISTRY,),
    48: (_COLLECTION,),
    **dict.fromkeys((49, 50, 51), (_REGISTRY,)),
    52: (_PROJECT,),
    **dict.fromkeys(range(53, 58), (_PAYLOADS,)),
    58: (NONE + "it names videos and reports of others; the pages link to nothing outside",),
    59: (_PAYLOADS, _SLACK),
    60: (_TEST, _WEBHOOK),
    **dict.fromkeys(range(61, 67), (_TEST,)),
    67: (NONE + "nobody is asked whether a page was helpful",),
}
