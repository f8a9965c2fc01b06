"""Real servers on this machine, without Docker: what `vernal up` and the services tests start."""
