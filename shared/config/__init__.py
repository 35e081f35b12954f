"""The forms that settings may have: URLs of servers, durations, networks, ports. `shared.settings` lists them."""
