"""Policies: rules, `mpc` with knobs, and policy files; chosen by name in `controller.policies.registry`."""
