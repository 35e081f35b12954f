"""Hookline before a real Prometheus: what it scrapes, and what rules, dashboards and runbooks make of it."""
