"""The real world: router, Ray Serve application, controller actor, nodes and models behind the ports of `controller`."""
