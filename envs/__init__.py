"""The simulated world: request-level simulator, spot market, lifecycle of instances, and the Gymnasium environment."""
