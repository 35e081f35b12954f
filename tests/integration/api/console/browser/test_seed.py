"""What W&B's page on webhook automations tells people to do, done here by the names on the pages, up to the delivery.

`sentences.py` says which test stands for which sentence of that page.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Any

from tests.integration.api.console.browser.conftest import Walk
from tests.integration.api.console.world import SECRETS
from tests.integration.receiver import Received
from tests.integration.scene import alias_event, metric_event

REGISTRY = "wandb-registry-model"


def last_to(walk: Walk, path: str) -> Received:
    """The newest request to a path of the receiver."""
    return next(one for one in reversed(walk.window.world.scene.receiver.requests) if one.path == path)


def count_to(walk: Walk, path: str) -> int:
    """How many requests a path of the receiver got."""
    return sum(one.path == path for one in walk.window.world.scene.receiver.requests)


def made(walk: Walk) -> Any:
    """The automation whose page is open."""
    number = walk.page.url.partition("?")[0].rpartition("/")[2]
    return walk.window.world.call("GET", f"/entities/acme/automations/{number}")


def fill_action(walk: Walk, payload: str = '{"alias": "${alias}", "token": "${DEPLOY_TOKEN}"}') -> None:
    """Team, action type, webhook, payload, next step."""
    assert walk.page.get_by_label("Team", exact=True).locator("option:checked").inner_text() == "acme"
    walk.choose("Action type", "Webhooks")
    walk.choose("Webhook", "deploy-hook")
    walk.page.get_by_role("textbox", name="Payload").fill(payload)
    walk.page.get_by_role("link", name="Next step: name").click()


def name_it(walk: Walk, name: str) -> None:
    """Name, description, create."""
    walk.page.get_by_label("Name", exact=True).fill(name)
    walk.page.get_by_label("Description").fill("Made by its names.")
    walk.press("Create automation")
    walk.page.get_by_role("heading", name=name, exact=True).wait_for()


def delete_it(walk: Walk) -> None:
    """Delete the automation whose page is open, after the question."""
    walk.follow("Delete automation")
    walk.page.get_by_role("heading", name="Delete the automation").wait_for()
    walk.press("Delete")
    walk.page.get_by_text("The automation is deleted.").wait_for()


def test_a_secret_and_a_webhook_are_made_tested_and_used(walk: Walk) -> None:
    page, world = walk.page, walk.window.world
    walk.window.expected = ("Failed to load resource: the server responded with a status of 422",)
    secret, path = f"OWN_{walk.suffix.upper()}", f"/seed-{walk.suffix}"
    walk.window.sign_in("admin")
    walk.follow("Secrets")
    walk.follow("New secret")
    page.get_by_label("Name").fill(secret)
    page.get_by_label("Value").fill("canary of this walk")
    walk.press("Save")
    assert "canary of this walk" not in page.content()
    walk.follow("Webhooks")
    walk.follow("New webhook")
    page.get_by_text("Up to 64 letters, digits, - and _").wait_for()
    page.get_by_label("Name", exact=True).fill(f"seed {walk.suffix}")
    page.get_by_label("URL", exact=True).fill("ftp://nowhere.example/x")
    walk.press("Save")
    page.get_by_role("alert").get_by_text("url").first.wait_for()
    page.get_by_label("URL", exact=True).fill(f"{world.scene.receiver.url}{path}")
    page.get_by_label("Access token").select_option("DEPLOY_TOKEN")
    page.get_by_text("sent as Authorization: Bearer", exact=False).wait_for()
    page.get_by_label("Signing secret optional", exact=True).select_option("SIGNING")
    page.get_by_label(secret, exact=True).check()
    page.get_by_label("Payload for the test").fill(f'{{"mine": "${secret}"}}')
    walk.press("Test")
    page.get_by_role("heading", name="The endpoint answered 204").wait_for()
    tried = last_to(walk, path)
    assert tried.json == {"mine": "canary of this walk"}
    assert "canary of this walk" not in page.content()
    stored = str(world.call("GET", "/entities/acme/webhooks"))
    assert f"seed {walk.suffix}" not in stored, "a test saves nothing"
    walk.press("Save")
    use = page.get_by_role("region", name="Use in payloads")
    use.get_by_text("${ACCESS_TOKEN}").wait_for()
    use.get_by_text(f"${{{secret}}}").wait_for()
    assert page.get_by_text(f"{world.scene.receiver.url}{path}").count() >= 1
    walk.follow("Create an automation with this webhook")
    assert page.get_by_label("Webhook", exact=True).locator("option:checked").inner_text() == f"seed {walk.suffix}"
    page.get_by_label("Alias matches").fill(f"^seed-{walk.suffix}$")
    body = f'{{"token": "${{ACCESS_TOKEN}}", "mine": "${secret}", "blank": "${{run_id}}"}}'
    page.get_by_label("Values", exact=True).select_option("are text, as in W&B")
    page.get_by_role("textbox", name="Payload").fill(body)
    name_it(walk, f"seed {walk.suffix}")
    world.publish(alias_event(f"seed-{walk.suffix}"))
    got = last_to(walk, path)
    assert got.json == {"token": SECRETS["DEPLOY_TOKEN"], "mine": "canary of this walk", "blank": ""}
    assert got.headers["authorization"] == f"Bearer {SECRETS['DEPLOY_TOKEN']}"
    digest = hmac.digest(SECRETS["SIGNING"].encode(), got.body, hashlib.sha256)
    assert got.headers["x-wandb-signature"] == base64.b64encode(digest).decode()
    delete_it(walk)


def test_members_may_automate_and_administrators_add_webhooks(walk: Walk) -> None:
    page = walk.page
    walk.window.come_back("member")
    walk.window.open("/e/acme")
    walk.follow("Webhooks")
    assert page.get_by_role("button", name="New webhook").is_disabled()
    page.get_by_text("needs the role admin").wait_for()
    walk.follow("Automations")
    walk.follow("Create automation")
    page.get_by_role("heading", name="Create an automation").wait_for()


def test_an_automation_of_a_registry_covers_collections_added_later(walk: Walk) -> None:
    page, world = walk.page, walk.window.world
    walk.window.come_back("member")
    walk.window.open("/e/acme")
    walk.follow("Projects")
    walk.follow("Registries")
    walk.follow(REGISTRY)
    page.get_by_role("navigation", name=f"Parts of {REGISTRY}").get_by_role("link", name="Automations").click()
    page.get_by_text("also those added later").first.wait_for()
    walk.follow("Create automation")
    assert page.get_by_label("Project or registry").input_value() == REGISTRY
    walk.choose("Event", "An alias is added to a version")
    page.get_by_label("Alias matches").fill(f"^registry-{walk.suffix}$")
    page.get_by_role("link", name="Next step: action").click()
    fill_action(walk)
    name_it(walk, f"registry {walk.suffix}")
    world.publish(alias_event(f"registry-{walk.suffix}", collection=f"new of {walk.suffix}"))
    got = last_to(walk, "/deploy")
    assert got.json == {"alias": f"registry-{walk.suffix}", "token": SECRETS["DEPLOY_TOKEN"]}
    walk.window.open(f"/e/acme/project?name={REGISTRY}")
    walk.follow(f"registry {walk.suffix}")
    walk.follow("Edit automation")
    page.get_by_label("Alias matches").fill("^never$")
    walk.press("Save")
    before = count_to(walk, "/deploy")
    world.publish(alias_event(f"registry-{walk.suffix}"))
    assert count_to(walk, "/deploy") == before
    walk.window.open(f"/e/acme/project?name={REGISTRY}")
    walk.menu(f"registry {walk.suffix}", "Delete automation")
    walk.press("Delete")
    page.get_by_text("The automation is deleted.").wait_for()


def test_an_automation_of_a_collection_is_made_from_its_menu_and_from_its_page(walk: Walk) -> None:
    page, world = walk.page, walk.window.world
    walk.window.come_back("member")
    walk.window.open(f"/e/acme/project?name={REGISTRY}")
    walk.follow("Collections")
    walk.menu("llm", "Create automation")
    assert page.get_by_label("Collection", exact=False).first.input_value() == "llm"
    walk.window.open(f"/e/acme/project?name={REGISTRY}&tab=collections")
    walk.follow("llm")
    walk.follow("Create automation", within="Automations")
    assert page.get_by_label("Project or registry").input_value() == REGISTRY
    page.get_by_label("Alias matches").fill(f"^collection-{walk.suffix}$")
    page.get_by_role("link", name="Next step: action").click()
    fill_action(walk)
    name_it(walk, f"collection {walk.suffix}")
    before = count_to(walk, "/deploy")
    world.publish(alias_event(f"collection-{walk.suffix}", collection="other"))
    assert count_to(walk, "/deploy") == before
    world.publish(alias_event(f"collection-{walk.suffix}"))
    assert count_to(walk, "/deploy") == before + 1
    walk.window.open(f"/e/acme/collection?project={REGISTRY}&name=llm")
    page.get_by_role("region", name="Automations", exact=True).get_by_role(
        "link", name=f"collection {walk.suffix}"
    ).wait_for()
    walk.menu(f"collection {walk.suffix}", "Edit automation")
    page.get_by_role("heading", name=f"Edit collection {walk.suffix}").wait_for()
    walk.follow("Cancel")
    delete_it(walk)


def test_an_automation_of_a_project_is_made_changed_and_deleted(walk: Walk) -> None:
    page, world = walk.page, walk.window.world
    walk.window.come_back("member")
    walk.window.open("/e/acme")
    walk.follow("Projects")
    walk.follow("digits")
    page.get_by_role("navigation", name="Parts of digits").get_by_role("link", name="Automations").click()
    walk.follow("Create automation")
    assert page.get_by_label("Project or registry").input_value() == "digits"
    walk.choose("Event", "An alias is added to a version")
    page.get_by_label("Collection", exact=False).first.fill("")
    page.get_by_label("Alias matches").fill("^project$")
    fill_action(walk, '{"collection": "${artifact_collection_name}"}')
    name_it(walk, f"project {walk.suffix}")
    assert made(walk)["scope"] == {"project": "digits"}
    world.publish(alias_event("project", project="digits", collection="made later"))
    assert last_to(walk, "/deploy").json == {"collection": "made later"}
    walk.window.open("/e/acme/project?name=digits")
    walk.follow(f"project {walk.suffix}")
    page.get_by_role("heading", name=f"project {walk.suffix}", exact=True).wait_for()
    walk.window.open("/e/acme/project?name=digits")
    walk.menu(f"project {walk.suffix}", "Edit automation")
    page.get_by_role("textbox", name="Payload").fill('{"updated": true}')
    walk.press("Save")
    world.publish(alias_event("project", project="digits"))
    assert last_to(walk, "/deploy").json == {"updated": True}
    walk.window.open("/e/acme/project?name=digits")
    walk.menu(f"project {walk.suffix}", "Delete automation")
    page.get_by_role("heading", name="Delete the automation").wait_for()
    walk.press("Delete")
    page.get_by_text("The automation is deleted.").wait_for()


def test_the_bell_of_a_line_plot_makes_an_automation_for_its_metric(walk: Walk) -> None:
    page, world = walk.page, walk.window.world
    metric = f"score_{walk.suffix}"
    world.publish(
        *(metric_event(step, run=f"bell-{walk.suffix}", event_id=None, **{metric: step / 10}) for step in range(6))
    )
    walk.window.come_back("member")
    walk.window.open("/e/acme")
    walk.follow("Projects")
    walk.follow("digits")
    walk.follow("Metrics")
    plot = page.get_by_role("listitem").filter(has_text=metric).filter(has=page.get_by_role("img"))
    plot.first.hover()
    walk.follow(f"Create an automation for {metric}")
    assert page.get_by_label("Metric", exact=True).first.input_value() == metric
    assert page.get_by_label("Threshold").first.input_value() == "0.5"
    page.get_by_role("region", name="Preview").get_by_role("img", name="What the condition saw").wait_for()
    page.get_by_label("Threshold").first.fill("0.7")
    page.get_by_role("link", name="Next step: action").click()
    fill_action(walk, '{"metric": "${metric_name}", "value": "${metric_value}"}')
    name_it(walk, f"bell {walk.suffix}")
    world.publish(metric_event(7, run=f"bell-{walk.suffix}", event_id=None, **{metric: 0.75}))
    assert last_to(walk, "/deploy").json == {"metric": metric, "value": 0.75}
    delete_it(walk)


def test_a_webhook_is_tested_from_its_menu(walk: Walk) -> None:
    page = walk.page
    walk.window.come_back("admin")
    walk.window.open("/e/acme")
    walk.follow("Webhooks")
    walk.menu("gone-hook", "Test")
    page.get_by_role("textbox", name="Payload").fill('{"hello": "${event_type}"}')
    walk.press("Test webhook")
    page.get_by_role("heading", name="The endpoint answered 404").wait_for()
    answer = page.get_by_role("region", name="The endpoint answered 404")
    answer.get_by_text("POST http").wait_for()
    answer.get_by_text("<h1><script>").wait_for()
    answer.get_by_text("check the path of the URL").wait_for()
    if walk.scripted:
        page.locator("#answer:focus").wait_for()
    assert last_to(walk, "/gone").json == {"hello": "ADD_ARTIFACT_ALIAS"}
    page.get_by_text("Show webhook_test.sh").click()
    script = page.get_by_label("webhook_test.sh", exact=True).inner_text()
    for variable in ("ACCESS_TOKEN", "SECRET", "PAYLOAD", "API_ENDPOINT"):
        assert re.search(rf"(?m)^{variable}=", script), variable
    walk.window.open(f"/e/acme/settings/webhooks/{walk.window.world.ids['gone-hook']}/edit")
    walk.press("Test")
    page.get_by_role("heading", name="The endpoint answered 404").wait_for()


def test_the_hub_finds_automations_by_their_action(walk: Walk) -> None:
    page = walk.page
    walk.window.come_back("member")
    walk.window.open("/e/acme")
    walk.follow("Automations")
    page.get_by_label("Action type").select_option("Webhooks")
    walk.press("Filter")
    page.get_by_role("link", name="deploy-on-production").wait_for()
    assert page.get_by_role("link", name="accuracy", exact=True).count() == 0


def test_one_event_is_routed_to_two_webhooks_by_two_automations(walk: Walk) -> None:
    """Conditional routing: a copy with another filter calls another webhook."""
    page, world = walk.page, walk.window.world
    walk.window.come_back("member")
    walk.window.open(f"/e/acme/automations/new?project={REGISTRY}&webhook=deploy-hook")
    page.get_by_label("Alias matches").fill(f"^live-{walk.suffix}$")
    name_it(walk, f"live {walk.suffix}")
    walk.follow("Duplicate")
    page.get_by_label("Alias matches").fill(f"^next-{walk.suffix}$")
    walk.choose("Webhook", "gone-hook")
    name_it(walk, f"next {walk.suffix}")
    live, following = count_to(walk, "/deploy"), count_to(walk, "/gone")
    world.publish(alias_event(f"live-{walk.suffix}"), alias_event(f"next-{walk.suffix}"))
    assert (count_to(walk, "/deploy"), count_to(walk, "/gone")) == (live + 1, following + 1)
    delete_it(walk)
    walk.follow(f"live {walk.suffix}")
    delete_it(walk)


def test_a_webhook_of_another_team_is_chosen_by_its_team(walk: Walk) -> None:
    """The team that owns the webhook: here the organization that the entity is part of."""
    page, world = walk.page, walk.window.world
    house, hook = f"house-{walk.suffix}", f"shared-{walk.suffix}"
    world.call("PUT", f"/entities/{house}", {"kind": "organization"}, key="root")
    world.call("PUT", f"/entities/wing-{walk.suffix}", {"parent": house}, key="root")
    url = f"{world.scene.receiver.url}/{hook}"
    world.call("POST", f"/entities/{house}/webhooks", {"name": hook, "url": url}, key="root")
    walk.window.come_back("root")
    walk.window.open(f"/e/wing-{walk.suffix}/automations/new")
    page.get_by_text("No webhook integrations found").wait_for()
    walk.choose("Team", house)
    walk.choose("Webhook", hook)
    page.get_by_label("Alias matches").fill(f"^{hook}$")
    page.get_by_role("textbox", name="Payload").fill('{"of": "${entity_name}"}')
    name_it(walk, f"calls {house}")
    event = alias_event(hook, entity=f"wing-{walk.suffix}")
    world.call("POST", "/events", [event], key="root")
    world.scene.evaluate()
    world.scene.deliver()
    assert last_to(walk, f"/{hook}").json == {"of": f"wing-{walk.suffix}"}


def test_an_entity_without_webhooks_says_where_to_configure_one(walk: Walk) -> None:
    page = walk.page
    walk.window.come_back("outsider")
    walk.window.open("/e/other/automations/new")
    page.get_by_text("No webhook integrations found").wait_for()
    page.get_by_label("Name", exact=True).fill("a draft that stays")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="New webhook").click()
    opened.value.get_by_role("heading", name="New webhook").wait_for()
    assert page.get_by_label("Name", exact=True).input_value() == "a draft that stays"


def test_the_address_that_scripts_print_leads_to_the_webhooks(walk: Walk) -> None:
    walk.window.come_back("member")
    walk.page.goto(f"{walk.window.world.url}/acme/settings/webhooks")
    walk.page.get_by_role("heading", name="Webhooks", exact=True).wait_for()
    assert "/console/e/acme/settings/webhooks" in walk.page.url


def test_payloads_are_made_of_variables_and_examples(walk: Walk) -> None:
    """Which variables there are, which stay blank, payloads to start from, and what they are rendered to."""
    page, world = walk.page, walk.window.world
    walk.window.come_back("member")
    walk.window.open(
        f"/e/acme/automations/new?webhook=deploy-hook&project={REGISTRY}"
    )  # whose events others don't make
    page.get_by_text("Variables", exact=True).click()
    listed = page.locator(".vars li")
    assert "who did it" in listed.filter(has_text="${event_author}").inner_text()
    blank = page.get_by_text("Blank on this event:").inner_text()
    assert "metric_name" in blank and "event_author" not in blank
    hints = {"teams-card": "28 KiB", "slack-message": "bot token", "github-dispatch": "event_type must be one"}
    for template, words in hints.items():
        page.get_by_label("Start from what a service asks for").select_option(template)
        walk.press("Fill in the payload")
        page.get_by_text(words).first.wait_for()
        assert "${" in page.get_by_role("textbox", name="Payload").input_value()
    page.get_by_label("Rendered payload").get_by_text("acme/wandb-registry-model/").wait_for()
    page.get_by_label("Alias matches").fill(f"^github-{walk.suffix}$")
    name_it(walk, f"github {walk.suffix}")
    world.publish(alias_event(f"github-{walk.suffix}"))
    sent = last_to(walk, "/deploy").json["client_payload"]
    assert f"acme/{REGISTRY}/llm:github-{walk.suffix}" in sent.values()
    delete_it(walk)


def test_a_slack_integration_is_an_action_too(walk: Walk) -> None:
    page, world = walk.page, walk.window.world
    name = f"slack-{walk.suffix}"
    world.call("PUT", "/entities/acme/secrets/SLACK_URL", {"value": f"{world.scene.receiver.url}/{name}"})
    world.call("POST", "/entities/acme/slack", {"name": name, "url_secret": "SLACK_URL"})
    walk.window.come_back("member")
    walk.window.open("/e/acme/automations/new")
    page.get_by_label("Alias matches").fill(f"^{name}$")
    walk.choose("Action type", "Slack")
    page.get_by_label("Slack integration").select_option(name)
    name_it(walk, name)
    world.publish(alias_event(name))
    assert "text" in str(last_to(walk, f"/{name}").json)
    delete_it(walk)


def test_a_key_for_programs_is_made_here(walk: Walk) -> None:
    """Prerequisites: a webhook, a key, and secrets, which are all made on pages."""
    page = walk.page
    walk.window.come_back("admin")
    walk.window.open("/e/acme")
    walk.follow("Keys")
    page.get_by_label("Name").fill(f"seed-{walk.suffix}")
    walk.press("Make key")
    assert page.get_by_text(re.compile(r"hlk-[\w-]{43}")).count() == 1
    walk.follow("Keys")
    page.get_by_text(f"acme/seed-{walk.suffix}").first.wait_for()
    assert page.get_by_text(re.compile(r"hlk-[\w-]{43}")).count() == 0
