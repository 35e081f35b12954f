"""Rows that teams define: entities, projects and collections, webhooks, secrets, automations."""
