"""Fault drills: real processes under load, one of them hurt, and a count of what arrived. `make drill` runs all."""
